//! The signature store.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{CLASSES, Labels, family, register, single};

/// What is asked of the store, as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A signature of the lookaside folder.
    Signature,
    /// The extension API.
    Extension,
    /// A key file.
    Key,
    /// The page for people.
    Page,
    /// Nothing there is.
    Other,
}

const ASKED: [&str; 5] = ["signature", "extension", "key", "page", "other"];
/// Why somebody may not write, as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// The store takes no uploads.
    ReadOnly,
    /// Nothing was shown that counts.
    Unauthenticated,
    /// Known, and not allowed to.
    Forbidden,
    /// Too much of one client waits.
    Crowded,
    /// It could not be found out.
    Unavailable,
}

const TURNED_AWAY: [&str; 5] = ["read_only", "unauthenticated", "forbidden", "crowded", "unavailable"];
const UPLOADS: [&str; 4] = ["stored", "known", "refused", "failed"];

/// Counted by the signature store.
#[derive(Debug)]
pub struct StoreMetrics {
    requests: [[Counter; CLASSES.len()]; ASKED.len()],
    uploads: [Counter; UPLOADS.len()],
    turned_away: [Counter; TURNED_AWAY.len()],
    signatures: Gauge,
}

impl StoreMetrics {
    pub(super) fn new(r: &mut Registry) -> Self {
        let requests = prometheus_client::metrics::family::Family::<Labels, Counter>::default();
        let requests = register(r, "podseal_store_requests", "Requests to the signature store.", requests);
        Self {
            requests: std::array::from_fn(|asked| {
                std::array::from_fn(|class| {
                    requests.get_or_create_owned(&vec![("for", ASKED[asked]), ("result", CLASSES[class])])
                })
            }),
            uploads: family(r, "podseal_store_uploads", "Uploads to the signature store, by what came of them.", |i| {
                vec![("result", UPLOADS[i])]
            }),
            turned_away: family(
                r,
                "podseal_store_writers_turned_away",
                "Uploads to the signature store that were refused for who sends them, by reason.",
                |i| vec![("reason", TURNED_AWAY[i])],
            ),
            signatures: single(r, "podseal_store_signatures", "Signatures in the signature store."),
        }
    }

    /// One request and its status.
    pub fn request(&self, asked: Asked, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1).min(CLASSES.len() - 1);
        self.requests[asked as usize][class].inc();
    }

    /// One upload: 201 or 200, a refusal, or a failure of the store.
    pub fn upload(&self, status: u16) {
        let result = match status {
            201 => 0,
            200 => 1,
            400..=499 => 2,
            _ => 3,
        };
        self.uploads[result].inc();
    }

    /// One upload of somebody who may not write.
    pub fn turned_away(&self, why: TurnedAway) {
        self.turned_away[why as usize].inc();
    }

    /// How many signatures there are.
    pub fn signatures(&self, count: usize) {
        self.signatures.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
