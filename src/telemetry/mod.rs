//! Metrics and logs: what an operator sees of the process.
//!
//! Both are made for the path of a review: a metric is one or two atomic additions, a log line is formatted once and
//! handed to a writer thread.

pub mod logging;
pub mod metrics;

pub use metrics::{Asked, Ending, Metrics, Pinning, Told, TurnedAway, UpstreamKind, Whitelisted};
