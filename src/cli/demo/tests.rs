//! The demo as a test, and `podseal check` against what it leaves behind.

use std::process::ExitCode;

use clap::Parser as _;

use super::*;
use crate::cli::args::{Arguments, Command};
use crate::cli::check;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_as_it_must_be_and_for_the_right_reason() {
    let demo = Demo::start().await.unwrap();
    assert!(demo.scenes.len() >= 12);
    assert!(introduction(&demo).lines().all(|line| line.chars().count() <= 100));
    for scene in &demo.scenes {
        let row = demo.play(scene).await.unwrap();
        assert_eq!(difference(&row), None);
    }
    demo.webhook.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_answer_is_noticed() {
    let demo = Demo::start().await.unwrap();
    let mut scene = scenes(&demo.places.registry).into_iter().find(|scene| scene.name == "unsigned").unwrap();
    scene.because = "quite another reason";
    let found = difference(&demo.play(&scene).await.unwrap()).unwrap();
    assert!(found.starts_with("unsigned: expected \"quite another reason\""), "{found}");
    scene.expected = scenes::Expected::Allowed;
    let found = difference(&demo.play(&scene).await.unwrap()).unwrap();
    assert_eq!(found, "unsigned: expected allowed, got DENIED");
    demo.webhook.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_agrees_with_the_kept_demo() {
    let demo = Demo::start().await.unwrap();
    let directory = Directory::create(None).unwrap();
    directory.write(&demo).unwrap();
    for scene in &demo.scenes {
        let code = match scene.expected {
            scenes::Expected::Allowed => 0,
            // Templates are judged as Pods.
            scenes::Expected::Denied | scenes::Expected::Warned => 1,
            scenes::Expected::Undecided => 2,
        };
        let name = scene.name;
        let file = directory.path().join(format!("pods/{name}.yaml"));
        let arguments = Arguments::try_parse_from([
            "podseal".as_ref(),
            "check".as_ref(),
            "-f".as_ref(),
            file.as_os_str(),
            "--policy".as_ref(),
            directory.path().join("policies").as_os_str(),
        ])
        .unwrap();
        let Command::Check(command) = arguments.command else { panic!("not a check") };
        // The command has a runtime of its own.
        let got = std::thread::spawn(move || check::decide(&command, false)).join().unwrap();
        assert_eq!(got, ExitCode::from(code), "{name}");
    }
    demo.webhook.stop().await;
}

#[test]
fn loopback_must_be_named_to_be_spared_by_proxies() {
    for spared in ["127.0.0.1", "localhost,127.0.0.1", "a, 127.0.0.1 ,b"] {
        assert!(spares_loopback(spared), "{spared}");
    }
    for other in ["", "localhost", "127.0.0.10", "x127.0.0.1"] {
        assert!(!spares_loopback(other), "{other}");
    }
}

#[test]
fn dir_without_keep_is_wrong_usage() {
    let parsed = Arguments::try_parse_from(["podseal", "demo", "--dir", "x"]);
    assert!(parsed.unwrap_err().to_string().contains("--keep"));
    assert!(Arguments::try_parse_from(["podseal", "demo", "--keep", "--dir", "x"]).is_ok());
}
