//! All verdicts of a review → one decision: any verdict against an image denies, any obstacle denies, too.

use std::collections::BTreeMap;

use super::images::NamedImage;
use super::review::Decision;
use crate::domain::verdict::{Basis, Finding, ImageVerdict, Outcome};
use crate::telemetry::Ending;
use crate::verify::{Line, clean, describe, reason_of};

/// Lines of a message, warnings of an answer, at most; the rest is counted.
const MAX_LINES: usize = 50;
/// The API server cuts warnings: 256 characters each, 4,096 together.
const MAX_WARNING: usize = 256;
pub(super) const MAX_ANNOTATION: usize = 4_096;
/// The audit annotation that says what the whitelist let through.
const WHITELISTED: &str = "whitelisted";

/// A decision with what logs and metrics say about it.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) decision: Decision,
    pub(super) ending: Ending,
    /// What would have come of it, had it not been admitted only because nothing is enforced.
    pub(super) would: Option<Ending>,
    /// Whether no signature had to be looked for.
    pub(super) cached: bool,
    /// One line for the log: each image with its digest and cause.
    pub(super) log: String,
    /// What denies, line by line.
    lines: Vec<Line>,
}

impl Judged {
    /// Allowed without looking at images, and why.
    pub(super) fn allowed(why: &'static str) -> Self {
        let decision = Decision {
            allowed: true,
            audit: BTreeMap::from([("decision", "allowed".to_owned()), ("reason", why.to_owned())]),
            ..Decision::default()
        };
        Self { decision, cached: true, log: why.to_owned(), ending: Ending::Allowed, ..Self::default() }
    }

    /// Denied because the request cannot be read as what it claims to be.
    pub(super) fn refused(why: String) -> Self {
        let lines = vec![Line::new("object", why.as_str())];
        let audit = BTreeMap::from([("decision", "denied".to_owned())]);
        let decision = denial(Ending::Denied, vec![why.clone()], 0, audit);
        Self { decision, ending: Ending::Denied, cached: true, log: why, lines, ..Self::default() }
    }

    /// Denied because podseal cannot do its work: too much of it, a defect, a body that is no review.
    pub(super) fn unable(code: u16, reason: &'static str, message: String) -> Self {
        let lines = vec![Line::new("request", message.as_str())];
        let log = message.clone();
        let decision = Decision { code, reason, message, ..Decision::default() };
        Self { decision, ending: Ending::Error, lines, log, ..Self::default() }
    }

    /// What the whitelist let through, and by which line; whether or not something else was denied.
    pub(super) fn whitelisted(&self) -> Option<&str> {
        self.decision.audit.get(WHITELISTED).map(String::as_str)
    }

    /// Early feedback for templates: everything that would deny a Pod becomes a warning.
    pub(super) fn into_warnings(self) -> Self {
        if self.decision.allowed { self } else { self.admitted("Pods would be denied: ", "warned") }
    }

    /// A dry run: what would be denied is admitted, and told to whoever asked and to the audit log.
    pub(super) fn into_audited(mut self) -> Self {
        if self.decision.allowed {
            return self;
        }
        let lines = self.lines.iter().map(ToString::to_string);
        let told = lines.chain(self.decision.audit.remove("would-deny")).collect::<Vec<_>>().join("\n");
        let would = Some(self.ending);
        let mut audited = self.admitted("podseal would deny this: ", "would-deny");
        audited.decision.audit.insert("would-deny", shorten(&told, MAX_ANNOTATION));
        Self { would, ..audited }
    }

    /// Allowed, with every line that denied as a warning.
    fn admitted(self, prefix: &str, decision: &str) -> Self {
        let lines = self.lines.iter().map(|line| format!("{prefix}{}", line.place_first()));
        let warnings = bounded_warnings(lines.chain(self.decision.warnings).collect());
        let mut audit = self.decision.audit;
        audit.insert("decision", decision.to_owned());
        let decision = Decision { allowed: true, warnings, audit, ..Decision::default() };
        Self { decision, ending: Ending::Allowed, ..self }
    }
}

/// Folds the verdicts of the distinct images, given in the order in which the images first occur.
pub(super) fn fold(images: &[NamedImage], verdicts: &[ImageVerdict]) -> Judged {
    if images.is_empty() {
        return Judged::allowed("no image was added or changed");
    }
    let by_image: BTreeMap<&str, &ImageVerdict> = verdicts.iter().map(|v| (v.image.as_str(), v)).collect();
    let mut fold = Fold { cached: true, ..Fold::default() };
    for named in images {
        match by_image.get(named.image.as_str()) {
            Some(verdict) => fold.add(named, verdict),
            None => fold.lines.push(Line::new(&named.field, format!("Image '{}' was not judged", clean(&named.image)))),
        }
    }
    fold.finish()
}

#[derive(Default)]
struct Fold {
    lines: Vec<Line>,
    warnings: Vec<String>,
    audited: Vec<String>,
    whitelisted: Vec<String>,
    images: Vec<String>,
    denied: bool,
    cached: bool,
    left_out: usize,
}

