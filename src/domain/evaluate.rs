//! The only place that says "allowed".
//!
//! [`route`] decides everything that needs no signature; [`combine`] folds the outcomes of the governing entries.

use std::sync::Arc;

use super::image::ImageRef;
use super::policy::{Action, Entry, PolicySet};
use super::verdict::{Basis, Cause, EntryOutcome, Failure, Finding, Outcome, Refusal, RefusalKind};
use super::whitelist::Whitelist;

/// What the administrator chose at install time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Deny when no policy exists at all.
    pub deny_without_policy: bool,
    /// A namespace's policies may only tighten registries that a cluster policy names.
    pub restrict_namespaces: bool,
}

/// Where an image goes after its name, the whitelist and the policies' scopes were looked at.
#[derive(Debug, Clone)]
pub enum Route {
    /// Decided.
    Decided(Outcome),
    /// These entries govern, cluster entries first; every one must pass.
    Judge(Vec<Arc<Entry>>),
}

/// Decides all that needs no signature, in the documented order.
///
/// `image` is the reference or the reason why the text is none; a malformed image is denied even where its namespace
/// has no policy, unless the namespace is whitelisted.
pub fn route(
    policies: &PolicySet,
    whitelist: &Whitelist,
    options: Options,
    namespace: &str,
    image: &Result<ImageRef, super::image::ImageRefError>,
) -> Route {
    if whitelist.allows_namespace(namespace) {
        return Route::Decided(Outcome::Allowed(Basis::WhitelistedNamespace));
    }
    let image = match image {
        Ok(image) => image,
        Err(error) => return denied(RefusalKind::MalformedImage, error.to_string()),
    };
    if let Some(line) = whitelist.allows_image(image) {
        return Route::Decided(Outcome::Allowed(Basis::WhitelistedImage(line)));
    }
    if !policies.any_for(namespace) {
        return if options.deny_without_policy {
            denied(RefusalKind::NoPolicy, "no policy exists and this installation denies then".to_owned())
        } else {
            Route::Decided(Outcome::Allowed(Basis::NoPolicy))
        };
    }
    let mut governing = policies.governing_cluster(image.repository());
    if !governing.is_empty() || !options.restrict_namespaces {
        governing.extend(policies.governing_namespaced(namespace, image.repository()));
    }
    if governing.is_empty() {
        let host = image.repository().host();
        return denied(
            RefusalKind::NoMatchingPolicy,
            format!("no policy names the registry {host} for this repository"),
        );
    }
    Route::Judge(governing)
}

fn denied(kind: RefusalKind, detail: String) -> Route {
    let failures = vec![Failure { method: None, cause: Cause::Refused(Refusal::new(kind, detail)) }];
    Route::Decided(Outcome::Denied(vec![Finding { policy: None, failures }]))
}

/// The folded outcome and the findings that only warn or are only recorded.
#[derive(Debug, Clone)]
pub struct Combined {
    /// The decision.
    pub outcome: Outcome,
    /// From entries with `action: Warn`.
    pub warned: Vec<Finding>,
    /// From entries with `action: Audit`.
    pub audited: Vec<Finding>,
}

/// Folds the outcomes of all governing entries: every one must pass, `Warn` and `Audit` count as passed.
///
/// A verdict outranks an obstacle: with both, the image is denied. No outcome at all is a defect of the caller and denies.
pub fn combine(outcomes: &[EntryOutcome]) -> Combined {
    let (mut denied, mut undecided, mut warned, mut audited) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut passed = None;
    for EntryOutcome { entry, result } in outcomes {
        let failures = match result {
            Ok(pass) => {
                // Prefer naming the entry under which a signature was checked.
                if passed
                    .as_ref()
                    .is_none_or(|(_, p): &(String, super::verdict::Pass)| p.method.is_none() && pass.method.is_some())
                {
                    passed = Some((entry.to_string(), pass.clone()));
                }
                continue;
            }
            Err(failures) => failures.clone(),
        };
        let fault = failures.iter().any(|f| matches!(f.cause, Cause::Undecided(_)));
        let finding = Finding { policy: Some(entry.to_string()), failures };
        match entry.action {
            Action::Warn => warned.push(finding),
            Action::Audit => audited.push(finding),
            Action::Enforce if fault => undecided.push(finding),
            Action::Enforce => denied.push(finding),
        }
    }
    let outcome = if !denied.is_empty() {
        denied.append(&mut undecided);
        Outcome::Denied(denied)
    } else if !undecided.is_empty() || outcomes.is_empty() {
        Outcome::Undecided(undecided)
    } else {
        let (policy, pass) = passed
            .unwrap_or_else(|| (outcomes[0].entry.to_string(), super::verdict::Pass { method: None, signer: None }));
        Outcome::Allowed(Basis::Policy { policy, pass })
    };
    Combined { outcome, warned, audited }
}
