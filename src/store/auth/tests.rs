use std::io::Write as _;
use std::sync::Arc;

use super::*;

fn file(lines: &[String]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.join("\n").as_bytes()).unwrap();
    file
}

fn user(name: &str, password: &str) -> String {
    format!("{name}:{}", bcrypt::hash(password, 4).unwrap())
}

fn basic(user: &str, password: &str) -> HeaderMap {
    let credential = BASE64_STANDARD.encode(format!("{user}:{password}"));
    HeaderMap::from_iter([(AUTHORIZATION, format!("Basic {credential}").parse().unwrap())])
}

fn with_users(lines: &[String]) -> Writers {
    let file = file(lines);
    Writers { htpasswd: Some(Htpasswd::open(file.path()).unwrap()), ..Writers::default() }
}

#[tokio::test]
async fn nobody_writes_where_no_way_to_prove_oneself_is_set_up() {
    let refusal = Writers::default().admit(&basic("a", "b"), None).await.unwrap_err();
    assert_eq!((refusal.clone(), refusal.status()), (Refusal::ReadOnly, StatusCode::FORBIDDEN));
}

#[tokio::test]
async fn passwords_are_checked_and_good_ones_remembered_for_their_hash_alone() {
    let writers = Arc::new(with_users(&[user("anna", "right"), "# comment".to_owned(), user("berta", "other")]));
    for _ in 0..2 {
        let writer = writers.admit(&basic("anna", "right"), None).await.unwrap();
        assert_eq!((writer.name.as_str(), writer.by), ("anna", "htpasswd"));
    }
    let long = "x".repeat(73);
    for (user, password) in [("anna", "other"), ("anna", ""), ("berta", "right"), ("carl", "right"), ("anna", &long)] {
        let refusal = writers.admit(&basic(user, password), None).await.unwrap_err();
        assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED, "{user} {password}");
    }
}

#[tokio::test]
async fn headers_that_cannot_be_read_let_nobody_in_and_are_not_repeated() {
    let writers = with_users(&[user("anna", "right")]);
    for value in ["Basic", "Basic !!!", "Basic YQ==", "Digest x", "Bearer secret-token", "Basic /////w=="] {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        let refusal = writers.admit(&headers, None).await.unwrap_err();
        assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED, "{value}");
        assert!(!refusal.to_string().contains("secret-token"));
    }
    let mut twice = basic("anna", "right");
    twice.append(AUTHORIZATION, "Basic YTpi".parse().unwrap());
    assert!(writers.admit(&twice, None).await.is_err());
    assert!(writers.admit(&HeaderMap::new(), None).await.is_err());
}

#[test]
fn files_with_lines_that_would_let_in_anybody_are_refused() {
    let strong = user("anna", "right");
    for lines in [
        vec![],
        vec!["anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned()],
        vec!["anna:plain".to_owned()],
        vec!["anna:".to_owned()],
        vec!["anna".to_owned()],
        vec![format!(":{}", strong.split_once(':').unwrap().1)],
        vec![strong.clone(), strong.clone()],
        vec![strong.replace("$04$", "$15$")],
        vec![strong.replace("$04$", "$31$")],
        vec![strong[..strong.len() - 1].to_owned()],
    ] {
        let error = Htpasswd::open(file(&lines).path()).unwrap_err();
        assert!(error.starts_with("--htpasswd ") && !error.contains("$2"), "{error}");
    }
}

#[tokio::test]
async fn certificates_count_only_where_they_are_asked_for() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "ci\nrobot");
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let peer = Peer { address: [127, 0, 0, 1].into(), certificate: Some(certificate) };
    let demanded = Writers { certificates: true, ..Writers::default() };
    let writer = demanded.admit(&HeaderMap::new(), Some(&peer)).await.unwrap();
    assert_eq!((writer.name.as_str(), writer.by), (r"ci\u000arobot", "certificate"));
    let without = Peer { certificate: None, ..peer.clone() };
    assert_eq!(demanded.admit(&HeaderMap::new(), Some(&without)).await.unwrap_err().status(), StatusCode::UNAUTHORIZED);
    let other = with_users(&[user("anna", "right")]);
    assert!(other.admit(&HeaderMap::new(), Some(&peer)).await.is_err());
}

fn slow_user(name: &str, password: &str) -> String {
    format!("{name}:{}", bcrypt::hash(password, 11).unwrap())
}

fn peer(last: u8) -> Peer {
    Peer { address: [192, 0, 2, last].into(), certificate: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_wrong_passwords_of_one_address_keep_nobody_else_out() {
    for name in ["nobody", "anna"] {
        let writers = Arc::new(with_users(&[slow_user("anna", "right")]));
        let crowd: Vec<_> = (0..300)
            .map(|number| {
                let writers = Arc::clone(&writers);
                let headers = basic(name, &format!("wrong{number}"));
                tokio::spawn(async move { writers.admit(&headers, Some(&peer(1))).await.unwrap_err().status() })
            })
            .collect();
        tokio::task::yield_now().await;
        let begun = std::time::Instant::now();
        let writer = writers.admit(&basic("anna", "right"), Some(&peer(2))).await.unwrap();
        assert!(writer.name == "anna" && begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
        let mut at_once = 0;
        for asked in crowd {
            let status = asked.await.unwrap();
            assert!(matches!(status.as_u16(), 401 | 429), "{status}");
            at_once += usize::from(status == StatusCode::TOO_MANY_REQUESTS);
        }
        assert!(at_once > 200, "{at_once}");
        assert!(writers.admit(&basic("anna", "right"), Some(&peer(1))).await.is_ok(), "afterwards that address, too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_with_many_uploads_at_once_is_no_crowd() {
    let writers = Arc::new(with_users(&[slow_user("anna", "right")]));
    let uploads: Vec<_> = (0..100)
        .map(|_| {
            let writers = Arc::clone(&writers);
            tokio::spawn(async move { writers.admit(&basic("anna", "right"), Some(&peer(1))).await.is_ok() })
        })
        .collect();
    for upload in uploads {
        assert!(upload.await.unwrap());
    }
}

#[tokio::test]
async fn a_password_goes_to_the_api_server_only_if_nobody_has_the_name_and_it_is_a_token() {
    // Nothing listens there: whoever is asked about there is "unavailable".
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:9".parse().unwrap())).unwrap();
    let writers = Writers { kubernetes: Some(Kubernetes::new(client)), ..with_users(&[user("anna", "right")]) };
    let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln-_";
    for (user, password, status) in [
        ("ana", "right", StatusCode::UNAUTHORIZED),
        ("ana", "a.b.c!", StatusCode::UNAUTHORIZED),
        ("ana", "a.b", StatusCode::UNAUTHORIZED),
        ("ana", "a..c", StatusCode::UNAUTHORIZED),
        ("anna", token, StatusCode::UNAUTHORIZED),
        ("ana", token, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let refusal = writers.admit(&basic(user, password), None).await.unwrap_err();
        assert_eq!(refusal.status(), status, "{user} {password}");
    }
    assert!(writers.admit(&basic("anna", "right"), None).await.is_ok());
}
