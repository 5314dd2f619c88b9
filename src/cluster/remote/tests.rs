use std::sync::atomic::AtomicUsize;

use super::*;

impl Size for usize {
    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// A cache of short-lived values and a source that says how often it was read.
struct Desk {
    aged: Aged<usize>,
    reads: Arc<AtomicUsize>,
    answer: Arc<std::sync::Mutex<Answer>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Count,
    Missing,
    Fault,
    Hang,
}

const LIMIT: Duration = Duration::from_millis(1500);

fn desk(answer: Answer) -> Desk {
    let aged = Aged { limit: LIMIT, ..Aged::new(Freshness::Key) };
    Desk { aged, reads: Arc::default(), answer: Arc::new(std::sync::Mutex::new(answer)) }
}

impl Desk {
    async fn get(&self) -> Result<Option<usize>, FaultKind> {
        self.get_within(Duration::from_secs(5)).await
    }

    async fn get_within(&self, time: Duration) -> Result<Option<usize>, FaultKind> {
        let read = |_| {
            let (reads, answer) = (self.reads.clone(), *self.answer.lock().unwrap());
            async move {
                let count = reads.fetch_add(1, Ordering::SeqCst) + 1;
                match answer {
                    Answer::Count => Ok(Some(count)),
                    Answer::Missing => Ok(None),
                    Answer::Fault => Err(Fault::new(FaultKind::Unreachable, "away")),
                    Answer::Hang => std::future::pending().await,
                }
            }
        };
        let key = ("ns".into(), "name".into());
        let found = self.aged.get(key, Instant::now() + time, read).await;
        found.map(|value| value.map(|count| *count)).map_err(|fault| fault.kind())
    }

    fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

async fn after(part: f64) {
    tokio::time::sleep(LIMIT.mul_f64(part)).await;
}

#[test]
fn f2_keys_are_used_for_15_seconds_and_pull_secrets_for_30_at_most() {
    assert_eq!(Aged::<usize>::new(Freshness::Key).limit, Duration::from_secs(15));
    assert_eq!(Aged::<usize>::new(Freshness::Pull).limit, Duration::from_secs(30));
}

#[tokio::test]
async fn f2_a_value_is_never_used_beyond_its_age() {
    let desk = desk(Answer::Count);
    assert_eq!((desk.get().await, desk.get().await, desk.reads()), (Ok(Some(1)), Ok(Some(1)), 1));
    after(1.1).await;
    // Not even while the API server is away.
    desk.say(Answer::Fault);
    assert_eq!(desk.get().await, Err(FaultKind::Unreachable));
    desk.say(Answer::Count);
    assert_eq!(desk.get().await, Ok(Some(3)));
}

#[tokio::test]
async fn what_is_in_steady_use_is_read_anew_in_the_background() {
    let desk = desk(Answer::Count);
    assert_eq!(desk.get().await, Ok(Some(1)));
    after(0.4).await;
    // Two uses, one reading, and neither waits for it.
    assert_eq!((desk.get().await, desk.get().await), (Ok(Some(1)), Ok(Some(1))));
    after(0.1).await;
    assert_eq!((desk.get().await, desk.reads()), (Ok(Some(2)), 2));
    // A reading in the background that fails or hangs changes nothing, and its age still ends the old value.
    after(0.4).await;
    desk.say(Answer::Fault);
    assert_eq!(desk.get().await, Ok(Some(2)));
    after(0.1).await;
    assert_eq!(desk.get().await, Ok(Some(2)));
    assert!(desk.reads() >= 3);
    after(0.7).await;
    assert_eq!(desk.get().await, Err(FaultKind::Unreachable));
}

#[tokio::test]
async fn an_absence_is_looked_up_again_sooner_and_a_fault_at_once() {
    let desk = desk(Answer::Missing);
    assert_eq!((desk.get().await, desk.get().await, desk.reads()), (Ok(None), Ok(None), 1));
    desk.say(Answer::Count);
    after(0.3).await;
    assert_eq!(desk.get().await, Ok(Some(2)));
    let desk = self::desk(Answer::Fault);
    assert_eq!(desk.get().await, Err(FaultKind::Unreachable));
    desk.say(Answer::Count);
    assert_eq!(desk.get().await, Ok(Some(2)));
}

#[tokio::test]
async fn h4_an_api_server_that_hangs_is_given_up_in_time_and_poisons_nothing() {
    let desk = desk(Answer::Hang);
    assert_eq!(desk.get_within(Duration::from_millis(100)).await, Err(FaultKind::Timeout));
    desk.say(Answer::Count);
    assert_eq!(desk.get().await, Ok(Some(2)));
}

#[tokio::test]
async fn f11_many_who_ask_at_once_cost_one_reading() {
    let desk = desk(Answer::Count);
    let found = futures::future::join_all((0..50).map(|_| desk.get())).await;
    assert!(found.iter().all(|found| *found == Ok(Some(1))));
    assert_eq!(desk.reads(), 1);
}
