use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::domain::digest::Digest;
use crate::source::access::Access;
use crate::source::credentials::Keychain;
use crate::source::testing::{
    Authority, Reply, Server, access, insecure, insecure_with, keychain, reply, trusting, upstream,
};

const BODY: &str = "content";

async fn fetch(upstream: &Upstream, server: &Server, access: &Access) -> Result<bool, FaultKind> {
    let digest = Digest::sha256(BODY.as_bytes());
    let blob = upstream.blob(&server.repository("a"), &digest, 100, access).await;
    blob.map(|b| b.is_some()).map_err(|f| f.kind())
}

fn configured(change: impl FnOnce(&mut SourceConfig)) -> Upstream {
    let mut config = SourceConfig::default();
    change(&mut config);
    Upstream::new(config).expect("upstream")
}

/// Fails `times` times, then answers.
fn failing(times: usize, failure: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    let count = AtomicUsize::new(0);
    Server::plain(1, move |_| if count.fetch_add(1, Ordering::SeqCst) < times { failure() } else { reply(200, BODY) })
}

#[tokio::test]
async fn e36_a_slow_body_ends_with_the_time_limit() {
    let server = Server::plain(1, |_| Reply::Drip);
    let upstream = configured(|c| c.request_timeout = Duration::from_millis(300));
    let started = Instant::now();
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Err(FaultKind::Timeout));
    assert!(started.elapsed() < Duration::from_secs(2));
    // The review's deadline is the harder limit.
    let mut access = insecure();
    access.deadline = Instant::now() + Duration::from_millis(200);
    let started = Instant::now();
    assert_eq!(fetch(&configured(|_| ()), &server, &access).await, Err(FaultKind::Timeout));
    assert!(started.elapsed() < Duration::from_secs(2));
    let quick = Server::plain(1, |_| reply(200, BODY));
    assert_eq!(fetch(&upstream, &quick, &insecure()).await, Ok(true));
}

#[tokio::test]
async fn h9_what_fails_for_now_is_tried_again_within_limits() {
    for status in [429, 500, 502, 503, 504] {
        assert_eq!(fetch(&upstream(), &failing(2, move || reply(status, "")), &insecure()).await, Ok(true), "{status}");
        let expected = if status == 429 { FaultKind::RateLimited } else { FaultKind::BadAnswer };
        let down = failing(3, move || reply(status, ""));
        assert_eq!(fetch(&upstream(), &down, &insecure()).await, Err(expected), "{status}");
        assert_eq!(down.lines().len(), 3);
    }
    assert_eq!(fetch(&upstream(), &failing(2, || Reply::HangUp), &insecure()).await, Ok(true));
    assert_eq!(fetch(&upstream(), &failing(100, || Reply::HangUp), &insecure()).await, Err(FaultKind::Unreachable));
    let other = failing(1, || reply(418, ""));
    assert_eq!(fetch(&upstream(), &other, &insecure()).await, Err(FaultKind::BadAnswer));
    assert_eq!(other.lines().len(), 1);
}

#[tokio::test]
async fn h9_retry_after_is_honoured_within_the_deadline() {
    let server = failing(1, || reply(429, "").with("retry-after", 1));
    let started = Instant::now();
    assert_eq!(fetch(&upstream(), &server, &insecure()).await, Ok(true));
    assert!(started.elapsed() >= Duration::from_secs(1));
    let server = failing(1, || reply(503, "").with("retry-after", 100));
    let started = Instant::now();
    assert_eq!(fetch(&upstream(), &server, &insecure()).await, Err(FaultKind::BadAnswer));
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn h9_the_pause_is_shared_by_requests_with_the_same_credential() {
    let server = failing(1, || reply(429, "").with("retry-after", 100));
    let upstream = upstream();
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Err(FaultKind::RateLimited));
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Err(FaultKind::RateLimited));
    assert_eq!(server.lines().len(), 1, "the second request was not sent");
    let other = Server::plain(1, |_| reply(200, BODY));
    assert_eq!(fetch(&upstream, &other, &insecure()).await, Ok(true), "another server is asked");
    let known = insecure_with(keychain(&[(&server.host(), "u:p")]));
    assert_eq!(fetch(&upstream, &server, &known).await, Ok(true), "whoever has a credential is not held back");
}

