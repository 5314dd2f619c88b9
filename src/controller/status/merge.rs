//! The status to write, given the one that is stored: times are kept where nothing changed, and what others added stays.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::compose::Draft;
use crate::api::{GROUP, PolicyStatus, VERSION};
use crate::domain::policy::PolicyId;

/// The condition that says whether every entry can be used.
pub(super) const READY: &str = "Ready";
/// The condition that says whether other policies, or the installation, keep an entry from deciding.
pub(super) const SHADOWED: &str = "Shadowed";

/// What is to be stored; `None` when that is stored already.
pub(super) fn wanted(
    draft: &Draft,
    generation: Option<i64>,
    stored: Option<&PolicyStatus>,
    now: Timestamp,
) -> Option<PolicyStatus> {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let before = stored.and_then(|stored| stored.conditions.iter().find(|condition| condition.type_ == kind));
        let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time.0);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            // Whole seconds, which is all that is stored of such a time elsewhere.
            last_transition_time: Time(since.unwrap_or(Timestamp::from_second(now.as_second()).unwrap_or(now))),
        }
    };
    let (hidden, reason, message) = match &draft.shadowed {
        Some((reason, message)) => ("True", *reason, message.as_str()),
        None => ("False", "NotShadowed", "every entry decides for all images that it names"),
    };
    let status = PolicyStatus {
        observed_generation: generation,
        conditions: vec![
            condition(READY, draft.reason.ready(), draft.reason.label(), &draft.message),
            condition(SHADOWED, hidden, reason, message),
        ],
        registries: draft.registries.clone(),
    };
    (!stored.is_some_and(|stored| holds(stored, &status))).then_some(status)
}

/// Whether all that podseal says is stored. Conditions of other types are their authors' own.
fn holds(stored: &PolicyStatus, wanted: &PolicyStatus) -> bool {
    stored.observed_generation == wanted.observed_generation
        && stored.registries == wanted.registries
        && wanted.conditions.iter().all(|condition| stored.conditions.contains(condition))
}

/// The body of a server-side apply. With the uid, so that it never lands on a new object of the same name.
pub(super) fn body(id: &PolicyId, uid: &str, status: &PolicyStatus) -> Value {
    let kind = if id.namespace.is_some() { "RegistrySecurityPolicy" } else { "ClusterRegistrySecurityPolicy" };
    let mut metadata = json!({"name": &*id.name, "uid": uid});
    if let Some(namespace) = &id.namespace {
        metadata["namespace"] = json!(&**namespace);
    }
    json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "metadata": metadata, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RegistryStatus;
    use crate::controller::status::reason::Reason;

    fn draft(reason: Reason, message: &str) -> Draft {
        Draft {
            reason,
            message: message.to_owned(),
            shadowed: None,
            registries: vec![RegistryStatus { registry: "r.io".to_owned(), ..RegistryStatus::default() }],
            until: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 123).unwrap()
    }

    fn ready(status: &PolicyStatus) -> (&str, &str, i64) {
        let condition = &status.conditions[0];
        (&condition.status, &condition.reason, condition.last_transition_time.0.as_second())
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let first = wanted(&draft(Reason::Usable, "m"), Some(1), None, at(100)).unwrap();
        assert_eq!(ready(&first), ("True", "Usable", 100));
        // As it comes back from the API server.
        let stored: PolicyStatus = serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap();
        assert_eq!(wanted(&draft(Reason::Usable, "m"), Some(1), Some(&stored), at(200)), None);
    }

    #[test]
    fn the_time_changes_with_the_status_and_with_nothing_else() {
        let first = wanted(&draft(Reason::NoVerifier, "m"), Some(1), None, at(100)).unwrap();
        let other = wanted(&draft(Reason::KeyExpired, "n"), Some(2), Some(&first), at(200)).unwrap();
        assert_eq!(ready(&other), ("False", "KeyExpired", 100));
        assert_eq!((other.observed_generation, other.conditions[0].observed_generation), (Some(2), Some(2)));
        let ready_now = wanted(&draft(Reason::Usable, "m"), Some(2), Some(&other), at(300)).unwrap();
        assert_eq!(ready(&ready_now), ("True", "Usable", 300));
        assert_eq!(ready_now.conditions[1].last_transition_time.0.as_second(), 100);
    }

    #[test]
    fn what_others_changed_is_put_right_and_what_they_added_is_left_alone() {
        let first = wanted(&draft(Reason::Usable, "m"), Some(1), None, at(100)).unwrap();
        let same = draft(Reason::Usable, "m");
        let mut stored = first.clone();
        stored.conditions.insert(0, Condition { type_: "Theirs".to_owned(), ..first.conditions[0].clone() });
        assert_eq!(wanted(&same, Some(1), Some(&stored), at(200)), None);
        let changes: [fn(&mut PolicyStatus); 5] = [
            |status| status.conditions[0].message.push('x'),
            |status| status.conditions.truncate(1),
            |status| status.registries.clear(),
            |status| status.observed_generation = None,
            |status| status.conditions[0].status = "False".to_owned(),
        ];
        for change in changes {
            let mut stored = first.clone();
            change(&mut stored);
            let put_right = wanted(&same, Some(1), Some(&stored), at(200)).unwrap();
            assert_eq!(ready(&put_right).0, "True");
        }
    }

    #[test]
    fn the_body_names_the_very_object() {
        let status = wanted(&draft(Reason::Usable, "m"), Some(1), None, at(100)).unwrap();
        let body = |id| body(&id, "u-1", &status);
        let own = body(PolicyId::namespaced("n", "p"));
        assert_eq!(own["metadata"], json!({"name": "p", "namespace": "n", "uid": "u-1"}));
        assert_eq!(own["kind"], "RegistrySecurityPolicy");
        assert_eq!(own["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:01:40Z");
        let cluster = body(PolicyId::cluster("p"));
        assert_eq!(cluster["metadata"], json!({"name": "p", "uid": "u-1"}));
        assert!(own.get("spec").is_none() && cluster["kind"] == "ClusterRegistrySecurityPolicy");
    }
}
