//! `podseal sign` and `podseal load-sign`: what they make is taken by the field's own tools, and by podseal.

mod accepted;
mod archives;
mod beside;
mod certificates;
mod places;
mod world;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [accepted::trials(), places::trials(), certificates::trials(), beside::trials(), archives::trials()]
        .into_iter()
        .flatten()
        .collect()
}
