//! The fingerprint of an entry, by which caches tell one entry's demands from another's.

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

use crate::domain::policy::PolicyId;

/// SHA-256 over the policy's id and the entry as written.
///
/// Every part is written with its type and length, and members of objects in the order of their names, so that equal
/// content gives equal bytes and different content never does. The entry's position does not count.
pub(super) fn fingerprint(policy: &PolicyId, entry: &Value) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    text(&mut hash, b'v', "podseal entry 1");
    match &policy.namespace {
        Some(namespace) => text(&mut hash, b'n', namespace),
        None => hash.update(b"c"),
    }
    text(&mut hash, b'p', &policy.name);
    value(&mut hash, entry);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

/// Goes as deep as the value does, which the parser that made it has bounded.
fn value(hash: &mut Context, content: &Value) {
    match content {
        Value::Null => hash.update(b"0"),
        Value::Bool(flag) => hash.update(if *flag { b"t" } else { b"f" }),
        Value::Number(number) => text(hash, b'd', &number.to_string()),
        Value::String(string) => text(hash, b's', string),
        Value::Array(items) => {
            head(hash, b'a', items.len());
            for item in items {
                value(hash, item);
            }
        }
        Value::Object(map) => {
            head(hash, b'o', map.len());
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            for (name, member) in members {
                text(hash, b'k', name);
                value(hash, member);
            }
        }
    }
}

fn text(hash: &mut Context, kind: u8, string: &str) {
    head(hash, kind, string.len());
    hash.update(string.as_bytes());
}

fn head(hash: &mut Context, kind: u8, length: usize) {
    hash.update(&[kind]);
    hash.update(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(entry: &Value) -> [u8; 32] {
        fingerprint(&PolicyId::cluster("p"), entry)
    }

    #[test]
    fn equal_content_has_one_fingerprint_whatever_the_order_of_its_members() {
        let one: Value = serde_json::from_str(r#"{"registry":"a","signCheck":true}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{"signCheck":true,"registry":"a"}"#).unwrap();
        assert_eq!(of(&one), of(&other));
    }

    #[test]
    fn different_content_or_policy_has_another_fingerprint() {
        let entry = json!({"registry": "a", "signCheck": true});
        for other in [
            json!({"registry": "a", "signCheck": false}),
            json!({"registry": "a", "signCheck": "true"}),
            json!({"registry": "a", "signCheck": true, "signer": []}),
            json!({"registry": "a", "signCheck": true, "signer": [""]}),
            json!({"registry": "asignCheck", "": true}),
        ] {
            assert_ne!(of(&entry), of(&other), "{other}");
        }
        for id in [PolicyId::cluster("q"), PolicyId::namespaced("p", "p"), PolicyId::namespaced("", "p")] {
            assert_ne!(of(&entry), fingerprint(&id, &entry), "{id}");
        }
    }

    #[test]
    fn lists_that_join_to_the_same_text_differ() {
        assert_ne!(of(&json!({"signer": ["ab", "c"]})), of(&json!({"signer": ["a", "bc"]})));
        assert_ne!(of(&json!([["a"], "b"])), of(&json!([["a", "b"]])));
    }
}
