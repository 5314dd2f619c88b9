//! `/validate-policy`: what cannot load is refused with its field path, what is suspicious is a warning.

use serde_json::Value;

use super::review::{Decision, Request, short};
use crate::api::{GROUP, read_policy};
use crate::domain::policy::PolicyId;

/// Reads the policy as run time does.
pub(super) fn decide(request: &Request<Value>) -> Decision {
    let allowed = || Decision { allowed: true, ..Decision::default() };
    match request.operation.as_str() {
        "CREATE" | "UPDATE" => {}
        "DELETE" | "CONNECT" => return allowed(),
        other => return denial(format!("podseal does not know the operation {:?}", short(other))),
    }
    let name = request.name.as_deref().unwrap_or("");
    let namespace = request.namespace.as_deref().unwrap_or("");
    let id = match (request.kind.group.as_str(), request.kind.kind.as_str()) {
        (GROUP, "ClusterRegistrySecurityPolicy") => PolicyId::cluster(name),
        (GROUP, "RegistrySecurityPolicy") if !namespace.is_empty() => PolicyId::namespaced(namespace, name),
        (group, kind) => return denial(format!("podseal validates policies of {GROUP} and got {group:?} {kind:?}")),
    };
    let Some(object) = &request.object else { return denial("the review holds no object".to_owned()) };
    // An object that is being deleted may be as broken as it likes: its finalizers must be removable.
    if request.operation == "UPDATE" && spec(&object.0) == request.old_object.as_ref().and_then(|old| spec(&old.0)) {
        return allowed();
    }
    let policy = read_policy(id, &object.0);
    let (errors, warnings): (Vec<_>, Vec<_>) = policy.problems.iter().partition(|problem| problem.error);
    let mut decision = if errors.is_empty() {
        allowed()
    } else {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        denial(format!("{} cannot be used:\n{}", policy.id, lines.join("\n")))
    };
    decision.warnings = warnings.iter().take(50).map(ToString::to_string).collect();
    decision
}

fn spec(object: &Value) -> Option<&Value> {
    object.get("spec")
}

fn denial(message: String) -> Decision {
    Decision { code: 422, reason: "Invalid", message, ..Decision::default() }
}
