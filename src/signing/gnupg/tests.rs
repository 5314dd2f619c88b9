use std::os::unix::fs::PermissionsExt;

use super::process::Output;
use super::*;

const LIST: &str = "\
sec:u:255:22:AAAAAAAAAAAAAAAA:1700000000:1800000000::u:::scSC:::+::ed25519:::0:
fpr:::::::::0000000000000000000000000000000000000AAA:
grp:::::::::1111111111111111111111111111111111111111:
uid:u::::1700000000::X::Image Maker \\x3aone\\x3a <immkk8s@registry.local/k8s-c10f1>::::::::::0:
uid:r::::1700000000::X::old@registry.local::::::::::0:
ssb:u:255:18:BBBBBBBBBBBBBBBB:1700000000::::::e:::D2760001240100000006000000010000::cv25519::
fpr:::::::::0000000000000000000000000000000000000BBB:
sec:r:3072:1:CCCCCCCCCCCCCCCC:1700000000:::u:::scESC:::#:::23::0:
fpr:::::::::0000000000000000000000000000000000000CCC:
uid:r::::1700000000::X::immkk8s@registry.local/k8s-c10f1::::::::::0:
";

#[test]
fn a_list_of_secret_keys_is_read() {
    let keys = listing::read(LIST);
    let [first, second] = keys.as_slice() else { panic!("{keys:?}") };
    assert_eq!(first.fingerprint, format!("{:0>40}", "AAA"));
    assert_eq!(first.user_ids, ["Image Maker :one: <immkk8s@registry.local/k8s-c10f1>"]);
    assert!(first.is_usable() && first.is_on_card() && first.has_secret && first.expires.is_some());
    assert_eq!(first.subkeys[0].fingerprint, format!("{:0>40}", "BBB"));
    assert!(!second.is_usable() && !second.has_secret && second.expires.is_none());
}

#[test]
fn a_key_is_named_by_fingerprint_key_id_or_address_and_by_nothing_shorter() {
    let keys = listing::read(LIST);
    let named = |name: &str| keys.iter().filter(|key| key.is_named(name)).count();
    for name in [
        "0000000000000000000000000000000000000aaa",
        "0x0000 0000 0000 0000 0000 0000 0000 0000 0000 0BBB",
        "0000000000000AAA",
        "immkk8s@registry.local/k8s-c10f1",
        "<IMMKK8S@registry.local/k8s-c10f1>",
    ] {
        assert_eq!(named(name), 1, "{name}");
    }
    for name in ["", "AAA", "00000AAA", "old@registry.local", "registry.local", "Image Maker", "immkk8s"] {
        assert_eq!(named(name), 0, "{name}");
    }
}

#[test]
fn a_damaged_list_gives_no_key_and_no_panic() {
    for text in ["", ":", "fpr:", "ssb::", "sec:", "sec:u:x:y:z:-1:99999999999999999999:\nfpr:\n", "uid:u::::::::\\x"] {
        assert!(listing::read(text).is_empty(), "{text:?}");
    }
}

#[test]
fn a_passphrase_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passphrase");
    std::fs::write(&file, "correct horse\nsecond line\n").unwrap();
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Secret::read(&file).unwrap_err().to_string();
        assert!(error.contains("others may read it") && error.contains("chmod 600"), "{error}");
    }
    for mode in [0o600, 0o400] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(Secret::read(&file).unwrap().is(&Secret::new(b"correct horse".to_vec()).unwrap()));
    }
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    std::fs::set_permissions(folder.path().join("empty"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Secret::read(&folder.path().join("empty")).unwrap_err().to_string().contains("is empty"));
    assert!(Secret::read(&folder.path().join("none")).is_err());
    assert!(Secret::read(folder.path()).unwrap_err().to_string().contains("neither a file nor a pipe"));
}

#[test]
fn a_passphrase_is_one_line_and_shows_nowhere() {
    let secret = Secret::new(b"correct horse".to_vec()).unwrap();
    let shown = format!("{:?} {:?}", secret, Passphrase::Prompted(secret.clone()));
    assert!(!shown.contains("horse"), "{shown}");
    for wrong in [&b""[..], b"a\nb", b"a\rb", b"a\0b", &[b'a'; 256]] {
        let error = Secret::new(wrong.to_vec()).unwrap_err().to_string();
        assert!(error.starts_with("the passphrase "), "{error}");
    }
}

