use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::{RegistriesD, parse};
use crate::domain::digest::Digest;
use crate::domain::image::ImageRef;
use crate::source::lookaside::StoreUrl;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().expect("temporary directory");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("file");
    }
    directory
}

fn load(files: &[(&str, &str)]) -> Result<RegistriesD, String> {
    RegistriesD::load(directory(files).path())
}

fn loaded(yaml: &str) -> RegistriesD {
    load(&[("a.yaml", yaml)]).unwrap_or_else(|e| panic!("{e}: {yaml}"))
}

/// One section for each scope, whose store is `https://<number>.example/`.
fn scopes(scopes: &[&str]) -> RegistriesD {
    let sections: Vec<_> = scopes
        .iter()
        .enumerate()
        .map(|(i, scope)| format!("  \"{scope}\":\n    lookaside: https://s{i}.example/\n"))
        .collect();
    loaded(&format!("docker:\n{}", sections.concat()))
}

fn found(config: &RegistriesD, image: &str) -> Option<StoreUrl> {
    config.lookaside(&image.parse::<ImageRef>().expect("image")).cloned()
}

fn url(text: &str) -> Option<StoreUrl> {
    let store = StoreUrl::from_administrator(text).ok();
    assert!(store.is_some(), "{text}");
    store
}

#[test]
fn scopes_match_the_image_the_name_paths_above_and_the_host() {
    let digest = Digest::sha256(b"");
    let by_digest = format!("reg.io:5000/a/b@{digest}");
    for (scope, image) in [
        ("reg.io:5000/a/b:1", "reg.io:5000/a/b:1"),
        ("reg.io:5000/a/b:latest", "reg.io:5000/a/b"),
        (by_digest.as_str(), by_digest.as_str()),
        (by_digest.as_str(), &format!("reg.io:5000/a/b:1@{digest}")),
        ("reg.io:5000/a/b", "reg.io:5000/a/b:1"),
        ("reg.io:5000/a", "reg.io:5000/a/b:1"),
        ("reg.io:5000", "reg.io:5000/a/b:1"),
        ("*.io", "reg.io:5000/a/b:1"),
        ("*.example.com", "x.y.example.com/a"),
        ("docker.io/library/busybox", "busybox"),
        ("docker.io/library", "busybox"),
        ("docker.io", "busybox"),
        ("localhost", "localhost/a"),
        ("REG.io/a", "reg.io/a:1"),
        ("[::1]:5000", "[::1]:5000/a"),
    ] {
        assert_eq!(found(&scopes(&[scope]), image), url("https://s0.example/"), "{scope} is for {image}");
    }
}

#[test]
fn scopes_do_not_match_anything_else() {
    let digest = Digest::sha256(b"");
    for (scope, image) in [
        ("reg.io/a/b:1", "reg.io/a/b:2"),
        ("reg.io/a/b:1", &format!("reg.io/a/b:1@{digest}")),
        ("reg.io/a/b:1", "reg.io/a/b:11"),
        ("reg.io/a", "reg.io/ab:1"),
        ("reg.io/a/", "reg.io/a/b"),
        ("reg.io", "reg.io:5000/a"),
        ("reg.io:5000", "reg.io/a"),
        ("reg.io:5000", "reg.io:50001/a"),
        ("*.io:5000", "reg.io:5000/a"),
        ("*.io/a", "reg.io/a"),
        ("*.reg.io", "reg.io/a"),
        ("*.localhost", "localhost/a"),
        ("*", "reg.io/a"),
        ("", "reg.io/a"),
        ("busybox", "busybox"),
        ("library/busybox", "busybox"),
        ("*.1", "[::ffff:1.1.1.1]:80/a"),
    ] {
        assert_eq!(found(&scopes(&[scope]), image), None, "{scope:?} is not for {image}");
    }
}

#[test]
fn the_most_specific_scope_wins() {
    let order = [
        "r.sub.example.com:5000/a/b:1",
        "r.sub.example.com:5000/a/b",
        "r.sub.example.com:5000/a",
        "r.sub.example.com:5000",
        "*.sub.example.com",
        "*.example.com",
        "*.com",
    ];
    for (i, first) in order.iter().enumerate() {
        let mut rest: Vec<&str> = order[i..].to_vec();
        rest.reverse();
        let expected = format!("https://s{}.example/", rest.len() - 1);
        assert_eq!(found(&scopes(&rest), "r.sub.example.com:5000/a/b:1"), url(&expected), "{first}");
    }
}

