//! Reviews at an even pace, through the API server, while something happens; and what became of each.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::world::World;
use crate::support::cluster::{OWN_NAMESPACE, User};
use crate::support::http::Http;
use crate::support::registry::Image;

/// Two hundred a second. What is missed on a busy machine is not made up for.
const PACE: Duration = Duration::from_millis(5);
/// Requests at once, at most.
const WORKERS: usize = 24;
/// Every so many-th Pod has the image that is not signed.
const UNSIGNED: u32 = 4;
/// How often it is looked who answers behind the webhook's Service.
const LOOK: Duration = Duration::from_millis(50);

/// What the API server said to one Pod (a dry run).
#[derive(Debug)]
enum Answer {
    Admitted,
    Denied,
    /// podseal could not be asked, or did not know.
    Failed(String),
}

#[derive(Debug)]
struct Review {
    sent: Instant,
    answered: Instant,
    is_signed: bool,
    answer: Answer,
}

impl Review {
    fn is_wrong(&self) -> bool {
        !self.is_signed && matches!(self.answer, Answer::Admitted)
    }

    /// The right answer did not come; no wrong one either.
    fn failure(&self) -> Option<&str> {
        match (&self.answer, self.is_signed) {
            (Answer::Failed(text), _) => Some(text),
            (Answer::Denied, true) => Some("denied although it is signed"),
            _ => None,
        }
    }
}

/// Everything that was asked while something happened.
#[derive(Debug, Default)]
pub struct Load {
    reviews: Mutex<Vec<Review>>,
    /// Each change of the addresses that are ready behind the webhook's Service.
    ready: Mutex<Vec<(Instant, Vec<String>)>>,
    next: Mutex<Option<Instant>>,
    stop: AtomicBool,
}

