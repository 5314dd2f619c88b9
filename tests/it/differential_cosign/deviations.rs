//! Where podseal knowingly answers differently from cosign.

use crate::support::opinions::{Answer, Deviation};

const ED25519: &str = "cosign signs with Ed25519ph and verifies Ed25519, so that it refuses what it made itself";
const BUNDLES: &str = "cosign looks at no legacy signature once there is a bundle, so that anybody who can push switches \
                       good ones off";
const ATTESTATION: &str = "cosign does not ask for the predicate type: a scan report counts as a signature";
const LAX: &str = "cosign reads the digest and the annotations alone, so that other signed texts count as signatures";

pub(super) const LIST: &[Deviation] = &[
    accepts("Ed25519, legacy", ED25519),
    accepts("Ed25519, bundle", ED25519),
    accepts("E49 foreign bundle beside a legacy signature", BUNDLES),
    accepts("E49 foreign attestation beside a legacy signature", BUNDLES),
    refuses("E1 attestation alone", ATTESTATION),
    refuses("E1 attestation beside a foreign legacy signature", ATTESTATION),
    refuses("payload of another type", LAX),
    refuses("payload with an unknown critical member", LAX),
    refuses("payload with an unknown member", LAX),
    refuses("digest twice, the good one last", "cosign takes the last of two; another reader could take the first"),
    refuses("layer of another media type", "only layers that say so are signatures; cosign tries every layer"),
];

const fn refuses(case: &'static str, reason: &'static str) -> Deviation {
    Deviation { case, podseal: Answer::Refuses, reason }
}

const fn accepts(case: &'static str, reason: &'static str) -> Deviation {
    Deviation { case, podseal: Answer::Accepts, reason }
}
