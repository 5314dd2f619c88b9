//! The entries that match an image: which govern and why, and what each asks for.

use serde::Serialize;
use serde_json::Value;

use super::keys::KeyList;
use crate::cli::verify::report::Row;
use crate::domain::image::Repository;
use crate::domain::policy::{Action, Check, Entry, GpgCheck};
use crate::domain::scope::{HostPattern, Scope};
use crate::records::examine::shown;

/// An entry that governs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Governing {
    pub(super) entry: String,
    pub(super) registry: String,
    pub(super) why: String,
    pub(super) action: &'static str,
    pub(super) require_digest: bool,
    /// What is asked for, in a sentence.
    pub(super) asks: String,
    /// Accepted signers; empty for any.
    pub(super) signers: Vec<String>,
    pub(super) keys: Vec<KeyList>,
    /// GPG signatures that were found, each with what it comes to under this entry.
    pub(super) signatures: Vec<Row>,
}

/// An entry that matches and does not govern.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overruled {
    pub(super) entry: String,
    pub(super) registry: String,
    pub(super) why: String,
}

impl Governing {
    pub(super) fn of(entry: &Entry, ties: usize, keys: Vec<KeyList>) -> Self {
        let (asks, signers) = asks(&entry.check);
        let place = if entry.is_cluster() { "the cluster's policies" } else { "the policies of the namespace" };
        let alone = if ties > 1 { format!(", with {} of equal rank", ties - 1) } else { String::new() };
        let why = format!("{}: the most specific match among {place}{alone}", specificity(&entry.scope));
        Self {
            entry: entry.to_string(),
            registry: entry.scope.to_string(),
            why,
            action: action(entry.action),
            require_digest: entry.require_digest,
            asks,
            signers,
            keys,
            signatures: Vec::new(),
        }
    }
}

impl Overruled {
    pub(super) fn of(entry: &Entry, by: &Entry) -> Self {
        Self {
            entry: entry.to_string(),
            registry: entry.scope.to_string(),
            why: format!("{}, which is less specific than {}", specificity(&entry.scope), by.scope),
        }
    }
}

/// Of these policies' entries, those that match a repository and are not among the governing ones of the same side.
pub(super) fn overruled<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    repository: &Repository,
    governing: &[&Entry],
) -> Vec<Overruled> {
    let matching = entries.into_iter().filter(|entry| entry.scope.matches(repository));
    let beaten = matching.filter(|entry| !governing.contains(entry));
    beaten.filter_map(|entry| governing.first().map(|by| Overruled::of(entry, by))).collect()
}

/// By what an entry matches; the order of these decides.
fn specificity(scope: &Scope) -> String {
    let host = match &scope.host {
        HostPattern::Exact(host) => format!("the very host {host}"),
        HostPattern::Suffix(suffix) => format!("all hosts below {suffix}"),
        HostPattern::Any => return "every registry".to_owned(),
    };
    match scope.path.split('/').filter(|part| !part.is_empty()).count() {
        0 => format!("{host}, any repository"),
        1 => format!("{host}, path {}", scope.path),
        n => format!("{host}, path {} ({n} components)", scope.path),
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Enforce => "Enforce",
        Action::Warn => "Warn",
        Action::Audit => "Audit",
    }
}

fn asks(check: &Check) -> (String, Vec<String>) {
    let check = match check {
        Check::Unchecked => return ("nothing: signCheck is false".to_owned(), Vec::new()),
        Check::Broken(why) => return (format!("cannot be read, and so denies: {}", shown(why)), Vec::new()),
        Check::Signed(check) => check,
    };
    let mut methods = Vec::new();
    if let Some(notary) = &check.notary {
        methods.push(format!("Notary at {}", shown(&notary.server)));
    }
    if let Some(cosign) = &check.cosign {
        let by_key = cosign.key_ref.as_ref().map(|key| format!("a key of {key}"));
        let by_identity = (!cosign.identities.is_empty()).then(|| format!("{} identities", cosign.identities.len()));
        let by: Vec<_> = by_key.into_iter().chain(by_identity).collect();
        methods.push(format!("cosign by {}", by.join(" or ")));
    }
    if let Some(gpg) = &check.gpg {
        methods.push(format!("GPG by a key of {}", gpg.key_ref));
    }
    let asks = match methods.len() {
        0 => "a signature, and names no way to check one".to_owned(),
        1 => format!("a signature: {}", methods.concat()),
        _ => format!("a signature, any one of: {}", methods.join("; ")),
    };
    (asks, check.signers.iter().map(|signer| shown(signer)).collect())
}