impl Load {
    /// Asks until `act` has returned.
    pub fn during(world: &World, act: impl FnOnce(&Self)) -> Self {
        let load = Self::default();
        let http = Http::trusting(&world.cluster().authority().pem);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| load.create_pods(world, &http));
            }
            scope.spawn(|| load.look(world, &http));
            // Whatever `act` does, the load ends: a panic goes on after that.
            let done = catch_unwind(AssertUnwindSafe(|| act(&load)));
            load.stop.store(true, Ordering::Relaxed);
            if let Err(panic) = done {
                resume_unwind(panic);
            }
        });
        load.reviews.lock().unwrap().sort_by_key(|review| review.answered);
        load
    }

    /// The addresses that were ready when it was last looked.
    pub fn ready(&self) -> Vec<String> {
        self.ready.lock().unwrap().last().map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    /// When, after some time, the addresses that are ready were first as wanted.
    pub fn ready_since(&self, after: Instant, wanted: impl Fn(&[String]) -> bool) -> Option<Instant> {
        let history = self.ready.lock().unwrap();
        history.iter().find(|(at, addresses)| *at > after && wanted(addresses)).map(|(at, _)| *at)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// The number and the time of the next request.
    fn take_turn(&self) -> Instant {
        let mut next = self.next.lock().unwrap();
        let now = Instant::now();
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + PACE);
        turn
    }

    fn create_pods(&self, world: &World, http: &Http) {
        let url = format!("{}/api/v1/namespaces/{}/pods?dryRun=All", world.cluster().url(), world.namespace);
        let (signed, unsigned) = (pod(&world.signed), pod(&world.unsigned));
        let mut count = 0;
        while self.goes_on() {
            std::thread::sleep(self.take_turn().saturating_duration_since(Instant::now()));
            count += 1;
            let is_signed = count % UNSIGNED != 0;
            let sent = Instant::now();
            let reply = ask(http, reqwest::Method::POST, &url, if is_signed { &signed } else { &unsigned });
            let answer = match reply {
                Ok((201, _)) => Answer::Admitted,
                Ok((403, text)) if text.contains("denied the request") => Answer::Denied,
                Ok((status, text)) => Answer::Failed(format!("{status}: {}", message(&text))),
                Err(error) => Answer::Failed(error),
            };
            let review = Review { sent, answered: Instant::now(), is_signed, answer };
            self.reviews.lock().unwrap().push(review);
        }
    }

    fn look(&self, world: &World, http: &Http) {
        let url = format!(
            "{}/apis/discovery.k8s.io/v1/namespaces/{OWN_NAMESPACE}/endpointslices\
             ?labelSelector=kubernetes.io/service-name%3Dpodseal",
            world.cluster().url()
        );
        while self.goes_on() {
            if let Ok((200, text)) = ask(http, reqwest::Method::GET, &url, "") {
                let now = ready_addresses(&serde_json::from_str(&text).unwrap());
                let mut history = self.ready.lock().unwrap();
                if history.last().is_none_or(|(_, before)| *before != now) {
                    history.push((Instant::now(), now));
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What came of it, seen from the moment of the fault.
    pub fn figures(&self, fault: Instant) -> Figures {
        let reviews = self.reviews.lock().unwrap();
        let failed: Vec<_> = reviews.iter().filter(|review| review.failure().is_some()).collect();
        let mut failures = BTreeMap::new();
        for text in failed.iter().filter_map(|review| review.failure()) {
            *failures.entry(text.to_owned()).or_default() += 1;
        }
        let good = reviews.iter().filter(|review| review.failure().is_none()).map(|review| review.answered);
        let good: Vec<_> = good.collect();
        let (first, last) = (reviews.first(), reviews.last());
        Figures {
            fault,
            asked: reviews.len(),
            took: first.zip(last).map_or(Duration::ZERO, |(first, last)| last.answered - first.answered),
            wrong: reviews.iter().filter(|review| review.is_wrong()).count(),
            failed_signed: failed.iter().filter(|review| review.is_signed).count(),
            failed_unsigned: failed.iter().filter(|review| !review.is_signed).count(),
            first_failure: failed.iter().map(|review| review.answered).min(),
            last_failure: failed.iter().map(|review| review.sent).max(),
            longest_gap: good.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default(),
            slowest: reviews.iter().map(|review| review.answered - review.sent).max().unwrap_or_default(),
            failures,
        }
    }
}

/// The figures of a load.
#[derive(Debug)]
pub struct Figures {
    fault: Instant,
    pub asked: usize,
    took: Duration,
    /// Admitted without a signature.
    pub wrong: usize,
    pub failed_signed: usize,
    pub failed_unsigned: usize,
    /// When the answer to the first came.
    pub first_failure: Option<Instant>,
    /// When the last was asked.
    pub last_failure: Option<Instant>,
    longest_gap: Duration,
    slowest: Duration,
    /// What was said, and how often.
    pub failures: BTreeMap<String, usize>,
}

impl Figures {
    pub fn failed(&self) -> usize {
        self.failed_signed + self.failed_unsigned
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.asked * 1000 / usize::try_from(self.took.as_millis().max(1)).unwrap();
        write!(
            f,
            "{} reviews, {rate} a second; admitted without a signature: {}; failed: {} of signed and {} of unsigned \
             images; longest time without an answer {} ms; slowest {} ms",
            self.asked,
            self.wrong,
            self.failed_signed,
            self.failed_unsigned,
            self.longest_gap.as_millis(),
            self.slowest.as_millis(),
        )?;
        if let Some((first, last)) = self.first_failure.zip(self.last_failure) {
            write!(f, "\n  failures from {} to {} ms after it", since(self.fault, first), since(self.fault, last))?;
        }
        self.failures.iter().try_for_each(|(text, count)| write!(f, "\n  {count} × {text}"))
    }
}

/// Milliseconds, negative when it was before.
fn since(fault: Instant, at: Instant) -> i128 {
    let millis = |time: Duration| i128::try_from(time.as_millis()).unwrap();
    millis(at.saturating_duration_since(fault)) - millis(fault.saturating_duration_since(at))
}

fn pod(image: &Image) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "load-"},
        "spec": {"containers": [{"name": "c", "image": image.pinned()}]},
    })
    .to_string()
}

fn ask(http: &Http, method: reqwest::Method, url: &str, body: &str) -> Result<(u16, String), String> {
    let token = format!("Bearer {}", User::Admin.token());
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let reply = http.send(method, url, &headers, body.as_bytes().to_vec());
    reply.map(|reply| (reply.status, reply.text())).map_err(|error| format!("the API server: {error:?}"))
}

/// A `Status`'s message, without the ports that differ each time.
fn message(text: &str) -> String {
    let status: Value = serde_json::from_str(text).unwrap_or_default();
    crate::support::text::normal(status["message"].as_str().unwrap_or(text), &[])
}

fn ready_addresses(slices: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let endpoints = list(&slices["items"]).into_iter().flat_map(|slice| list(&slice["endpoints"]));
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let mut addresses: Vec<_> =
        ready.map(|endpoint| endpoint["addresses"][0].as_str().unwrap_or_default().to_owned()).collect();
    addresses.sort();
    addresses
}
