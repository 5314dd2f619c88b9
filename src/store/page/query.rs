//! What of the store a page shows.

use url::form_urlencoded;

use crate::domain::digest::Digest;

/// Longest text that is searched for, in characters.
const MAX_SEARCH: usize = 100;

/// The query of a page. What cannot be read is left out: there is always a page to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Repositories whose path has this in it.
    pub(super) search: String,
    /// One repository.
    pub(super) repository: Option<String>,
    /// One digest of it.
    pub(super) digest: Option<Digest>,
    /// The page of a list, from 1.
    pub(super) page: usize,
}

impl Query {
    pub(super) fn read(text: &str) -> Self {
        let mut query = Self { page: 1, ..Self::default() };
        for (name, value) in form_urlencoded::parse(text.as_bytes()).take(10) {
            match name.as_ref() {
                "q" => query.search = value.trim().chars().take(MAX_SEARCH).collect(),
                "repository" => query.repository = Some(value.into_owned()),
                "digest" => query.digest = value.parse().ok(),
                "page" => query.page = value.parse().unwrap_or(1).max(1),
                _ => {}
            }
        }
        query
    }

    /// The address of the same on another page of the list.
    pub(super) fn at(&self, page: usize) -> String {
        let mut to = form_urlencoded::Serializer::new("/?".to_owned());
        if !self.search.is_empty() {
            to.append_pair("q", &self.search);
        }
        if let Some(repository) = &self.repository {
            to.append_pair("repository", repository);
        }
        if let Some(digest) = &self.digest {
            to.append_pair("digest", digest.as_str());
        }
        to.append_pair("page", &page.to_string());
        to.finish().replacen("/?&", "/?", 1)
    }

    /// The address of a repository, or of one digest of it.
    pub(super) fn address(repository: &str, digest: Option<&Digest>) -> String {
        let mut to = form_urlencoded::Serializer::new(String::new());
        to.append_pair("repository", repository);
        if let Some(digest) = digest {
            to.append_pair("digest", digest.as_str());
        }
        format!("/?{}", to.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_written_alike() {
        let query = Query::read("q=a%20b&repository=x%2Fy&page=3&other=1");
        assert_eq!((query.search.as_str(), query.repository.as_deref(), query.page), ("a b", Some("x/y"), 3));
        assert_eq!(query.at(4), "/?q=a+b&repository=x%2Fy&page=4");
        for odd in ["page=0", "page=-1", "page=x", "digest=x", "%", "=&&=", "page=99999999999999999999"] {
            assert_eq!(Query::read(odd).page, 1, "{odd}");
        }
        assert_eq!(Query::address("a/b", None), "/?repository=a%2Fb");
    }
}
