//! What needs no server.

use std::process::Command;
use std::time::Duration;

use crate::support::process::Process;
use crate::support::text::{assert_text, normal};

fn texts_are_comparable() {
    let digest = "a".repeat(64);
    let text = format!("at 127.0.0.1:4711/alt/a@sha256:{digest} in ns-7\n  sha256:abc \n\n");
    assert_text(&normal(&text, &[("ns-7", "NS")]), "at 127.0.0.1:PORT/alt/a@sha256:DIGEST in NS\n  sha256:abc");
}

fn processes_end_when_told() {
    let process = Process::spawn("sleep", Command::new("sleep").arg("1000"));
    assert!(process.ended().is_none());
    process.signal("TERM");
    assert!(process.ended_within(Duration::from_secs(10)).is_some_and(|status| !status.success()));
}

crate::tests! { needs []; texts_are_comparable, processes_end_when_told }
