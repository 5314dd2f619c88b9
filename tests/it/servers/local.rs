//! What needs no server.

use std::process::Command;
use std::time::Duration;

use crate::support::opinions::{Answer, Deviation, Expected, Opinion, Table};
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

fn tables_of_opinions_tell_each_kind_of_disagreement() {
    const LIST: &[Deviation] = &[
        Deviation { case: "lax", podseal: Answer::Refuses, reason: "" },
        Deviation { case: "gone", podseal: Answer::Refuses, reason: "" },
        Deviation { case: "agreed", podseal: Answer::Accepts, reason: "" },
        Deviation { case: "turned", podseal: Answer::Refuses, reason: "" },
    ];
    let refused = Expected::Refused("expired");
    let mut table = Table::new("other", LIST);
    for (case, expected, words, podseal, other) in [
        ("same", Expected::Accepted, "", true, true),
        ("lax", refused, "it expired", false, true),
        ("agreed", Expected::Accepted, "", true, true),
        ("unlisted", Expected::Accepted, "", true, false),
        ("other words", refused, "no connection", false, false),
        ("other answer", refused, "expired", true, true),
        ("turned", Expected::Accepted, "", true, false),
        ("same", Expected::Accepted, "", true, true),
    ] {
        table.add(case, expected, Opinion::new(podseal, words), Opinion::new(other, ""));
    }
    let errors: Vec<_> = table.errors().iter().map(|error| error.lines().next().unwrap().to_owned()).collect();
    let expected = [
        "agreed: listed as a deviation, but both accepts",
        "unlisted: podseal accepts, other refuses",
        "other words: podseal refuses, expected Refused(\"expired\")",
        "other answer: podseal accepts, expected Refused(\"expired\")",
        "turned: podseal accepts, against the list",
        "gone: a deviation without a case",
        "same: repeated",
    ];
    assert_eq!(errors, expected);
}

crate::tests! {
    needs [];
    texts_are_comparable,
    processes_end_when_told,
    tables_of_opinions_tell_each_kind_of_disagreement,
}
