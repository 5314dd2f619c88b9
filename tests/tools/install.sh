#!/usr/bin/env bash
# Installs the real servers and signers that the tests drive; see README.md.
#
# Binaries live outside the tree, in ${PODSEAL_TOOLS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/podseal/tools},
# one folder per program and pinned source; bin/ beside this file links to them.
set -euo pipefail

debian_packages=(
  ca-certificates docker-registry gnupg nginx-light notary openssl skopeo sq wrk
  buildah containernetworking-plugins debootstrap iproute2 iptables runc # a node, and the image that it runs
)
cargo_deny=0.20.2

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PODSEAL_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/podseal/tools}
building=

# pinned FOLDER MODULE: the version that the folder's go.mod requires.
pinned() {
  sed -nE "s|^(require)?[[:space:]]*$2 (v[^ ]+).*|\2|p" "$here/$1/go.mod"
}

kubernetes=$(pinned kubernetes k8s.io/kubernetes)
IFS=.v read -r _ kube_major kube_minor _ <<<"$kubernetes"
version=k8s.io/component-base/version
kube_flags="-X $version.gitVersion=$kubernetes -X $version.gitMajor=$kube_major -X $version.gitMinor=$kube_minor -X $version.gitTreeState=clean"
cosign_flags="-X sigs.k8s.io/release-utils/version.gitVersion=$(pinned cosign github.com/sigstore/cosign/v3)"
crane_flags="-X github.com/google/go-containerregistry/cmd/crane/cmd.Version=$(pinned registry github.com/google/go-containerregistry)"

helm_flags="-X helm.sh/helm/v3/internal/version.version=$(pinned helm helm.sh/helm/v3)"
containerd=github.com/containerd/containerd/v2
# Without C libraries: OpenPGP in Go, and no stores of images on this machine.
image_tags=containers_image_openpgp,containers_image_docker_daemon_stub,containers_image_storage_stub
containerd_tags=no_btrfs,no_zfs,no_devmapper
containerd_flags="-X $containerd/version.Version=$(pinned containerd $containerd)"

# name | module folder | package | extra linker flags | build tags
programs=(
  "kube-apiserver|kubernetes|k8s.io/kubernetes/cmd/kube-apiserver|$kube_flags"
  "kubectl|kubernetes|k8s.io/kubernetes/cmd/kubectl|$kube_flags"
  "kube-controller-manager|kubernetes|k8s.io/kubernetes/cmd/kube-controller-manager|$kube_flags"
  "kube-scheduler|kubernetes|k8s.io/kubernetes/cmd/kube-scheduler|$kube_flags"
  "kubelet|kubernetes|k8s.io/kubernetes/cmd/kubelet|$kube_flags"
  "containerd|containerd|$containerd/cmd/containerd|$containerd_flags|$containerd_tags"
  "containerd-shim-runc-v2|containerd|$containerd/cmd/containerd-shim-runc-v2|$containerd_flags|$containerd_tags"
  "ctr|containerd|$containerd/cmd/ctr|$containerd_flags|$containerd_tags"
  "pause|pause|.|"
  "helm|helm|helm.sh/helm/v3/cmd/helm|$helm_flags"
  "strict-decode-1.33|strict-decode/1.33|.|"
  "strict-decode-1.34|strict-decode/1.34|.|"
  "strict-decode-1.35|strict-decode/1.35|.|"
  "strict-decode-1.36|strict-decode/1.36|.|"
  "etcd|etcd|go.etcd.io/etcd/server/v3|"
  "cosign|cosign|github.com/sigstore/cosign/v3/cmd/cosign|$cosign_flags"
  "crane|registry|github.com/google/go-containerregistry/cmd/crane|$crane_flags"
  "referrers-registry|registry|./referrers-registry|"
  "image-copy|containers|.||$image_tags"
  "fulcio|fulcio|github.com/sigstore/fulcio|"
  "rekor-server|rekor|github.com/sigstore/rekor/cmd/rekor-server|"
  "rekor-tiles|rekor-tiles|github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix|"
  "ct_server|ct-log|github.com/google/certificate-transparency-go/trillian/ctfe/ct_server|"
  "trillian-memory|ct-log|./trillian-memory|"
  "timestamp-server|timestamp-authority|./timestamp-server|"
  "oidc-issuer|oidc-issuer|.|"
)
fail() {
  echo "install.sh: $*" >&2
  exit 1
}

