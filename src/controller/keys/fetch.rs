//! Key files that are published at an address instead of lying in the directory.
//!
//! What is fetched is a root of trust, so it comes over TLS, or the address says which keys are expected
//! (`…/group1.pgp#FINGERPRINT`): then nobody on the way can put in another one, and plain HTTP is acceptable.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use futures::future::join_all;
use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::{Certificate, Client, redirect};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use url::Url;

use super::content::{self, MAX_FILE, Refusal};
use super::model::{FileState, KeyFile};
use super::name::KeyName;
use crate::fault::causes;

/// How often an address is asked, and how soon again when it failed.
const PERIOD: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(10);
/// A new content is fetched once more after this time: a server may send a file that is half-written.
const CONFIRM: Duration = Duration::from_secs(1);
/// One request, redirects and body included.
const REQUEST: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);
const MAX_REDIRECTS: usize = 5;
const AT_A_TIME: usize = 8;

/// An address of a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUrl {
    /// The file it stands for: the last part of the path.
    pub name: KeyName,
    url: Url,
    /// Upper-case fingerprints, one of which every key must have; empty means any.
    expected: Vec<String>,
}

impl FromStr for KeyUrl {
    type Err = String;

    /// Reads `https://host/…/NAME.pgp`, or with `#FINGERPRINT[,FINGERPRINT…]` behind it, which plain HTTP needs.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| format!("not an address: {error}"))?;
        if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
            return Err("expected https://host/path/NAME.pgp".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "no user or password in it: everybody may read public keys, and flags are no secrets".to_owned()
            );
        }
        let expected = url.fragment().map(fingerprints).transpose()?.unwrap_or_default();
        if url.scheme() == "http" && expected.is_empty() {
            return Err("over plain HTTP anybody on the way could put in a key of his own: use https, or name the \
                        fingerprints that are expected behind a #"
                .to_owned());
        }
        url.set_fragment(None);
        let file = url.path_segments().and_then(Iterator::last).unwrap_or_default();
        let name = KeyName::read(file)
            .ok_or("the path must end in the name of a key file, NAME.pgp, .asc, .gpg or .pub")?
            .map_err(|why| format!("{file}: {why}"))?;
        Ok(Self { name, url, expected })
    }
}

fn fingerprints(fragment: &str) -> Result<Vec<String>, String> {
    let one = |part: &str| {
        let whole = matches!(part.len(), 40 | 64) && part.bytes().all(|b| b.is_ascii_hexdigit());
        if whole {
            Ok(part.to_ascii_uppercase())
        } else {
            Err("behind the # stand whole fingerprints, divided by commas")
        }
    };
    Ok(fragment.split(',').map(one).collect::<Result<_, _>>()?)
}

impl KeyUrl {
    /// The address for people, without its query, which may be somebody's secret.
    pub fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.into()
    }

    fn read(&self, bytes: &[u8]) -> FileState {
        let content = match content::read(&self.name, bytes, SystemTime::now()) {
            Ok(content) => content,
            Err(refusal) => return FileState::Refused(refusal),
        };
        let expected = |print: &str| self.expected.iter().any(|expected| expected.eq_ignore_ascii_case(print));
        match content.keys.iter().find(|key| !self.expected.is_empty() && !expected(&key.fingerprint)) {
            None => FileState::Held(content),
            Some(key) => {
                let why = format!("{} is none of the keys that its address expects", key.fingerprint);
                FileState::Refused(Refusal::NoKey(why))
            }
        }
    }
}

/// What was fetched, by file name.
pub type Fetched = BTreeMap<String, KeyFile>;

/// A client for all addresses. `extra_ca`: PEM certificates trusted besides the system's.
pub fn client(extra_ca: Option<&[u8]>) -> Result<Client, String> {
    let roots = match extra_ca {
        Some(pem) => Certificate::from_pem_bundle(pem).map_err(|_| "the CA is not PEM with certificates".to_owned())?,
        None => Vec::new(),
    };
    let builder = || {
        Client::builder()
            .user_agent(concat!("podseal/", env!("CARGO_PKG_VERSION")))
            .redirect(redirects())
            .referer(false)
            .timeout(REQUEST)
            .connect_timeout(CONNECT)
    };
    // A system without certificates of its own (a bare image) trusts those of the configuration alone.
    let merged = builder().tls_certs_merge(roots.clone()).build();
    merged
        .or_else(|_| builder().tls_certs_only(roots).build())
        .map_err(|_| "the HTTP client for keys could not be set up".to_owned())
}

