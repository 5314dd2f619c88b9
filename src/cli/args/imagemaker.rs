//! Arguments of `podseal imagemaker`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::{ClusterArguments, Format, object_name};
use crate::controller::keys::KeyName;
use crate::signing::makers::{Period, maker_path, store_url};

/// The path of a maker that names none.
const DEFAULT_PATH: &str = "registry.local";

#[derive(Debug, Args)]
pub(in crate::cli) struct ImagemakerCommand {
    #[command(subcommand)]
    pub(in crate::cli) action: ImagemakerAction,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImagemakerAction {
    /// Make image makers: a key each, its public part in the key directory, and the policy entries that ask for it
    #[command(after_help = CREATE_HELP)]
    Create(Box<CreateArguments>),
    /// Show the image makers and how their keys stand
    #[command(
        after_help = "Exit status: 0 every maker can sign what verifies, or has nothing but revoked keys, 1 one cannot, 64 wrong usage."
    )]
    List(ListArguments),
    /// Change the passphrase of a maker's key
    Passwd(PasswdArguments),
    /// Give a maker a new key beside the old one, which ends by itself after a time
    #[command(after_help = ROTATE_HELP)]
    Rotate(Box<RotateArguments>),
    /// Revoke a maker's key, for good: nothing that it signed verifies where the key file has arrived
    #[command(after_help = REVOKE_HELP)]
    Revoke(RevokeArguments),
    /// Take a maker out of the registry, and its key file with it; the secret keys stay
    #[command(after_help = REMOVE_HELP)]
    Remove(RemoveArguments),
    /// Write the nodes' policy.json and registries.d, or the cluster's policy, for all makers
    #[command(after_help = POLICY_HELP)]
    Policy(PolicyArguments),
}

/// Behind `podseal imagemaker create --help`.
const CREATE_HELP: &str = "\
Without a terminal --key-type, --expires, --full-name and one of the --passphrase flags must be given; on a terminal what is
missing is asked for. The policy is printed, or applied with --apply.

Lifetimes: 0 for ever, 30d days, 4w weeks, 6m months of 30 days, 2y years of 365 days.

Examples:
  podseal imagemaker create
  podseal imagemaker create immkk8s@registry.local/k8s-c10f1 imklocal@registry.local immkalt@registry.altlinux.org
  podseal imagemaker create imklocal --key-type ed25519 --expires 2y --full-name 'Image Maker' --passphrase-agent --apply

Exit status: 0 made, 1 not or not all, 64 wrong usage.";

/// Behind `podseal imagemaker rotate --help`.
const ROTATE_HELP: &str = "\
The key file then holds both keys, and the old one says itself when it ends: every reader of the file stops to take its
signatures then, with nothing done about it. Images must be signed anew until then.

Exit status: 0 rotated, 1 not, 64 wrong usage.";

/// Behind `podseal imagemaker revoke --help`.
const REVOKE_HELP: &str = "\
The revocation is published in the key file; podseal's controller takes it to every webhook within seconds. Nodes need the
file, too. There is no way back: sign anew with another key (podseal imagemaker rotate).

Exit status: 0 revoked, 1 not, 64 wrong usage.";

/// Behind `podseal imagemaker remove --help`.
const REMOVE_HELP: &str = "\
Without its key file no signature of the maker verifies in the cluster: Pods that run go on, new ones of its images are
refused as long as the policy asks for the key. While one of its keys is in use it needs --force. The entry of the cluster's
policy is printed, or taken out with --apply when it is podseal's own.

Exit status: 0 removed, 1 not, 64 wrong usage.";

/// Behind `podseal imagemaker policy --help`.
const POLICY_HELP: &str = "\
With --out DIR: policy.json, registries.d and the key files for nodes (CRI-O, podman, skopeo). Without it: the
ClusterRegistrySecurityPolicy, printed, or applied with --apply.

Exit status: 0 done, 1 not, 64 wrong usage.";

/// A maker that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct MakerArgument {
    /// Its name.
    pub(in crate::cli) name: String,
    /// `host[:port][/path]`, if one is given.
    pub(in crate::cli) path: Option<String>,
}

impl MakerArgument {
    /// What is made when nothing is said.
    pub(in crate::cli) fn usual() -> Self {
        Self { name: "imagemaker".to_owned(), path: Some(DEFAULT_PATH.to_owned()) }
    }

    /// With the path of an only maker.
    pub(in crate::cli) fn only(self) -> Self {
        Self { path: Some(self.path.unwrap_or_else(|| DEFAULT_PATH.to_owned())), ..self }
    }
}