# step NAME COMMAND…: runs it and says how long it took.
step() {
  local name=$1 started=$SECONDS
  shift
  "$@"
  echo "$name: $((SECONDS - started)) s"
}

need() {
  command -v "$1" >/dev/null || fail "$1 is not installed: $2"
}

install_packages() {
  need dpkg-query "these tools come from Debian packages (${debian_packages[*]})"
  local installed missing=() package
  # dpkg-query fails when one of the names is unknown to it, and still lists the rest.
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${debian_packages[@]}" 2>/dev/null || true)
  for package in "${debian_packages[@]}"; do
    grep -qx "$package installed" <<<"$installed" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local as_root=()
  if ((EUID != 0)); then
    need sudo "not root, and missing the packages ${missing[*]}"
    as_root=(sudo)
  fi
  echo "installing Debian packages: ${missing[*]}"
  # RUNLEVEL=1 keeps the packages' own services from being started.
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -y)
  "${apt[@]}" update || fail "apt-get update failed"
  "${apt[@]}" install --no-install-recommends "${missing[@]}" || fail "apt-get could not install ${missing[*]}"
}

# digest: of stdin, short enough for a folder name.
digest() {
  sha256sum | cut -c1-16
}

# module_key FOLDER: what a module's binaries are made of.
module_key() {
  (
    cd "$here/$1"
    go version
    find -L . -type f \( -name go.mod -o -name go.sum -o -name '*.go' \) -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  ) | digest
}

# into_cache NAME KEY COMMAND…: runs the command, which writes the program to the
# path given as its last argument, unless the cache has it; then links it.
# The program appears under its name whole or not at all.
into_cache() {
  local name=$1 target=$cache/$1-$2
  shift 2
  if [[ ! -x $target/$name ]]; then
    rm -rf "$target"
    building=$(mktemp -d "$cache/.building.XXXXXX")
    mkdir "$building/out"
    echo "$name: building"
    "$@" "$building/out/$name" || fail "could not build $name"
    [[ -x $building/out/$name ]] || fail "building $name made no program"
    mv "$building/out" "$target"
    rm -rf "$building"
    building=
  fi
  link "$name" "$target/$name"
}

# link NAME FILE: bin/NAME, replaced in one step, for a test may be starting it.
link() {
  [[ $(readlink "$here/bin/$1" || true) == "$2" ]] && return
  ln -sfn "$2" "$here/bin/.$1.new"
  mv -fT "$here/bin/.$1.new" "$here/bin/$1"
}

# build_go FOLDER PACKAGE LINKER-FLAGS TAGS FILE
build_go() {
  (cd "$here/$1" && CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w $3" -tags "$4" -o "$5" "$2")
}

build_cargo_deny() {
  local scratch
  scratch=$(dirname "$(dirname "$1")")
  # Its own target folder: the project's may be in use, and would keep the debris.
  (cd / && CARGO_TARGET_DIR=$scratch/target cargo install --locked --quiet --no-track \
    --root "$scratch/root" --version "=$cargo_deny" cargo-deny) || return 1
  mv "$scratch/root/bin/cargo-deny" "$1"
}

main() {
  local row name module package flags tags

  step "debian packages" install_packages
  need go "Go 1.26 or newer builds the servers"
  need cargo "Rust builds cargo-deny"

  mkdir -p "$cache" "$here/bin"
  # One installer at a time: a second one waits, then finds everything built.
  exec 9>"$cache/.lock"
  flock 9
  trap '[[ -z $building ]] || rm -rf "$building"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  rm -rf "$cache"/.building.* # left by a build that was killed

  declare -A keys
  for row in "${programs[@]}"; do
    IFS='|' read -r name module package flags tags <<<"$row"
    [[ -n ${keys[$module]:-} ]] || keys[$module]=$(module_key "$module")
    step "$name" into_cache "$name" "$(digest <<<"${keys[$module]} $package $flags${tags:+ $tags}")" \
      build_go "$module" "$package" "$flags" "$tags"
  done
  step cargo-deny into_cache cargo-deny "$(digest <<<"$cargo_deny $(cd / && rustc -V)")" build_cargo_deny
  echo "all tools: $SECONDS s, in $here/bin"
}

main
