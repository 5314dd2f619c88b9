//! Ports for servers that cannot tell which one they took.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the kernel takes ports for outgoing connections, which would get in between.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port of 127.0.0.1 that is free now and that this run has not given out before.
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs of other worktrees start elsewhere.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from(start.wrapping_add(step) % u32::from(COUNT)).unwrap();
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
    panic!("no free port")
}
