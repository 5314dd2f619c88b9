//! Which pair is served, by dates and by where it comes from. Handshakes are in `webhook/tests.rs`.

use std::collections::HashMap;

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::cluster::SecretData;
use crate::cluster::watch::OwnSecrets;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// A pair that is valid from and to these days from now.
fn pair(from: i64, to: i64) -> Pem {
    let mut params = CertificateParams::new(vec!["webhook.test".to_owned()]).unwrap();
    let at = |day: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(NOW + day * DAY).unwrap());
    (params.not_before, params.not_after) = (at(from), at(to));
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem().into_bytes();
    Pem { certificate, key: key.serialize_pem().into_bytes(), client_ca: None }
}

fn waiting() -> Tls {
    Tls::waiting(false, "nothing was read".to_owned(), Arc::new(Metrics::new()))
}

fn until(tls: &Tls) -> Option<i64> {
    Some((tls.period()?.not_after - NOW) / DAY)
}

#[test]
fn a_pair_that_is_not_valid_never_replaces_one_that_is() {
    let tls = waiting();
    tls.replace_at(&pair(-1, 30), "a", NOW).unwrap();
    for (from, to) in [(-60, -1), (1, 60)] {
        let error = tls.replace_at(&pair(from, to), "b", NOW).unwrap_err();
        assert!(matches!(error, TlsError::NotValid { .. }));
        assert_eq!(until(&tls), Some(30));
    }
    let text = tls.replace_at(&pair(-60, -1), "b", NOW).unwrap_err().to_string();
    let (expired, kept) = (date(NOW - DAY), date(NOW + 30 * DAY));
    assert!(text.contains(&expired) && text.contains(&kept), "{text}");
    tls.replace_at(&pair(-1, 2), "c", NOW).unwrap();
    assert_eq!(until(&tls), Some(2), "a valid one does, even if it is valid for less");
}

#[test]
fn an_invalid_pair_is_served_when_there_is_no_better_one() {
    let tls = waiting();
    assert!(tls.config().is_none() && tls.ready().is_err());
    tls.replace_at(&pair(-60, -10), "a", NOW).unwrap();
    assert!(tls.config().is_some() && tls.ready().is_ok());
    tls.replace_at(&pair(-60, -5), "b", NOW).unwrap();
    assert_eq!(until(&tls), Some(-5));
    tls.replace_at(&pair(-1, 5), "c", NOW).unwrap();
    assert_eq!(until(&tls), Some(5));
}

#[test]
fn a_warning_begins_seven_days_or_a_sixth_of_the_lifetime_before_the_end() {
    let at = |not_before: i64, not_after: i64| {
        standing(Period { not_before: NOW + not_before, not_after: NOW + not_after }, NOW)
    };
    assert_eq!(at(-80 * DAY, 8 * DAY), Standing::Good);
    assert_eq!(at(-80 * DAY, 7 * DAY - 1), Standing::Late);
    assert_eq!(at(-DAY / 2, DAY / 2), Standing::Good, "a day from first to last");
    assert_eq!(at(-DAY * 9 / 10, DAY / 10), Standing::Late);
    assert_eq!(at(-80 * DAY, -1), Standing::Expired);
    assert_eq!(at(1, DAY), Standing::Early);
}

/// podseal's own Secrets, changed by tests.
struct Shelf {
    secrets: OwnSecrets,
    changes: tokio::sync::watch::Sender<u64>,
}

impl Shelf {
    fn put(&self, pem: Option<&Pem>) {
        let data = |pem: &Pem| {
            let parts = [("tls.crt", &pem.certificate), ("tls.key", &pem.key)];
            SecretData::new(parts.map(|(k, v)| (k.to_owned(), Bytes::from(v.clone()))).into(), false)
        };
        let all: HashMap<_, _> = pem.map(|pem| ("pair".to_owned(), Arc::new(data(pem)))).into_iter().collect();
        self.secrets.store(Some(Arc::new(all)));
        self.changes.send_modify(|generation| *generation += 1);
    }
}

async fn holds(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("not at once: {what}");
}

#[tokio::test]
async fn the_pair_of_a_secret_is_served_as_soon_as_it_is_there_and_kept_when_it_goes() {
    let shelf = Shelf { secrets: OwnSecrets::default(), changes: tokio::sync::watch::Sender::default() };
    let tls = waiting();
    let source = SecretSource {
        name: "pair".to_owned(),
        secrets: shelf.secrets.clone(),
        changes: shelf.changes.subscribe(),
        client_ca: None,
    };
    let follows = tokio::spawn(tls.clone().follow(source));
    let says = |text: &'static str| {
        let tls = tls.clone();
        move || tls.ready().is_err_and(|missing| missing.contains(text))
    };
    holds("unknown", says("were not read yet")).await;
    shelf.put(None);
    holds("absent", says("the Secret pair does not exist")).await;
    let now = jiff::Timestamp::now().as_second();
    let days = |at: i64| (now - NOW) / DAY + at;
    let (first, second) = (pair(days(-1), days(30)), pair(days(-1), days(60)));
    shelf.put(Some(&Pem { key: Vec::new(), certificate: first.certificate.clone(), client_ca: None }));
    holds("half", says("has no tls.key")).await;
    shelf.put(Some(&first));
    holds("ready", || tls.ready().is_ok()).await;
    let end = |tls: &Tls| tls.period().unwrap().not_after;
    let before = end(&tls);
    shelf.put(Some(&second));
    holds("replaced", || end(&tls) > before).await;
    let kept = end(&tls);
    for bad in [None, Some(&pair(days(-60), days(-30)))] {
        shelf.put(bad);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(end(&tls), kept);
        assert!(tls.ready().is_ok());
    }
    follows.abort();
}

#[tokio::test]
async fn without_its_client_ca_a_secret_is_not_served() {
    let shelf = Shelf { secrets: OwnSecrets::default(), changes: tokio::sync::watch::Sender::default() };
    let tls = Tls::waiting(true, String::new(), Arc::new(Metrics::new()));
    let now = (jiff::Timestamp::now().as_second() - NOW) / DAY;
    shelf.put(Some(&pair(now - 1, now + 30)));
    let source = SecretSource {
        name: "pair".to_owned(),
        secrets: shelf.secrets.clone(),
        changes: shelf.changes.subscribe(),
        client_ca: None,
    };
    let follows = tokio::spawn(tls.clone().follow(source));
    let refused = tls.clone();
    holds("refused", move || refused.ready().is_err_and(|missing| missing.contains("client CA"))).await;
    assert!(tls.config().is_none());
    follows.abort();
}
