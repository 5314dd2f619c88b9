//! Kubernetes Events (`events.k8s.io/v1`) with bounded texts about objects whose description may come from users.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

/// Who reports, as `kubectl describe` shows it.
const CONTROLLER: &str = "podseal.io/podseal";
/// What the API server takes, in bytes.
const MAX_NOTE: usize = 1024;
const MAX_INSTANCE: usize = 128;
/// Of an object's name in front of the Event's own part.
const MAX_STEM: usize = 200;

/// An object that Events are about. Its Events lie in `namespace`, so that whoever may read Events there sees them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct About {
    /// Where the Events are.
    pub namespace: String,
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name, an RFC 1123 subdomain.
    pub name: String,
    /// What tells it from earlier objects of that name; empty when not known.
    pub uid: String,
}

impl About {
    /// A namespace itself. Its Events lie inside it, and not in `default` as those of other cluster-scoped objects do:
    /// they are for the people of the namespace.
    pub fn namespace(name: &str) -> Self {
        Self {
            namespace: name.to_owned(),
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        }
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.api_version.clone()),
            kind: Some(self.kind.clone()),
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            uid: Some(self.uid.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }
    }

    /// The name of a new Event. The time tells Events of one object apart, as other reporters do it.
    fn event_name(&self, now: Timestamp) -> String {
        let stem: String = self.name.chars().take(MAX_STEM).collect();
        format!("{}.{:x}", stem.trim_end_matches(['.', '-']), now.as_nanosecond())
    }
}

/// What an Event says. Everything podseal tells this way asks for somebody's attention: its type is `Warning`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Saying {
    /// One word for programs and for the column `REASON`.
    pub reason: &'static str,
    /// What podseal was doing.
    pub action: &'static str,
    /// A sentence for people; use [`note`] to bound it.
    pub note: String,
}

/// Creates and continues Events; cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    client: Client,
    instance: String,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl Publisher {
    /// `instance` tells replicas apart: the Pod's name, or the host's.
    pub fn new(client: Client, instance: &str) -> Self {
        Self { client, instance: cut(instance, MAX_INSTANCE) }
    }

    /// Creates an Event and gives its name.
    pub async fn create(&self, about: &About, saying: &Saying) -> Result<String, kube::Error> {
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(about.event_name(now)),
                namespace: Some(about.namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some(saying.action.to_owned()),
            reason: Some(saying.reason.to_owned()),
            type_: Some("Warning".to_owned()),
            note: Some(note(&saying.note)),
            event_time: Some(MicroTime(now)),
            regarding: Some(about.reference()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        self.api(&about.namespace).create(&PostParams::default(), &event).await?;
        Ok(event.metadata.name.unwrap_or_default())
    }

    /// Says that what an Event tells happened again, `count` times in all.
    pub async fn repeat(&self, namespace: &str, name: &str, count: i32) -> Result<(), kube::Error> {
        let series = EventSeries { count, last_observed_time: MicroTime(Timestamp::now()) };
        let patch = Patch::Merge(json!({"series": series}));
        self.api(namespace).patch(name, &PatchParams::default(), &patch).await.map(drop)
    }

    fn api(&self, namespace: &str) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// A text as an Event may carry it: one line, without control characters, within the API server's limit.
pub fn note(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(" ");
    let clean: String = joined.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    cut(&clean, MAX_NOTE)
}

/// At most `max` bytes, cut between characters and marked as cut.
fn cut(text: &str, max: usize) -> String {
    const MARK: char = '…';
    if text.len() <= max {
        return text.to_owned();
    }
    let mut short = String::with_capacity(max);
    for c in text.chars() {
        if short.len() + c.len_utf8() + MARK.len_utf8() > max {
            break;
        }
        short.push(c);
    }
    short.push(MARK);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j4_a_note_is_one_line_within_the_limit_of_the_api_server() {
        assert_eq!(note("Pod is not valid: \nfirst\n\n second\u{1b}"), "Pod is not valid: first second\u{fffd}");
        for text in ["ä".repeat(2000), "x".repeat(1025), "日".repeat(342)] {
            let short = note(&text);
            assert!(short.len() <= MAX_NOTE && short.len() > MAX_NOTE - 8 && short.ends_with('…'), "{}", short.len());
        }
        assert_eq!(note(&"x".repeat(1024)).len(), 1024);
    }

    #[test]
    fn names_of_events_stay_names_whatever_the_object_is_called() {
        let mut about = About::namespace("team");
        about.name = format!("{}.{}", "a".repeat(199), "b".repeat(53));
        let name = about.event_name(Timestamp::now());
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
    }
}
