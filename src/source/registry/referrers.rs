//! What refers to a manifest: OCI distribution specification 1.1, "Listing Referrers", with its fallback tag for
//! registries that do not have the API.

use http::{Method, StatusCode, header};
use serde::Deserialize;
use url::Url;

use super::{Access, Answer, MAX_MANIFEST, Referrer, Remote, Upstream, content_type, document};
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};

const MAX_PAGES: usize = 10;
/// More signatures than this are no honest use, and each costs requests.
const MAX_REFERRERS: usize = 512;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: String,
    media_type: String,
    artifact_type: Option<String>,
}

impl Upstream {
    /// What refers to a digest: the referrers API with all its pages, or the fallback tag. An empty list is certain: the
    /// API said so, or neither it nor the tag exists.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: &Access,
    ) -> Result<Vec<Referrer>, Fault> {
        let remote = Remote::new(self, repository, access)?;
        if let Some(found) = remote.api_list(digest).await? {
            return Ok(found);
        }
        match self.tagged_manifest(repository, &fallback_tag(digest), access).await? {
            None => Ok(Vec::new()),
            Some(index) if index.media_type == document::OCI_INDEX => {
                let mut found = Vec::new();
                remote.read_list(&index.bytes, &mut found)?;
                Ok(found)
            }
            Some(_) => Err(remote.bad_list()),
        }
    }
}

/// `sha256-<hex>`; the specification cuts the hexadecimal digits at 64, so that it is a valid tag.
pub(super) fn fallback_tag(digest: &Digest) -> String {
    let hex: String = digest.hex().chars().take(64).collect();
    format!("{}-{hex}", digest.algorithm_name())
}

impl Remote<'_> {
    /// All pages; `None` when the registry does not have the API.
    pub(super) async fn api_list(&self, digest: &Digest) -> Result<Option<Vec<Referrer>>, Fault> {
        let first = self.url(&format!("referrers/{digest}"))?;
        let mut found = Vec::new();
        let mut url = first.clone();
        for page in 0..MAX_PAGES {
            let answer = self.ask(Method::GET, url, Some(document::OCI_INDEX), MAX_MANIFEST).await?;
            // Registries without the API say so in these ways; some serve their web page for unknown paths.
            let absent = matches!(
                answer.status,
                StatusCode::NOT_FOUND
                    | StatusCode::BAD_REQUEST
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_ACCEPTABLE
            );
            let other =
                answer.status == StatusCode::OK && content_type(&answer).as_deref() != Some(document::OCI_INDEX);
            if page == 0 && (absent || other) {
                return Ok(None);
            }
            self.expect_ok(&answer)?;
            if other {
                return Err(self.bad_list());
            }
            self.read_list(&answer.body, &mut found)?;
            match self.next_page(&first, &answer)? {
                Some(next) => url = next,
                None => return Ok(Some(found)),
            }
        }
        Err(self.home.fault(FaultKind::TooLarge, format_args!("more than {MAX_PAGES} pages of referrers")))
    }

    fn bad_list(&self) -> Fault {
        self.home.fault(FaultKind::BadAnswer, "the list of referrers is malformed")
    }

    /// A malformed entry spoils the list: it might be the one that counts.
    fn read_list(&self, bytes: &[u8], found: &mut Vec<Referrer>) -> Result<(), Fault> {
        let list: List = serde_json::from_slice(bytes).map_err(|_| self.bad_list())?;
        for entry in list.manifests {
            let digest: Digest = entry.digest.parse().map_err(|_| self.bad_list())?;
            if found.iter().any(|r| r.digest == digest) {
                continue;
            }
            if found.len() == MAX_REFERRERS {
                return Err(self.home.fault(FaultKind::TooLarge, format_args!("more than {MAX_REFERRERS} referrers")));
            }
            found.push(Referrer { digest, media_type: entry.media_type, artifact_type: entry.artifact_type });
        }
        Ok(())
    }

    /// The target of `Link: <…>; rel="next"` (RFC 8288): the same list of the same registry, whatever its query.
    fn next_page(&self, first: &Url, answer: &Answer) -> Result<Option<Url>, Fault> {
        let bad = || self.home.fault(FaultKind::BadAnswer, "the list of referrers goes on at an unexpected place");
        let links = answer.headers.get_all(header::LINK).iter();
        let Some(link) = links.filter_map(|v| v.to_str().ok()).find(|v| is_next(v)) else { return Ok(None) };
        let target = link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(target, _)| target);
        let target = target.and_then(|t| first.join(t).ok()).ok_or_else(bad)?;
        let path = target.path().replace("%3A", ":").replace("%3a", ":");
        let same_host = target.host_str() == first.host_str() && target.port() == first.port();
        let plain = target.username().is_empty() && target.password().is_none();
        if !same_host || !plain || path != first.path() {
            return Err(bad());
        }
        // Never from https to http because of a link; an insecure registry finds its scheme by itself.
        let mut next = first.clone();
        next.set_query(target.query());
        Ok(Some(next))
    }
}

fn is_next(link: &str) -> bool {
    let parameters = link.split_once('>').map_or("", |(_, rest)| rest);
    parameters.split([';', ',']).any(|p| {
        let (name, value) = p.split_once('=').unwrap_or((p, ""));
        name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fallback_tags_are_valid_for_every_algorithm() {
        let short = Digest::sha256(b"x");
        assert_eq!(fallback_tag(&short), short.as_str().replace(':', "-"));
        let long = Digest::of(crate::domain::digest::Algorithm::Sha512, b"x");
        assert_eq!(fallback_tag(&long).len(), "sha512-".len() + 64);
    }

    #[test]
    fn next_links_are_recognised() {
        for next in [r#"</v2/x>; rel="next""#, "</v2/x>;rel=next", r#"</v2/x>; title="a"; REL="NEXT""#] {
            assert!(is_next(next), "{next}");
        }
        for other in [r#"</v2/x>; rel="prev""#, "</v2/x>", "", r#"</v2/x?rel=next>; rel="first""#] {
            assert!(!is_next(other), "{other}");
        }
    }
}