impl Fold {
    fn add(&mut self, named: &NamedImage, verdict: &ImageVerdict) {
        self.cached &= verdict.cached || !matches!(verdict.outcome, Outcome::Allowed(Basis::Policy { .. }));
        self.images.push(summary(named, verdict));
        match &verdict.outcome {
            Outcome::Allowed(basis) => self.whitelisted.extend(pass_of(named, basis)),
            Outcome::Denied(findings) => {
                self.denied = true;
                self.describe(named, findings);
            }
            Outcome::Undecided(findings) => self.describe(named, findings),
        }
        let lines = |findings: &[Finding]| -> Vec<Line> {
            findings.iter().flat_map(|f| describe(&named.image, &named.field, f)).collect()
        };
        self.warnings.extend(lines(&verdict.warned).iter().map(Line::place_first));
        let audited = lines(&verdict.warned).into_iter().chain(lines(&verdict.audited));
        self.audited.extend(audited.map(|line| line.to_string()));
        for remark in &verdict.remarks {
            let warning = format!("podseal: {}", clean(remark));
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    fn describe(&mut self, named: &NamedImage, findings: &[Finding]) {
        if self.lines.len() >= MAX_LINES {
            // Nobody reads them; what is not shown is not written either.
            self.left_out += findings.iter().map(|finding| finding.failures.len()).sum::<usize>();
            return;
        }
        let before = self.lines.len();
        self.lines.extend(findings.iter().flat_map(|f| describe(&named.image, &named.field, f)));
        if self.lines.len() == before {
            // Whatever is denied has a reason in the message.
            self.lines.push(Line::new(&named.field, format!("Image '{}' could not be checked", clean(&named.image))));
        }
    }

    fn finish(self) -> Judged {
        let ending = match (self.lines.is_empty(), self.denied) {
            (true, _) => Ending::Allowed,
            (false, true) => Ending::Denied,
            (false, false) => Ending::Error,
        };
        let log = shorten(&self.images.join("; "), MAX_ANNOTATION);
        let mut audit = BTreeMap::from([("decision", ending.label().to_owned()), ("images", log.clone())]);
        if !self.whitelisted.is_empty() {
            audit.insert(WHITELISTED, shorten(&self.whitelisted.join("; "), MAX_ANNOTATION));
        }
        if !self.audited.is_empty() {
            audit.insert("would-deny", shorten(&self.audited.join("\n"), MAX_ANNOTATION));
        }
        let mut decision = if ending == Ending::Allowed {
            Decision { allowed: true, audit, ..Decision::default() }
        } else {
            denial(ending, self.lines.iter().map(ToString::to_string).collect(), self.left_out, audit)
        };
        decision.warnings = bounded_warnings(self.warnings);
        Judged { decision, ending, would: None, cached: self.cached, log, lines: self.lines }
    }
}

/// So many and so long as the API server passes on; what is left out is counted.
pub(super) fn bounded_warnings(mut warnings: Vec<String>) -> Vec<String> {
    let left_out = warnings.len().saturating_sub(MAX_LINES);
    warnings.truncate(MAX_LINES);
    if left_out > 0 {
        warnings.push(format!("and {left_out} more"));
    }
    warnings.iter().map(|warning| shorten(warning, MAX_WARNING)).collect()
}

/// The original's first line, then a line for each cause.
fn denial(ending: Ending, mut lines: Vec<String>, left_out: usize, audit: BTreeMap<&'static str, String>) -> Decision {
    let left_out = left_out + lines.len().saturating_sub(MAX_LINES);
    lines.truncate(MAX_LINES);
    if left_out > 0 {
        lines.push(format!("and {left_out} more"));
    }
    let (code, reason) = if ending == Ending::Denied { (403, "Forbidden") } else { (503, "ServiceUnavailable") };
    Decision {
        allowed: false,
        code,
        reason,
        message: format!("Pod is not valid: \n{}", lines.join("\n")),
        audit,
        ..Decision::default()
    }
}

/// `field=image by the line …`, if it was the whitelist that let the image through.
fn pass_of(named: &NamedImage, basis: &Basis) -> Option<String> {
    let by = match basis {
        Basis::WhitelistedNamespace => "the line of its namespace".to_owned(),
        Basis::WhitelistedImage(line) => format!("the line {}", clean(line)),
        Basis::NoPolicy | Basis::Policy { .. } => return None,
    };
    Some(format!("{}={} by {by}", named.field, clean(&named.image)))
}

/// `field=image@digest: cause` for log and audit.
fn summary(named: &NamedImage, verdict: &ImageVerdict) -> String {
    let digest = verdict.digest.as_ref().map(|d| format!(" {d}")).unwrap_or_default();
    let cause = match &verdict.outcome {
        Outcome::Allowed(Basis::WhitelistedNamespace) => "allowed, namespace whitelisted".to_owned(),
        Outcome::Allowed(Basis::WhitelistedImage(line)) => format!("allowed, whitelist line {line}"),
        Outcome::Allowed(Basis::NoPolicy) => "allowed, no policy".to_owned(),
        Outcome::Allowed(Basis::Policy { policy, pass }) => match (pass.method, &pass.signer) {
            (Some(method), Some(signer)) => format!("allowed, {policy}, {method} by {signer}"),
            _ => format!("allowed, {policy}"),
        },
        Outcome::Denied(_) => format!("denied, {}", reason_of(&verdict.outcome)),
        Outcome::Undecided(_) => format!("could not decide, {}", reason_of(&verdict.outcome)),
    };
    format!("{}={}{digest}: {}", named.field, clean(&named.image), clean(&cause))
}

pub(super) fn shorten(text: &str, max: usize) -> String {
    // No text has more characters than bytes, and the ordinary one is short.
    if text.len() <= max || text.chars().count() <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max - 1).collect();
    short.push('…');
    short
}
