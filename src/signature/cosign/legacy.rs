//! The payload of a legacy `.sig` layer, simple signing as cosign writes it.

use std::collections::BTreeMap;

use super::MAX_SIGNED;
use super::json::{self, malformed, shown};
use crate::domain::digest::Digest;
use crate::signature::SignatureError;

/// The one type that is accepted. cosign does not compare it on verification, but its specification prescribes it and
/// every version writes it. Without the comparison, anything else the same key signs that happens to name a digest
/// could pass for an image signature.
const TYPE: &str = "cosign container image signature";

/// Reads a payload whose signature was verified, and gives its annotations if it is for `image`.
///
/// Nothing unknown is tolerated, and least of all below `critical`, whose members a reader has to understand; cosign
/// and containers/image write these and no others. `docker-reference` is understood and not compared.
pub(super) fn read(payload: &[u8], image: &Digest) -> Result<BTreeMap<String, String>, SignatureError> {
    let payload = json::parse(payload, MAX_SIGNED, "the payload")?;
    let payload = payload.object("the payload")?;
    payload.only(&["critical", "optional"])?;
    let critical = payload.object("critical")?;
    critical.only(&["type", "image", "identity"])?;
    let kind = critical.text("type")?;
    if kind != TYPE {
        return Err(SignatureError::Mismatch(format!("signed as \"{}\", not as \"{TYPE}\"", shown(kind))));
    }
    if critical.get("identity").is_some() {
        critical.object("identity")?.only(&["docker-reference"])?;
    }
    let signed = critical.object("image")?;
    signed.only(&["docker-manifest-digest"])?;
    let digest = signed.text("docker-manifest-digest")?;
    let digest: Digest = digest.parse().map_err(|err| malformed(format!("docker-manifest-digest: {err}")))?;
    if digest != *image {
        return Err(SignatureError::OtherDigest(digest.to_string()));
    }
    payload.strings("optional")
}
