use super::pattern::matches_after_star;
use super::*;
use crate::domain::digest::Digest;
use crate::domain::image::{split_host, split_tag};
use proptest::prelude::*;

fn list(lines: &str) -> Whitelist {
    Whitelist::parse(&BTreeMap::from([(IMAGES_KEY.to_owned(), lines.to_owned())]))
}

fn keys(entries: &[(&str, &str)]) -> Whitelist {
    Whitelist::parse(&entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

fn sha(n: u8) -> String {
    Digest::sha256(&[n]).to_string()
}

/// `@1` and `@2` stand for two digests.
fn text(short: &str) -> String {
    short.replace("@1", &format!("@{}", sha(1))).replace("@2", &format!("@{}", sha(2)))
}

fn image(short: &str) -> ImageRef {
    text(short).parse().unwrap_or_else(|error| panic!("{short}: {error}"))
}

fn admits(line: &str, short: &str) -> bool {
    list(&text(line)).allows_image(&image(short)).is_some()
}

/// Line, images it admits, images it does not.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    (
        "r.io/a/b",
        &["r.io/a/b", "r.io/a/b:1", "r.io/a/b@1", "r.io/a/b:1@1", "R.IO/a/b"],
        &["r.io/a", "r.io/a/b/c", "r.io/a/bb", "x.r.io/a/b", "r.io:443/a/b"],
    ),
    ("r.io/a:1", &["r.io/a:1"], &["r.io/a:2", "r.io/a", "r.io/a@1", "r.io/a:1@1", "r.io/a:11"]),
    ("r.io/a@1", &["r.io/a@1", "r.io/a:7@1"], &["r.io/a:1", "r.io/a@2", "r.io/a:7@2", "r.io/b@1"]),
    ("r.io/a:1@1", &["r.io/a@1", "r.io/a:1@1", "r.io/a:2@1"], &["r.io/a:1", "r.io/a:1@2"]),
    ("r.io/*", &["r.io/a", "r.io/a/b/c:1@1"], &["r.io:80/a", "r.ioevil/a", "x.r.io/a"]),
    ("r.io/ns/*", &["r.io/ns/a", "r.io/ns/a/b"], &["r.io/ns", "r.io/ns-evil/a", "r.io/x/ns/a"]),
    ("r.io/ns/**", &["r.io/ns/a", "r.io/ns/a/b"], &["r.io/ns"]),
    ("r.io/ns/*:1", &["r.io/ns/a:1", "r.io/ns/a/b:1"], &["r.io/ns/a:2", "r.io/ns/a:1@1", "r.io/ns:1"]),
    ("r.io/ns/*@1", &["r.io/ns/a@1", "r.io/ns/a:3@1"], &["r.io/ns/a:1", "r.io/ns/a@2"]),
    ("r.io/a*c", &["r.io/ac", "r.io/abc", "r.io/a/b/c"], &["r.io/abcd", "r.io/bac", "r.io/a"]),
    ("r.io/*/x", &["r.io/a/x", "r.io/a/b/x"], &["r.io/x", "r.io/a/xx"]),
    ("r.io/*a*b*", &["r.io/ab", "r.io/xaxbx", "r.io/a/b"], &["r.io/ba", "r.io/b"]),
    ("r.io/a*:1", &["r.io/ab:1"], &["r.io/ab:2"]),
    ("a/b", &["a/b", "r.io/a/b:1", "evil.com/a/b", "r.io:80/a/b"], &["r.io/x/a/b", "r.io/a", "r.io/a/b/c"]),
    (
        "registry:2.7.1",
        &["registry:2.7.1", "r.io/registry:2.7.1", "library/registry:2.7.1"],
        &["registry", "registry:2", "r.io/library/registry:2.7.1"],
    ),
    ("ngin*", &["nginx", "r.io/nginx", "r.io/nginx/x"], &["r.io/a/nginx", "a/nginx"]),
    ("*/x", &["r.io/a/x", "a/b/x", "library/x"], &["r.io/x", "r.io/a/xx"]),
    (
        "docker.io/nginx",
        &["nginx", "library/nginx:1", "index.docker.io/nginx"],
        &["r.io/nginx", "r.io/library/nginx", "nginx/nginx"],
    ),
    ("library/nginx", &["nginx", "r.io/library/nginx"], &["r.io/nginx"]),
    ("docker.io/*", &["nginx", "a/b", "a/b/c"], &["r.io/nginx"]),
    ("docker.io/ngin*", &["nginx", "nginxinc/x"], &["a/nginx", "r.io/nginx"]),
    ("docker.io/library/*", &["nginx"], &["a/nginx"]),
    ("localhost/*", &["localhost/a"], &["localhost:5000/a", "localhost.io/a"]),
    ("[0:0::1]:5000/*", &["[::1]:5000/a"], &["[::1]/a", "[::2]:5000/a"]),
    ("*", &["nginx", "r.io/a/b:1@1", "[::1]/x"], &[]),
];

