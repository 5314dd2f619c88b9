//! What the users of podsec do, from the first directory to the refused image, with only the names changed.

mod makers;
mod whole;
mod world;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [whole::trials(), makers::trials()].into_iter().flatten().collect()
}
