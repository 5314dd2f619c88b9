use std::time::Duration;

use super::document::OCI_INDEX;
use super::*;
use crate::source::credentials::Keychain;
use crate::source::testing::{Authority, Reply, Server, access, insecure, reply, trusting, upstream};

const IMAGE: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#;
const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

fn image() -> Reply {
    reply(200, IMAGE).with("content-type", IMAGE_TYPE)
}

fn digest() -> Digest {
    Digest::sha256(IMAGE.as_bytes())
}

fn kind<T: std::fmt::Debug>(result: Result<T, Fault>) -> FaultKind {
    result.expect_err("a fault").kind()
}

#[tokio::test]
async fn a_tag_costs_one_head_and_one_get_by_digest_on_one_connection() {
    let server = Server::plain(1, |_| image().with("docker-content-digest", digest()));
    let (upstream, access, repository) = (upstream(), insecure(), server.repository("a/b"));
    let found = upstream.resolve(&repository, "v1", &access).await.expect("answer").expect("digest");
    let manifest = upstream.manifest(&repository, &found, &access).await.expect("answer").expect("manifest");
    assert_eq!((manifest.digest, manifest.media_type.as_str()), (digest(), IMAGE_TYPE));
    assert_eq!(manifest.bytes, IMAGE);
    assert_eq!(server.lines(), ["HEAD /v2/a/b/manifests/v1".to_owned(), format!("GET /v2/a/b/manifests/{}", digest())]);
    assert_eq!(server.connections(), 1);
    let accept = server.seen()[0].header("accept").expect("accept").to_owned();
    assert!(accept.contains(OCI_INDEX) && accept.contains("docker.distribution.manifest.v2"));
}

#[tokio::test]
async fn a_registry_without_head_or_digest_header_is_asked_by_get() {
    let silent = Server::plain(1, |_| image());
    let refusing = Server::plain(1, |seen| if seen.method == "HEAD" { reply(405, "") } else { image() });
    for server in [silent, refusing] {
        let found = upstream().resolve(&server.repository("a/b"), "v1", &insecure()).await;
        assert_eq!(found, Ok(Some(digest())));
        assert_eq!(server.lines(), ["HEAD /v2/a/b/manifests/v1", "GET /v2/a/b/manifests/v1"]);
    }
}