#[test]
fn lines_admit_what_is_documented_and_nothing_else() {
    for (line, good, bad) in TABLE {
        for short in *good {
            assert!(admits(line, short), "{line} must admit {short}");
        }
        for short in *bad {
            assert!(!admits(line, short), "{line} must not admit {short}");
        }
    }
}

#[test]
fn c1_c2_c3_matching_is_anchored_at_both_ends() {
    for (line, bad) in [
        ("trusted.io/*", "evil.com/trusted.io/x"),
        ("trusted.io/x", "evil.com/trusted.io/x"),
        ("trusted.io/x", "trusted.io.evil.com/x"),
        ("trusted.io/x", "trusted.io/x/y"),
        ("trusted.io/ns/*", "trusted.io/ns-evil/x"),
        ("trusted.io/ns/*", "trusted.io/ns"),
        ("trusted.io/ns/*", "other.io/trusted.io/ns/a"),
        ("ns/x", "evil.com/y/ns/x"),
    ] {
        assert!(!admits(line, bad), "{line} {bad}");
    }
    assert_eq!(list("*.trusted.example.com/org/*").problems.len(), 1, "a wildcard host is a bad line");
    assert!(!admits("*.trusted.example.com/org/*", "attacker.com/x.trusted.example.com/org/evil"));
}

#[test]
fn c13_a_trailing_star_stands_for_every_depth_below() {
    for (short, expected) in [("h.io/ns/a", true), ("h.io/ns/a/b", true), ("h.io/ns/a/b/c:1", true), ("h.io/ns", false)]
    {
        assert_eq!(admits("h.io/ns/*", short), expected, "{short}");
    }
}

#[test]
fn c14_ipv6_hosts_never_fall_back_to_docker_hub() {
    assert!(admits("[::1]:5000/*", "[0:0::1]:5000/x"));
    assert!(!admits("[::1]:5000/*", "[::ffff:127.0.0.1]:5000/x"), "another spelling is another host");
    assert!(!admits("docker.io/*", "[::1]:5000/x"));
    assert!(list("::1/x").is_empty() && list("[::1/x").is_empty());
}

#[test]
fn c18_ports_must_be_equal() {
    assert!(!admits("r.io/*", "r.io:443/x"));
    assert!(!admits("r.io:443/*", "r.io/x"));
    assert!(admits("r.io:443/*", "r.io:443/x"));
}

#[test]
fn c4_c5_a_host_with_a_port_is_a_host() {
    assert!(!admits("registry", "registry:5000/evil/app"));
    assert!(admits("registry:5000/evil/*", "registry:5000/evil/app"));
    assert!(admits("localhost:5000/img:1", "localhost:5000/img:1"));
    assert!(!admits("localhost", "localhost:5000/img:1"));
    assert!(!admits("docker.io/*", "registry:5000/evil/app"));
}

#[test]
fn c6_c7_both_sides_have_one_normal_form() {
    let names = [
        "nginx",
        "library/nginx",
        "docker.io/nginx",
        "docker.io/library/nginx",
        "index.docker.io/library/nginx",
        "registry-1.docker.io/library/nginx",
    ];
    for line in names {
        for short in names {
            assert!(admits(line, short), "{line} {short}");
            assert!(admits(&format!("{line}:latest"), short), "{line}:latest {short}");
            assert!(!admits(&format!("{line}:1"), short), "{line}:1 {short}");
        }
    }
}

#[test]
fn c10_a_tag_alone_admits_no_digest() {
    assert!(!admits("r.io/a:1", "r.io/a:1@2"));
    assert!(admits("r.io/a:1@2", "r.io/a:1@2"));
    assert!(!admits("r.io/*:1", "r.io/a:1@2"));
}

