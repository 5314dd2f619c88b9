//! `podseal store`: what it serves, whom it lets write, and what it keeps through accidents.

mod accidents;
mod page;
mod roles;
mod served;
mod uploads;
pub mod world;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [served::trials(), uploads::trials(), roles::trials(), accidents::trials(), page::trials()]
        .into_iter()
        .flatten()
        .collect()
}