#[tokio::test]
async fn h10_a_server_that_is_down_is_unreachable() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("address");
    let digest = Digest::sha256(b"x");
    for host in [closed.to_string(), "does-not-exist.invalid".to_owned()] {
        let repository = crate::domain::image::Repository::new(&host, "a").expect("repository");
        for access in [insecure(), access(Transport::default(), Keychain::default())] {
            let fault = upstream().blob(&repository, &digest, 1, &access).await.expect_err("down");
            assert_eq!(fault.kind(), FaultKind::Unreachable, "{fault}");
            assert!(fault.message().contains(&host), "{fault}");
        }
    }
}

#[tokio::test]
async fn e38_redirects_are_few() {
    let steps = |n: usize| {
        Server::plain(1, move |seen| {
            let at = seen.target.strip_prefix("/step").and_then(|t| t.parse().ok()).unwrap_or(0);
            if at == n { reply(200, BODY) } else { reply(302, "").with("location", format!("/step{}", at + 1)) }
        })
    };
    assert_eq!(fetch(&upstream(), &steps(5), &insecure()).await, Ok(true));
    assert_eq!(fetch(&upstream(), &steps(6), &insecure()).await, Err(FaultKind::BadAnswer));
    let forever = Server::plain(1, |_| reply(302, "").with("location", "/again"));
    assert_eq!(fetch(&upstream(), &forever, &insecure()).await, Err(FaultKind::BadAnswer));
    assert_eq!(forever.lines().len(), 6);
}

#[tokio::test]
async fn redirects_to_what_is_no_plain_web_address_are_not_followed() {
    for target in ["file:///etc/passwd", "ftp://127.0.0.1/", "https://u:p@127.0.0.1/", "http://", "gopher:x"] {
        let server = Server::plain(1, move |_| reply(302, "").with("location", target));
        assert_eq!(fetch(&upstream(), &server, &insecure()).await, Err(FaultKind::BadAnswer), "{target}");
    }
    let none = Server::plain(1, |_| reply(302, ""));
    assert_eq!(fetch(&upstream(), &none, &insecure()).await, Err(FaultKind::BadAnswer));
}

#[tokio::test]
async fn e38_g5_a_redirect_to_a_refused_address_is_not_followed() {
    let authority = Authority::new();
    let inner = Server::tls(2, &authority, |_| reply(200, BODY));
    let target = inner.host();
    let outer = Server::tls(1, &authority, move |_| reply(307, "").with("location", format!("https://{target}/x")));
    // 127.0.0.1 plays a public address here: it is not refused, 127.0.0.2 is.
    let upstream = configured(|c| c.allowed_addresses = vec!["127.0.0.1/32".parse().expect("network")]);
    for guarded in [false, true] {
        let access = access(Transport { guarded, ..trusting(&authority) }, Keychain::default());
        let digest = Digest::sha256(b"x");
        let fault = upstream.blob(&outer.repository("a"), &digest, 100, &access).await.expect_err("refused");
        assert_eq!(fault.kind(), FaultKind::AddressRefused);
        assert!(!fault.message().contains("127.0.0.2"), "{fault}");
    }
    assert!(inner.lines().is_empty());
    // A registry that is itself at such an address may use others there.
    let free = access(trusting(&authority), Keychain::default());
    assert_eq!(fetch(&configured(|_| ()), &outer, &free).await, Ok(true));
}

#[tokio::test]
async fn g5_a_guarded_first_hop_to_a_refused_address_is_not_made() {
    let server = Server::plain(1, |_| reply(200, BODY));
    let guarded = access(Transport { guarded: true, insecure: true, ..Transport::default() }, Keychain::default());
    assert_eq!(fetch(&upstream(), &server, &guarded).await, Err(FaultKind::AddressRefused));
    let by_name = crate::domain::image::Repository::new(&format!("localhost:{}", server.address.port()), "a");
    let digest = Digest::sha256(BODY.as_bytes());
    let fault = upstream().blob(&by_name.expect("name"), &digest, 100, &guarded).await.expect_err("refused");
    assert_eq!(fault.kind(), FaultKind::AddressRefused, "{:?}", fault.detail());
    assert!(server.lines().is_empty());
    let allowing = configured(|c| c.allowed_addresses = vec!["127.0.0.0/8".parse().expect("network")]);
    assert_eq!(fetch(&allowing, &server, &guarded).await, Ok(true));
    assert_eq!(fetch(&upstream(), &server, &insecure()).await, Ok(true));
}

