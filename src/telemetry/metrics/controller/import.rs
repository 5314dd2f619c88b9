//! Imported signatures.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::super::{family, single};

/// Why a signature that was found is not imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unimported {
    /// It has more bytes than a record holds.
    TooLarge,
    /// It is no simple signature.
    Malformed,
    /// It says that it is for another image.
    OtherImage,
    /// There are as many of this image, or in all, as there may be.
    Limit,
}

const REASONS: [(Unimported, &str); 4] = [
    (Unimported::TooLarge, "too-large"),
    (Unimported::Malformed, "malformed"),
    (Unimported::OtherImage, "other-image"),
    (Unimported::Limit, "limit"),
];

/// Counted by the import of signatures.
#[derive(Debug)]
pub struct ImportMetrics {
    imported: Counter,
    removed: Counter,
    failures: Counter,
    refused: [Counter; REASONS.len()],
    images: Gauge,
    objects: Gauge,
}

impl ImportMetrics {
    pub(super) fn new(r: &mut Registry) -> Self {
        let refused = "Signatures that were found and not imported.";
        Self {
            imported: single(r, "podseal_imported_signatures", "Signatures that were imported as ImageSignatures."),
            removed: single(r, "podseal_imported_signatures_removed", "Imported ImageSignatures removed after disuse."),
            failures: single(r, "podseal_signature_import_failures", "Rounds and stores that could not be read."),
            refused: family(r, "podseal_signatures_not_imported", refused, |i| vec![("reason", REASONS[i].1)]),
            images: single(r, "podseal_images_in_use", "Images that Pods use, by digest."),
            objects: single(r, "podseal_image_signatures", "ImageSignatures that there are."),
        }
    }

    /// An object was made.
    pub fn imported(&self) {
        self.imported.inc();
    }

    /// An object was removed.
    pub fn removed(&self) {
        self.removed.inc();
    }

    /// A round, or a store, could not be read.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// A signature is not imported.
    pub fn refused(&self, why: Unimported) {
        for (_, counter) in REASONS.iter().zip(&self.refused).filter(|((reason, _), _)| *reason == why) {
            counter.inc();
        }
    }

    /// How it stands after a round.
    pub fn stand(&self, images: usize, objects: usize) {
        self.images.set(i64::try_from(images).unwrap_or(i64::MAX));
        self.objects.set(i64::try_from(objects).unwrap_or(i64::MAX));
    }
}