#[test]
fn c11_c12_risky_lines_are_kept_and_reported() {
    for line in ["tmaxcloudck/x", "nginx", "ngin*", "*/x", "a/*", "*:1", "registry.example.com", "*.example.com"] {
        let list = list(line);
        assert_eq!((list.problems.len(), list.len()), (1, 1), "{line}");
        assert!(!list.problems[0].skipped && list.problems[0].message.contains("every registry"), "{line}");
    }
    assert!(admits("tmaxcloudck/x", "evil.com/tmaxcloudck/x"));
    assert!(list("*").problems[0].message.contains("every image"));
    assert!(list("registry.example.com").problems[0].message.contains("host/*"));
    for line in ["r.io/a", "r.io/*", "localhost/a", "docker.io/a*b"] {
        assert!(list(line).problems.is_empty(), "{line}");
    }
}

#[test]
fn c8_c9_c12_c15_c16_c17_bad_lines_are_skipped_and_reported() {
    for line in [
        "*.r.io/a",
        "r*.io/a",
        "r.io:*/a",
        "*:5000/a",
        "r.io/a:*",
        "r.io/a:1*",
        "r.io/a@*",
        "r.io/a@sha256:*",
        "r.io/a@sha256:00",
        "r.io/a@",
        "r.io/a:",
        ":1",
        "@1",
        "r.io/A",
        "r.io/a/",
        "r.io//a",
        "r.io/",
        "/a",
        "r.io/../a",
        "r.io/a b",
        "r.io/a,r.io/b",
        "https://r.io/a",
        "user:pw@r.io/a",
        "r.io/a:1:1",
        "r.io:/a",
        "r.io/a\u{0}",
        "r.io/\u{e4}",
        "пример.рф/a",
        "a\rb",
        "r.io/.a",
        "r.io/*?",
        "- r.io/a",
        "r.io/*/",
        "[::1/a",
        "\"r.io/a\"",
    ] {
        let list = list(&format!("r.io/good\n{}\nr.io/last", text(line)));
        assert_eq!(list.problems.len(), 1, "{line:?}: {:?}", list.problems);
        let problem = &list.problems[0];
        assert_eq!((problem.line, problem.skipped, problem.key.as_str()), (2, true, IMAGES_KEY), "{line:?}");
        assert!(list.allows_image(&image("r.io/good")).is_some() && list.allows_image(&image("r.io/last")).is_some());
        assert_eq!(list.len(), 2);
    }
    assert_eq!(list(&format!("r.io/{}", "a".repeat(251))).len(), 0);
    assert_eq!(list(&format!("r.io/{}", "a".repeat(250))).len(), 1);
    assert_eq!(list(&format!("r.io/a@{}", sha(1).to_uppercase())).len(), 0);
}

#[test]
fn blank_lines_comments_and_carriage_returns_are_ignored() {
    let list = list("# all of them\r\n\r\n  r.io/a  \r\n\t# more\r\nr.io/b # why\r\nr.io/c\t#x\r\n   \r\nr.io/d#e");
    for name in ["r.io/a", "r.io/b", "r.io/c"] {
        assert_eq!(list.allows_image(&image(name)).as_deref(), Some(name));
    }
    assert_eq!(list.len(), 3);
    assert_eq!(list.problems.iter().map(|p| (p.line, p.skipped)).collect::<Vec<_>>(), [(8, true)]);
}

#[test]
fn quoted_lines_are_short_and_plain() {
    let list = list(&format!("r.io/\u{1b}[31m{}\n\u{202e}x", "A".repeat(500)));
    for problem in &list.problems {
        assert!(
            problem.message.is_ascii() && !problem.message.contains('\u{1b}') && problem.message.len() < 300,
            "{problem}"
        );
    }
    assert_eq!(
        list.problems[1].to_string(),
        "whitelist-images line 2: skipped: \"\\u{202e}x\" the repository path is malformed: write lower-case letters, \
         digits, the separators . _ __ - and /, and `*` for any characters"
    );
}

#[test]
fn the_first_line_in_text_order_is_named() {
    let lines = ["r.io/*", "*", "a/b", "r.io/a/b", "r.io/a/b:1", "r.io/a/*:1", "r.io/*b", "a/*"];
    for turn in 0..lines.len() {
        let mut lines = lines;
        lines.rotate_left(turn);
        assert_eq!(list(&lines.join("\n")).allows_image(&image("r.io/a/b:1")).as_deref(), Some(lines[0]));
    }
}

