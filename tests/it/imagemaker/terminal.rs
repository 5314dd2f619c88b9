//! Somebody at a terminal who is asked.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::SystemTime;

use super::world::{Host, keys};
use crate::support::podseal::BINARY;
use crate::support::tools::{self, Ran};

crate::tests! {
    needs [Gpg, Terminal];
    what_is_missing_is_asked_for_and_passphrases_have_no_echo,
    a_wrong_answer_is_asked_for_again,
    a_broken_off_passphrase_makes_nothing,
    a_passphrase_is_changed_at_the_terminal,
}

/// `podseal imagemaker ARGS` at a terminal where somebody answers each question as soon as it is there.
fn typed(host: &Host, args: &[&str], answers: &[(&str, &str)]) -> Ran {
    let quoted: Vec<_> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let line = format!("{BINARY} imagemaker {} --dir {}", quoted.join(" "), host.dir.display());
    let mut command = tools::command("script");
    command.args(["--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"]);
    command.env("GNUPGHOME", host.gpg.home()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut read, mut piece) = (Vec::new(), 0, [0; 4096]);
    let mut left = answers.iter();
    let mut next = left.next();
    loop {
        let text = String::from_utf8_lossy(&shown[read..]).into_owned();
        if let Some((_, answer)) = next.filter(|(question, _)| text.contains(question)) {
            read = shown.len();
            keyboard.write_all(answer.as_bytes()).unwrap();
            next = left.next();
            continue;
        }
        match screen.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(length) => shown.extend_from_slice(&piece[..length]),
        }
    }
    let code = child.wait().unwrap().code();
    let stdout = String::from_utf8_lossy(&shown).into_owned();
    let ran = Ran { command: line, code, bytes: shown, stdout, stderr: String::new() };
    assert!(next.is_none(), "never asked: {next:?}: {ran}");
    ran
}

const STORE: &str = "--lookaside=http://localhost:81/";

fn what_is_missing_is_asked_for_and_passphrases_have_no_echo() {
    let host = Host::new();
    let answers = [
        ("Kind of key (1): ", "4\n"),
        ("Bits (3072): ", "2048\n"),
        ("Valid for", "4w\n"),
        ("Full name: ", "Image Maker\n"),
        ("E-mail (a@localhost): ", "\n"),
        ("Note: ", "ImageMaker Signer\n"),
        // A slip, taken back.
        ("New passphrase for a: ", "correct horsé\u{7f}e\n"),
        ("Once more: ", "correct horse\n"),
    ];
    let ran = typed(&host, &["create", "a@localhost/a", STORE], &answers).succeeded();
    assert!(ran.stdout.contains("Image maker a for localhost/a") && !ran.stdout.contains("hors"), "{ran}");
    let held = keys(&host.key_file("a"), SystemTime::now());
    assert_eq!(held[0].user_ids, ["Image Maker (ImageMaker Signer) <a@localhost>"]);
    assert!(held[0].expires.is_some());
    // Two makers are asked for one after the other; flags answer for both.
    let flags = ["--key-type", "ed25519", "--expires", "0", "--no-passphrase", STORE];
    let answers = [
        ("Full name: ", "Maker of B\n"),
        ("E-mail (b@localhost): ", "\n"),
        ("Note: ", "\n"),
        ("Full name: ", "Maker of C\n"),
        ("E-mail (c@localhost): ", "other@localhost\n"),
        ("Note: ", "\n"),
    ];
    typed(&host, &[&["create", "b@localhost/b", "c@localhost/c"], &flags[..]].concat(), &answers).succeeded();
    assert_eq!(keys(&host.key_file("b"), SystemTime::now())[0].user_ids, ["Maker of B <b@localhost>"]);
    assert_eq!(keys(&host.key_file("c"), SystemTime::now())[0].user_ids, ["Maker of C <other@localhost>"]);
}

fn a_wrong_answer_is_asked_for_again() {
    let host = Host::new();
    let answers = [
        ("Kind of key (1): ", "9\n"),
        ("a number of the list", "2\n"),
        ("Bits (2048): ", "1024\n"),
        ("DSA of 1024 bits is too weak", "2048\n"),
        ("Valid for", "1h\n"),
        ("expected 0 (never)", "30d\n"),
        ("E-mail (a@localhost): ", "\n"),
        ("Note: ", "\n"),
        ("New passphrase for a: ", "one\n"),
        ("Once more: ", "two\n"),
        ("they differ\r\nNew passphrase for a: ", "\n"),
        ("the passphrase is empty: --no-passphrase makes a key without one\r\nNew passphrase for a: ", "three\n"),
        ("Once more: ", "three\n"),
    ];
    typed(&host, &["create", "a@localhost", "--full-name", "Image Maker", STORE], &answers).succeeded();
    assert_eq!(host.list().len(), 1);
}

fn a_broken_off_passphrase_makes_nothing() {
    let host = Host::new();
    let flags =
        ["create", "a@localhost", "--full-name", "Image Maker", "--key-type", "ed25519", "--expires", "0", STORE];
    let answers = [("E-mail", "\n"), ("Note: ", "\n"), ("New passphrase for a: ", "secr\u{3}")];
    let ran = typed(&host, &flags, &answers);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stdout.contains("broken off; nothing more was done") && !ran.stdout.contains("secr"), "{ran}");
    assert_eq!((host.list().len(), host.secret_keys()), (0, 0));
}

fn a_passphrase_is_changed_at_the_terminal() {
    let host = Host::new();
    let first = Host::passphrase("first");
    let flags = ["--full-name", "Image Maker", "--key-type", "ed25519", "--expires", "0", STORE];
    host.run(&[&["create", "a@localhost", "--passphrase-file", &first], &flags[..]].concat()).succeeded();
    host.forget();
    let answers =
        [("Passphrase of key ", "first\n"), ("New passphrase for a: ", "second\n"), ("Once more: ", "second\n")];
    let ran = typed(&host, &["passwd", "a"], &answers).succeeded();
    assert!(!ran.stdout.contains("second"), "{ran}");
    host.forget();
    let mut command = host.gpg.command("gpg");
    let second = Host::passphrase("second");
    command.args(["--batch", "--pinentry-mode", "loopback", "--passphrase-file", &second, "--sign"]);
    tools::run_with(&mut command, b"content").succeeded();
}
