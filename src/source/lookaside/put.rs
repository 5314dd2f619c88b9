//! Writing to a signature store over HTTP: `PUT <base>/<repository path>@<algorithm>=<hex>/signature-<n>`.
//!
//! Nothing is ever replaced: `If-None-Match: *` goes along, and a store that has the number answers 412. Whoever writes
//! says who it is on the first request, to the store itself and over TLS, unless plain HTTP was allowed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::{MAX_SIGNATURES, StoreUrl, home};
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::domain::printable::printable;
use crate::fault::{Fault, FaultKind};
use crate::source::access::Access;
use crate::source::auth::basic_header;
use crate::source::credentials::Keychain;
use crate::source::http::{Answer, Content, Home, Request, Upstream};

const MAX_ANSWER: usize = 64 * 1024;
/// Longest reason of a store that is repeated, in characters.
const MAX_REASON: usize = 300;

/// A store that may be written to, and on whose account.
#[derive(Clone)]
pub struct StoreWriter {
    store: StoreUrl,
    /// Marked sensitive.
    authorization: Option<HeaderValue>,
    /// Hash of the credential, for the server's pauses.
    account: [u8; 32],
}

/// What became of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    Created,
    /// It was there before, if perhaps in another form.
    Known,
    /// Another one has the number.
    Taken,
    /// 409: the store keeps no more of this kind, or another writer was faster. With what the store says of it, printable
    /// and short; empty if it says nothing.
    Refused(String),
}

impl std::fmt::Debug for StoreWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreWriter").field("store", &self.store).finish_non_exhaustive()
    }
}

impl StoreWriter {
    /// A store by its URL, `http` or `https`.
    pub fn new(url: &str) -> Result<Self, String> {
        let store = StoreUrl::from_policy(url).map_err(|_| {
            "expected an http or https URL of a signature store, without user, password, query and fragment".to_owned()
        })?;
        Ok(Self { store, authorization: None, account: [0; 32] })
    }

    /// With a bearer token, such as a service account's.
    pub fn with_token(mut self, token: &str) -> Result<Self, String> {
        let bad = || "the token is empty, or holds what cannot be sent".to_owned();
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| bad())?;
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(bad());
        }
        header.set_sensitive(true);
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        self.account.copy_from_slice(hash.as_ref());
        self.authorization = Some(header);
        Ok(self)
    }

    /// With the first credential that the keychain has for the store's host.
    #[must_use]
    pub fn with_keychain(mut self, keychain: &Keychain) -> Self {
        let port = self.store.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", self.store.0.host_str().unwrap_or_default());
        // Credentials are kept by host and path; a store's path is none that a repository could have.
        let Ok(place) = Repository::new(&host, "signatures") else { return self };
        let found = keychain.for_repository(&place).into_iter().find_map(|c| Some((basic_header(&c)?, c.id())));
        if let Some((header, id)) = found {
            (self.authorization, self.account) = (Some(header), id);
        }
        self
    }

    /// The store, to read from.
    pub fn store(&self) -> &StoreUrl {
        &self.store
    }

    /// What a store says of its refusal, in one line; nothing where that is no text or repeats the credential.
    fn reason(&self, answer: &Answer) -> String {
        let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let plain = kind.is_some_and(|kind| kind.starts_with("text/plain"));
        let Some(text) = std::str::from_utf8(&answer.body).ok().filter(|_| plain) else { return String::new() };
        let line = text.trim().lines().next().unwrap_or_default();
        let repeats = |secret: &str| !secret.is_empty() && text.contains(secret);
        if self.secrets().iter().any(|secret| repeats(secret)) {
            return String::new();
        }
        let short: String = line.chars().take(MAX_REASON).collect();
        printable(&short).into_owned()
    }

    /// Everything that the store was sent and that is nobody else's.
    fn secrets(&self) -> Vec<String> {
        let header = self.authorization.as_ref().and_then(|header| header.to_str().ok());
        let Some(credential) = header.and_then(|header| header.split_once(' ')).map(|(_, credential)| credential)
        else {
            return Vec::new();
        };
        let decoded = BASE64_STANDARD.decode(credential).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let password = decoded.and_then(|text| Some(text.split_once(':')?.1.to_owned()));
        password.into_iter().chain([credential.to_owned()]).collect()
    }

    /// Whether it has something to say who it is by.
    pub fn has_account(&self) -> bool {
        self.authorization.is_some()
    }
}

