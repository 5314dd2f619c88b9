//! `signedIdentity` of an entry, wire → domain.

use super::fields::{Fields, Report};
use super::policy::{MAX_NAME, MAX_REFERENCE};
use crate::domain::identity::SignedIdentity;
use crate::domain::image::{ImageRef, Repository};

/// Its fields.
pub(super) const IDENTITY: [&str; 5] = ["type", "dockerReference", "dockerRepository", "prefix", "signedPrefix"];

/// The rule; `None` when there is none, or when it was reported as unusable.
///
/// `prefix` is the way of its fields from the entry.
pub(super) fn read_identity(fields: Fields<'_>, prefix: &'static str, report: &mut Report) -> Option<SignedIdentity> {
    let identity = Fields::new(fields.object("signedIdentity", report)?, prefix, &IDENTITY, report);
    let kind = identity.text("type", MAX_NAME, report);
    let own: &[&str] = match kind {
        Some("matchExact" | "matchRepoDigestOrExact" | "matchRepository") => &[],
        Some("exactReference") => &["dockerReference"],
        Some("exactRepository") => &["dockerRepository"],
        Some("remapIdentity") => &["prefix", "signedPrefix"],
        _ => {
            let message = "must be matchExact, matchRepoDigestOrExact, matchRepository, exactReference, \
                           exactRepository or remapIdentity";
            report.refuse(&identity.path("type"), message);
            return None;
        }
    };
    check_fields(identity, own, report);
    match kind? {
        "matchExact" => Some(SignedIdentity::MatchExact),
        "matchRepository" => Some(SignedIdentity::MatchRepository),
        "exactReference" => read_reference(identity, report).map(SignedIdentity::ExactReference),
        "exactRepository" => read_repository(identity, report).map(SignedIdentity::ExactRepository),
        "remapIdentity" => {
            let prefix = identity.text("prefix", MAX_NAME, report)?;
            let signed = identity.text("signedPrefix", MAX_NAME, report)?;
            SignedIdentity::remap(prefix, signed)
                .map_err(|error| report.refuse(&fields.path("signedIdentity"), &error))
                .ok()
        }
        _ => Some(SignedIdentity::MatchRepoDigestOrExact),
    }
}

/// Each type takes its own fields, all of them, and no others.
fn check_fields(identity: Fields<'_>, own: &[&str], report: &mut Report) {
    for name in IDENTITY.into_iter().filter(|name| *name != "type") {
        match (own.contains(&name), identity.value(name).is_some()) {
            (true, false) => report.refuse(&identity.path(name), "required with this type"),
            (false, true) => report.refuse(&identity.path(name), "belongs to another type"),
            _ => {}
        }
    }
}

fn read_repository(identity: Fields<'_>, report: &mut Report) -> Option<Repository> {
    match Repository::parse(identity.text("dockerRepository", MAX_NAME, report)?) {
        Ok(repository) => Some(repository),
        Err(error) => {
            report.refuse(&identity.path("dockerRepository"), &error.to_string());
            None
        }
    }
}

/// With a tag or a digest: a bare name would silently stand for `latest`.
fn read_reference(identity: Fields<'_>, report: &mut Report) -> Option<ImageRef> {
    let text = identity.text("dockerReference", MAX_REFERENCE, report)?;
    let error = match text.parse::<ImageRef>() {
        Ok(_) if Repository::parse(text).is_ok() => "needs a tag or a digest".to_owned(),
        Ok(reference) => return Some(reference),
        Err(error) => error.to_string(),
    };
    report.refuse(&identity.path("dockerReference"), &error);
    None
}
