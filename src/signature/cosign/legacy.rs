//! The payload of a legacy `.sig` layer, simple signing as cosign writes it.

use std::collections::BTreeMap;

use super::MAX_SIGNED;
use crate::domain::digest::Digest;
use crate::signature::SignatureError;
use crate::signature::json::{self, Json, malformed, shown};

/// The one type that is accepted. cosign does not compare it on verification, but its specification prescribes it and
/// every version writes it. Without the comparison, anything else the same key signs that happens to name a digest
/// could pass for an image signature.
const TYPE: &str = "cosign container image signature";

/// Reads a payload whose signature was verified, and gives its annotations and the name it was made for, if it is for
/// `image`.
///
/// Nothing unknown is tolerated, and least of all below `critical`, whose members a reader has to understand; cosign
/// and containers/image write these and no others. `docker-reference` is given as written, for the caller to compare.
pub(super) fn read(
    payload: &[u8],
    image: &Digest,
) -> Result<(BTreeMap<String, String>, Option<String>), SignatureError> {
    let payload = json::parse(payload, MAX_SIGNED, "the payload")?;
    let payload = payload.object("the payload")?;
    payload.only(&["critical", "optional"])?;
    let critical = payload.object("critical")?;
    critical.only(&["type", "image", "identity"])?;
    let kind = critical.text("type")?;
    if kind != TYPE {
        return Err(SignatureError::Mismatch(format!("signed as \"{}\", not as \"{TYPE}\"", shown(kind))));
    }
    let mut reference = None;
    if critical.get("identity").is_some() {
        let identity = critical.object("identity")?;
        identity.only(&["docker-reference"])?;
        if let Some(Json::Text(text)) = identity.get("docker-reference") {
            reference = Some(text.clone());
        }
    }
    let signed = critical.object("image")?;
    signed.only(&["docker-manifest-digest"])?;
    let digest = signed.text("docker-manifest-digest")?;
    let digest: Digest = digest.parse().map_err(|err| malformed(format!("docker-manifest-digest: {err}")))?;
    if digest != *image {
        return Err(SignatureError::OtherDigest(digest.to_string()));
    }
    Ok((payload.strings("optional")?, reference))
}