impl Upstream {
    /// Puts a signature under a number from 1; what is there already stays. The caller goes through the numbers, which
    /// must have no gap.
    pub async fn put_signature(
        &self,
        writer: &StoreWriter,
        repository: &Repository,
        digest: &Digest,
        number: usize,
        signature: &Bytes,
        access: &Access,
    ) -> Result<Put, Fault> {
        let store = &writer.store;
        let subject = format!("signature store {store}, signature {number} of {}@{digest}", repository.path());
        let home = Home { insecure: access.transport.insecure, ..home(store, repository, &subject, access) };
        if !(1..=MAX_SIGNATURES).contains(&number) {
            return Err(home.fault(FaultKind::TooLarge, format_args!("at most {MAX_SIGNATURES} signatures are read")));
        }
        let url = store.signature(repository, digest, number);
        admit(&home, &url, writer)?;
        let media_type = Some(HeaderValue::from_static("application/octet-stream"));
        let content = Content { bytes: signature.clone(), media_type, range: None, only_new: true };
        let request = Request {
            method: Method::PUT,
            url,
            accept: None,
            authorization: writer.authorization.clone(),
            credential: writer.account,
            form: None,
            content: Some(content),
            limit: MAX_ANSWER,
        };
        let answer = self.exchange(&home, &request).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(Put::Created),
            StatusCode::OK => Ok(Put::Known),
            StatusCode::PRECONDITION_FAILED => Ok(Put::Taken),
            StatusCode::CONFLICT => Ok(Put::Refused(writer.reason(&answer))),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let shown = access.transport.certificate.is_some();
                Err(home.fault(FaultKind::Unauthorized, refused(writer, status, shown)))
            }
            StatusCode::METHOD_NOT_ALLOWED => Err(home.fault(
                FaultKind::Configuration,
                "the store takes no signatures over HTTP (405): write into its folder with --staging",
            )),
            StatusCode::NOT_FOUND => Err(home.fault(
                FaultKind::Configuration,
                "the server has no place for signatures there (404): look at the path of the URL; podseal store has them \
                 below /sigstore",
            )),
            status => {
                let (about, reason) = (home.about_certificate(status), writer.reason(&answer));
                let what = format!("status {} for a signature{about}", status.as_u16());
                let what = if reason.is_empty() { what } else { format!("{what}: {reason}") };
                Err(home.fault(FaultKind::BadAnswer, what))
            }
        }
    }
}

/// Whether the account may be told there.
fn admit(home: &Home<'_>, url: &Url, writer: &StoreWriter) -> Result<(), Fault> {
    if url.scheme() == "https" || home.insecure || !writer.has_account() {
        return Ok(());
    }
    Err(home.fault(
        FaultKind::Configuration,
        "credentials are not sent over plain HTTP: give an https URL, or --insecure where the way there is trusted",
    ))
}

fn refused(writer: &StoreWriter, status: StatusCode, certificate: bool) -> &'static str {
    if writer.has_account() && status == StatusCode::UNAUTHORIZED {
        "writing is refused: the store does not know the token or password; it is wrong, expired, or meant for another store"
    } else if writer.has_account() {
        "writing is refused: the account may not add signatures there"
    } else if certificate {
        "writing is refused: the client certificate does not count there; podseal store takes those of its --client-ca"
    } else {
        "writing is refused to the anonymous: name a token with --token-file, credentials for the store's host with \
         --authfile, or a client certificate with --client-cert"
    }
}
