use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};
use serde_json::{Value, json};

use super::*;

/// An API server that takes its time; it knows the tokens that begin with `good`, and how often it was asked for one.
async fn cluster(delay: Duration) -> (Arc<Kubernetes>, Arc<AtomicUsize>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let reviews = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reviews);
    let answer = async move |uri: Uri, body: Bytes| {
        let mut review: Value = serde_json::from_slice(&body).unwrap();
        if uri.path().ends_with("/tokenreviews") {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(delay).await;
            let known = review["spec"]["token"].as_str().is_some_and(|token| token.starts_with("good"));
            review["status"] = json!({"authenticated": known, "user": {"username": "maker"}});
        } else {
            review["status"] = json!({"allowed": true});
        }
        (
            HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
            review.to_string(),
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    (Arc::new(Kubernetes::new(client)), reviews)
}

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

/// Tokens that nobody has, all at once.
fn flood(cluster: &Arc<Kubernetes>, last: u8, many: usize) -> Vec<tokio::task::JoinHandle<Refusal>> {
    let ask = |number: usize| {
        let cluster = Arc::clone(cluster);
        tokio::spawn(
            async move { cluster.admit(format!("bad-{last}-{number}"), Some(address(last))).await.unwrap_err() },
        )
    };
    (0..many).map(ask).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_with_invented_tokens_has_few_of_them_asked_about() {
    let (cluster, reviews) = cluster(Duration::ZERO).await;
    let begun = Instant::now();
    let mut turned_away = 0;
    for _ in 0..20 {
        for asked in flood(&cluster, 1, 100) {
            turned_away += usize::from(asked.await.unwrap() == Refusal::Crowded);
        }
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let asked = reviews.load(Ordering::Relaxed);
    assert!((1..=21 + seconds).contains(&asked), "{asked}");
    assert!(turned_away > 100, "{turned_away}");
    assert_eq!(cluster.admit("good".to_owned(), Some(address(2))).await.unwrap().name, "maker");
}

#[tokio::test]
async fn what_was_refused_is_not_asked_again_and_what_is_no_token_never() {
    let (cluster, reviews) = cluster(Duration::ZERO).await;
    for _ in 0..100 {
        let refusal = cluster.admit("bad".to_owned(), Some(address(1))).await.unwrap_err();
        assert_eq!(refusal, Refusal::Unauthenticated("the API server does not know this token"));
    }
    for none in [String::new(), "a b".to_owned(), "a\u{e9}".to_owned(), "a\n".to_owned(), "a".repeat(MAX_TOKEN + 1)] {
        assert!(matches!(cluster.admit(none, Some(address(1))).await, Err(Refusal::Unauthenticated(_))));
    }
    assert_eq!(reviews.load(Ordering::Relaxed), 1);
    // Opaque ones of other authenticators are tokens as well.
    assert!(cluster.admit("good:+/=~opaque".to_owned(), Some(address(1))).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_a_slow_api_server_keeps_no_writer_out() {
    let (cluster, _) = cluster(Duration::from_millis(400)).await;
    assert!(cluster.admit("good-old".to_owned(), Some(address(1))).await.is_ok());
    // As after ten seconds.
    cluster.known.invalidate_all();
    let crowd: Vec<_> = (1..=60).flat_map(|last| flood(&cluster, last, 10)).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    // Its own address is among those of the crowd.
    assert!(cluster.admit("good-old".to_owned(), Some(address(1))).await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(cluster.admit("good-new".to_owned(), Some(address(200))).await.is_ok());
    for asked in crowd {
        drop(asked.await.unwrap());
    }
}

#[tokio::test]
async fn good_tokens_of_one_address_are_as_many_as_you_like() {
    let (cluster, _) = cluster(Duration::ZERO).await;
    for number in 0..100 {
        assert!(cluster.admit(format!("good-{number}"), Some(address(1))).await.is_ok(), "{number}");
    }
}
