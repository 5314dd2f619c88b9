//! Where podseal knowingly answers differently from skopeo.

use crate::support::opinions::{Answer, Deviation};

const BOTH: &str =
    "skopeo 1.9.3 takes no reference with tag and digest; here the digest decides, and the tag is free text";
const BLOB: &str = "a blob that is no signature spoils itself here, and all signatures of the image there";

pub(super) const LIST: &[Deviation] = &[
    refuses("key rsa1024", "RSA of 1024 bits is too weak"),
    refuses("key dsa1024", "DSA of 1024 bits is too weak"),
    refuses("key brainpoolP256r1", "the OpenPGP library has no Brainpool curves without a C library"),
    refuses("digest SHA1", "SHA-1 is too weak"),
    refuses("digest RIPEMD160", "RIPEMD-160 is too weak"),
    refuses("key with SHA-1 self-signatures", "SHA-1 is too weak in certificates, too"),
    refuses("signature of the far future", "a clock that is wrong or lies; gpg does not look at it"),
    refuses("junk behind a compressed one", "what nobody reads could be anything; gpg passes over it"),
    accepts("signing subkey", "skopeo 1.9.3 compares the subkey with the primary keys; later ones look its primary up"),
    accepts("by tag and digest, signed with the tag", BOTH),
    accepts("by another tag and digest, signed with a tag", BOTH),
    accepts(
        "signature by registry-1.docker.io",
        "that is Docker Hub under its third name, here as everywhere in podseal",
    ),
    accepts("good after a web page", BLOB),
    accepts("good after an empty one", BLOB),
    accepts(
        "index alone signed",
        "skopeo asks for a signature of each child that it copies, podseal of what the Pod names",
    ),
];

const fn refuses(case: &'static str, reason: &'static str) -> Deviation {
    Deviation { case, podseal: Answer::Refuses, reason }
}

const fn accepts(case: &'static str, reason: &'static str) -> Deviation {
    Deviation { case, podseal: Answer::Accepts, reason }
}