#[tokio::test]
async fn g5_a_token_service_at_a_refused_address_is_not_asked() {
    let authority = Authority::new();
    let service = Server::tls(2, &authority, |_| reply(200, r#"{"token":"x"}"#));
    let realm = format!("Bearer realm=\"https://{}/token\"", service.host());
    let server = Server::tls(1, &authority, move |_| reply(401, "").with("www-authenticate", &realm));
    let upstream = configured(|c| c.allowed_addresses = vec!["127.0.0.1/32".parse().expect("network")]);
    let access = access(trusting(&authority), Keychain::default());
    assert_eq!(fetch(&upstream, &server, &access).await, Err(FaultKind::AddressRefused));
    assert!(service.lines().is_empty());
}

#[tokio::test]
async fn g9_a_private_authority_is_trusted_where_it_is_named_and_nowhere_else() {
    let authority = Authority::new();
    let server = Server::tls(1, &authority, |_| reply(200, BODY));
    let without = access(Transport::default(), Keychain::default());
    let with = access(trusting(&authority), Keychain::default());
    let upstream = configured(|_| ());
    assert_eq!(fetch(&upstream, &server, &with).await, Ok(true));
    assert_eq!(fetch(&upstream, &server, &without).await, Err(FaultKind::Unreachable));
    assert_eq!(
        fetch(&upstream, &server, &access(trusting(&Authority::new()), Keychain::default())).await,
        Err(FaultKind::Unreachable)
    );
    let everywhere = configured(|c| c.extra_ca = Some(authority.pem()));
    assert_eq!(fetch(&everywhere, &server, &without).await, Ok(true));
    let fault =
        upstream.blob(&server.repository("a"), &Digest::sha256(b"x"), 1, &without).await.expect_err("untrusted");
    assert!(fault.message().contains("caRef"), "{fault}");
}

#[tokio::test]
async fn g9_a_bad_authority_is_a_configuration_error_and_not_ignored() {
    let authority = Authority::new();
    let server = Server::tls(1, &authority, |_| reply(200, BODY));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in ["", "garbage", broken] {
        let transport = Transport { ca: Some(pem.as_bytes().into()), ..Transport::default() };
        assert_eq!(
            fetch(&upstream(), &server, &access(transport, Keychain::default())).await,
            Err(FaultKind::Configuration)
        );
        assert!(
            Upstream::new(SourceConfig { extra_ca: Some(pem.into()), ..SourceConfig::default() }).is_err(),
            "{pem}"
        );
    }
}

#[tokio::test]
async fn g7_insecure_is_explicit_and_for_the_registrys_own_host_only() {
    let authority = Authority::new();
    let plain = Server::plain(1, |_| reply(200, BODY));
    let tls = Server::tls(1, &authority, |_| reply(200, BODY));
    let strict = access(Transport::default(), Keychain::default());
    for server in [&plain, &tls] {
        // Loopback hosts get no special treatment.
        assert_eq!(fetch(&upstream(), server, &strict).await, Err(FaultKind::Unreachable));
        assert!(server.lines().is_empty());
        assert_eq!(fetch(&upstream(), server, &insecure()).await, Ok(true));
    }
    let (unverified, bare) = (Server::tls(2, &authority, |_| reply(200, BODY)), Server::plain(3, |_| reply(200, BODY)));
    for target in [format!("https://{}/x", unverified.host()), format!("http://{}/x", bare.host())] {
        let server = Server::plain(1, move |_| reply(307, "").with("location", &target));
        let result = fetch(&upstream(), &server, &insecure()).await;
        assert!(matches!(result, Err(FaultKind::Unreachable | FaultKind::BadAnswer)), "{result:?}");
    }
    assert!(unverified.lines().is_empty() && bare.lines().is_empty());
}

#[tokio::test]
async fn j6_a_server_without_tls_is_told_from_one_that_cannot_be_reached() {
    // Answers what it cannot read in the clear, as HTTP servers do.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let host = listener.local_addr().expect("address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = std::io::Read::read(&mut stream, &mut [0; 2048]);
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let strict = access(Transport::default(), Keychain::default());
    let ask = async |host: &str| {
        let repository = crate::domain::image::Repository::new(host, "a").expect("name");
        upstream().blob(&repository, &Digest::sha256(b"x"), 100, &strict).await.expect_err("refused")
    };
    let fault = ask(&host).await;
    assert!(
        fault.message().ends_with("the server speaks plain HTTP; insecure: true allows that, by hand --insecure"),
        "{fault}"
    );
    let fault = ask("127.0.0.1:1").await;
    assert!(fault.message().ends_with("the server cannot be reached"), "{fault}");
}

#[tokio::test]
async fn a_server_that_spoke_tls_is_not_asked_in_the_clear_after_one_failure() {
    let server = Server::plain(1, |_| reply(200, BODY));
    let upstream = upstream();
    upstream.schemes.insert(server.host().into(), Scheme::Tls).await;
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Err(FaultKind::Unreachable));
    assert!(server.lines().is_empty());
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Ok(true), "and it is found out anew");
}

