//! The in-toto statement that is a cosign signature, and others.

use super::trust::Statement;
use crate::domain::digest::Digest;
use crate::signature::SignatureError;
use crate::signature::json::{self, Json, malformed, shown};

/// v1 as `cosign sign` writes it; v0.1 differs in nothing that matters here.
const TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// The predicate type of signatures. cosign itself does not ask for it, and so takes a scan report for a signature.
const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";
/// Subjects of one statement. cosign writes one.
const MAX_SUBJECTS: usize = 256;

/// Values in a statement when attestations are asked for: one for every four bytes of 1 MiB, and no real document is that
/// dense.
const MAX_ATTESTED_VALUES: usize = 1 << 18;

/// Reads a statement of at most `max` bytes whose signature was verified, and gives what it says if it is for `image`: as a
/// signature its subject's annotations, and otherwise, if `attestations` are asked for, the predicate.
///
/// The digest alone binds; a subject's `name` is free text. If several subjects are the image, the first one counts.
pub(super) fn read(text: &[u8], image: &Digest, attestations: bool, max: usize) -> Result<Statement, SignatureError> {
    let values = if attestations { MAX_ATTESTED_VALUES } else { json::MAX_VALUES };
    let statement = json::parse_larger(text, max, values, "the statement")?;
    let statement = statement.object("the statement")?;
    let kind = statement.text("_type")?;
    if !TYPES.contains(&kind) {
        return Err(malformed(format!("unknown statement type \"{}\"", shown(kind))));
    }
    let predicate_type = statement.text("predicateType")?;
    if predicate_type != PREDICATE_TYPE && !attestations {
        let text = format!("an attestation of type {}, not a signature", shown(predicate_type));
        return Err(SignatureError::Mismatch(text));
    }
    let mut found = None;
    let mut other = None;
    // To the end even when found: a statement that is broken anywhere is refused.
    for subject in statement.list("subject", MAX_SUBJECTS)? {
        let subject = subject.object("a subject")?;
        let annotations = subject.strings("annotations")?;
        match subject.object("digest")?.get(image.algorithm_name()) {
            Some(Json::Text(digest)) if digest == image.hex() => found = found.or(Some(annotations)),
            Some(Json::Text(digest)) => other = other.or(Some(digest)),
            Some(_) => return Err(malformed("the digest of a subject is not a string")),
            None => {}
        }
    }
    let annotations = found.ok_or_else(|| {
        SignatureError::OtherDigest(other.map_or_else(
            || format!("no subject has a {} digest", image.algorithm_name()),
            |digest| format!("{}:{}", image.algorithm_name(), shown(digest)),
        ))
    })?;
    if predicate_type == PREDICATE_TYPE {
        return Ok(Statement::Signature { annotations, reference: None });
    }
    // Read once more, with its numbers: what is in it was checked above.
    let whole: serde_json::Value = serde_json::from_slice(text).map_err(|_| malformed("the statement is not JSON"))?;
    let member = |name: &str| whole.get(name).cloned().unwrap_or_default();
    let (predicate, subject) = (member("predicate"), member("subject"));
    Ok(Statement::Attestation { predicate_type: predicate_type.to_owned(), predicate, subject })
}
