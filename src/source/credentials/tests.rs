use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::key::Key;
use super::{Credential, DockerConfig, Keychain, MAX_CREDENTIALS, MAX_SOURCES};
use crate::domain::image::Repository;

fn repository(name: &str) -> Repository {
    Repository::parse(name).expect("repository")
}

fn secret(key: &str, value: impl Into<Bytes>) -> BTreeMap<String, Bytes> {
    BTreeMap::from([(key.to_owned(), value.into())])
}

fn read(auths: &serde_json::Value) -> DockerConfig {
    DockerConfig::from_secret(&secret(".dockerconfigjson", json!({ "auths": auths }).to_string())).expect("readable")
}

/// A configuration whose user names are the keys.
fn config(keys: &[&str]) -> Arc<DockerConfig> {
    let auths: serde_json::Map<_, _> =
        keys.iter().map(|key| ((*key).to_owned(), json!({"username": key, "password": "pw"}))).collect();
    Arc::new(read(&auths.into()))
}

fn users(keychain: &Keychain, name: &str) -> Vec<String> {
    let credentials = keychain.for_repository(&repository(name));
    credentials.iter().map(|c| c.basic().expect("basic").0.to_owned()).collect()
}

fn matched(key: &str, name: &str) -> bool {
    !users(&Keychain::new([config(&[key])]), name).is_empty()
}

#[test]
fn g13_keys_match_as_for_the_kubelet() {
    for (key, name) in [
        ("hello.kubernetes.io", "hello.kubernetes.io/foo/bar"),
        ("https://hello.kubernetes.io", "hello.kubernetes.io/foo/bar"),
        ("http://hello.kubernetes.io", "hello.kubernetes.io/foo/bar"),
        ("https://hello.kubernetes.io/", "hello.kubernetes.io/foo/bar"),
        ("https://hello.kubernetes.io/v1/", "hello.kubernetes.io/foo/bar"),
        ("https://hello.kubernetes.io/v2/", "hello.kubernetes.io/foo/bar"),
        ("https://hello.kubernetes.io/v1/foo", "hello.kubernetes.io/foo/bar"),
        ("https://hello.kubernetes.io?a=b#c", "hello.kubernetes.io/foo"),
        ("robot@hello.kubernetes.io", "hello.kubernetes.io/foo"),
        ("*.kubernetes.io", "prefix.kubernetes.io/foo"),
        ("prefix.*.io", "prefix.kubernetes.io/foo"),
        ("prefix.kubernetes.*", "prefix.kubernetes.io/foo"),
        ("*-good.kubernetes.io", "prefix-good.kubernetes.io/foo"),
        ("p*f*x.kubernetes.io", "prefix.kubernetes.io/foo"),
        ("*.*.*", "prefix.kubernetes.io/foo"),
        ("https://*.docker.io/v1/", "prefix.docker.io/path"),
        ("*.kubernetes.io/blah", "prefix.kubernetes.io/blah"),
        ("prefix.*.io/foo", "prefix.kubernetes.io/foo/bar"),
        ("*.kubernetes.io:1111/blah", "prefix.kubernetes.io:1111/blah"),
        ("prefix.kubernetes.io:1111", "prefix.kubernetes.io:1111/path"),
        ("reg.io/team", "reg.io/team-b/app"),
        ("reg.io/team/", "reg.io/team/app"),
        ("reg.io:", "reg.io/app"),
        ("Reg.Example.COM", "reg.example.com/app"),
        ("[::1]:5000", "[::1]:5000/app"),
        ("[0:0::1]", "[::1]/app"),
        ("localhost:5000", "localhost:5000/app"),
    ] {
        assert!(matched(key, name), "{key} is for {name}");
    }
}

