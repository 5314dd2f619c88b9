//! Arguments of `podseal load-sign`.

use std::path::PathBuf;

use clap::Args;

use super::sign::{DestinationArguments, KeyArguments, RegistryArguments};
use crate::signing::archive::Architecture;

/// Behind `podseal load-sign --help`.
pub(in crate::cli) const LOAD_SIGN_HELP: &str = "\
Examples:
  podseal load-sign amd64.tar.xz --arch amd64 --sign-by imm@registry.local registry.local/k8s-c10f1
  podseal load-sign images/ --arch arm64 --sign-by key.pgp registry.local

An image that the archive names pause:3.9 becomes REGISTRY/PATH/pause:3.9; a registry in its name is left out, and a mere tag
is one of REGISTRY/PATH itself. What the registry has is not sent again, so that the same command goes on after an
interruption. An image is signed when its manifest and all that it needs are in the registry, never before, and its tag leads
to it when it is signed.
Exit status: 0 every image is pushed and signed, 1 one is not, 2 it could not be found out, 64 wrong usage.";

#[derive(Debug, Args)]
pub(in crate::cli) struct LoadSignCommand {
    /// OCI image layouts: a folder, or a tar archive, plain or compressed by xz or gzip
    #[arg(value_name = "ARCHIVE")]
    pub(in crate::cli) archive: PathBuf,
    /// Where the images go
    #[arg(value_name = "REGISTRY[/PATH]")]
    pub(in crate::cli) target: String,
    /// Architecture whose images are taken, with a variant where there are several: amd64, arm64, arm/v7
    #[arg(long, value_name = "ARCH")]
    pub(in crate::cli) arch: Architecture,
    /// Folder with room for the unpacked archive; without it $TMPDIR or /var/tmp
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) scratch: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) key: KeyArguments,
    #[command(flatten)]
    pub(in crate::cli) destination: DestinationArguments,
    #[command(flatten)]
    pub(in crate::cli) registry: RegistryArguments,
}
