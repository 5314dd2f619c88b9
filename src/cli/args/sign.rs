//! Arguments of `podseal sign` and what `podseal load-sign` shares with it.

// What people read as help has no marks.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{pair, some_time};

/// Behind `podseal sign --help`.
pub(in crate::cli) const SIGN_HELP: &str = "\
Examples:
  podseal sign registry.local/k8s/pause:3.9 --sign-by immkk8s@registry.local
  podseal sign registry.local/app:1 --sign-by key.pgp --staging /var/sigstore/sigstore
  podseal sign registry.local/app:1 --sign-by key.pgp --upload https://sigstore.local/sigstore --token-file token
  podseal sign registry.local/app:1 --sign-by key.pgp --upload https://sigstore.local/sigstore \
    --client-cert ci.crt --client-key ci.key

Without --staging, --upload and --extension, signatures go where lookaside-staging of registries.d says, and where nothing
is configured, into the registry, if it announces that it keeps signatures.
Exit status: 0 every image is signed, 1 one is not, 2 it could not be found out, 64 wrong usage.";

#[derive(Debug, Args)]
pub(in crate::cli) struct SignCommand {
    /// Image in its registry; a tag is looked up once, and what it leads to is signed
    #[arg(value_name = "IMAGE", required = true, num_args = 1..)]
    pub(in crate::cli) images: Vec<String>,
    /// Name that the signature says the image has, with a tag or digest; without it, the image as it is given
    #[arg(long, value_name = "REF")]
    pub(in crate::cli) identity: Option<String>,
    /// Sign the manifests of a multi-architecture image, too, each under the same name
    #[arg(long)]
    pub(in crate::cli) all_platforms: bool,
    /// Add a signature where this key has signed the image before
    #[arg(long)]
    pub(in crate::cli) again: bool,
    #[command(flatten)]
    pub(in crate::cli) key: KeyArguments,
    #[command(flatten)]
    pub(in crate::cli) destination: DestinationArguments,
    #[command(flatten)]
    pub(in crate::cli) registry: RegistryArguments,
}

/// What to sign with.
#[derive(Debug, Args)]
pub(in crate::cli) struct KeyArguments {
    /// E-mail, fingerprint or key ID in the GnuPG home (agent, card), or the path of a secret key file
    #[arg(long, value_name = "KEY", required_unless_present = "cosign_key")]
    pub(in crate::cli) sign_by: Option<String>,
    /// GnuPG home; without it $GNUPGHOME or ~/.gnupg
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) gnupg_home: Option<PathBuf>,
    /// Directory of the signing host, whose imagemakers.json says which of a maker's keys is active
    #[arg(long, value_name = "DIR", default_value = "/var/sigstore")]
    pub(in crate::cli) dir: PathBuf,
    /// File whose first line is the passphrase of the key; nobody else may read it
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) passphrase_file: Option<PathBuf>,
    /// Private key of cosign; its signature goes into the registry beside the image
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) cosign_key: Option<PathBuf>,
    /// File whose first line is the password of the cosign key; without it $COSIGN_PASSWORD
    #[arg(long, value_name = "FILE", requires = "cosign_key")]
    pub(in crate::cli) cosign_password_file: Option<PathBuf>,
    /// Form of cosign's signature
    #[arg(long, value_enum, value_name = "FORM", default_value = "bundle", requires = "cosign_key")]
    pub(in crate::cli) cosign_format: CosignFormat,
}

/// What a signature of cosign looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum CosignFormat {
    /// A bundle that refers to the image, as cosign makes it since 3.0
    Bundle,
    /// The tag sha256-….sig of the repository, as cosign made it before
    Legacy,
}

/// Where simple signatures go.
#[derive(Debug, Args)]
pub(in crate::cli) struct DestinationArguments {
    /// Folder that the signature store serves
    #[arg(long, value_name = "DIR", conflicts_with_all = ["upload", "extension"])]
    pub(in crate::cli) staging: Option<PathBuf>,
    /// Signature store that takes signatures over HTTP, such as podseal store
    #[arg(long, value_name = "URL", conflicts_with = "extension")]
    pub(in crate::cli) upload: Option<String>,
    /// The registry itself, by the signatures extension of its API
    #[arg(long)]
    pub(in crate::cli) extension: bool,
    /// File with the bearer token for --upload
    #[arg(long, value_name = "FILE", requires = "upload")]
    pub(in crate::cli) token_file: Option<PathBuf>,
    /// Client certificate (mTLS) for the store of --upload, or for the registry of --extension; PEM
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub(in crate::cli) client_cert: Option<PathBuf>,
    /// Its private key; PEM, not encrypted; nobody else may read it
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub(in crate::cli) client_key: Option<PathBuf>,
    /// Directory of registries.d files; without it ~/.config/containers/registries.d, else /etc/containers/registries.d
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) registries_d: Option<PathBuf>,
}

/// The way to registries and stores.
#[derive(Debug, Args)]
pub(in crate::cli) struct RegistryArguments {
    /// Credentials; without it $REGISTRY_AUTH_FILE, or what podman login and docker login wrote
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) authfile: Option<PathBuf>,
    /// Registry and store may speak plain HTTP or have a TLS certificate that cannot be verified
    #[arg(long)]
    pub(in crate::cli) insecure: bool,
    /// PEM certificates trusted for registry and store, besides the system's
    #[arg(long, value_name = "FILE", visible_alias = "ca-file")]
    pub(in crate::cli) ca: Option<PathBuf>,
    /// Token service that may receive credentials of a registry on another host
    #[arg(long, value_name = "REGISTRY=HOST", value_parser = pair)]
    pub(in crate::cli) token_realm: Vec<(String, String)>,
    /// Time for one question to a registry or store
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = some_time)]
    pub(in crate::cli) timeout: Duration,
}
