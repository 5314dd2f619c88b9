//! The webhook configurations that are wanted, from a file, and how a live one compares.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, ValidatingWebhook};
use kube::api::{ApiResource, GroupVersionKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const GROUP: &str = "admissionregistration.k8s.io";
/// Largest file: a ConfigMap has at most as much.
const MAX_FILE: u64 = 1 << 20;

/// The two kinds of configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `ValidatingWebhookConfiguration`.
    Validating,
    /// `MutatingWebhookConfiguration`.
    Mutating,
}

impl Kind {
    /// As objects name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validating => "ValidatingWebhookConfiguration",
            Self::Mutating => "MutatingWebhookConfiguration",
        }
    }

    /// For a client without types.
    pub fn resource(self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", self.name()))
    }

    fn find(name: &str) -> Option<Self> {
        [Self::Validating, Self::Mutating].into_iter().find(|kind| kind.name() == name)
    }

    /// An entry with every default of the API filled in, so that entries of equal meaning are equal.
    fn normal(self, entry: &Value) -> Result<Value, String> {
        let mut normal = match self {
            Self::Validating => typed::<ValidatingWebhook>(entry)?,
            Self::Mutating => typed::<MutatingWebhook>(entry)?,
        };
        if let Some(fields) = normal.as_object_mut() {
            for (field, default) in self.defaults() {
                fields.entry(field).or_insert(default);
            }
            fields.retain(|field, value| {
                field != "matchConditions" || value.as_array().is_some_and(|all| !all.is_empty())
            });
        }
        for rule in normal.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(fields) = rule.as_object_mut() {
                fields.entry("scope").or_insert(json!("*"));
            }
        }
        if let Some(service) = normal.pointer_mut("/clientConfig/service").and_then(Value::as_object_mut) {
            service.entry("port").or_insert(json!(443));
        }
        Ok(normal)
    }

    fn defaults(self) -> Vec<(&'static str, Value)> {
        let mut defaults = vec![
            ("failurePolicy", json!("Fail")),
            ("matchPolicy", json!("Equivalent")),
            ("namespaceSelector", json!({})),
            ("objectSelector", json!({})),
            ("timeoutSeconds", json!(10)),
            ("rules", json!([])),
        ];
        if self == Self::Mutating {
            defaults.push(("reinvocationPolicy", json!("Never")));
        }
        defaults
    }
}

/// Through the type of the API and back: what has the wrong form is refused.
fn typed<T: Serialize + DeserializeOwned>(entry: &Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(entry.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

/// One configuration as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Which kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    entries: Vec<Value>,
}

/// How a live configuration compares with the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is as it should be.
    Holds,
    /// It does not exist.
    Absent,
    /// It has no webhooks: nobody is asked.
    Unarmed,
    /// Only what is trusted differs.
    Bundle,
    /// It was edited, or is another version's.
    Differs,
}

impl Wanted {
    /// The entries with this `caBundle` (base64 of PEM); without one, with what the file says or `live` has.
    pub fn entries(&self, bundle: Option<&str>, live: &Value) -> Vec<Value> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            let kept = live_entry(live, entry).and_then(|live| live.pointer("/clientConfig/caBundle")).cloned();
            let Some(client) = entry.get_mut("clientConfig").and_then(Value::as_object_mut) else { continue };
            match (bundle, kept) {
                (Some(bundle), _) => client.insert("caBundle".to_owned(), json!(bundle)),
                (None, Some(kept)) if !client.contains_key("caBundle") => client.insert("caBundle".to_owned(), kept),
                (None, _) => None,
            };
        }
        entries
    }

    /// Compares the live object; fields that this version of the API does not know are not compared.
    pub fn compare(&self, bundle: Option<&str>, live: Option<&Value>) -> Standing {
        let Some(live) = live else { return Standing::Absent };
        let found: Vec<_> = entries_of(live).iter().map(|entry| self.kind.normal(entry)).collect();
        if found.is_empty() {
            // Nothing to register is as good as registered.
            return if self.entries.is_empty() { Standing::Holds } else { Standing::Unarmed };
        }
        let Ok(found): Result<Vec<_>, _> = found.into_iter().collect() else { return Standing::Differs };
        let wanted = self.entries(bundle, live);
        if found == wanted {
            Standing::Holds
        } else if found.into_iter().map(without_bundle).eq(wanted.into_iter().map(without_bundle)) {
            Standing::Bundle
        } else {
            Standing::Differs
        }
    }

    /// The names under which API servers call the entries: of a Service, or a URL's host.
    pub fn hosts(&self) -> BTreeSet<String> {
        self.entries.iter().filter_map(host).collect()
    }
}