/// What an entry asks of GPG, if it does.
pub(super) fn gpg(entry: &Entry) -> Option<&GpgCheck> {
    if let Check::Signed(check) = &entry.check { check.gpg.as_ref() } else { None }
}

/// The signers that an entry lists.
pub(super) fn signers(entry: &Entry) -> &[String] {
    if let Check::Signed(check) = &entry.check { &check.signers } else { &[] }
}

/// The keys that the status of a policy tells of, for those who may read the policy and not the Secret.
pub(super) fn keys_of_status(object: &Value, index: usize) -> Option<(Vec<String>, Vec<String>)> {
    let entry = object.pointer(&format!("/status/registries/{index}"))?;
    let texts = |member: &str, inner: &str| -> Vec<String> {
        let list = entry.get(member).and_then(Value::as_array).into_iter().flatten();
        let text =
            |value: &Value| if inner.is_empty() { value.as_str() } else { value.get(inner)?.as_str() }.map(shown);
        list.filter_map(text).collect()
    };
    let keys = texts("keys", "fingerprint");
    (!keys.is_empty()).then(|| (keys, texts("signers", "")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::read_policy;
    use crate::domain::policy::{Policy, PolicyId, PolicySet};

    fn policy(name: &str, registries: &[&str]) -> Policy {
        let registries: Vec<_> = registries.iter().map(|r| json!({"registry": r, "signCheck": false})).collect();
        read_policy(PolicyId::cluster(name), &json!({"spec": {"registries": registries}}))
    }

    #[test]
    fn what_governs_and_what_is_overruled_is_said_with_the_reason() {
        let policies = [policy("a", &["registry.local", "*"]), policy("b", &["registry.local/k8s-c10f1", "other.io"])];
        let repository = Repository::parse("registry.local/k8s-c10f1/app").unwrap();
        let set = PolicySet::new(&policies);
        let governing = set.governing_cluster(&repository);
        assert_eq!(governing.len(), 1);
        let shown = Governing::of(&governing[0], 1, Vec::new());
        assert_eq!(shown.entry, "ClusterRegistrySecurityPolicy/b spec.registries[0]");
        assert!(
            shown.why.starts_with("the very host registry.local, path k8s-c10f1: the most specific"),
            "{}",
            shown.why
        );
        let all: Vec<_> = policies.iter().flat_map(|p| p.entries.iter().map(AsRef::as_ref)).collect();
        let beaten = overruled(all, &repository, &[&governing[0]]);
        let names: Vec<_> = beaten.iter().map(|o| (o.registry.as_str(), o.why.as_str())).collect();
        assert_eq!(
            names,
            [
                (
                    "registry.local",
                    "the very host registry.local, any repository, which is less specific than registry.local/k8s-c10f1"
                ),
                ("*", "every registry, which is less specific than registry.local/k8s-c10f1"),
            ]
        );
    }

    #[test]
    fn the_status_of_a_policy_tells_of_keys_that_cannot_be_read() {
        let object =
            json!({"status": {"registries": [{}, {"keys": [{"fingerprint": "AB\u{7}"}], "signers": ["a@b"]}]}});
        assert_eq!(keys_of_status(&object, 1), Some((vec!["AB\u{fffd}".to_owned()], vec!["a@b".to_owned()])));
        assert_eq!(keys_of_status(&object, 0), None);
        assert_eq!(keys_of_status(&json!({}), 0), None);
    }
}