#[tokio::test]
async fn only_404_is_not_found() {
    for (status, expected) in [
        (404, None),
        (403, Some(FaultKind::Unauthorized)),
        (401, Some(FaultKind::Unauthorized)),
        (400, Some(FaultKind::BadAnswer)),
        (204, Some(FaultKind::BadAnswer)),
        (500, Some(FaultKind::BadAnswer)),
        (503, Some(FaultKind::BadAnswer)),
        (429, Some(FaultKind::RateLimited)),
    ] {
        let server = Server::plain(1, move |_| reply(status, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#));
        let (upstream, access, repository) = (upstream(), insecure(), server.repository("a/b"));
        let results = [
            upstream.resolve(&repository, "v1", &access).await.map(|d| d.is_some()),
            upstream.manifest(&repository, &digest(), &access).await.map(|d| d.is_some()),
            upstream.tagged_manifest(&repository, "v1", &access).await.map(|d| d.is_some()),
            upstream.blob(&repository, &digest(), 100, &access).await.map(|d| d.is_some()),
        ];
        for result in results {
            assert_eq!(result.map_err(|f| f.kind()), expected.map_or(Ok(false), Err), "{status}");
        }
    }
}

#[tokio::test]
async fn d3_d4_d5_bytes_with_another_digest_are_refused() {
    let server = Server::plain(1, |_| image());
    let (upstream, access, repository) = (upstream(), insecure(), server.repository("a/b"));
    let other = Digest::sha256(b"other");
    assert_eq!(kind(upstream.manifest(&repository, &other, &access).await), FaultKind::DigestMismatch);
    assert_eq!(kind(upstream.blob(&repository, &other, 1000, &access).await), FaultKind::DigestMismatch);
    assert!(upstream.manifest(&repository, &digest(), &access).await.is_ok_and(|m| m.is_some()));
    assert_eq!(upstream.blob(&repository, &digest(), 1000, &access).await, Ok(Some(IMAGE.into())));
}

#[tokio::test]
async fn d16_content_of_another_host_is_judged_by_its_bytes() {
    let authority = Authority::new();
    let elsewhere = Server::tls(2, &authority, |seen| {
        if seen.target.ends_with("/honest") { image() } else { reply(200, "{}").with("content-type", IMAGE_TYPE) }
    });
    for (content, found) in [("honest", Ok(true)), ("other", Err(FaultKind::DigestMismatch))] {
        let target = format!("https://{}/{content}", elsewhere.host());
        let server = Server::tls(1, &authority, move |_| reply(307, "").with("location", &target));
        let access = access(trusting(&authority), Keychain::default());
        let (upstream, repository) = (upstream(), server.repository("a/b"));
        let manifest = upstream.manifest(&repository, &digest(), &access).await;
        assert_eq!(manifest.map(|manifest| manifest.is_some()).map_err(|fault| fault.kind()), found, "{content}");
        let blob = upstream.blob(&repository, &digest(), 1000, &access).await;
        assert_eq!(blob.map(|blob| blob.is_some()).map_err(|fault| fault.kind()), found, "{content}");
    }
}

#[tokio::test]
async fn d4_the_digest_header_of_a_tag_must_fit_the_body() {
    let lying = Server::plain(1, |_| image().with("docker-content-digest", Digest::sha256(b"other")));
    let garbage = Server::plain(1, |_| image().with("docker-content-digest", "sha256:../../x"));
    let honest = Server::plain(1, |_| image().with("docker-content-digest", digest()));
    let (upstream, access) = (upstream(), insecure());
    let lied = upstream.tagged_manifest(&lying.repository("a"), "t", &access).await;
    assert_eq!(kind(lied), FaultKind::DigestMismatch);
    assert_eq!(kind(upstream.tagged_manifest(&garbage.repository("a"), "t", &access).await), FaultKind::BadAnswer);
    assert_eq!(kind(upstream.resolve(&garbage.repository("a"), "t", &access).await), FaultKind::BadAnswer);
    let found = upstream.tagged_manifest(&honest.repository("a"), "t", &access).await.expect("answer");
    assert_eq!(found.map(|m| m.digest), Some(digest()));
}

#[tokio::test]
async fn d7_header_and_document_must_name_one_media_type() {
    let server = Server::plain(1, |_| reply(200, IMAGE).with("content-type", OCI_INDEX));
    let found = upstream().manifest(&server.repository("a"), &digest(), &insecure()).await;
    assert_eq!(kind(found), FaultKind::BadAnswer);
    let server = Server::plain(1, |_| reply(200, IMAGE).with("content-type", format!("{IMAGE_TYPE}; charset=utf-8")));
    assert!(upstream().manifest(&server.repository("a"), &digest(), &insecure()).await.is_ok_and(|m| m.is_some()));
}

#[tokio::test]
async fn e32_bodies_end_at_their_limit() {
    let endless = Server::plain(1, |_| Reply::Endless { status: 200, headers: Vec::new() });
    let announced = Server::plain(1, |_| reply(200, vec![b'x'; MAX_MANIFEST + 1]));
    for server in [endless, announced] {
        let (upstream, access, repository) = (upstream(), insecure(), server.repository("a"));
        assert_eq!(kind(upstream.manifest(&repository, &digest(), &access).await), FaultKind::TooLarge);
        assert_eq!(kind(upstream.blob(&repository, &digest(), 1000, &access).await), FaultKind::TooLarge);
    }
    let body = IMAGE.len();
    let exact = Server::plain(1, |_| image());
    let (upstream, access, repository) = (upstream(), insecure(), exact.repository("a"));
    assert!(upstream.blob(&repository, &digest(), body, &access).await.is_ok_and(|b| b.is_some()));
    assert_eq!(kind(upstream.blob(&repository, &digest(), body - 1, &access).await), FaultKind::TooLarge);
}

#[tokio::test]
async fn e32_an_endless_error_is_still_an_error() {
    let server = Server::plain(1, |_| Reply::Endless { status: 404, headers: Vec::new() });
    let started = std::time::Instant::now();
    assert_eq!(upstream().blob(&server.repository("a"), &digest(), 10, &insecure()).await, Ok(None));
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn e37_nothing_is_decompressed() {
    // A gzip stream that would grow is taken as the bytes it is.
    let bytes: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 4, 0, 0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0];
    let server = Server::plain(1, move |_| reply(200, bytes).with("content-encoding", "gzip"));
    let (upstream, access, repository) = (upstream(), insecure(), server.repository("a"));
    assert_eq!(upstream.blob(&repository, &Digest::sha256(bytes), 100, &access).await, Ok(Some(bytes.into())));
    assert_eq!(kind(upstream.blob(&repository, &Digest::sha256(b"a"), 100, &access).await), FaultKind::DigestMismatch);
    assert!(server.seen().iter().all(|s| s.header("accept-encoding").is_none()));
}

#[tokio::test]
async fn g19_a_name_never_becomes_another_path() {
    let server = Server::plain(1, |_| image());
    let (upstream, access, repository) = (upstream(), insecure(), server.repository("a"));
    for tag in ["../../other/manifests/x", "..", ".", "x?y=z", "x#y", "x%2f..", "x\\y", "x\r\nHost: evil", "x y"] {
        assert_eq!(kind(upstream.resolve(&repository, tag, &access).await), FaultKind::Configuration, "{tag:?}");
    }
    assert!(server.lines().is_empty());
    assert!(upstream.resolve(&repository, "sha256-0123.sig", &access).await.is_ok());
}

fn list(count: usize, from: usize) -> String {
    let entry = |n: usize| {
        let digest = Digest::sha256(n.to_string().as_bytes());
        serde_json::json!({"mediaType": IMAGE_TYPE, "digest": digest.as_str(), "size": 1, "artifactType": "x/y"})
    };
    let entries: Vec<_> = (from..from + count).map(entry).collect();
    serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string()
}

fn page(count: usize, from: usize) -> Reply {
    reply(200, list(count, from)).with("content-type", OCI_INDEX)
}

#[tokio::test]
async fn referrers_come_from_all_pages_of_the_api() {
    let server = Server::plain(1, |seen| match seen.target.split_once("?n=") {
        None => page(2, 0).with("link", format!("<{}?n=2>; rel=\"next\"", seen.target.replace(':', "%3A"))),
        Some(_) => page(2, 1),
    });
    let found = upstream().referrers(&server.repository("a"), &digest(), &insecure()).await.expect("list");
    let expected: Vec<_> = ["0", "1", "2"].iter().map(|n| Digest::sha256(n.as_bytes())).collect();
    assert_eq!(found.iter().map(|r| r.digest.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(found[0].artifact_type.as_deref(), Some("x/y"));
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn e33_referrers_are_bounded_in_pages_and_number() {
    let loops = Server::plain(1, |seen| {
        let next = format!("<{}?n=1>; rel=next", seen.target.split('?').next().unwrap_or_default());
        page(1, 0).with("link", next)
    });
    let (upstream, access) = (upstream(), insecure());
    assert_eq!(kind(upstream.referrers(&loops.repository("a"), &digest(), &access).await), FaultKind::TooLarge);
    assert_eq!(loops.lines().len(), 10);
    let many = Server::plain(1, |_| page(513, 0));
    assert_eq!(kind(upstream.referrers(&many.repository("a"), &digest(), &access).await), FaultKind::TooLarge);
    let most = Server::plain(1, |_| page(512, 0));
    assert_eq!(upstream.referrers(&most.repository("a"), &digest(), &access).await.map(|r| r.len()), Ok(512));
}

#[tokio::test]
async fn g20_without_the_api_the_fallback_tag_is_read() {
    for (status, body) in [(404, ""), (400, ""), (405, ""), (406, ""), (200, "<html>")] {
        let tag = format!("/v2/a/manifests/{}", digest().as_str().replace(':', "-"));
        let server = Server::plain(1, move |seen| {
            if seen.target == tag { page(1, 7) } else { reply(status, body).with("content-type", "text/html") }
        });
        let found = upstream().referrers(&server.repository("a"), &digest(), &insecure()).await.expect("list");
        assert_eq!(found.iter().map(|r| &r.digest).collect::<Vec<_>>(), [&Digest::sha256(b"7")], "{status}");
    }
    let nothing = Server::plain(1, |_| reply(404, ""));
    assert_eq!(upstream().referrers(&nothing.repository("a"), &digest(), &insecure()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn g20_an_error_of_the_api_is_not_an_empty_list() {
    for (status, expected) in [
        (401, FaultKind::Unauthorized),
        (403, FaultKind::Unauthorized),
        (429, FaultKind::RateLimited),
        (500, FaultKind::BadAnswer),
    ] {
        let api =
            Server::plain(1, move |s| if s.target.contains("referrers") { reply(status, "") } else { reply(404, "") });
        assert_eq!(kind(upstream().referrers(&api.repository("a"), &digest(), &insecure()).await), expected);
        let tag =
            Server::plain(1, move |s| if s.target.contains("referrers") { reply(404, "") } else { reply(status, "") });
        assert_eq!(kind(upstream().referrers(&tag.repository("a"), &digest(), &insecure()).await), expected);
    }
}

#[tokio::test]
async fn a_malformed_list_is_a_fault_and_a_foreign_next_page_is_not_fetched() {
    for body in [
        "{}".to_owned(),
        "[]".into(),
        "null".into(),
        r#"{"manifests":[{}]}"#.into(),
        r#"{"manifests":[{"mediaType":"a","digest":"sha256:x"}]}"#.into(),
        "[".repeat(200_000),
    ] {
        let server = Server::plain(1, move |_| reply(200, body.clone()).with("content-type", OCI_INDEX));
        let found = upstream().referrers(&server.repository("a"), &digest(), &insecure()).await;
        assert_eq!(kind(found), FaultKind::BadAnswer);
    }
    let other = Server::plain(2, |_| page(1, 0));
    for target in [format!("http://{}/v2/a/referrers/{}", other.host(), digest()), "/v2/b/referrers/x".to_owned()] {
        let server = Server::plain(1, move |_| page(1, 0).with("link", format!("<{target}>; rel=\"next\"")));
        let found = upstream().referrers(&server.repository("a"), &digest(), &insecure()).await;
        assert_eq!(kind(found), FaultKind::BadAnswer);
        assert_eq!(server.lines().len(), 1);
    }
    assert!(other.lines().is_empty());
}

#[tokio::test]
async fn names_that_are_no_host_are_a_fault_and_docker_hub_has_its_own_api_host() {
    let repository = Repository::new("1.2.3.4.5", "a").expect("repository");
    assert_eq!(kind(upstream().resolve(&repository, "t", &insecure()).await), FaultKind::Configuration);
    let hub = Repository::parse("nginx").expect("repository");
    let (upstream, access) = (upstream(), insecure());
    let remote = Remote::new(&upstream, &hub, &access).expect("remote");
    assert_eq!(
        remote.url("tags/list").expect("url").as_str(),
        "https://registry-1.docker.io/v2/library/nginx/tags/list"
    );
}