#[tokio::test]
async fn requests_to_one_host_wait_for_their_turn_and_others_do_not() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, peak) = (now.clone(), most.clone());
    let server = Server::plain(1, move |_| {
        peak.fetch_max(counter.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        counter.fetch_sub(1, Ordering::SeqCst);
        reply(200, BODY)
    });
    let upstream = configured(|c| c.per_host = 2);
    let access = insecure();
    let all = futures::future::join_all((0..6).map(|_| fetch(&upstream, &server, &access))).await;
    assert!(all.iter().all(|r| *r == Ok(true)), "{all:?}");
    assert_eq!(most.load(Ordering::SeqCst), 2);

    let (stuck, other) = (Server::plain(1, |_| Reply::Drip), Server::plain(1, |_| reply(200, BODY)));
    let upstream = configured(|c| c.per_host = 1);
    let mut short = insecure();
    short.deadline = Instant::now() + Duration::from_millis(500);
    let (first, second, third) = futures::join!(
        fetch(&upstream, &stuck, &access),
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            fetch(&upstream, &stuck, &short).await
        },
        fetch(&upstream, &other, &access)
    );
    assert_eq!(first, Err(FaultKind::Timeout));
    assert!(matches!(second, Err(FaultKind::Overloaded | FaultKind::Timeout)), "{second:?}");
    assert_eq!(third, Ok(true));
}

#[tokio::test]
async fn every_try_is_reported_to_the_observer() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let observer: super::super::Observer =
        Arc::new(move |kind, _, result| log.lock().expect("log").push((kind, result)));
    let upstream = configured(|c| {
        c.observer = Some(observer);
        c.request_timeout = Duration::from_millis(300);
    });
    assert_eq!(fetch(&upstream, &failing(1, || reply(503, "")), &insecure()).await, Ok(true));
    assert_eq!(fetch(&upstream, &Server::plain(1, |_| Reply::Drip), &insecure()).await, Err(FaultKind::Timeout));
    let kind = UpstreamKind::Registry;
    assert_eq!(*seen.lock().expect("log"), [(kind, Ok(503)), (kind, Ok(200)), (kind, Err(FaultKind::Timeout))]);
}

/// Environment variables hold for a whole process, so these run in one of their own.
fn in_a_process_with_proxy(test: &str, proxy: &Server) {
    let url = format!("http://{}", proxy.host());
    let status = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", &format!("source::http::tests::{test}"), "--ignored", "--nocapture"])
        .env("HTTP_PROXY", &url)
        .env("HTTPS_PROXY", &url)
        .env("NO_PROXY", "direct.invalid")
        .output()
        .expect("process");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}

