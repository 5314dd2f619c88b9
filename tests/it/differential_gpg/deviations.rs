//! Where podseal knowingly answers differently from skopeo.

use crate::support::opinions::{Answer, Deviation};

pub(super) const LIST: &[Deviation] = &[refuses("key dsa1024", "DSA of 1024 bits is too weak")];

const fn refuses(case: &'static str, reason: &'static str) -> Deviation {
    Deviation { case, podseal: Answer::Refuses, reason }
}

const fn accepts(case: &'static str, reason: &'static str) -> Deviation {
    Deviation { case, podseal: Answer::Accepts, reason }
}
