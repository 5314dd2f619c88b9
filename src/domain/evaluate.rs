//! The only place that says "allowed".
//!
//! [`route`] decides everything that needs no signature; [`combine`] folds the outcomes of the governing entries.

use std::sync::Arc;

use super::image::ImageRef;
use super::policy::{Action, Check, Entry, PolicySet};
use super::verdict::{Basis, Cause, EntryOutcome, Failure, Finding, Outcome, Pass, Refusal, RefusalKind};
use super::whitelist::Whitelist;
use crate::fault::{Fault, FaultKind};

/// Entries of equal specificity that govern one image, at most, of the cluster and of the namespace. Every one costs time
/// and memory for every image of every review, and whoever may write a namespaced policy could pile them up.
pub const MAX_GOVERNING: usize = 32;

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
    let (of_cluster, of_namespace) = policies.ties(namespace, image.repository());
    if of_cluster > MAX_GOVERNING || of_namespace > MAX_GOVERNING {
        let detail = format!(
            "{} entries of equal specificity name this repository, more than {MAX_GOVERNING}: merge them",
            of_cluster.max(of_namespace)
        );
        return denied(RefusalKind::BrokenPolicy, detail);
    }
    let mut governing = policies.governing_cluster(image.repository());
    let named_by_cluster = !governing.is_empty();
    let own = policies.governing_namespaced(namespace, image.repository());
    if !named_by_cluster && options.restrict_namespaces && !own.is_empty() {
        let detail = "only a policy of this namespace names the registry, and this installation takes registries from \
                      cluster policies alone";
        return denied(RefusalKind::NoMatchingPolicy, detail.to_owned());
    }
    governing.extend(own);
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
    Route::Decided(Outcome::Denied(vec![Finding { policy: None, failures: vec![refused(kind, detail)] }]))
}

fn refused(kind: RefusalKind, detail: impl Into<String>) -> Failure {
    Failure { method: None, cause: Cause::Refused(Refusal::new(kind, detail)) }
}

/// What comes of a governing entry as far as no signature is needed; `None` when its methods have to be tried.
pub fn without_signature(entry: &Arc<Entry>, image: &ImageRef) -> Option<EntryOutcome> {
    // An entry that cannot be read comes first: nothing else it seems to say may be relied on.
    let result = match &entry.check {
        Check::Broken(reason) => Err(vec![refused(RefusalKind::BrokenPolicy, reason.as_str())]),
        _ if entry.require_digest && image.digest().is_none() => Err(vec![refused(
            RefusalKind::DigestRequired,
            "the entry requires a digest and the image has none: write name@sha256:...",
        )]),
        Check::Unchecked => Ok(Pass { method: None, signer: None }),
        Check::Signed(check) if check.notary.is_none() && check.cosign.is_none() && check.gpg.is_none() => {
            Err(vec![refused(
                RefusalKind::NothingConfigured,
                "the entry asks for a signature and has nothing configured to check it: set cosignKeyRef, cosign.identities, \
                 gpgKeyRef, or notary with notaryTrust",
            )])
        }
        Check::Signed(_) => return None,
    };
    Some(EntryOutcome { entry: entry.clone(), result })
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
    for EntryOutcome { entry, result } in outcomes {
        let Err(failures) = result else { continue };
        let fault = failures.iter().any(|f| matches!(f.cause, Cause::Undecided(_)));
        let finding = Finding { policy: Some(entry.to_string()), failures: failures.clone() };
        match entry.action {
            // Whatever made it: an entry that cannot be read never only warns.
            _ if matches!(entry.check, Check::Broken(_)) => denied.push(finding),
            Action::Warn => warned.push(finding),
            Action::Audit => audited.push(finding),
            Action::Enforce if fault => undecided.push(finding),
            Action::Enforce => denied.push(finding),
        }
    }
    let outcome = if !denied.is_empty() {
        denied.append(&mut undecided);
        Outcome::Denied(denied)
    } else if !undecided.is_empty() {
        Outcome::Undecided(undecided)
    } else {
        allowed(outcomes)
    };
    Combined { outcome, warned, audited }
}

/// Nothing enforced failed: names the entry under which a signature was checked, else the first that passed, else the
/// first that only warns.
fn allowed(outcomes: &[EntryOutcome]) -> Outcome {
    let signed = |o: &&EntryOutcome| o.result.as_ref().is_ok_and(|pass| pass.method.is_some());
    let best = outcomes.iter().find(signed).or_else(|| outcomes.iter().find(|o| o.result.is_ok())).or(outcomes.first());
    let Some(EntryOutcome { entry, result }) = best else {
        let fault = Fault::new(FaultKind::Internal, "no entry was judged");
        let failures = vec![Failure { method: None, cause: Cause::Undecided(fault) }];
        return Outcome::Undecided(vec![Finding { policy: None, failures }]);
    };
    let pass = result.clone().unwrap_or(Pass { method: None, signer: None });
    Outcome::Allowed(Basis::Policy { policy: entry.to_string(), pass })
}

#[cfg(test)]
mod tests;
