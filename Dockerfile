# The image of podseal: one static binary, the authorities that it trusts in TLS, its bill of materials; no shell, no libc.
#
# `make image` builds it. Two builds of one commit with one builder image give the same binary (and, with buildah or
# podman, the same image): versions come from Cargo.lock, paths are mapped away, SOURCE_DATE_EPOCH is the only clock.
#
# glibc is linked in statically, since the runtime image has none: with glibc 2.36 the resolver works without loading
# anything at run time, and there is no second C library (musl) whose resolver and allocator would behave otherwise.

ARG RUST_VERSION=1.95
ARG BUILDER=docker.io/library/rust:${RUST_VERSION}-bookworm

FROM ${BUILDER} AS builder
WORKDIR /src
COPY Cargo.toml Cargo.lock LICENSE NOTICE ./
COPY deploy/image deploy/image
COPY crds crds
COPY src src
ARG SOURCE_DATE_EPOCH=0
# Package registry settings of the place where it is built are mounted and never part of a layer:
#   --secret id=cargo,src=config.toml   cargo's configuration     --secret id=ca,src=bundle.pem   authorities of a proxy
# Proxies go by the predefined build arguments (HTTPS_PROXY and so on).
RUN --mount=type=secret,id=cargo,target=/run/secrets/cargo.toml \
    --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    deploy/image/compile /out
RUN deploy/image/assemble /out

FROM scratch
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="podseal" \
      org.opencontainers.image.description="Kubernetes admission webhook that lets only images with a trusted signature run" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=builder /out/ /
# The number of "nonroot" in /etc/passwd, as a number so that the kubelet can check runAsNonRoot.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/podseal"]