#[test]
fn g1_keys_of_other_registries_do_not_match() {
    for (key, name) in [
        ("hello.kubernetes.io", "world.mesos.org/foo/bar"),
        ("*.kubernetes.io", "kubernetes.io/foo"),
        ("*.*.kubernetes.io", "prefix.kubernetes.io/foo"),
        ("*.kubernetes.io", "a.b.kubernetes.io/foo"),
        ("kubernetes.io", "kubernetes.com/foo"),
        ("kubernetes.io", "evil-kubernetes.io/foo"),
        ("kubernetes.io", "kubernetes.io.evil.com/foo"),
        ("k*.io", "quay.io/foo"),
        ("pre*fix.io", "prefi.io/foo"),
        ("*aa*aa.io", "aaa.io/foo"),
        ("*.kubernetes.io:1234/blah", "prefix.kubernetes.io:1111/blah"),
        ("prefix.*.io/foo", "prefix.kubernetes.io:1111/foo/bar"),
        ("prefix.kubernetes.io:1111", "prefix.kubernetes.io/foo"),
        ("reg.io", "reg.io:443/foo"),
        ("reg.io:443", "reg.io/foo"),
        ("prefix.*.io/path:1111", "prefix.docker.io/path/subpath"),
        ("reg.io/team/", "reg.io/team-b/app"),
        ("reg.io/team", "reg.io/other/team"),
        ("reg.io//team", "reg.io/team"),
        ("reg.io/v2", "reg.io/team"),
        ("reg.io/*", "reg.io/team"),
        ("good.io@evil.io", "good.io/foo"),
        ("good.io#.evil.io", "evil.io/foo"),
        ("*", "[::1]:5000/foo"),
        ("*", "reg.io/foo"),
    ] {
        assert!(!matched(key, name), "{key} is not for {name}");
    }
}

#[test]
fn g13_docker_hub_under_its_historic_key_is_for_docker_hub_only() {
    for key in ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://registry-1.docker.io/v2/"] {
        for name in ["nginx", "library/nginx", "docker.io/a/b", "index.docker.io/a/b"] {
            assert!(matched(key, name), "{key} is for {name}");
        }
        for name in
            ["reg.io/index.docker.io/a", "localhost/a", "localhost:5000/a", "myhostdocker.io/a", "x.docker.io/a"]
        {
            assert!(!matched(key, name), "{key} is not for {name}");
        }
    }
}

#[test]
fn docker_hubs_historic_key_is_used_only_when_no_other_matches() {
    let hub = "https://index.docker.io/v1/";
    assert_eq!(users(&Keychain::new([config(&[hub, "docker.io/team"])]), "docker.io/team/app"), ["docker.io/team"]);
    assert_eq!(users(&Keychain::new([config(&[hub, "docker.io/team"])]), "docker.io/other/app"), [hub]);
}

#[test]
fn the_most_specific_key_comes_first() {
    let keys = ["reg.io", "reg.io/a", "reg.io/a/b", "*.io", "reg.*", "reg.io/c"];
    assert_eq!(
        users(&Keychain::new([config(&keys)]), "reg.io/a/b/app"),
        ["reg.io/a/b", "reg.io/a", "reg.io", "reg.*", "*.io"]
    );
}

#[test]
fn g11_sources_keep_their_order() {
    let (pod, account, administrator) = (config(&["reg.io"]), config(&["reg.io/a"]), config(&["*.io"]));
    let forwards = Keychain::new([pod.clone(), account.clone(), administrator.clone()]);
    assert_eq!(users(&forwards, "reg.io/a"), ["reg.io", "reg.io/a", "*.io"]);
    let backwards = Keychain::new([administrator, account, pod]);
    assert_eq!(users(&backwards, "reg.io/a"), ["*.io", "reg.io/a", "reg.io"]);
    assert_ne!(forwards.scope(&repository("reg.io/a")), backwards.scope(&repository("reg.io/a")));
}

#[test]
fn g12_every_secret_for_the_host_is_tried_and_duplicates_once() {
    let wrong = Arc::new(read(&json!({"reg.io": {"username": "u", "password": "wrong"}})));
    let right = Arc::new(read(&json!({"reg.io": {"username": "u", "password": "right"}})));
    let keychain = Keychain::new([wrong.clone(), right.clone(), wrong, right]);
    let found = keychain.for_repository(&repository("reg.io/a"));
    assert_eq!(found.iter().filter_map(Credential::basic).collect::<Vec<_>>(), [("u", "wrong"), ("u", "right")]);
}