/// The entries of a configuration object.
pub fn entries_of(object: &Value) -> &[Value] {
    object.get("webhooks").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn live_entry<'a>(live: &'a Value, entry: &Value) -> Option<&'a Value> {
    entries_of(live).iter().find(|found| found.get("name") == entry.get("name"))
}

fn without_bundle(mut entry: Value) -> Value {
    if let Some(client) = entry.get_mut("clientConfig").and_then(Value::as_object_mut) {
        client.remove("caBundle");
    }
    entry
}

fn host(entry: &Value) -> Option<String> {
    let client = entry.get("clientConfig")?;
    if let Some(service) = client.get("service") {
        let part = |key| service.get(key).and_then(Value::as_str);
        return Some(format!("{}.{}.svc", part("name")?, part("namespace")?));
    }
    let url = url::Url::parse(client.get("url")?.as_str()?).ok()?;
    Some(url.host_str()?.trim_matches(['[', ']']).to_owned())
}

/// Reads a file of wanted configurations, off the threads that answer: it may lie on a network.
pub async fn load(path: &Path) -> Result<Vec<Wanted>, String> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || read(&path)).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Reads a file of wanted configurations.
pub fn read(path: &Path) -> Result<Vec<Wanted>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("--webhooks-file {}: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| failed(&e))?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| failed(&e))?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(&"larger than 1 MiB"));
    }
    parse(&text).map_err(|e| failed(&e))
}

/// Reads YAML documents of wanted configurations: each kind and name once, nothing else, no misspelt field.
pub fn parse(text: &str) -> Result<Vec<Wanted>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut all: Vec<Wanted> = Vec::new();
    for document in documents.iter().filter(|document| !document.is_null()) {
        let wanted = configuration(document)?;
        if all.iter().any(|other| (other.kind, &other.name) == (wanted.kind, &wanted.name)) {
            return Err(format!("{} {} is there twice", wanted.kind.name(), wanted.name));
        }
        all.push(wanted);
    }
    if all.is_empty() { Err("it holds no webhook configuration".to_owned()) } else { Ok(all) }
}

fn configuration(document: &Value) -> Result<Wanted, String> {
    let text = |pointer| document.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or("");
    let expected = format!("{GROUP}/v1");
    let Some(kind) = Kind::find(kind).filter(|_| text("/apiVersion") == Some(&expected)) else {
        return Err(format!("expected configurations of {expected} and found '{kind}'"));
    };
    let name = text("/metadata/name").ok_or_else(|| format!("a {} has no name", kind.name()))?.to_owned();
    let mut entries = Vec::new();
    for entry in entries_of(document) {
        let normal = kind.normal(entry).map_err(|e| format!("{} {name}: {e}", kind.name()))?;
        if let Some(field) = unknown(entry, &normal, "") {
            return Err(format!("{} {name}: the field {field} is not known", kind.name()));
        }
        entries.push(normal);
    }
    Ok(Wanted { kind, name, entries })
}

/// A field of `given` that was lost on the way through the type.
fn unknown(given: &Value, kept: &Value, path: &str) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(field, value)| {
            let path = format!("{path}.{field}");
            match kept.get(field) {
                Some(kept) => unknown(value, kept, &path),
                None => (!is_empty(value)).then(|| path.trim_start_matches('.').to_owned()),
            }
        }),
        (Value::Array(given), Value::Array(kept)) => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(i, (given, kept))| unknown(given, kept, &format!("{path}[{i}]"))),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null()
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: podseal, labels: {a: b}}
webhooks:
- name: pods.podseal.tmax.io
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {service: {name: podseal, namespace: registry-system, path: /validate}}
  matchConditions: [{name: x, expression: 'true'}]
  rules:
  - {apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: podseal}
