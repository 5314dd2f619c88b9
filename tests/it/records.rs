//! Signatures verified by hand, recorded, and explained: `podseal verify`, `podseal explain`, `kubectl podseal`.

mod admission;
mod explained;
mod held;
mod plugin;
mod save;
mod verify;
mod world;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let trials =
        [verify::trials(), save::trials(), held::trials(), admission::trials(), explained::trials(), plugin::trials()];
    trials.into_iter().flatten().collect()
}