#[test]
fn credentials_and_sources_are_bounded() {
    let one = |i: usize| Arc::new(read(&json!({"reg.io": {"username": i.to_string(), "password": "p"}})));
    let keychain = Keychain::new((0..=MAX_CREDENTIALS).map(one));
    assert_eq!(keychain.for_repository(&repository("reg.io/a")).len(), MAX_CREDENTIALS);
    assert_ne!(keychain.scope(&repository("reg.io/a")), [0; 32]);
    let elsewhere = (0..MAX_SOURCES).map(|_| config(&["other.io"]));
    let late = Keychain::new(elsewhere.chain([config(&["reg.io"])]));
    assert!(late.for_repository(&repository("reg.io/a")).is_empty());
    let empty = (0..MAX_SOURCES).map(|_| Arc::default());
    assert_eq!(users(&Keychain::new(empty.chain([config(&["reg.io"])])), "reg.io/a"), ["reg.io"]);
}

#[test]
fn f9_g16_scopes_are_equal_for_equal_credentials_only() {
    let scope = |user: &str, password: &str| {
        let source = read(&json!({"reg.io": {"username": user, "password": password}}));
        Keychain::new([Arc::new(source)]).scope(&repository("reg.io/a"))
    };
    assert_eq!(scope("team", "secret"), scope("team", "secret"));
    let others = [scope("team", "secre"), scope("teams", "ecret"), scope("secret", "team"), [0; 32]];
    assert!(!others.contains(&scope("team", "secret")), "a namespace without the credential shares nothing");
}

#[test]
fn scope_is_all_zero_without_credentials_for_the_repository() {
    let keychain = Keychain::new([config(&["reg.io/a"])]);
    assert_eq!(keychain.scope(&repository("reg.io/b")), [0; 32]);
    assert_ne!(keychain.scope(&repository("reg.io/a")), [0; 32]);
    assert_eq!(Keychain::default().scope(&repository("reg.io/a")), [0; 32]);
}

#[test]
fn g16_ids_tell_every_field_apart() {
    let id = |user: &str, password: &str, token: &str| {
        Credential::new(user.into(), password.into(), token.into()).expect("credential").id()
    };
    let all = [id("a", "b", "c"), id("ab", "", "c"), id("", "ab", "c"), id("a", "bc", ""), id("a", "b", "")];
    for (i, one) in all.iter().enumerate() {
        assert!(all.iter().skip(i + 1).all(|other| one != other), "{i}");
    }
    assert_eq!(id("a", "b", "c"), id("a", "b", "c"));
    assert_eq!(Credential::new(String::new(), String::new(), String::new()), None);
}

fn only(entry: &serde_json::Value) -> Option<Credential> {
    let source = Arc::new(read(&json!({ "reg.io": entry })));
    let mut found = Keychain::new([source.clone()]).for_repository(&repository("reg.io/a"));
    assert_eq!(found.len() + source.problems().len(), 1, "used or reported: {:?}", source.problems());
    found.pop()
}

#[test]
fn g13_all_forms_of_an_entry_are_read() {
    let padded = STANDARD.encode("u:p:w");
    let bare = STANDARD_NO_PAD.encode("u:p:w");
    for entry in [
        json!({"auth": padded}),
        json!({"auth": bare}),
        json!({"auth": format!("{padded}\n")}),
        json!({"auth": format!(" {}\r\n{} ", &padded[..4], &padded[4..])}),
        json!({"Auth": padded, "email": 7}),
        json!({"username": "u", "password": "p:w", "email": "a@b"}),
        json!({"USERNAME": "u", "passWord": "p:w", "auth": ""}),
        json!({"username": "u", "password": "p:w", "auth": null, "identitytoken": null}),
        json!({"username": "other", "password": "other", "auth": padded}),
    ] {
        let credential = only(&entry).unwrap_or_else(|| panic!("{entry} was skipped"));
        assert_eq!((credential.basic(), credential.identity_token()), (Some(("u", "p:w")), None), "{entry}");
    }
}