#[test]
fn proxies_of_the_environment_are_used() {
    let proxy = Server::plain(1, |seen| if seen.method == "CONNECT" { reply(403, "") } else { reply(404, "") });
    in_a_process_with_proxy("through_a_proxy", &proxy);
    let lines = proxy.lines();
    assert!(lines.iter().any(|l| l == "CONNECT registry.invalid:443"), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("GET http://store.invalid/a@sha256=")), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[tokio::test]
#[ignore = "run by proxies_of_the_environment_are_used with proxies in its environment"]
async fn through_a_proxy() {
    use crate::domain::image::Repository;
    use crate::source::lookaside::StoreUrl;
    let upstream = upstream();
    // Guarded: the proxy is the administrator's choice and may be on loopback, the target still may not.
    let guarded = access(Transport { guarded: true, ..Transport::default() }, Keychain::default());
    let digest = Digest::sha256(b"x");
    let repository = |host: &str| Repository::new(host, "a").expect("repository");
    let store = |url: &str| StoreUrl::from_policy(url).expect("store");
    let found =
        upstream.signature(&store("http://store.invalid/"), &repository("r.example"), &digest, 1, &guarded).await;
    assert_eq!(found, Ok(None));
    for (host, expected) in [
        ("registry.invalid", FaultKind::Unreachable),
        ("direct.invalid", FaultKind::Unreachable),
        ("127.0.0.1", FaultKind::AddressRefused),
        ("localhost", FaultKind::AddressRefused),
    ] {
        let result = upstream.blob(&repository(host), &digest, 1, &guarded).await;
        assert_eq!(result.map_err(|f| f.kind()), Err(expected), "{host}");
    }
}

#[test]
fn the_port_that_was_written_out_is_kept_without_tls() {
    let transport = Transport::default();
    let home = |port| Home {
        host: "r.example".into(),
        port,
        insecure: true,
        plain: false,
        confined: false,
        transport: &transport,
        deadline: Instant::now(),
        kind: UpstreamKind::Registry,
        subject: "".into(),
    };
    let url = |text: &str| Url::parse(text).expect("url");
    for (port, tls, plain) in [
        (None, "https://r.example/x", "http://r.example/x"),
        (Some(443), "https://r.example:443/x", "http://r.example:443/x"),
        (Some(80), "https://r.example:80/x", "http://r.example:80/x"),
        (Some(5000), "https://r.example:5000/x", "http://r.example:5000/x"),
    ] {
        assert_eq!(hop::plain_url(&home(port), &url(tls)), url(plain));
        assert!(same_origin(&home(port), &url(tls), &url(plain)));
        assert!(!same_origin(&Home { insecure: false, ..home(port) }, &url(tls), &url(plain)));
    }
    for other in
        ["http://r.example:81/", "https://r.example:444/", "https://r.example.evil.example/", "https://s.example/"]
    {
        assert!(!same_origin(&home(None), &url("https://r.example/"), &url(other)), "{other}");
    }
}

#[tokio::test]
async fn g9_the_administrators_authorities_are_replaced_and_never_by_rubbish() {
    let (old, new) = (Authority::new(), Authority::new());
    let servers = [Server::tls(1, &old, |_| reply(200, BODY)), Server::tls(2, &new, |_| reply(200, BODY))];
    let upstream = configured(|c| c.extra_ca = Some(old.pem()));
    let access = access(Transport::default(), Keychain::default());
    assert_eq!(fetch(&upstream, &servers[0], &access).await, Ok(true));
    assert_eq!(fetch(&upstream, &servers[1], &access).await, Err(FaultKind::Unreachable));
    assert!(upstream.set_extra_ca(b"garbage").is_err());
    assert_eq!(fetch(&upstream, &servers[0], &access).await, Ok(true));
    upstream.set_extra_ca(&new.pem()).expect("certificates");
    assert_eq!(fetch(&upstream, &servers[1], &access).await, Ok(true));
    assert_eq!(fetch(&upstream, &servers[0], &access).await, Err(FaultKind::Unreachable));
}