impl FromStr for MakerArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('@').map_or((text, None), |(name, path)| (name, Some(path)));
        match KeyName::read(&format!("{name}.pgp")) {
            Some(Ok(_)) => {}
            Some(Err(why)) => return Err(format!("{name:?} cannot be a maker's name: {why}")),
            None => return Err("expected a name, or NAME@REGISTRY[/PATH]".to_owned()),
        }
        Ok(Self { name: name.to_owned(), path: path.map(maker_path).transpose()? })
    }
}

/// The kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum KeyType {
    /// RSA that signs, and a subkey that encrypts
    Rsa,
    /// RSA that signs
    RsaSign,
    /// DSA that signs, and an Elgamal subkey that encrypts
    Dsa,
    /// DSA that signs
    DsaSign,
    /// Ed25519 that signs: the smallest and fastest
    Ed25519,
    /// A key of the GnuPG home or of a smart card, named by --key
    Existing,
}

/// Why a key is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum RevocationReason {
    /// Nothing is said
    Unspecified,
    /// Somebody else has it
    Compromised,
    /// Another key has taken its place
    Superseded,
    /// It is no longer used
    Retired,
}

/// Where makers are.
#[derive(Debug, Args)]
pub(in crate::cli) struct HostArguments {
    /// Directory of the signing host: keys/, sigstore/, imagemakers.json
    #[arg(long, value_name = "DIR", default_value = "/var/sigstore")]
    pub(in crate::cli) dir: PathBuf,
}

/// How a secret key is unlocked.
#[derive(Debug, Args)]
pub(in crate::cli) struct PassphraseArguments {
    /// File whose first line is the passphrase; nobody else may read it (mode 0600)
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_agent")]
    pub(in crate::cli) passphrase_file: Option<PathBuf>,
    /// Let gpg's agent ask, by its pinentry
    #[arg(long)]
    pub(in crate::cli) passphrase_agent: bool,
}

/// The key that is to be made or taken.
#[derive(Debug, Args)]
pub(in crate::cli) struct KeyArguments {
    /// GnuPG home that keeps the secret key; without it that of the environment (GNUPGHOME, ~/.gnupg)
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) gnupg_home: Option<PathBuf>,
    /// Kind of key
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(in crate::cli) key_type: Option<KeyType>,
    /// Bits of an RSA key (3072 without it; at least 2048) or DSA key (2048)
    #[arg(long, value_name = "N")]
    pub(in crate::cli) bits: Option<u32>,
    /// The existing key: its fingerprint, or the address in it
    #[arg(long, value_name = "FINGERPRINT_OR_MAIL")]
    pub(in crate::cli) key: Option<String>,
    /// How long the key is valid: 0 (for ever), 30d, 4w, 6m, 2y
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(in crate::cli) expires: Option<Period>,
    #[command(flatten)]
    pub(in crate::cli) passphrase: PassphraseArguments,
    /// Make the key without a passphrase: who can read the home can sign
    #[arg(long, conflicts_with_all = ["passphrase_file", "passphrase_agent"])]
    pub(in crate::cli) no_passphrase: bool,
}

