//! Keeps one Secret per key file: made, changed and emptied with the file, and removed with it when that is beyond doubt.
//!
//! ```text
//!  notices (inotify) ─┐                        fetch (addresses) ─┐
//!  every 10 seconds ──┴─► directory ─► tracker ─► content ────────┴─► plan ─► secrets ─► API server
//!                         names and     believed   bytes → keys       rows     writes with preconditions
//!                         stamps        or not     or refusal           └────► report ─► Events, metrics, log
//! ```
//!
//! What a Secret holds follows from the file as it is now; nothing has to be remembered over a restart. The one exception
//! is deletion: only who saw a file go may delete its Secret. After a restart a Secret without a file is reported as an
//! orphan and stays until `podseal keys remove`, or until the file is there again.

mod content;
mod directory;
mod fetch;
mod model;
mod name;
mod notices;
mod plan;
mod report;
mod scan;
mod secrets;
#[cfg(test)]
mod testing;
mod tracker;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, warn};

use self::fetch::Fetched;
use self::plan::Change;
use self::report::Reporter;
use self::scan::Scanner;
use super::Context;

pub use self::content::{Content, HeldKey, Refusal};
pub use self::fetch::KeyUrl;
pub use self::model::{Directory, FileState, Files, KeyFile, Live, State};
pub use self::name::{KeyKind, KeyName};
pub use self::plan::{Row, Step, date, rows};
pub use self::scan::once as scan_once;
pub use self::secrets::{delete, read as read_secrets};

/// The cluster is compared at least so often, so that a Secret that was deleted or edited comes back.
const COMPARE: Duration = Duration::from_secs(30);
/// After a write failed: at first, and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The API server has so long for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where key files come from.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The key directory, if there is one.
    pub directory: Option<PathBuf>,
    /// Addresses of further key files.
    pub urls: Vec<KeyUrl>,
    /// PEM certificates trusted for the addresses besides the system's.
    pub extra_ca: Option<Vec<u8>>,
}

impl Config {
    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        self.directory.is_none() && self.urls.is_empty()
    }

    /// Checks what can be checked without looking: addresses for one and the same Secret, the CA.
    pub fn check(&self) -> Result<(), String> {
        let mut secrets = BTreeSet::new();
        for url in &self.urls {
            if !secrets.insert(&url.name.secret) {
                return Err(format!("{}: two addresses belong to one Secret, {}", url.shown(), url.name.secret));
            }
        }
        fetch::client(self.extra_ca.as_deref()).map(drop)
    }
}

/// Runs the key sync; never ends by itself and survives whatever happens to directory, addresses and API server.
///
/// Dropping it ends it: nothing is written after that, and its gauges are gone.
pub async fn run(context: Context, config: Config) {
    if config.is_empty() {
        return std::future::pending().await;
    }
    let (hand_on, fetched) = watch::channel(Arc::new(Fetched::new()));
    let fetching = async {
        match fetch::client(config.extra_ca.as_deref()) {
            Ok(client) if !config.urls.is_empty() => fetch::follow(client, config.urls.clone(), hand_on).await,
            // The sender stays alive, so that nobody takes its end for news.
            Ok(_) => drop((std::future::pending::<()>().await, hand_on)),
            Err(why) => {
                error!("keys cannot be fetched: {why}");
                drop((std::future::pending::<()>().await, hand_on));
            }
        }
    };
    let expects_addresses = !config.urls.is_empty();
    let scanner = Scanner::new(config.directory.clone());
    let keeper = Keeper::new(context, fetched, expects_addresses);
    tokio::join!(fetching, keeper.run(scanner));
}

/// Compares and writes.
struct Keeper {
    api: Api<Secret>,
    reporter: Reporter,
    fetched: watch::Receiver<Arc<Fetched>>,
    expects_addresses: bool,
    /// Files that were seen to go, until their Secrets are gone.
    withdrawn: BTreeSet<String>,
    retry: Duration,
}

