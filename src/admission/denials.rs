//! Whom a denial is told, besides the one who asked: the maker of a Pod is mostly a controller, and nobody reads what a
//! controller is answered.

use super::images::Owner;
use crate::telemetry::Ending;

/// A denial, or what would have been one, had podseal enforced it. Nothing in it is trusted: names and owner are what
/// the object says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Denial<'a> {
    /// The request's namespace.
    pub namespace: &'a str,
    /// Such as `Pod`.
    pub kind: &'a str,
    /// The object's name, or the prefix of the one that the server will make.
    pub name: &'a str,
    /// The owner that manages the object, such as a `ReplicaSet`.
    pub owner: Option<&'a Owner>,
    /// A verdict, or no verdict for some obstacle.
    pub ending: Ending,
    /// Whether the object was denied; otherwise it was admitted because nothing is enforced.
    pub enforced: bool,
    /// What the user reads, line by line.
    pub message: &'a str,
}

/// Tells somebody about denials. It is called on the way of a review, after the answer is known, and must neither wait nor
/// fail.
pub trait Denials: Send + Sync + std::fmt::Debug {
    /// One denial. Never called for a dry run, which leaves no traces.
    fn report(&self, denial: &Denial<'_>);
}
