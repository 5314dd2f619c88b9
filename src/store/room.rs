//! How many of a digest's signatures one answer holds.
//!
//! The lookaside gives each in an answer of its own. The extension API gives all in one, and readers (containers/image,
//! podseal) give up on one above 4 MiB: whoever may upload could make an image undecidable by large signatures. So what
//! is too much is left out. Signatures by keys of the folder come first, and of those and of the others the small before
//! the large: a real one has about one thousand bytes, and as many of that size as are kept always have room.

use super::disk::{Kept, Place};
use super::keys::KeyFolder;
use super::share::Known;
use crate::telemetry::seldom;

/// Bytes of an answer; readers take [`READERS_TAKE`].
const MAX_ANSWER: usize = READERS_TAKE - (64 << 10);
const READERS_TAKE: usize = 4 << 20;
/// Bytes of an entry besides its content, and more than that.
const ENTRY: usize = 512;

/// A signature as far as its room depends on it.
#[derive(Debug, Clone, Copy)]
struct Claim<'a>(&'a [u8]);

impl Claim<'_> {
    /// Bytes of its entry, with the content in base64.
    fn bytes(self) -> usize {
        self.0.len().div_ceil(3) * 4 + ENTRY
    }
}

/// Which of these have room in one answer, by their places in the list, in the order in which they are to be answered;
/// `None` if all have. `is_known` says whether a key of the folder made a signature, and is asked only then.
fn fitting(claims: &[Claim<'_>], is_known: impl Fn(&[u8]) -> bool) -> Option<Vec<usize>> {
    if claims.iter().map(|claim| claim.bytes()).sum::<usize>() <= MAX_ANSWER {
        return None;
    }
    let mut order: Vec<(bool, usize, usize)> =
        claims.iter().enumerate().map(|(at, claim)| (!is_known(claim.0), claim.bytes(), at)).collect();
    order.sort_unstable();
    let mut left = MAX_ANSWER;
    order.retain(|(_, bytes, _)| {
        let fits = *bytes <= left;
        left -= if fits { *bytes } else { 0 };
        fits
    });
    order.sort_unstable_by_key(|(stranger, _, at)| (*stranger, *at));
    Some(order.into_iter().map(|(_, _, at)| at).collect())
}

/// Whether a signature that is to be added has room in the answer beside these.
pub(super) fn has_room(kept: &[Kept], added: &[u8], is_known: impl Fn(&[u8]) -> bool) -> bool {
    let claims: Vec<_> = kept.iter().map(|kept| Claim(&kept.content)).chain([Claim(added)]).collect();
    fitting(&claims, is_known).is_none_or(|fitting| fitting.contains(&kept.len()))
}

/// The signatures of a place that one answer holds; the log says which are left out.
pub(super) fn answered<'a>(place: &Place, kept: &'a [Kept], known: &Known, folder: &KeyFolder) -> Vec<&'a Kept> {
    let claims: Vec<_> = kept.iter().map(|kept| Claim(&kept.content)).collect();
    let Some(fitting) = fitting(&claims, |content| known.made(&folder.look(), content)) else {
        return kept.iter().collect();
    };
    let answered: Vec<_> = fitting.into_iter().filter_map(|at| kept.get(at)).collect();
    if seldom::says(&format!("{place} has more than one answer holds")) {
        let left = kept.len().saturating_sub(answered.len());
        tracing::warn!(
            %place, left_out = left,
            "the signatures of an image are larger than readers of the extension API take (4 MiB), and large ones are left \
             out there: remove what nobody needs"
        );
    }
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of those that fit; signatures that begin with 1 are by known keys.
    fn fit(contents: &[Vec<u8>]) -> Option<Vec<usize>> {
        let claims: Vec<_> = contents.iter().map(|content| Claim(content)).collect();
        fitting(&claims, |content| content.first() == Some(&1))
    }

    #[test]
    fn what_all_fits_is_all_answered_in_its_order() {
        assert_eq!(fit(&[]), None);
        assert_eq!(fit(&vec![vec![0; 23_000]; 128]), None);
        assert_eq!(fit(&vec![vec![0; 60_000]; 51]), None);
    }

    #[test]
    fn strangers_large_signatures_displace_no_known_and_no_small_one() {
        let mut contents = vec![vec![0; 65_536]; 126];
        contents.push(vec![1; 65_536]);
        contents.push(vec![0; 1000]);
        let fitting = fit(&contents).unwrap();
        assert_eq!(fitting.first(), Some(&126), "the known one comes first");
        assert_eq!(fitting.last(), Some(&127));
        let bytes: usize = fitting.iter().map(|at| Claim(&contents[*at]).bytes()).sum();
        assert!(bytes <= MAX_ANSWER && fitting.len() == 47, "{bytes} {}", fitting.len());
        // Nor does one maker's another's.
        let mut contents = vec![vec![1; 65_536]; 127];
        contents.push(vec![1; 1000]);
        assert_eq!(fit(&contents).unwrap().last(), Some(&127));
    }

    #[test]
    fn one_that_is_too_large_by_itself_is_left_out_alone() {
        assert_eq!(fit(&[vec![1; 4 << 20], vec![0; 1000]]), Some(vec![1]));
    }
}
