//! Running one review so that whatever happens inside, an answer comes out.
//!
//! - A panic becomes a denial (or leaves what was to be changed as it is) and is counted; nothing it could have left half done is shared (shared state is atomic
//!   counters and values that are replaced as a whole).
//! - A caller that goes away does not end the review: others may wait for what it fetches. It is tried once in place,
//!   which answers everything that needs no waiting (whitelisted, cached) without the cost of a task; only a review
//!   that has to wait moves to a task of its own.
//! - A review that overruns its budget is ended and answered with a denial, while the margin lasts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;

use super::{App, Reviewer};
use crate::admission::{Answer, Question};
use crate::server::load::{Held, Slot};

/// Answers about a Pod or a template within `budget`, and `margin` at the most beyond it.
pub(super) async fn answer<R: Reviewer>(
    app: &App<R>,
    question: Question,
    body: Bytes,
    held: Held,
    slot: Slot,
    budget: Duration,
    margin: Duration,
) -> Answer {
    let review = {
        let (app, body) = (app.clone(), body.clone());
        async move {
            let reviewer = &app.0.reviewer;
            let answer = match question {
                // Boxed: what only pins need would make every review's future larger.
                Question::Pins => Box::pin(reviewer.mutate(body, budget)).await,
                Question::Verdict | Question::Policy => reviewer.validate(body, budget).await,
            };
            drop((held, slot));
            answer
        }
    };
    let mut review = Box::pin(AssertUnwindSafe(review).catch_unwind());
    if let Poll::Ready(result) = futures::poll!(&mut review) {
        return result.unwrap_or_else(|_| panicked(app, question, &body));
    }
    let limit = budget + margin / 2;
    match tokio::spawn(tokio::time::timeout(limit, review)).await {
        Ok(Ok(Ok(answer))) => answer,
        Ok(Err(_elapsed)) => {
            tracing::error!(?budget, "a review overran its time and was ended");
            failed(app, question, &body)
        }
        Ok(Ok(Err(_))) | Err(_) => panicked(app, question, &body),
    }
}

/// Runs what needs no waiting; a panic becomes the answer to a defect.
pub(super) fn at_once<R: Reviewer>(
    app: &App<R>,
    question: Question,
    body: &[u8],
    judge: impl FnOnce(&R, &[u8]) -> Answer,
) -> Answer {
    catch_unwind(AssertUnwindSafe(|| judge(&app.0.reviewer, body))).unwrap_or_else(|_| panicked(app, question, body))
}

fn panicked<R: Reviewer>(app: &App<R>, question: Question, body: &[u8]) -> Answer {
    app.0.metrics.panicked();
    failed(app, question, body)
}

fn failed<R: Reviewer>(app: &App<R>, question: Question, body: &[u8]) -> Answer {
    // If even this panics (it reads the body, too), a bare 500 still denies.
    catch_unwind(AssertUnwindSafe(|| app.0.reviewer.internal_error(question, body)))
        .unwrap_or_else(|_| Answer { status: 500, body: Bytes::from_static(b"internal error\n") })
}