/// Where the policy goes.
#[derive(Debug, Args)]
pub(in crate::cli) struct EntryArguments {
    /// Put the entries into the cluster's policy (remove: take the entry out) instead of printing them; what others wrote
    /// there stays
    #[arg(long)]
    pub(in crate::cli) apply: bool,
    /// Name of the ClusterRegistrySecurityPolicy
    #[arg(long, value_name = "NAME", default_value = "imagemakers", value_parser = object_name)]
    pub(in crate::cli) policy_name: String,
    #[command(flatten)]
    pub(in crate::cli) cluster: ClusterArguments,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Printed {
    /// The policy, for kubectl apply -f -
    Yaml,
    /// The makers with their keys
    Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArguments {
    /// Name, and the registry or path of it that the maker signs for; imagemaker@registry.local without any
    #[arg(value_name = "NAME[@PATH]")]
    pub(in crate::cli) names: Vec<MakerArgument>,
    #[command(flatten)]
    pub(in crate::cli) host: HostArguments,
    #[command(flatten)]
    pub(in crate::cli) key: KeyArguments,
    /// The holder's name, in the key
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) full_name: Option<String>,
    /// The address in the key; without it NAME@HOST
    #[arg(long, value_name = "MAIL")]
    pub(in crate::cli) email: Option<String>,
    /// A comment in the key
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) note: Option<String>,
    /// Where the signatures are read
    #[arg(long, value_name = "URL", default_value = "http://sigstore.local:81/sigstore/", value_parser = store_url)]
    pub(in crate::cli) lookaside: String,
    /// The registry speaks plain HTTP, or has a certificate that cannot be verified
    #[arg(long)]
    pub(in crate::cli) insecure: bool,
    /// Go on although the names of registry and store do not lead to this host
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// What is printed
    #[arg(short, long, value_enum, default_value_t = Printed::Yaml)]
    pub(in crate::cli) output: Printed,
    #[command(flatten)]
    pub(in crate::cli) entries: EntryArguments,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArguments {
    #[command(flatten)]
    pub(in crate::cli) host: HostArguments,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(in crate::cli) output: Format,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PasswdArguments {
    /// The maker
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) host: HostArguments,
    #[command(flatten)]
    pub(in crate::cli) passphrase: PassphraseArguments,
    /// File whose first line is the new passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_agent")]
    pub(in crate::cli) new_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RotateArguments {
    /// The maker
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) host: HostArguments,
    /// How long the old key goes on verifying: 30d, 4w, 6m, 2y
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(in crate::cli) overlap: Period,
    #[command(flatten)]
    pub(in crate::cli) key: KeyArguments,
    /// File whose first line is an old key's passphrase, if that is not the new one's; for old keys with several
    /// passphrases it is given several times
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_agent")]
    pub(in crate::cli) old_passphrase_file: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RevokeArguments {
    /// The maker
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) host: HostArguments,
    /// Which of its keys, if it has several
    #[arg(long, value_name = "FINGERPRINT")]
    pub(in crate::cli) fingerprint: Option<String>,
    /// Why
    #[arg(long, value_enum, default_value_t = RevocationReason::Unspecified)]
    pub(in crate::cli) reason: RevocationReason,
    /// A word on it, in the revocation
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(in crate::cli) note: String,
    #[command(flatten)]
    pub(in crate::cli) passphrase: PassphraseArguments,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RemoveArguments {
    /// The maker
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) host: HostArguments,
    /// Go on although a key of the maker is in use
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Leave the file of its public keys where it is: what they signed goes on verifying
    #[arg(long)]
    pub(in crate::cli) keep_key_file: bool,
    #[command(flatten)]
    pub(in crate::cli) entries: EntryArguments,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PolicyArguments {
    #[command(flatten)]
    pub(in crate::cli) host: HostArguments,
    /// New or empty directory for the nodes' files
    #[arg(long, value_name = "DIR", conflicts_with = "apply")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Where the key files will lie on the nodes
    #[arg(long, value_name = "DIR", default_value = "/var/sigstore/keys", requires = "out")]
    pub(in crate::cli) node_keys: PathBuf,
    /// Also say where this host's signers put signatures (lookaside-staging)
    #[arg(long, requires = "out")]
    pub(in crate::cli) staging: bool,
    #[command(flatten)]
    pub(in crate::cli) entries: EntryArguments,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maker_is_a_name_and_perhaps_a_path_in_normal_form() {
        let read = |text: &str| text.parse::<MakerArgument>().map(|maker| (maker.name, maker.path));
        for (text, name, path) in [
            ("imklocal", "imklocal", None),
            ("immkk8s@registry.local/k8s-c10f1", "immkk8s", Some("registry.local/k8s-c10f1")),
            ("a@Registry.Local/", "a", Some("registry.local")),
            ("a.b-c@127.0.0.1:5000/x/y", "a.b-c", Some("127.0.0.1:5000/x/y")),
        ] {
            assert_eq!(read(text), Ok((name.to_owned(), path.map(str::to_owned))), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_or_no_path_of_one_registry_is_refused() {
        let long = "a".repeat(60);
        for text in [
            "",
            "@",
            "@registry.local",
            "a@",
            "A@registry.local",
            "../a",
            "a/b",
            ".a",
            "-a",
            "a_b",
            "a@*",
            "a@*.local",
            "a@https://registry.local",
            "a@registry.local/UPPER",
            "a@registry.local/../x",
            "a@b@c",
            "a@registry.local:99999",
            &long,
        ] {
            assert!(text.parse::<MakerArgument>().is_err(), "{text:?}: {:?}", text.parse::<MakerArgument>());
        }
    }

    #[test]
    fn a_store_is_an_address_without_secrets() {
        for text in ["http://sigstore.local:81/sigstore/", "https://store.example.com"] {
            assert_eq!(store_url(text), Ok(text.to_owned()));
        }
        for text in [
            "",
            "sigstore.local",
            "file:///var/sigstore",
            "http://u:p@store/x",
            "http://store/x?y",
            "http://store/#a",
            "http://store/a b",
            "http://store\\a",
            "HTTP://store",
        ] {
            assert!(store_url(text).is_err(), "{text}");
        }
    }
}
