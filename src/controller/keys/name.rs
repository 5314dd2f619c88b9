//! What a file's name says: whether it is a key file, of which kind, and which Secret is its own.

use crate::cluster::objects::{SYNCED_KEY_PREFIX, is_subdomain};

/// Longest value of a label, which is where the file's name is kept (Kubernetes, "Labels and Selectors").
const MAX_LABEL: usize = 63;
/// Data key of every synced cosign key: where `cosignKeyRef` looks.
const COSIGN_PUB: &str = "cosign.pub";
const EXTENSIONS: [(&str, KeyKind); 4] =
    [("pgp", KeyKind::OpenPgp), ("asc", KeyKind::OpenPgp), ("gpg", KeyKind::OpenPgp), ("pub", KeyKind::Cosign)];

/// What a key file holds, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// `.pgp`, `.asc`, `.gpg`: certificates, binary or armored.
    OpenPgp,
    /// `.pub`: PEM blocks.
    Cosign,
}

impl KeyKind {
    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::OpenPgp => "OpenPGP",
            Self::Cosign => "cosign",
        }
    }
}

/// The name of a key file that fits a Secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName {
    /// The file's name, as `signer` lists it.
    pub file: String,
    /// What it holds.
    pub kind: KeyKind,
    /// The Secret's name, `sigstore-key-…`.
    pub secret: String,
}

impl KeyName {
    /// Reads a file name. `None`: not a key file (hidden, or another extension), to be left alone. An error says why a
    /// key file's name cannot be used, and the way out.
    pub fn read(file: &str) -> Option<Result<Self, String>> {
        if file.starts_with('.') {
            return None;
        }
        let (stem, extension) = file.rsplit_once('.')?;
        let (_, kind) = EXTENSIONS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(extension))?;
        if file.len() > MAX_LABEL {
            return Some(Err(format!("the name has more than {MAX_LABEL} characters: shorten it")));
        }
        let plain = extension.bytes().all(|b| b.is_ascii_lowercase());
        if !plain || !is_subdomain(stem) {
            let why = "the name does not fit a Secret: use lower-case letters, digits, '-' and '.', \
                       beginning and ending with a letter or digit";
            return Some(Err(why.to_owned()));
        }
        let secret = format!("{SYNCED_KEY_PREFIX}{stem}");
        Some(Ok(Self { file: file.to_owned(), kind, secret }))
    }

    /// The key in the Secret's data. For `OpenPGP` it is the file's name, because policies list it as a signer.
    pub fn data_key(&self) -> &str {
        match self.kind {
            KeyKind::OpenPgp => &self.file,
            KeyKind::Cosign => COSIGN_PUB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_has_a_kind_a_secret_and_a_data_key() {
        for (file, kind, secret, data_key) in [
            ("group1.pgp", KeyKind::OpenPgp, "sigstore-key-group1", "group1.pgp"),
            ("a.asc", KeyKind::OpenPgp, "sigstore-key-a", "a.asc"),
            ("k8s-c10f1.team.gpg", KeyKind::OpenPgp, "sigstore-key-k8s-c10f1.team", "k8s-c10f1.team.gpg"),
            ("cosign.pub", KeyKind::Cosign, "sigstore-key-cosign", "cosign.pub"),
            ("ci.pub", KeyKind::Cosign, "sigstore-key-ci", "cosign.pub"),
        ] {
            let name = KeyName::read(file).unwrap().unwrap();
            assert_eq!((name.kind, name.secret.as_str(), name.data_key()), (kind, secret, data_key), "{file}");
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        for file in
            ["..data", "..2026_01_01", ".a.pgp", ".pgp", "README", "notes.txt", "a.pgp~", "a.pgp.swp", "a.key", ""]
        {
            assert_eq!(KeyName::read(file), None, "{file:?}");
        }
    }

    #[test]
    fn names_that_fit_no_secret_are_refused_with_a_reason() {
        let long = format!("{}.pgp", "a".repeat(60));
        for file in
            ["Group1.pgp", "a.PGP", "a_b.asc", "-a.pgp", "a-.pgp", "a..pgp", "a b.gpg", "группа.pgp", "a\n.pub", &long]
        {
            assert!(KeyName::read(file).unwrap().is_err(), "{file:?}");
        }
        assert!(KeyName::read(&format!("{}.pgp", "a".repeat(59))).unwrap().is_ok());
    }
}