#[test]
fn default_docker_is_for_the_rest() {
    let yaml =
        "default-docker:\n  lookaside: file:///srv/sigs\ndocker:\n  reg.io:\n    lookaside: https://s.example/\n";
    assert_eq!(found(&loaded(yaml), "reg.io/a"), url("https://s.example/"));
    assert_eq!(found(&loaded(yaml), "other.io/a"), url("file:///srv/sigs"));
}

#[test]
fn nothing_configured_is_no_store() {
    for yaml in [
        "",
        "# nothing\n",
        "---\n",
        "{}",
        "docker:\n",
        "docker: {}\n",
        "default-docker:\n",
        "default-docker: {}\n",
        "docker:\n  reg.io:\n",
        "docker:\n  reg.io: {}\n",
        "docker:\n  reg.io:\n    lookaside:\n    sigstore: ''\n",
        "docker:\n  reg.io:\n    lookaside-staging: https://w.example/\n    sigstore-staging: https://w.example/\n",
    ] {
        assert_eq!(found(&loaded(yaml), "reg.io/a"), None, "{yaml:?}");
    }
    assert_eq!(load(&[]).map(|config| found(&config, "reg.io/a")), Ok(None));
}

#[test]
fn lookaside_wins_over_sigstore_within_a_section() {
    for (section, expected) in [
        ("{lookaside: 'https://new.example/', sigstore: 'https://old.example/'}", "https://new.example/"),
        ("{sigstore: 'https://old.example/', lookaside: 'https://new.example/'}", "https://new.example/"),
        ("{sigstore: 'https://old.example/'}", "https://old.example/"),
        ("{lookaside: '', sigstore: 'https://old.example/'}", "https://old.example/"),
        ("{lookaside: 'https://new.example/', sigstore: 'not a url'}", "https://new.example/"),
    ] {
        assert_eq!(found(&loaded(&format!("docker: {{reg.io: {section}}}")), "reg.io/a"), url(expected), "{section}");
    }
    // The older name in a more specific section still wins over the newer one further up.
    let yaml = "docker: {reg.io: {lookaside: 'https://up.example/'}, reg.io/a: {sigstore: 'https://old.example/'}}";
    assert_eq!(found(&loaded(yaml), "reg.io/a"), url("https://old.example/"));
}

#[test]
fn a_section_without_a_store_falls_through() {
    let yaml = "default-docker: {lookaside: 'https://d.example/'}\n\
        docker:\n  reg.io/a/b: {lookaside: ''}\n  reg.io/a: {lookaside-staging: 'https://w.example/'}\n  '*.io': null\n";
    assert_eq!(found(&loaded(yaml), "reg.io/a/b"), url("https://d.example/"));
    let with_host = format!("{yaml}  reg.io: {{sigstore: 'https://h.example/'}}\n");
    assert_eq!(found(&loaded(&with_host), "reg.io/a/b"), url("https://h.example/"));
}

#[test]
fn unknown_keys_are_ignored() {
    let yaml = "other: [1, {a: b}]\ndocker:\n  reg.io:\n    lookaside: https://s.example/\n    use-sigstore-attachments: true\n    \
        future: {x: [y]}\n";
    assert_eq!(found(&loaded(yaml), "reg.io/a"), url("https://s.example/"));
}

#[test]
fn every_yaml_file_is_read_and_no_other() {
    let section = |scope: &str| format!("docker:\n  {scope}:\n    lookaside: https://{scope}/\n");
    let (a, b, c, d) = (section("a.io"), section("b.io"), section("c.io"), section("d.io"));
    let config = load(&[("z.yaml", &a), ("b.yaml", &b), ("c.yml", &c), ("d.yaml.bak", &d), ("x.conf", ": : :")]);
    let config = config.expect("loads");
    assert_eq!(found(&config, "a.io/x"), url("https://a.io/"));
    assert_eq!(found(&config, "b.io/x"), url("https://b.io/"));
    assert_eq!((found(&config, "c.io/x"), found(&config, "d.io/x")), (None, None));
}