webhooks:
- name: pins.podseal.tmax.io
  admissionReviewVersions: [v1]
  sideEffects: None
  timeoutSeconds: 5
  clientConfig: {url: 'https://127.0.0.1:8443/mutate'}
---
";

    fn wanted() -> Wanted {
        parse(FILE).unwrap().remove(0)
    }

    fn live(edit: impl Fn(&mut Value)) -> Value {
        let mut entries = wanted().entries(Some("QQ=="), &Value::Null);
        edit(&mut entries[0]);
        json!({"metadata": {"name": "podseal"}, "webhooks": entries})
    }

    #[test]
    fn defaults_of_the_api_make_no_difference() {
        let wanted = wanted();
        let bare = live(|entry| {
            for field in ["failurePolicy", "matchPolicy", "namespaceSelector", "objectSelector", "timeoutSeconds"] {
                entry.as_object_mut().unwrap().remove(field);
            }
            entry["rules"][0].as_object_mut().unwrap().remove("scope");
            entry["clientConfig"]["service"].as_object_mut().unwrap().remove("port");
            entry["fieldFromTheFuture"] = json!(1);
        });
        assert_eq!(wanted.compare(Some("QQ=="), Some(&bare)), Standing::Holds);
        assert_eq!(wanted.compare(None, Some(&bare)), Standing::Holds, "without a bundle of ours, anybody's is kept");
    }

    #[test]
    fn every_edit_that_weakens_an_entry_is_seen() {
        let wanted = wanted();
        let edits: [fn(&mut Value); 8] = [
            |entry| entry["failurePolicy"] = json!("Ignore"),
            |entry| entry["objectSelector"] = json!({"matchLabels": {"a": "b"}}),
            |entry| entry["namespaceSelector"] = json!({"matchLabels": {"a": "b"}}),
            |entry| entry["matchConditions"] = json!([{"name": "y", "expression": "false"}]),
            |entry| entry["matchConditions"] = json!([]),
            |entry| entry["rules"] = json!([]),
            |entry| entry["rules"][0]["operations"] = json!(["DELETE"]),
            |entry| entry["clientConfig"]["service"]["name"] = json!("other"),
        ];
        for (i, edit) in edits.into_iter().enumerate() {
            assert_eq!(wanted.compare(Some("QQ=="), Some(&live(edit))), Standing::Differs, "{i}");
        }
        let mut two = live(|_| {});
        let more = two["webhooks"][0].clone();
        two["webhooks"].as_array_mut().unwrap().push(more);
        assert_eq!(wanted.compare(Some("QQ=="), Some(&two)), Standing::Differs);
    }

    #[test]
    fn a_shell_is_unarmed_and_another_bundle_is_told_from_an_edit() {
        let wanted = wanted();
        assert_eq!(wanted.compare(Some("QQ=="), None), Standing::Absent);
        for shell in [json!({"metadata": {}}), json!({"webhooks": []}), json!({"webhooks": null})] {
            assert_eq!(wanted.compare(Some("QQ=="), Some(&shell)), Standing::Unarmed);
        }
        assert_eq!(wanted.compare(Some("Qg=="), Some(&live(|_| {}))), Standing::Bundle);
    }

    #[test]
    fn names_of_the_certificate_come_from_services_and_urls() {
        let hosts: Vec<_> = parse(FILE).unwrap().iter().flat_map(Wanted::hosts).collect();
        assert_eq!(hosts, ["podseal.registry-system.svc", "127.0.0.1"]);
    }

    #[test]
    fn files_with_anything_else_are_refused() {
        let twice = format!("{FILE}{FILE}");
        for (text, expected) in [
            ("", "no webhook configuration"),
            ("kind: Secret", "found 'Secret'"),
            (&FILE.replace("registration.k8s.io/v1", "registration.k8s.io/v1beta1"), "expected configurations"),
            (&twice, "is there twice"),
            (&FILE.replace("sideEffects: None", "sideEfects: None"), "sideEf"),
            (&FILE.replace("timeoutSeconds: 5", "timeoutSecond: 5"), "timeoutSecond"),
            (&FILE.replace("resources: [pods]", "resource: [pods]"), "resource"),
            (&FILE.replace("name: podseal, labels", "labels"), "has no name"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