#[test]
fn g13_identity_tokens_are_kept_apart_from_passwords() {
    let placeholder = json!({"auth": STANDARD.encode("00000000-0000:"), "identitytoken": "t"});
    for (entry, basic) in [
        (json!({"identitytoken": "t"}), None),
        (placeholder, None),
        (json!({"username": "u", "password": "p", "identitytoken": "t"}), Some(("u", "p"))),
    ] {
        let credential = only(&entry).expect("credential");
        assert_eq!((credential.basic(), credential.identity_token()), (basic, Some("t")), "{entry}");
    }
    assert_eq!(only(&json!({"username": "u"})).expect("credential").basic(), Some(("u", "")));
}

#[test]
fn g14_bad_entries_are_skipped_and_reported() {
    for entry in [
        json!({}),
        json!(null),
        json!("x"),
        json!([]),
        json!({"auth": "%%%"}),
        json!({"auth": "dQ=x"}),
        json!({"auth": STANDARD.encode("no colon")}),
        json!({"auth": STANDARD.encode([0xff, b':', 0xff])}),
        json!({"auth": 7}),
        json!({"username": ["u"], "password": "p"}),
        json!({"registrytoken": "t"}),
        json!({"email": "a@b"}),
        json!({"username": "u", "password": "p".repeat(65 << 10)}),
    ] {
        assert_eq!(only(&entry), None, "{entry}");
    }
    for key in
        ["", "/", "https://", "https:///path", "a..b", ".", "reg.io:x", "reg.io:1:2", "[::1", "[ab].io", "a b", "%41"]
    {
        let source =
            read(&json!({key: {"username": "u", "password": "p"}, "good.io": {"username": "g", "password": "p"}}));
        assert_eq!(source.problems().len(), 1, "{key:?}");
        assert_eq!(users(&Keychain::new([Arc::new(source)]), "good.io/a"), ["g"], "{key:?} hides no other");
    }
}