/// A few, and never from TLS to none.
fn redirects() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let tls = |url: &Url| url.scheme() == "https";
        if !tls(attempt.url()) && attempt.previous().iter().any(tls) {
            attempt.error("a redirect from https to http")
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("too many redirects")
        } else {
            attempt.follow()
        }
    })
}

/// Fetches all addresses again and again, and hands on what they hold. Never ends.
pub async fn follow(client: Client, urls: Vec<KeyUrl>, hand_on: watch::Sender<Arc<Fetched>>) {
    let mut sources: Vec<_> = urls.into_iter().map(Source::new).collect();
    loop {
        for group in sources.chunks_mut(AT_A_TIME) {
            let now = Instant::now();
            let due = group.iter_mut().filter(|source| source.next <= now);
            let rounds: Vec<_> = due.map(|source| source.round(&client)).collect();
            join_all(rounds).await;
        }
        let mut fetched = Fetched::new();
        for source in &sources {
            // Of two addresses for one name the first counts; they are told apart when the configuration is read.
            fetched.entry(source.url.name.file.clone()).or_insert_with(|| source.file());
        }
        hand_on.send_replace(Arc::new(fetched));
        let next = sources.iter().map(|source| source.next).min();
        sleep_until(next.unwrap_or_else(|| Instant::now() + PERIOD)).await;
    }
}

/// One address and what is known of it.
struct Source {
    url: KeyUrl,
    next: Instant,
    /// The last bytes that were believed, with what asks for changes of them alone.
    bytes: Option<Vec<u8>>,
    conditions: HeaderMap,
    state: Arc<FileState>,
}

/// An answer of the server.
enum Answer {
    Same,
    New(Vec<u8>, HeaderMap),
}

impl Source {
    fn new(url: KeyUrl) -> Self {
        let state = Arc::new(FileState::Unreadable("not fetched yet".to_owned()));
        Self { url, next: Instant::now(), bytes: None, conditions: HeaderMap::new(), state }
    }

    fn file(&self) -> KeyFile {
        KeyFile { name: self.url.name.clone(), state: self.state.clone(), source: self.url.shown() }
    }

    async fn round(&mut self, client: &Client) {
        let result = self.fetch(client).await;
        let pause = if result.is_ok() { PERIOD } else { RETRY };
        self.next = Instant::now() + pause;
        self.state = Arc::new(match (result, &self.bytes) {
            (Err(why), _) => FileState::Unreadable(why),
            (Ok(()), Some(bytes)) => self.url.read(bytes),
            (Ok(()), None) => FileState::Unreadable("not fetched yet".to_owned()),
        });
    }

    /// Brings the bytes up to date.
    async fn fetch(&mut self, client: &Client) -> Result<(), String> {
        let Answer::New(bytes, conditions) = ask(client, &self.url.url, &self.conditions).await? else { return Ok(()) };
        if self.bytes.as_ref() != Some(&bytes) {
            sleep(CONFIRM).await;
            match ask(client, &self.url.url, &HeaderMap::new()).await? {
                Answer::New(again, _) if again == bytes => {}
                _ => return Err("it changed while it was fetched".to_owned()),
            }
        }
        (self.bytes, self.conditions) = (Some(bytes), conditions);
        Ok(())
    }
}

async fn ask(client: &Client, url: &Url, conditions: &HeaderMap) -> Result<Answer, String> {
    let request = client.get(url.clone()).headers(conditions.clone());
    let mut response = request.send().await.map_err(|error| brief(&error.without_url()))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if !conditions.is_empty() => return Ok(Answer::Same),
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => {
            return Err(format!(
                "the server has no such file (status {}): withdraw it with podseal keys remove",
                status.as_u16()
            ));
        }
        status => return Err(format!("the server answered with status {}", status.as_u16())),
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| brief(&error.without_url()))? {
        // One byte too many is kept, to be told from a file at the bound.
        let room = (MAX_FILE + 1).saturating_sub(bytes.len());
        bytes.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if bytes.len() > MAX_FILE {
            break;
        }
    }
    Ok(Answer::New(bytes.to_vec(), self::conditions(response.headers())))
}

/// What the next request asks with.
fn conditions(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (from, to) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
        if let Some(value) = headers.get(from).filter(|value: &&HeaderValue| value.len() < 1_000) {
            out.insert(to, value.clone());
        }
    }
    out
}

fn brief(error: &reqwest::Error) -> String {
    content::cut(&causes(error), 200)
}

#[cfg(test)]
mod tests;
