//! What the signed payload says.

use serde_json::{Value, json};

use super::{Case, World};

pub(super) fn cases(world: &World) -> Vec<Case> {
    [claims(world), optional(world), texts(world)].into_iter().flatten().collect()
}

/// A good signature over these bytes.
fn signed(world: &World, case: Case, content: &[u8]) -> Case {
    case.signature(world, world.gpg.sign(&world.key, content))
}

/// A good signature over the payload after this change.
fn changed(world: &World, case: Case, change: impl FnOnce(&mut Value)) -> Case {
    let mut payload = world.payload();
    change(&mut payload.0);
    signed(world, case, &payload.bytes())
}

fn claims(world: &World) -> Vec<Case> {
    let set = |name, words, pointer: &str, value: Value| {
        changed(world, world.refused(name, words), |payload| *payload.pointer_mut(pointer).unwrap() = value)
    };
    let without = |name, object: &str, member: &str| {
        changed(world, world.refused(name, "exactly these fields"), |payload| {
            payload.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(member).unwrap();
        })
    };
    let with = |name, object: &str| {
        changed(world, world.refused(name, "exactly these fields"), |payload| {
            payload.pointer_mut(object).unwrap()["more"] = json!("unknown");
        })
    };
    let digest = "/critical/image/docker-manifest-digest";
    let other = format!("sha256:{}", "ab".repeat(32));
    vec![
        set("another digest", "signed for sha256:abab", digest, json!(other)),
        set(
            "digest in upper case",
            "is not a digest",
            digest,
            json!(world.image.digest.to_uppercase().replace("SHA", "sha")),
        ),
        set("digest without algorithm", "is not a digest", digest, json!(world.image.hex())),
        set("digest cut short", "is not a digest", digest, json!(&world.image.digest[..70])),
        set("digest of an unknown algorithm", "is not a digest", digest, json!(format!("md5:{}", "ab".repeat(16)))),
        set("digest is a number", "is not a string", digest, json!(1)),
        set("another type", "critical.type", "/critical/type", json!("cosign container image signature")),
        set("type is null", "critical.type", "/critical/type", Value::Null),
        set(
            "reference is no reference",
            "signedIdentity does not accept",
            "/critical/identity/docker-reference",
            json!("alt/A:1 "),
        ),
        set("reference is empty", "signedIdentity does not accept", "/critical/identity/docker-reference", json!("")),
        set("critical is an array", "exactly these fields", "/critical", json!([])),
        without("type missing", "/critical", "type"),
        without("identity missing", "/critical", "identity"),
        without("image missing", "/critical", "image"),
        without("optional missing", "", "optional"),
        with("unknown critical member", "/critical"),
        with("unknown member of the image", "/critical/image"),
        with("unknown member of the identity", "/critical/identity"),
        with("unknown top-level member", ""),
    ]
}

fn optional(world: &World) -> Vec<Case> {
    let accepted = |name, value: Value| changed(world, world.accepted(name), |payload| payload["optional"] = value);
    let refused =
        |name, value: Value| changed(world, world.refused(name, "optional"), |payload| payload["optional"] = value);
    vec![
        accepted("optional is empty", json!({})),
        accepted("unknown optional members", json!({"more": {"deep": [1, null, {"a": "b"}]}, "creator": "c"})),
        accepted("timestamp written as 1e3", json!({"timestamp": 1e3})),
        accepted("timestamp in the far future", json!({"timestamp": 4_102_444_800_i64})),
        refused("timestamp with a fraction", json!({"timestamp": 0.5})),
        refused("timestamp is a string", json!({"timestamp": "1700000000"})),
        refused("timestamp beyond 64 bits", json!({"timestamp": 1e30})),
        refused("creator is a number", json!({"creator": 1})),
        accepted("creator is null", json!({"creator": null})),
        accepted("timestamp is null", json!({"timestamp": null})),
        refused("optional is null", Value::Null),
        refused("optional is an array", json!([])),
    ]
}

fn texts(world: &World) -> Vec<Case> {
    let good = String::from_utf8(world.payload().bytes()).unwrap();
    let refused = |name, text: &str| signed(world, world.refused(name, "malformed"), text.as_bytes());
    let digest = format!("\"docker-manifest-digest\":\"{}\"", world.image.digest);
    assert!(good.contains(&digest), "{good}");
    let other = format!("\"docker-manifest-digest\":\"sha256:{}\"", "ab".repeat(32));
    let twice = |first: &str, second: &str| good.replace(&digest, &format!("{first},{second}"));
    vec![
        signed(world, world.accepted("blanks around the JSON"), format!(" {good}\n\n").as_bytes()),
        refused("digest twice, the good one first", &twice(&digest, &other)),
        refused("digest twice, the good one last", &twice(&other, &digest)),
        refused("digest twice, the same", &twice(&digest, &digest)),
        refused("optional twice", &good.replacen('{', "{\"optional\":{},", 1)),
        refused("an optional member twice", &good.replace("\"optional\":{", "\"optional\":{\"a\":1,\"a\":1,")),
        refused("data behind the JSON", &format!("{good}{{}}")),
        refused("JSON cut short", &good[..good.len() - 1]),
        refused("no JSON", "hello"),
        refused("an array", &format!("[{good}]")),
        refused("nothing", ""),
        refused("a byte order mark", &format!("\u{feff}{good}")),
    ]
}
