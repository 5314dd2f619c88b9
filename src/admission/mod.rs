//! ONE request: which images, which exemptions, and the fold of all verdicts into one answer.

use std::time::Duration;

use bytes::Bytes;

/// What goes back over HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status: 200 for every `AdmissionReview`, 4xx when the body is none.
    pub status: u16,
    /// `application/json` for 200, plain text otherwise.
    pub body: Bytes,
}

/// Judges admission reviews.
#[derive(Debug)]
pub struct Admission {}

impl Admission {
    /// `/validate`: a review of a Pod or a Pod template, to be answered within the budget.
    pub async fn validate(&self, body: Bytes, budget: Duration) -> Answer {
        let _ = (body, budget);
        Answer { status: 500, body: Bytes::new() }
    }

    /// `/validate-policy`: a review of a policy object.
    pub fn validate_policy(&self, body: &[u8]) -> Answer {
        let _ = body;
        Answer { status: 500, body: Bytes::new() }
    }

    /// The answer to a review that is turned away because too many are in flight.
    pub fn overloaded(&self, body: &[u8]) -> Answer {
        let _ = body;
        Answer { status: 503, body: Bytes::new() }
    }

    /// The answer to a review that panicked or overran its time: a denial with the uid if it can be had. Counts
    /// nothing, the caller has done so.
    pub fn internal_error(&self, body: &[u8]) -> Answer {
        let _ = body;
        Answer { status: 500, body: Bytes::new() }
    }

    /// `Ok` when policies, whitelist and keys are loaded; else what is missing.
    pub fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}
