//! `podseal verify` and `podseal explain`.

#![allow(clippy::doc_markdown, reason = "the documentation of arguments is what --help prints: plain text")]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{DecisionArguments, Format, SourceArguments, name, some_time};

/// Behind `podseal verify --help`.
pub(in crate::cli) const VERIFY_HELP: &str = "\
Examples:
  podseal verify registry.local/k8s-c10f1/app:1 --expected-identity registry.local/k8s-c10f1/app:1
  podseal verify sha256:HEX --expected-identity registry.local/app:1 --public-key group1.pgp --save

With --save what verified is recorded in the cluster as an ImageSignature. If NO signature verifies, because of the key or
because of the identity, all records of that image in that repository are removed, as with oc adm verify-image-signature:
look first, with --save --dry-run. Signature stores and registries are never written to.

Exit status: 0 a signature verified, 1 none did, 2 it could not be found out, 64 wrong usage.";

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyCommand {
    /// The image: a reference with tag or digest, or sha256:HEX of the repository of --expected-identity
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: String,
    /// The name under which the image must have been signed, with tag or digest; compared as a whole
    #[arg(long, value_name = "PULL_SPEC")]
    pub(in crate::cli) expected_identity: String,
    /// File of OpenPGP public keys, any of which counts; repeatable; without it the public keyring of $GNUPGHOME or ~/.gnupg
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) public_key: Vec<PathBuf>,
    /// Record the outcome in the cluster
    #[arg(long)]
    pub(in crate::cli) save: bool,
    /// Show what --save would record or remove, and change nothing
    #[arg(long, requires = "save")]
    pub(in crate::cli) dry_run: bool,
    /// Registry to ask in place of the image's: HOST[:PORT], or https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) registry_url: Option<String>,
    /// Signature store to look into, http, https or file; without it that of registries.d, or else the registry itself
    #[arg(long, value_name = "URL", conflicts_with = "registries_d")]
    pub(in crate::cli) lookaside: Option<String>,
    /// Directory of registries.d files; without it /etc/containers/registries.d, if there is one
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) registries_d: Option<PathBuf>,
    /// The registry may speak plain HTTP or have a TLS certificate that cannot be verified
    #[arg(long)]
    pub(in crate::cli) insecure: bool,
    /// Registry credentials, in the form of ~/.docker/config.json; without it the logins of podman and docker
    #[arg(long, value_name = "FILE", visible_alias = "authfile")]
    pub(in crate::cli) docker_config: Option<PathBuf>,
    /// PEM certificates trusted for registry and signature store, besides the system's
    #[arg(long, value_name = "FILE", visible_alias = "ca")]
    pub(in crate::cli) ca_file: Option<PathBuf>,
    /// How long it may take to find the signatures
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = some_time)]
    pub(in crate::cli) timeout: Duration,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(in crate::cli) output: Format,
    #[command(flatten)]
    pub(in crate::cli) cluster: ConnectionArguments,
}

/// How the cluster is reached.
#[derive(Debug, Args)]
pub(in crate::cli) struct ConnectionArguments {
    /// Kubeconfig file; without it $KUBECONFIG, ~/.kube/config, or the Pod's service account
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without it the current one
    #[arg(long, value_name = "NAME", value_parser = name())]
    pub(in crate::cli) context: Option<String>,
}

/// Behind `podseal explain --help`.
pub(in crate::cli) const EXPLAIN_HELP: &str = "\
Reads with the caller's own rights; what may not be read is said, and shown as far as the status of policies has it.
Exit status: 0 the image is allowed, 1 denied, 2 it could not be decided, 64 wrong usage.";

#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainCommand {
    /// The image, as a Pod would name it
    #[arg(value_name = "IMAGE", value_parser = name())]
    pub(in crate::cli) image: String,
    /// Namespace of the Pod; without it that of the kubeconfig's context
    #[arg(short, long, value_name = "NAME", value_parser = name())]
    pub(in crate::cli) namespace: Option<String>,
    /// Service account of the Pod, whose pull secrets are used
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = name())]
    pub(in crate::cli) service_account: String,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(in crate::cli) output: Format,
    /// Time for the decision
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    pub(in crate::cli) timeout: Duration,
    #[command(flatten)]
    pub(in crate::cli) cluster: ConnectionArguments,
    #[command(flatten)]
    pub(in crate::cli) source: SourceArguments,
    #[command(flatten)]
    pub(in crate::cli) decision: DecisionArguments,
}