impl Keeper {
    fn new(context: Context, fetched: watch::Receiver<Arc<Fetched>>, expects_addresses: bool) -> Self {
        let api = Api::namespaced(context.client.clone(), &context.namespace);
        let reporter = Reporter::new(context);
        Self { api, reporter, fetched, expects_addresses, withdrawn: BTreeSet::new(), retry: FIRST_RETRY }
    }

    async fn run(mut self, mut scanner: Scanner) {
        let mut compare_at = Instant::now();
        let mut seen: Option<Files> = None;
        loop {
            let news = {
                let fetched = self.fetched.changed();
                tokio::select! {
                    news = scanner.next() => news,
                    _ = fetched => None,
                    () = sleep_until(compare_at) => None,
                }
            };
            let changed = news.is_some();
            if let Some((files, withdrawn)) = news {
                // A file that is back was not withdrawn.
                self.withdrawn.retain(|file| !files.files.contains_key(file));
                self.withdrawn.extend(withdrawn);
                seen = Some(files);
            }
            let known = scanner.is_idle() || seen.is_some();
            let fetched = self.fetched.borrow_and_update().clone();
            if !known || (self.expects_addresses && fetched.is_empty()) {
                // Without all of it, Secrets would look like orphans.
                compare_at = Instant::now() + COMPARE;
                continue;
            }
            let files = merge(seen.clone().unwrap_or_else(nothing), &fetched);
            if changed {
                self.retry = FIRST_RETRY;
            }
            compare_at = Instant::now() + self.compare(&files).await;
        }
    }

    /// Brings Secrets and files together; gives the pause until the next time.
    async fn compare(&mut self, files: &Files) -> Duration {
        let now = SystemTime::now();
        let mut found = match self.rows(files, now).await {
            Ok(found) => found,
            Err(why) => {
                warn!("the Secrets of key files cannot be read: {why}");
                return self.pause();
            }
        };
        let (mut failed, mut wrote) = (false, false);
        for row in &found {
            let Some((change, step)) = &row.step else { continue };
            match answered(secrets::take(&self.api, step)).await {
                Ok(uid) => {
                    wrote = true;
                    if let (Change::Removed, Some(file)) = (change, &row.file) {
                        self.withdrawn.remove(file);
                    }
                    self.reporter.changed(row, *change, &uid).await;
                }
                Err(why) => {
                    failed = true;
                    self.reporter.failed(row, &why);
                }
            }
        }
        if wrote && let Ok(now_found) = self.rows(files, now).await {
            found = now_found;
        }
        self.withdrawn.retain(|file| found.iter().any(|row| row.file.as_ref() == Some(file)));
        self.reporter.state(files, &found, now).await;
        if failed { self.pause() } else { COMPARE }
    }

    async fn rows(&self, files: &Files, now: SystemTime) -> Result<Vec<Row>, String> {
        let live = answered(secrets::read(&self.api, files)).await?;
        Ok(rows(files, &live, &self.withdrawn, now))
    }

    fn pause(&mut self) -> Duration {
        let pause = self.retry;
        self.retry = (pause * 2).min(LONGEST_RETRY);
        pause
    }
}

/// What the API server answers, or why it did not.
async fn answered<T>(asking: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("the API server does not answer".to_owned()),
    }
}

/// What is in no directory.
fn nothing() -> Files {
    Files { directory: Directory::None, ..Files::default() }
}

/// Adds the fetched files to those of the directory, which has precedence.
fn merge(mut files: Files, fetched: &Fetched) -> Files {
    for (file, found) in fetched {
        if files.files.contains_key(file) {
            let why = format!("{} is in the key directory as well, which has precedence", found.source);
            files.refused.insert(format!("{file} ({})", found.source), why);
        } else {
            files.files.insert(file.clone(), found.clone());
        }
    }
    files
}