#[test]
fn g13_both_keys_of_a_secret_are_read() {
    let entry = json!({"reg.io": {"username": "u", "password": "p"}});
    let old = DockerConfig::from_secret(&secret(".dockercfg", entry.to_string())).expect("dockercfg");
    assert_eq!(users(&Keychain::new([Arc::new(old)]), "reg.io/a"), ["u"]);
    let mut both = secret(".dockercfg", entry.to_string());
    both.insert(".dockerconfigjson".to_owned(), Bytes::new());
    let empty_new = DockerConfig::from_secret(&both).expect("empty is missing");
    assert_eq!(users(&Keychain::new([Arc::new(empty_new)]), "reg.io/a"), ["u"]);
    both.insert(".dockerconfigjson".to_owned(), r#"{"auths":{}}"#.into());
    let new = DockerConfig::from_secret(&both).expect("new form");
    assert!(users(&Keychain::new([Arc::new(new)]), "reg.io/a").is_empty(), "the newer form wins");
}

#[test]
fn g14_unreadable_secrets_are_errors_that_name_the_key() {
    for (key, value) in [
        (".dockerconfigjson", "hunter2"),
        (".dockerconfigjson", "[\"hunter2\"]"),
        (".dockerconfigjson", "{\"auths\": \"hunter2\"}"),
        (".dockerconfigjson", "{\"auths\": {\"reg.io\": {\"password\": \"hunter2\""),
        (".dockercfg", "\"hunter2\""),
        (".dockercfg", "\u{feff}{}hunter2"),
    ] {
        let error = DockerConfig::from_secret(&secret(key, value)).expect_err(value);
        assert!(error.contains(key) && !error.contains("hunter2"), "{error}");
    }
    let too_large = format!("{{\"auths\": {{}}}}{}", " ".repeat(1 << 20));
    assert!(DockerConfig::from_secret(&secret(".dockerconfigjson", too_large)).is_err());
    for data in [BTreeMap::new(), secret("password", "hunter2"), secret(".dockercfg", "")] {
        let error = DockerConfig::from_secret(&data).expect_err("nothing to read");
        assert!(error.contains(".dockerconfigjson") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_configuration_file_is_read_and_helpers_are_reported() {
    let auths = json!({"reg.io": {"auth": STANDARD.encode("u:p")}});
    let file = json!({"auths": auths, "HttpHeaders": {"a": "b"}}).to_string();
    let source = DockerConfig::from_file_bytes(file.as_bytes()).expect("file");
    assert!(source.problems().is_empty());
    assert_eq!(users(&Keychain::new([Arc::new(source)]), "reg.io/a"), ["u"]);
    for file in
        [json!({"auths": auths, "credsStore": "x"}), json!({"auths": auths, "credHelpers": {"a.io": "x"}}), json!({})]
    {
        let source = DockerConfig::from_file_bytes(file.to_string().as_bytes()).expect("file");
        assert_eq!(source.problems().len(), 1, "{file}");
    }
    assert!(DockerConfig::from_file_bytes(b"hunter2").is_err_and(|e| !e.contains("hunter2")));
}

#[test]
fn too_many_entries_are_reported() {
    let auths = |n: usize| -> serde_json::Value {
        let entry = |i| (format!("r{i}.io"), json!({"username": "u", "password": "p"}));
        (0..n).map(entry).collect::<serde_json::Map<_, _>>().into()
    };
    assert!(read(&auths(128)).problems().is_empty());
    let source = read(&auths(129));
    assert_eq!((source.entries.len(), source.problems().len()), (128, 1));
}

#[test]
fn g6_secrets_are_never_printed() {
    let auths = json!({
        "reg.io": {"username": "hunter1", "password": "hunter2", "identitytoken": "hunter3"},
        "user:hunter4@other.io": {"username": "u", "password": "hunter5"},
        "bad.io": {"auth": "hunter6"},
        "user:hunter7@worse.io": {"auth": "hunter8"},
        "hunter9 ": {},
    });
    let source = Arc::new(read(&auths));
    let keychain = Keychain::new([source.clone()]);
    let found = keychain.for_repository(&repository("reg.io/a"));
    assert_eq!((found.len(), source.problems().len()), (1, 3));
    let printed = format!("{source:?} {source:#?} {keychain:?} {found:?} {:?}", source.problems());
    assert!(!printed.contains("hunter"), "{printed}");
    assert!(printed.contains("bad.io"), "what is to be mended is named: {printed}");
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = DockerConfig::from_file_bytes(&bytes);
        let _ = DockerConfig::from_secret(&secret(".dockercfg", bytes.clone()));
        let _ = DockerConfig::from_secret(&secret(".dockerconfigjson", bytes));
    }

    #[test]
    fn entries_never_panic_and_never_leak(key in "\\PC{0,24}", field in "(auth|username|identitytoken)", value in "\\PC{0,24}") {
        let source = read(&json!({ &key: { field: format!("hunter2{value}") } }));
        let keychain = Keychain::new([Arc::new(source)]);
        let _ = keychain.scope(&repository("reg.io/a"));
        let printed = format!("{keychain:?}");
        prop_assert!(!printed.contains("hunter2"), "{}", printed);
    }

    #[test]
    fn keys_never_panic_and_read_back_as_themselves(text in "(https?://)?[a-z*.\\[\\]:@/?#%0-9-]{0,40}") {
        if let Some(key) = Key::parse(&text) {
            let again = Key::parse(key.text()).map(|k| k.text().to_owned());
            // Only a path that itself starts with /v1/ or /v2/ is shortened once more.
            if !key.text().contains("/v1/") && !key.text().contains("/v2/") {
                prop_assert_eq!(again.as_deref(), Some(key.text()));
            }
            let _ = key.matches(&repository("reg.io:5000/a"));
            let _ = key.matches(&repository("[::1]:5000/a"));
        }
    }

    #[test]
    fn exact_hosts_match_themselves_only(one in "[a-c]{1,2}\\.[a-c]{1,2}(:[1-2])?", other in "[a-c]{1,2}\\.[a-c]{1,2}(:[1-2])?") {
        prop_assert_eq!(matched(&one, &format!("{other}/app")), one == other);
    }
}
