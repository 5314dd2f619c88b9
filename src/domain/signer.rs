//! Whether a listed signer made a signature.

/// The holder of an OpenPGP certificate as policies can name him.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpgSigner {
    /// The primary key's fingerprint, upper-case hexadecimal.
    pub fingerprint: String,
    /// The key file's name (the Secret's data key), such as `group1.pgp`.
    pub file: String,
    /// Addresses of valid User IDs that no certificate of another key file carries, lower case.
    pub emails: Vec<String>,
}

/// The listed name that fits, if any; an empty list is fitted by everybody, under his own best name.
pub fn gpg_signer_name(listed: &[String], signer: &GpgSigner) -> Option<String> {
    let _ = (listed, signer);
    None
}

/// The listed name that equals the signature's `signer` annotation; an empty list is fitted by everybody.
/// `fallback` names the key when the list is empty and the annotation absent.
pub fn cosign_signer_name(listed: &[String], annotation: Option<&str>, fallback: &str) -> Option<String> {
    let _ = (listed, annotation, fallback);
    None
}
