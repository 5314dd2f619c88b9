//! Bad and risky lines of the whitelist, as Events on its `ConfigMap`.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;
use tracing::warn;

use super::follow::{Change, follow};
use crate::cluster::events::{About, Publisher, Saying};
use crate::cluster::watch::WHITELIST_NAME;
use crate::controller::Context;
use crate::domain::whitelist::{LineProblem, Whitelist};

/// Between two looks: edits in quick succession are told of once.
const PAUSE: Duration = Duration::from_secs(10);
/// Lines that one Event quotes, at most.
const QUOTED: usize = 8;

/// The `ConfigMap`'s uid and what is wrong with its lines.
type Seen = (String, Vec<LineProblem>);

/// Tells of lines for ever.
pub(super) async fn run(context: Context, instance: &str) {
    let (sender, mut news) = mpsc::channel(16);
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={WHITELIST_NAME}"));
    let read = |object: ConfigMap| {
        let uid = object.uid().unwrap_or_default();
        (uid, Whitelist::parse(&object.data.unwrap_or_default()).problems)
    };
    tokio::join!(follow(api, config, read, |change| change, sender), tell(&context, instance, &mut news));
}

async fn tell(context: &Context, instance: &str, news: &mut mpsc::Receiver<Change<Seen>>) {
    let publisher = Publisher::new(context.client.clone(), instance);
    let mut told: Vec<Saying> = Vec::new();
    while let Some(first) = news.recv().await {
        let mut last = first;
        while let Ok(later) = news.try_recv() {
            last = later;
        }
        let seen = match last {
            Change::All(objects) => objects.into_iter().next(),
            Change::Put(object) => Some(object),
            Change::Gone(_) => None,
        };
        let (uid, problems) = seen.unwrap_or_default();
        let about = about(&context.namespace, uid);
        let sayings = sayings(&problems);
        for saying in sayings.iter().filter(|saying| !told.contains(saying)) {
            if let Err(error) = publisher.create(&about, saying).await {
                warn!(config_map = WHITELIST_NAME, "an Event about the whitelist could not be written: {error}");
            }
        }
        told = sayings;
        tokio::time::sleep(PAUSE).await;
    }
}

fn about(namespace: &str, uid: String) -> About {
    About {
        namespace: namespace.to_owned(),
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: WHITELIST_NAME.to_owned(),
        uid,
    }
}

/// One Event for lines that are not in force, and one for those that admit more than they seem to.
fn sayings(problems: &[LineProblem]) -> Vec<Saying> {
    let of = |skipped: bool, reason: &'static str, what: &str| {
        let lines: Vec<String> = problems.iter().filter(|p| p.skipped == skipped).map(ToString::to_string).collect();
        if lines.is_empty() {
            return None;
        }
        let more = lines.len().saturating_sub(QUOTED);
        let quoted = lines.into_iter().take(QUOTED).collect::<Vec<_>>().join("; ");
        let counted = if more > 0 { format!("{} lines {what}, among them: {quoted}", more + QUOTED) } else { quoted };
        Some(Saying { reason, action: "ReadingWhitelist", note: counted })
    };
    let skipped = of(true, "WhitelistLineSkipped", "are not in force");
    let risky = of(false, "WhitelistLineRisky", "admit more than they seem to");
    skipped.into_iter().chain(risky).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn told(lines: &str) -> Vec<(&'static str, String)> {
        let data = BTreeMap::from([("whitelist-images".to_owned(), lines.to_owned())]);
        sayings(&Whitelist::parse(&data).problems).into_iter().map(|s| (s.reason, s.note)).collect()
    }

    #[test]
    fn bad_and_risky_lines_are_told_apart_and_good_ones_not_at_all() {
        assert_eq!(told("r.io/a\n# comment\nr.io/b/*\n"), []);
        let bad = told("r.io/a\nr.io/a b\n*\nnginx\n");
        let [("WhitelistLineSkipped", skipped), ("WhitelistLineRisky", risky)] = bad.as_slice() else {
            panic!("{bad:?}")
        };
        assert!(skipped.starts_with("whitelist-images line 2: skipped: "), "{skipped}");
        assert!(risky.contains("line 3") && risky.contains("line 4") && risky.contains("nginx"), "{risky}");
    }

    #[test]
    fn many_lines_are_counted_and_some_are_quoted() {
        let lines = "bad line\n".repeat(500);
        let told = told(&lines);
        assert_eq!(told.len(), 1);
        assert!(told[0].1.starts_with("500 lines are not in force, among them: "), "{}", told[0].1);
        assert_eq!(told[0].1.matches("; ").count(), QUOTED - 1);
    }
}
