//! Users and bcrypt hashes in a file, as `htpasswd -B` writes them.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::crowd::Crowd;
use super::{Refusal, Writer, loggable};

/// Largest file, in bytes, and most users in it.
const MAX_FILE: u64 = 1024 * 1024;
const MAX_USERS: usize = 10_000;
/// bcrypt's cost doubles the work with every step; beyond this one try takes seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// bcrypt looks at no more bytes of a password; longer ones are refused instead of cut.
const MAX_PASSWORD: usize = 72;
/// Hashes computed at once for users that there are, and for names that nobody has: whoever invents names keeps those
/// out alone who do the same. And how long one waits for its turn.
const AT_ONCE: usize = 2;
const STRANGERS_AT_ONCE: usize = 1;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a good password is not hashed again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// A file of users.
pub struct Htpasswd {
    path: PathBuf,
    read: Mutex<Read>,
    /// SHA-256 of user, password and the hash that was fitting.
    good: Cache<[u8; 32], ()>,
    slots: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    crowd: Crowd,
}

struct Read {
    users: Arc<HashMap<String, String>>,
    stamp: Option<(std::time::SystemTime, u64)>,
    looked: Instant,
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Htpasswd {
    /// Reads the file now, and again whenever it changed. The error says what line is wrong; no error repeats a hash.
    pub fn open(path: &Path) -> Result<Self, String> {
        let (users, stamp) = load(path)?;
        let read = Mutex::new(Read { users: Arc::new(users), stamp, looked: Instant::now() });
        let good = Cache::builder().max_capacity(MAX_USERS as u64).time_to_live(REMEMBERED).build();
        let [slots, strangers] = [AT_ONCE, STRANGERS_AT_ONCE].map(|many| Arc::new(Semaphore::new(many)));
        Ok(Self { path: path.to_owned(), read, good, slots, strangers, crowd: Crowd::default() })
    }

    /// Whether there is a user of this name.
    pub(super) fn knows(&self, user: &str) -> bool {
        self.users().contains_key(user)
    }

    /// Whether this is the user's password. Of one client's address a few may wait for that at once.
    pub(super) async fn admit(
        &self,
        user: String,
        password: String,
        client: Option<IpAddr>,
    ) -> Result<Writer, Refusal> {
        if password.len() > MAX_PASSWORD || password.contains('\0') {
            return Err(wrong());
        }
        let users = self.users();
        // For a user that there is not, another's hash is computed, so that the time does not tell who there is.
        let (hash, known) = match users.get(&user) {
            Some(hash) => (hash.clone(), true),
            None => (users.values().next().cloned().unwrap_or_default(), false),
        };
        let key = fingerprint(&[&user, &password, &hash]);
        // Callers with the same password wait for one answer; bad ones are not kept.
        let checked = self.good.try_get_with(key, self.check(password, hash, known, client));
        checked.await.map_err(|why: Arc<Refusal>| why.as_ref().clone())?;
        Ok(Writer { name: loggable(user), by: "htpasswd" })
    }

    async fn check(&self, password: String, hash: String, known: bool, client: Option<IpAddr>) -> Result<(), Refusal> {
        let _place = self.crowd.enter(client).ok_or(Refusal::Crowded)?;
        let slots = if known { &self.slots } else { &self.strangers };
        let turn = timeout(PATIENCE, Arc::clone(slots).acquire_owned()).await;
        let Ok(Ok(slot)) = turn else {
            return Err(Refusal::Unavailable("too many passwords to check at once, try again".to_owned()));
        };
        let checked = tokio::task::spawn_blocking(move || {
            let fits = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(slot);
            fits
        });
        if checked.await.unwrap_or(false) && known { Ok(()) } else { Err(wrong()) }
    }

    /// The users, as the file has them. One that cannot be read any more changes nothing.
    fn users(&self) -> Arc<HashMap<String, String>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.looked.elapsed() >= LOOK {
            read.looked = Instant::now();
            if stamp(&self.path) != read.stamp {
                match load(&self.path) {
                    Ok((users, stamp)) => {
                        tracing::info!(users = users.len(), "the htpasswd file changed");
                        (read.users, read.stamp) = (Arc::new(users), stamp);
                    }
                    Err(error) => tracing::error!("{error}; the users before it changed are kept"),
                }
            }
        }
        Arc::clone(&read.users)
    }
}

fn wrong() -> Refusal {
    Refusal::Unauthenticated("no such user, or another password")
}

fn fingerprint(parts: &[&str]) -> [u8; 32] {
    let joined: Vec<u8> = parts.iter().flat_map(|part| [part.as_bytes(), b"\0"].concat()).collect();
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, &joined).as_ref());
    key
}

fn stamp(path: &Path) -> Option<(std::time::SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

type Loaded = (HashMap<String, String>, Option<(std::time::SystemTime, u64)>);

fn load(path: &Path) -> Result<Loaded, String> {
    let name = format!("--htpasswd {}", path.display());
    let seen = stamp(path);
    if seen.is_some_and(|(_, length)| length > MAX_FILE) {
        return Err(format!("{name}: larger than 1 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, hash) = line.split_once(':').ok_or(format!("{name}, line {number}: not user:hash"))?;
        if !is_bcrypt(hash) {
            return Err(format!("{name}, line {number}: not a bcrypt hash of cost 4 to 14; make it with htpasswd -B"));
        }
        if user.is_empty() || users.insert(user.to_owned(), hash.to_owned()).is_some() {
            return Err(format!("{name}, line {number}: the user is empty or there twice"));
        }
    }
    if users.is_empty() || users.len() > MAX_USERS {
        return Err(format!("{name}: between 1 and {MAX_USERS} users are needed"));
    }
    Ok((users, seen))
}

/// `$2y$<cost>$` (or `2a`, `2b`) and 53 characters.
fn is_bcrypt(hash: &str) -> bool {
    let mut parts = hash.split('$');
    let (Some(""), Some("2a" | "2b" | "2y"), Some(cost), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    cost.len() == 2
        && cost.parse().is_ok_and(|cost| COSTS.contains(&cost))
        && rest.len() == 53
        && rest.bytes().all(base64)
}
