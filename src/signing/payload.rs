//! The simple-signing payload as it is written, byte for byte of the form that containers/image writes.
//!
//! ```json
//! {"critical":{"identity":{"docker-reference":"…"},"image":{"docker-manifest-digest":"sha256:…"},
//!  "type":"atomic container signature"},"optional":{"creator":"podseal 0.1.0","timestamp":1795457996}}
//! ```
//! Members in the order of their names, no blanks, no newline at the end. What reads it is
//! [`SimplePayload`](crate::domain::payload::SimplePayload). Specification: containers-signature(5), "JSON format".

use serde::Serialize;

use crate::domain::digest::{Algorithm, Digest};

/// Who made a signature, in `optional.creator`.
pub const CREATOR: &str = concat!("podseal ", env!("CARGO_PKG_VERSION"));

/// Why there is nothing to sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// containers/image compares manifests by SHA-256 alone, so no node would accept it.
    #[error("a simple signature is for a sha256 digest; name the image by its tag, or by its sha256 digest")]
    Algorithm,
    /// No text that is an image's name holds what JSON cannot; it is an error all the same.
    #[error("the signature's payload cannot be written: {0}")]
    Unwritable(String),
}

// The fields stand in the order in which they are written.
#[derive(Serialize)]
struct Payload<'a> {
    critical: Critical<'a>,
    optional: Optional<'a>,
}

#[derive(Serialize)]
struct Critical<'a> {
    identity: Identity<'a>,
    image: Image<'a>,
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Serialize)]
struct Identity<'a> {
    #[serde(rename = "docker-reference")]
    reference: &'a str,
}

#[derive(Serialize)]
struct Image<'a> {
    #[serde(rename = "docker-manifest-digest")]
    digest: &'a str,
}

#[derive(Serialize)]
struct Optional<'a> {
    creator: &'a str,
    timestamp: i64,
}

/// The bytes to sign: that the manifest with this digest was published under this name.
///
/// `reference` is an image in normal form with its tag or digest (`docker.io/library/busybox:1`); `timestamp` counts
/// seconds since 1970.
pub fn write(reference: &str, digest: &Digest, creator: &str, timestamp: i64) -> Result<Vec<u8>, PayloadError> {
    if digest.algorithm() != Algorithm::Sha256 {
        return Err(PayloadError::Algorithm);
    }
    let payload = Payload {
        critical: Critical {
            identity: Identity { reference },
            image: Image { digest: digest.as_str() },
            kind: "atomic container signature",
        },
        optional: Optional { creator, timestamp },
    };
    serde_json::to_vec(&payload).map_err(|error| PayloadError::Unwritable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::payload::SimplePayload;

    /// What skopeo 1.9.3 wrote about this digest, but for creator and time.
    const SKOPEO: &str = r#"{"critical":{"identity":{"docker-reference":"docker.io/library/busybox"},"image":{"docker-manifest-digest":"sha256:65e424f78e976256acdf2c33525f3639cbe7b26d103be74bae89011bd71c3d2e"},"type":"atomic container signature"},"optional":{"creator":"atomic 5.23.1","timestamp":1795457996}}"#;

    fn digest() -> Digest {
        "sha256:65e424f78e976256acdf2c33525f3639cbe7b26d103be74bae89011bd71c3d2e".parse().expect("a digest")
    }

    #[test]
    fn the_bytes_are_those_of_skopeo() {
        let bytes = write("docker.io/library/busybox", &digest(), "atomic 5.23.1", 1_795_457_996).expect("a payload");
        assert_eq!(String::from_utf8(bytes).expect("text"), SKOPEO);
    }

    #[test]
    fn what_is_written_is_what_podseal_reads() {
        let bytes = write("r.local/a:1", &digest(), CREATOR, 7).expect("a payload");
        let read = SimplePayload::parse(&bytes).expect("a payload");
        assert_eq!((read.digest, read.reference.as_str()), (digest(), "r.local/a:1"));
        assert_eq!((read.creator.as_deref(), read.timestamp), (Some(CREATOR), Some(7)));
    }

    #[test]
    fn a_digest_that_nodes_do_not_compare_is_not_signed() {
        let long = Digest::of(Algorithm::Sha512, b"x");
        assert_eq!(write("r.local/a:1", &long, CREATOR, 7), Err(PayloadError::Algorithm));
    }
}