#[test]
fn a_scope_or_default_configured_twice_is_refused_with_both_files() {
    let scope = "docker:\n  reg.io:\n    lookaside: https://s.example/\n";
    let default = "default-docker:\n  lookaside: https://s.example/\n";
    for (first, second, named) in [
        (scope, scope, "reg.io"),
        (default, default, "default-docker"),
        (scope, "docker: {reg.io: }", "reg.io"),
        (default, "default-docker: {}", "default-docker"),
        (scope, "docker: {REG.IO: {}}", "REG.IO"),
        ("docker: {'*.io': }", "docker: {'*.io': }", "*.io"),
    ] {
        let error = load(&[("one.yaml", first), ("two.yaml", second)]).expect_err(second);
        for part in [named, "one.yaml", "two.yaml"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    assert!(load(&[("one.yaml", scope), ("two.yaml", default)]).is_ok());
    assert!(load(&[("one.yaml", default), ("two.yaml", "default-docker:\n")]).is_ok(), "null is not configured");
}

#[test]
fn a_key_twice_in_one_file_is_refused() {
    for yaml in [
        "docker:\n  reg.io: {}\n  reg.io: {}\n",
        "docker: {}\ndocker: {}\n",
        "default-docker: {}\ndefault-docker: {}\n",
        "docker:\n  reg.io:\n    lookaside: https://a.example/\n    lookaside: https://b.example/\n",
    ] {
        let error = load(&[("one.yaml", yaml)]).expect_err(yaml);
        assert!(error.contains("one.yaml") && error.contains("twice"), "{error}");
    }
}

#[test]
fn unusable_stores_are_refused_with_file_and_scope() {
    let error = load(&[("one.yaml", "docker: {reg.io/a: {lookaside: 'not a url'}}")]).expect_err("no URL");
    assert!(error.contains("one.yaml") && error.contains("reg.io/a"), "{error}");
    let error = load(&[("one.yaml", "default-docker: {sigstore: 'not a url'}")]).expect_err("no URL");
    assert!(error.contains("one.yaml") && error.contains("default-docker"), "{error}");
}

#[test]
fn malformed_files_are_refused_by_name_without_their_text() {
    for yaml in [
        "docker: [hunter2",
        "docker: https://u:hunter2@s.example/",
        "docker:\n  reg.io: hunter2\n",
        "docker:\n  reg.io: [hunter2]\n",
        "docker:\n  reg.io:\n    lookaside: {hunter2: hunter2}\n",
        "docker:\n  reg.io:\n    lookaside: [hunter2]\n",
        "- hunter2\n",
        "hunter2",
        "docker: {}\n---\ndocker: {}\n",
        "docker: *hunter2\n",
    ] {
        let error = load(&[("one.yaml", yaml)]).expect_err(yaml);
        assert!(error.contains("one.yaml") && !error.contains("hunter2"), "{error}");
    }
    let directory = directory(&[]);
    fs::write(directory.path().join("one.yaml"), [0xff, 0xfe]).expect("file");
    assert!(RegistriesD::load(directory.path()).is_err_and(|e| e.contains("one.yaml")));
}

#[test]
fn depth_aliases_and_sizes_are_bounded() {
    let deep = format!("x: {}{}\n", "[".repeat(1000), "]".repeat(1000));
    let level = |i: usize| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
    let bomb = format!("a0: &a0 [{}]\n{}", ["x"; 10].join(", "), (1..10).map(level).collect::<Vec<_>>().concat());
    let large = format!("# {}\n", "x".repeat(1 << 20));
    for yaml in [deep, bomb, large] {
        assert!(load(&[("one.yaml", &yaml)]).is_err_and(|e| e.contains("one.yaml")), "{yaml:.40}");
    }
    let many: Vec<_> = (0..1025).map(|i| format!("{i}.yaml")).collect();
    let files: Vec<_> = many.iter().map(|name| (name.as_str(), "")).collect();
    assert!(load(&files).is_err_and(|e| e.contains("1024")));
    assert!(load(&files[1..]).is_ok());
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let error = RegistriesD::load(Path::new("/nonexistent/registries.d")).expect_err("missing directory");
    assert!(error.contains("/nonexistent/registries.d"), "{error}");
    let directory = directory(&[]);
    fs::create_dir(directory.path().join("dir.yaml")).expect("directory");
    assert!(RegistriesD::load(directory.path()).is_err_and(|e| e.contains("dir.yaml")));
    fs::remove_dir(directory.path().join("dir.yaml")).expect("directory");
    std::os::unix::fs::symlink("missing", directory.path().join("link.yaml")).expect("link");
    assert!(RegistriesD::load(directory.path()).is_err_and(|e| e.contains("link.yaml")));
}

#[test]
fn mounted_config_maps_are_read_through_their_links() {
    let directory = directory(&[]);
    fs::create_dir(directory.path().join("..data")).expect("directory");
    fs::write(directory.path().join("..data/a.yaml"), "default-docker: {lookaside: 'https://s.example/'}")
        .expect("file");
    std::os::unix::fs::symlink("..data/a.yaml", directory.path().join("a.yaml")).expect("link");
    let config = RegistriesD::load(directory.path()).expect("loads");
    assert_eq!(found(&config, "reg.io/a"), url("https://s.example/"));
}

proptest! {
    #[test]
    fn parsing_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn parsing_yaml_like_text_never_panics(text in "(docker:|default-docker:|lookaside: |[a-z\\[\\]{}:,&*!?|>'\"# \n-]){0,40}") {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn lookups_never_panic(scope in "[a-z*.:/@]{0,20}", host in "[a-c]{1,2}(\\.[a-c]){0,3}(:[1-9])?", path in "[a-c](/[a-c]){0,3}") {
        let Ok(config) = load(&[("a.yaml", &format!("docker: {{'{scope}': {{lookaside: 'https://s.example/'}}}}"))]) else {
            return Ok(());
        };
        if let Ok(image) = format!("{host}/{path}").parse::<ImageRef>() {
            // What matches is a whole-component start of the image, or a domain.
            let hit = config.lookaside(&image).is_some();
            let text = image.to_string();
            let boundary = text.strip_prefix(&scope).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']));
            prop_assert!(!hit || boundary || scope.starts_with("*."), "{} {}", scope, text);
        }
    }
}

#[test]
fn names_have_no_case_and_truth_no_quotes_as_for_skopeo() {
    let capital = loaded("Docker:\n  reg.io:\n    Lookaside: https://s.example/\n    use-sigstore-attachments: true\n");
    assert_eq!(found(&capital, "reg.io/a"), url("https://s.example/"));
    assert!(capital.sigstore_attachments_of("reg.io"));
    for text in ["\"yes\"", "'true'", "1", "[true]"] {
        let yaml = format!("docker:\n  reg.io:\n    use-sigstore-attachments: {text}\n");
        assert!(load(&[("a.yaml", &yaml)]).is_err(), "{text}");
    }
    for (text, value) in [("true", true), ("false", false), ("null", false)] {
        let yaml = format!("docker:\n  reg.io:\n    use-sigstore-attachments: {text}\n");
        assert_eq!(loaded(&yaml).sigstore_attachments_of("reg.io"), value, "{text}");
    }
    let twice =
        "docker: {a.io: {lookaside: 'https://s.example/'}}\nDocker: {b.io: {lookaside: 'https://s.example/'}}\n";
    assert!(load(&[("a.yaml", twice)]).is_err());
}

#[test]
fn signatures_are_written_where_staging_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "default-docker: {lookaside: 'https://s.example'}\ndocker:\n  r.local: {lookaside: 'http://s.local', \
                lookaside-staging: 'file:///var/sigstore/sigstore/'}\n  r.local/old: {sigstore-staging: file:///old}\n  \
                r.local/both: {lookaside: file:///both}\n  r.local/bad: {lookaside-staging: nowhere}\n";
    fs::write(folder.path().join("a.yaml"), text).expect("a file");
    let read = RegistriesD::load(folder.path()).expect("registries.d");
    let staging = |image: &str| read.staging(&image.parse().expect("an image"));
    for (image, expected) in
        [("r.local/a:1", "/var/sigstore/sigstore/"), ("r.local/old/a:1", "/old"), ("r.local/both/a:1", "/both")]
    {
        assert_eq!(staging(image), Ok(Some(expected.into())), "{image}");
    }
    assert!(
        staging("elsewhere.io/a:1").expect_err("an error").contains("nothing can be written to https://s.example/")
    );
    assert!(staging("r.local/bad/a:1").expect_err("an error").contains("not a URL"));
    let empty = tempfile::tempdir().expect("a folder");
    assert_eq!(RegistriesD::load(empty.path()).expect("none").staging(&"a".parse().expect("an image")), Ok(None));
}