#[test]
fn what_gpg_says_is_told_in_one_line_without_its_status() {
    let said =
        "[GNUPG:] KEY_CONSIDERED X 2\ngpg: signing failed: Bad\u{1b}[31m passphrase\n[GNUPG:] FAILURE sign 67108875\n";
    let output = Output { said: said.to_owned(), ..Output::default() };
    assert_eq!(output.failure("sign").to_string(), r"gpg could not sign: signing failed: Bad\u001b[31m passphrase");
    assert_eq!(output.status("FAILURE"), Some("sign 67108875"));
    assert_eq!((output.status("FAIL"), output.status("SIG_CREATED")), (None, None));
    assert_eq!(Output::default().failure("sign").to_string(), "gpg could not sign: it does not say why");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let gnupg = Gnupg { program: "/nonexistent/gpg".into(), home: None };
    let error = gnupg.secret_keys().unwrap_err().to_string();
    assert!(error.contains("/nonexistent/gpg cannot be started") && error.contains("install GnuPG"), "{error}");
}

/// A home whose agent ends with it; none, and a line that says so, where there is no gpg.
struct Home {
    _folder: tempfile::TempDir,
    gnupg: Gnupg,
}

impl Home {
    fn new() -> Option<Self> {
        let found = std::process::Command::new("gpg").arg("--version").stdout(std::process::Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            println!("skipped: no gpg here");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("gpg").permissions(PermissionsExt::from_mode(0o700)).tempdir();
        let folder = folder.unwrap();
        let gnupg = Gnupg::new(Some(folder.path().to_owned()));
        Some(Self { _folder: folder, gnupg })
    }

    fn key(&self, user_id: &str, passphrase: &Passphrase) -> String {
        let arguments = ["--quick-generate-key", user_id, "ed25519", "sign", "never"];
        let output = self.gnupg.run("make", &arguments, Input { passphrase: Some(passphrase), data: b"" }).unwrap();
        output.status("KEY_CREATED").unwrap().split(' ').nth(1).unwrap().to_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.gnupg.stop_agent();
    }
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::Prompted(Secret::new(text.as_bytes().to_vec()).unwrap())
}

#[test]
fn what_is_signed_with_a_passphrase_verifies_and_a_wrong_one_signs_nothing() {
    let Some(home) = Home::new() else { return };
    let (right, wrong) = (passphrase("correct horse"), passphrase("battery staple"));
    let key = home.key("Image Maker <maker@registry.local>", &right);
    let again = home.gnupg.secret_key("maker@registry.local").unwrap();
    assert_eq!((again.fingerprint.as_str(), again.is_usable()), (key.as_str(), true));
    // The content may hold anything, also what looks like the end of a line.
    let content = b"\n{\"critical\":1}\r\n\n\0";
    home.gnupg.stop_agent();
    let error = home.gnupg.sign(&key, content, &wrong).unwrap_err().to_string();
    assert!(error.starts_with("gpg could not sign: ") && error.contains("Bad passphrase"), "{error}");
    let blob = home.gnupg.sign(&key, content, &right).unwrap();
    let certificate = home.gnupg.export(&key).unwrap();
    let (keyring, problems) = crate::signature::openpgp::Keyring::from_files([("maker.pgp", certificate.as_slice())]);
    assert_eq!(problems, Vec::<String>::new());
    let signed = keyring.verify(&blob, std::time::SystemTime::now()).unwrap();
    assert_eq!((signed.content.as_slice(), signed.signer.fingerprint), (&content[..], key));
}

#[test]
fn an_address_of_two_keys_is_refused_with_both_and_an_unknown_one_with_the_way_out() {
    let Some(home) = Home::new() else { return };
    let none = Passphrase::Prompted(Secret::none());
    let (one, two) = (home.key("One <maker@registry.local>", &none), home.key("Two <maker@registry.local>", &none));
    let error = home.gnupg.secret_key("maker@registry.local").unwrap_err().to_string();
    assert!(error.contains(&one) && error.contains(&two) && error.contains("give the fingerprint"), "{error}");
    assert_eq!(home.gnupg.secret_key(&one).unwrap().fingerprint, one);
    let error = home.gnupg.secret_key("nobody@registry.local").unwrap_err().to_string();
    assert!(error.contains("there is no secret key \"nobody@registry.local\""), "{error}");
    assert!(home.gnupg.export("nobody@registry.local").unwrap_err().to_string().contains("there is no key"));
    // Taken into another home, secret part and all, it is the same key.
    let other = Home::new().unwrap();
    let secret =
        home.gnupg.run("export", &["--export-secret-keys", &one], Input { passphrase: Some(&none), data: b"" });
    other.gnupg.import(&secret.unwrap().data).unwrap();
    assert_eq!(other.gnupg.secret_key("maker@registry.local").unwrap().fingerprint, one);
    assert!(other.gnupg.import(b"no key").unwrap_err().to_string().starts_with("gpg could not import"));
}