#[test]
fn b14_namespaces_are_exact_names() {
    let list =
        keys(&[(NAMESPACES_KEY, "kube-system\r\n  default  \n# x\nteam # why\n*\nA\nkube-*\na.b\n-a\na-\n\u{e4}")]);
    for name in ["kube-system", "default", "team"] {
        assert!(list.allows_namespace(name), "{name}");
    }
    for name in ["kube-system-x", "kube", "x-kube-system", "kube-system ", "", "*", "A", "a", "Default", "# x"] {
        assert!(!list.allows_namespace(name), "{name:?}");
    }
    assert_eq!((list.problems.len(), list.len()), (7, 3));
    assert!(list.problems.iter().all(|problem| problem.skipped && problem.key == NAMESPACES_KEY));
    assert!(!keys(&[(NAMESPACES_KEY, &"a".repeat(64))]).allows_namespace(&"a".repeat(64)));
}

#[test]
fn legacy_keys_are_read_per_key_when_the_new_one_is_absent() {
    let list = keys(&[
        (LEGACY_IMAGES_KEY, r#"["r.io/a", " r.io/b ", "", 5, null, ["r.io/c"], "r.io/D"]"#),
        (NAMESPACES_KEY, ""),
        (LEGACY_NAMESPACES_KEY, r#"["default"]"#),
    ]);
    assert!(list.allows_image(&image("r.io/a")).is_some() && list.allows_image(&image("r.io/b")).is_some());
    assert!(list.allows_image(&image("r.io/c")).is_none());
    assert!(!list.allows_namespace("default"), "an empty new key is present and counts alone");
    let found: Vec<_> = list.problems.iter().map(|p| (p.key.as_str(), p.line, p.skipped)).collect();
    let images = LEGACY_IMAGES_KEY;
    let expected =
        [(images, 4, true), (images, 5, true), (images, 6, true), (images, 7, true), (LEGACY_NAMESPACES_KEY, 0, true)];
    assert_eq!(found, expected);
    assert!(keys(&[(LEGACY_NAMESPACES_KEY, r#"["default"]"#)]).allows_namespace("default"));
}

#[test]
fn malformed_legacy_keys_admit_nothing_and_are_reported() {
    let deep = "[".repeat(100_000);
    for json in ["", "r.io/a", r#"["r.io/a""#, r#"["r.io/a"] x"#, r#"{"r.io/a":1}"#, r#""r.io/a""#, "null", &deep] {
        let list = keys(&[(LEGACY_IMAGES_KEY, json)]);
        assert!(list.is_empty(), "{json:.20}");
        assert_eq!(list.problems.iter().map(|p| (p.line, p.skipped)).collect::<Vec<_>>(), [(0, true)], "{json:.20}");
    }
}

#[test]
fn c22_a_missing_or_empty_config_map_is_an_empty_list() {
    for list in [keys(&[]), keys(&[(IMAGES_KEY, ""), (NAMESPACES_KEY, "\n")]), Whitelist::default()] {
        assert!(list.is_empty() && list.problems.is_empty());
        assert!(list.allows_image(&image("nginx")).is_none() && !list.allows_namespace("default"));
    }
}

#[test]
fn c22_a_hundred_thousand_lines_are_read_and_reports_stay_bounded() {
    use std::fmt::Write;
    let mut text = String::new();
    for i in 0..100_000 {
        writeln!(text, "BAD/{i}/").expect("text");
    }
    text.push_str("r.io/a");
    let list = list(&text);
    assert!(list.allows_image(&image("r.io/a")).is_some());
    assert_eq!(list.problems.len(), MAX_PROBLEMS + 1);
    assert!(list.problems.last().is_some_and(|p| p.message.starts_with("90000 more") && p.skipped));
}

#[test]
fn c23_globs_do_not_blow_up() {
    let pattern = format!("{}b", "a*".repeat(120));
    let text = "a".repeat(250);
    let start = std::time::Instant::now();
    assert!(!matches_after_star(&pattern, &text));
    assert!(matches_after_star(&pattern, &format!("{text}b")));
    assert!(start.elapsed().as_millis() < 500);
}

/// An independent reading of one line, character by character.
fn naive(line: &str, image: &ImageRef) -> bool {
    fn glob(pattern: &[u8], text: &[u8]) -> bool {
        let mut row: Vec<bool> = (0..=text.len()).map(|i| i == 0).collect();
        for p in pattern {
            let mut next = vec![false; text.len() + 1];
            for i in 0..=text.len() {
                next[i] = match p {
                    b'*' => row[i] || (i > 0 && next[i - 1]),
                    p => i > 0 && row[i - 1] && text[i - 1] == *p,
                };
            }
            row = next;
        }
        row[text.len()]
    }
    let (rest, digest) = line.split_once('@').map_or((line, None), |(rest, digest)| (rest, Some(digest)));
    let (name, tag) = split_tag(rest);
    let (host, path) = split_host(name);
    let version = match (digest, tag) {
        (Some(digest), _) => image.digest().is_some_and(|own| own.as_str() == digest),
        (None, Some(tag)) => image.digest().is_none() && image.tag() == Some(tag),
        (None, None) => true,
    };
    let own = image.repository();
    let mut paths = vec![own.path()];
    if own.host() == "docker.io" && (host.is_none() || !path.contains('/')) {
        paths.extend(own.path().strip_prefix("library/"));
    }
    version
        && host.is_none_or(|host| host == own.host())
        && paths.iter().any(|own| glob(path.as_bytes(), own.as_bytes()))
}

fn line() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec!["", "", "r.io/", "r.io:80/", "docker.io/", "x.r.io/", "localhost/"]);
    let version = prop::sample::select(vec!["", "", ":1", ":2", "@1", ":1@2"]);
    (host, "[ab*]{1,3}(/[ab*]{1,3}){0,2}|(library/)?[ab]|\\*", version)
        .prop_map(|(h, p, v)| h.to_owned() + &p + &text(v))
}

fn any_image() -> impl Strategy<Value = ImageRef> {
    let host =
        prop::sample::select(vec!["", "r.io/", "r.io:80/", "docker.io/", "x.r.io/", "localhost/", "evil.io/r.io/"]);
    let version = prop::sample::select(vec!["", ":1", ":2", "@1", "@2", ":1@1", ":1@2"]);
    (host, "[ab]{1,3}(/[ab]{1,3}){0,2}|library/[ab]", version).prop_map(|(h, p, v)| image(&format!("{h}{p}{v}")))
}

proptest! {
    #[test]
    fn c21_the_index_agrees_with_a_line_by_line_matcher(
        lines in prop::collection::vec(line(), 0..10), images in prop::collection::vec(any_image(), 1..8),
    ) {
        let list = list(&lines.join("\n"));
        prop_assert_eq!(list.len(), lines.len(), "every line can be read: {:?}", list.problems);
        for image in images {
            let expected = lines.iter().find(|line| naive(line, &image)).map(String::as_str);
            let found = list.allows_image(&image);
            prop_assert_eq!(found.as_deref(), expected, "{}", image);
        }
    }

    #[test]
    fn the_order_of_lines_decides_nothing(lines in prop::collection::vec(line(), 0..8), turn in 0usize..8, image in any_image()) {
        let mut turned = lines.clone();
        turned.reverse();
        turned.rotate_left(turn.min(lines.len()));
        let answers = [lines, turned].map(|lines| list(&lines.join("\n")).allows_image(&image).is_some());
        prop_assert_eq!(answers[0], answers[1]);
    }

    #[test]
    fn any_text_is_read_without_panic(images in "(\\PC|\n|[a-z*:/@.#-]){0,60}", json in "\\PC{0,30}") {
        let list = keys(&[(IMAGES_KEY, &images), (NAMESPACES_KEY, &images), (LEGACY_IMAGES_KEY, &json)]);
        list.allows_image(&image("r.io/a"));
        keys(&[(LEGACY_IMAGES_KEY, &json)]).allows_image(&image("r.io/a"));
    }

    #[test]
    fn c1_c3_a_changed_host_or_path_never_matches(extra in "[x-z0-9]{1,4}", glob in any::<bool>()) {
        let line = if glob { "trusted.io/ns/*" } else { "trusted.io/ns/app" };
        for other in [
            format!("{extra}.trusted.io/ns/app"), format!("{extra}trusted.io/ns/app"), format!("trusted.io.{extra}/ns/app"),
            format!("{extra}.com/trusted.io/ns/app"), format!("trusted.io/{extra}/ns/app"), format!("trusted.io/ns{extra}/app"),
            format!("trusted.io/ns-{extra}/app"), "trusted.io:80/ns/app".to_owned(), "trusted.io/ns".to_owned(),
        ] {
            prop_assert!(!admits(line, &other), "{} {}", line, other);
        }
        prop_assert_eq!(admits(line, &format!("trusted.io/ns/app/{extra}")), glob);
    }
}
