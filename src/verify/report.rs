//! What people read: the text of findings, in the shape the original webhook gave them.

use crate::domain::verdict::{Cause, Failure, Finding, Method, Outcome, Refusal, RefusalKind};

/// Signatures that were looked at and refused: keeps the most telling reason and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Best {
    refusal: Option<Refusal>,
    seen: usize,
}

impl Best {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn add(&mut self, refusal: Refusal) {
        self.seen += 1;
        if self.refusal.as_ref().is_none_or(|old| rank(refusal.kind) > rank(old.kind)) {
            self.refusal = Some(refusal);
        }
    }

    /// The most telling refusal, or "unsigned" when nothing was there at all.
    pub(super) fn refusal(&self, unsigned: impl FnOnce() -> String) -> Refusal {
        match &self.refusal {
            None => Refusal::new(RefusalKind::Unsigned, unsigned()),
            Some(refusal) if self.seen > 1 => {
                Refusal::new(refusal.kind, format!("{} (the most telling of {} signatures)", refusal.detail, self.seen))
            }
            Some(refusal) => refusal.clone(),
        }
    }

    /// The same of what is not used any more.
    pub(super) fn into_refusal(self, unsigned: impl FnOnce() -> String) -> Refusal {
        self.refusal(unsigned)
    }
}

/// How far a signature got: the further, the more telling.
fn rank(kind: RefusalKind) -> u8 {
    match kind {
        RefusalKind::Signer => 4,
        RefusalKind::Identity => 3,
        RefusalKind::Digest => 2,
        RefusalKind::Invalid => 1,
        _ => 0,
    }
}

/// The stable reason of an outcome that is not an allowance: the first verdict, else the first obstacle.
pub fn reason_of(outcome: &Outcome) -> &'static str {
    let (Outcome::Denied(findings) | Outcome::Undecided(findings)) = outcome else { return "Allowed" };
    let causes = || findings.iter().flat_map(|f| &f.failures).map(|f| &f.cause);
    causes()
        .find(|c| matches!(c, Cause::Refused(_)))
        .or_else(|| causes().next())
        .map_or("CouldNotDecide", Cause::reason)
}

/// One failure in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Field path and, if one governed, the policy entry.
    place: String,
    text: String,
}

impl Line {
    /// A sentence about a field.
    pub fn new(field: &str, text: impl Into<String>) -> Self {
        Self { place: field.to_owned(), text: text.into() }
    }

    /// For warnings, whose end the API server may cut off: the place first.
    pub fn place_first(&self) -> String {
        format!("{}: {}", self.place, self.text)
    }
}

impl std::fmt::Display for Line {
    /// Such as `Cosign: Image 'r.io/a:1' signature is empty: no cosign signature … (field; policy)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.place)
    }
}

/// One line per failure of a finding.
pub fn describe(image: &str, field: &str, finding: &Finding) -> Vec<Line> {
    let place = match &finding.policy {
        Some(policy) => format!("{field}; {policy}"),
        None => field.to_owned(),
    };
    let line = |failure: &Failure| {
        let prefix = failure.method.map(|m| format!("{m}: ")).unwrap_or_default();
        let (text, detail) = match &failure.cause {
            Cause::Refused(refusal) => (sentence(failure.method, refusal.kind), refusal.detail.as_str()),
            Cause::Undecided(fault) => (" could not be checked", fault.message()),
        };
        Line { place: place.clone(), text: format!("{prefix}Image '{}'{text}: {}", clean(image), clean(detail)) }
    };
    finding.failures.iter().map(line).collect()
}

/// The original's wording where it had one, so that people and scripts recognise it.
fn sentence(method: Option<Method>, kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::Unsigned if method == Some(Method::Cosign) => " signature is empty",
        RefusalKind::Unsigned | RefusalKind::Invalid | RefusalKind::NoPublicKeys => " is invalid",
        RefusalKind::Signer => "'s signer is invalid",
        RefusalKind::Digest => "'s digest is different from the signed digest",
        RefusalKind::Identity => " is signed under another name",
        RefusalKind::NoMatchingPolicy | RefusalKind::NoPolicy => {
            " does not meet registry security policy. Please check the RegistrySecurityPolicy"
        }
        RefusalKind::NothingConfigured | RefusalKind::BrokenPolicy => " cannot be checked by its policy",
        RefusalKind::DigestRequired => " has no digest",
        RefusalKind::MalformedImage => " is not a valid image reference",
        RefusalKind::NotFound => " was not found",
        RefusalKind::Rejected => " is rejected",
    }
}

/// Text from outside, bounded and on one line: names and details may hold anything a user or a registry wrote.
pub(crate) fn clean(text: &str) -> String {
    const MAX: usize = 512;
    // The ordinary case: nothing to replace, nothing to cut.
    if text.len() <= MAX && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return text.to_owned();
    }
    let mut cleaned: String = text.chars().take(MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MAX).is_some() {
        cleaned.push('…');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, FaultKind};

    fn failure(method: Option<Method>, kind: RefusalKind, detail: &str) -> Failure {
        Failure { method, cause: Cause::Refused(Refusal::new(kind, detail)) }
    }

    fn describe(image: &str, field: &str, finding: &Finding) -> Vec<String> {
        super::describe(image, field, finding).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn j6_distinct_causes_have_distinct_texts() {
        let finding = |failures| Finding { policy: Some("P/x spec.registries[0]".into()), failures };
        let unsigned =
            describe("r.io/a", "f", &finding(vec![failure(Some(Method::Gpg), RefusalKind::Unsigned, "no signature")]));
        assert_eq!(unsigned, ["GPG: Image 'r.io/a' is invalid: no signature (f; P/x spec.registries[0])"]);
        let signer =
            describe("r.io/a", "f", &finding(vec![failure(Some(Method::Cosign), RefusalKind::Signer, "by x")]));
        assert_eq!(signer, ["Cosign: Image 'r.io/a''s signer is invalid: by x (f; P/x spec.registries[0])"]);
        let fault = Failure { method: None, cause: Cause::Undecided(Fault::new(FaultKind::Timeout, "too slow")) };
        assert_eq!(
            describe("r.io/a", "f", &Finding { policy: None, failures: vec![fault] }),
            ["Image 'r.io/a' could not be checked: too slow (f)"]
        );
    }

    #[test]
    fn j4_j8_text_from_outside_is_bounded_and_on_one_line() {
        let long = "x".repeat(2000);
        assert_eq!(clean(&long).chars().count(), 513);
        assert_eq!(clean("a\nb\0c\u{1b}[31m"), "a\u{fffd}b\u{fffd}c\u{fffd}[31m");
    }

    #[test]
    fn the_most_telling_refusal_wins_in_any_order() {
        let kinds = [RefusalKind::Invalid, RefusalKind::Signer, RefusalKind::Digest];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut best = Best::new();
            for i in order {
                best.add(Refusal::new(kinds[i], "d"));
            }
            let refusal = best.into_refusal(String::new);
            assert_eq!(
                (refusal.kind, refusal.detail.as_str()),
                (RefusalKind::Signer, "d (the most telling of 3 signatures)")
            );
        }
        assert_eq!(Best::new().into_refusal(|| "none".into()).kind, RefusalKind::Unsigned);
    }
}
