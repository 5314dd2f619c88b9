//! Blobs and manifests as no program would push them, in referrers-registry and without credentials.

use podseal::domain::digest::Digest;
use reqwest::Method;

use super::http::Http;
use super::registry::Registry;

impl Registry {
    /// Puts a blob into a repository; its digest.
    #[track_caller]
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = Digest::sha256(bytes).to_string();
        let path = format!("{repository}/blobs/uploads/?digest={digest}");
        self.put(Method::POST, &path, "application/octet-stream", bytes);
        digest
    }

    /// Puts a manifest of this media type under a tag or its digest; its digest.
    #[track_caller]
    pub fn put_manifest(&self, repository: &str, reference: Option<&str>, media_type: &str, bytes: &[u8]) -> String {
        let digest = Digest::sha256(bytes).to_string();
        let path = format!("{repository}/manifests/{}", reference.unwrap_or(&digest));
        self.put(Method::PUT, &path, media_type, bytes);
        digest
    }

    #[track_caller]
    fn put(&self, method: Method, path: &str, content_type: &str, bytes: &[u8]) {
        let http = Http::trusting(self.authority.as_ref().map_or("", |authority| &authority.pem));
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/v2/{path}", self.host);
        let reply = http.send(method, &url, &[("content-type", content_type)], bytes.to_vec()).unwrap();
        assert_eq!(reply.status, 201, "{url}: {}", reply.text());
    }
}
