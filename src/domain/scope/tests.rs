use super::*;
use proptest::prelude::*;

fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).0
}

fn repo(name: &str) -> Repository {
    Repository::parse(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The entries that govern by the definition: compare every scope.
fn naive(scopes: &[Scope], repository: &Repository) -> Vec<usize> {
    let rank = |scope: &Scope| {
        let host = match &scope.host {
            HostPattern::Exact(_) => (2, 0),
            HostPattern::Suffix(suffix) => (1, suffix.len()),
            HostPattern::Any => (0, 0),
        };
        let official = scope.official().is_some_and(|path| path == repository.path());
        let depth = if official {
            2
        } else if scope.path.is_empty() {
            0
        } else {
            scope.path.split('/').count()
        };
        (host, depth)
    };
    let matching = || scopes.iter().enumerate().filter(|(_, scope)| scope.matches(repository));
    let best = matching().map(|(_, scope)| rank(scope)).max();
    matching().filter(|(_, scope)| Some(rank(scope)) == best).map(|(i, _)| i).collect()
}

fn indexed(scopes: &[Scope], repository: &Repository) -> Vec<usize> {
    let mut index = ScopeIndex::default();
    for (i, scope) in scopes.iter().enumerate() {
        index.insert(scope, i);
    }
    let mut found = index.most_specific(repository).to_vec();
    found.sort_unstable();
    found
}

/// Both the definition and the index, which must agree.
fn governing(scopes: &[&str], image: &str) -> Vec<usize> {
    let scopes: Vec<_> = scopes.iter().map(|text| scope(text)).collect();
    let found = indexed(&scopes, &repo(image));
    assert_eq!(found, naive(&scopes, &repo(image)), "{image}");
    found
}

#[test]
fn reads_every_documented_form() {
    let table = [
        ("registry.local", "registry.local"),
        ("registry.local/", "registry.local"),
        ("registry.local/*", "registry.local"),
        ("registry.local:5000/k8s-c10f1", "registry.local:5000/k8s-c10f1"),
        ("registry.local/a/b/", "registry.local/a/b"),
        ("registry.local/a/b/*", "registry.local/a/b"),
        ("REGISTRY.local/a", "registry.local/a"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io/library/nginx", "docker.io/library/nginx"),
        ("docker.io/nginx", "docker.io/nginx"),
        ("localhost", "localhost"),
        ("localhost:5000/a", "localhost:5000/a"),
        ("[0:0:0:0:0:0:0:1]:5000/a", "[::1]:5000/a"),
        ("10.0.0.1:5000", "10.0.0.1:5000"),
        ("*.Example.com", "*.example.com"),
        ("*.example.com:5000/team/*", "*.example.com:5000/team"),
        ("*.index.docker.io", "*.index.docker.io"),
        ("*", "*"),
        ("*/", "*"),
        ("*/*", "*"),
    ];
    for (text, expected) in table {
        let (scope, warnings) = Scope::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((scope.to_string().as_str(), warnings.len()), (expected, 0), "{text}: {warnings:?}");
        assert_eq!(Scope::parse(expected).map(|read| read.0), Ok(scope), "idempotent: {text}");
    }
}

#[test]
fn c19_a_scheme_is_tolerated_with_a_warning_and_a_path_narrows() {
    for text in ["https://registry.local/", "HTTPS://registry.local", "https://registry.local/*"] {
        let (read, warnings) = Scope::parse(text).expect("tolerated");
        assert_eq!((read, warnings.len()), (scope("registry.local"), 1), "{text}");
    }
    let plain = Scope::parse("http://registry.local").expect_err("plain HTTP").to_string();
    assert!(plain.contains("insecure: true"), "{plain}");
    assert_eq!(governing(&["r.io", "r.io/a", "r.io/a/b"], "r.io/a/b/c"), [2], "the longest path wins");
    assert_eq!(governing(&["r.io", "r.io/a", "r.io/a/b"], "r.io/a/x"), [1]);
    assert_eq!(governing(&["r.io", "r.io/a", "r.io/a/b"], "r.io/x"), [0]);
    assert!(governing(&["r.io/a"], "r.io/x").is_empty());
}

#[test]
fn warns_about_hosts_that_cover_no_image() {
    for (text, part) in [
        ("nginx", "docker.io/nginx"),
        ("team/app", "docker.io/team/app"),
        ("*.docker.io", "docker.io"),
        ("https://team", "https"),
    ] {
        let (_, warnings) = Scope::parse(text).expect("readable");
        assert!(warnings.iter().any(|warning| warning.contains(part)), "{text}: {warnings:?}");
    }
    for text in ["localhost", "localhost/a", "team:5000", "team.io", "*.local", "[::1]"] {
        assert!(Scope::parse(text).expect("readable").1.is_empty(), "{text}");
    }
}

#[test]
fn rejects_what_is_no_registry() {
    let long = format!("r.io/{}", "a".repeat(251));
    for bad in [
        "",
        " ",
        "/",
        "/*",
        "/a",
        " r.io",
        "r.io ",
        "r.io\n",
        "r.io\0",
        "r.io//",
        "r.io//a",
        "r.io/a//",
        "r.io/*/*",
        "r.io/*/a",
        "r.io/a*",
        "r.io/*a",
        "r.io/A",
        "r.io/../a",
        "r.io/a:1",
        "r.io/a@sha256:00",
        "user@r.io",
        "user:pw@r.io/a",
        "r.io?x",
        "r.io:0",
        "r.io:443x",
        "r.io:99999",
        "nginx:latest",
        "*/a",
        "*:5000",
        "*.",
        "**",
        "*.*",
        "*.*.io",
        "a.*.io",
        "r*.io",
        "*r.io",
        "*.[::1]",
        "[::1",
        "::1",
        "ftp://r.io",
        "docker://r.io",
        "http://r.io",
        "https://",
        "https://https://r.io",
        "пример.рф",
        "\u{212a}.io",
        &long,
    ] {
        let error = Scope::parse(bad).map(|read| read.0.to_string());
        assert!(error.as_ref().is_err_and(|error| !error.0.is_empty()), "{bad:?} was read as {error:?}");
    }
}

#[test]
fn c1_c2_wildcards_and_hosts_are_anchored() {
    assert!(governing(&["trusted.io", "trusted.io/x"], "evil.com/trusted.io/x").is_empty());
    let wildcard = &["*.trusted.example.com/org/*"];
    assert!(governing(wildcard, "attacker.com/x.trusted.example.com/org/evil").is_empty());
    assert_eq!(governing(wildcard, "x.trusted.example.com/org/good"), [0]);
    assert_eq!(governing(wildcard, "x.y.trusted.example.com/org"), [0]);
    for image in [
        "trusted.example.com/org/x",
        "xtrusted.example.com/org/x",
        "x.trusted.example.com.evil.io/org/x",
        "x.trusted.example.com/orgx",
    ] {
        assert!(governing(wildcard, image).is_empty(), "{image}");
    }
}

#[test]
fn c3_component_boundary() {
    for image in ["host.io/ns-evil/x", "host.ioevil/ns/x", "host.io.evil.com/ns/x", "host.io/n", "evilhost.io/ns/x"] {
        assert!(governing(&["host.io/ns/*"], image).is_empty(), "{image}");
    }
    for image in ["host.io/ns", "host.io/ns/a", "host.io/ns/a/b"] {
        assert_eq!(governing(&["host.io/ns/*"], image), [0], "{image}: a scope covers the repository itself, too");
    }
}

#[test]
fn c4_c5_ports_and_localhost_are_hosts() {
    let scopes = &["docker.io", "localhost", "localhost:5000", "registry:5000"];
    assert_eq!(governing(scopes, "registry:5000/evil/app"), [3]);
    assert_eq!(governing(&["docker.io", "registry"], "registry:5000/evil/app"), [0; 0]);
    assert_eq!(governing(scopes, "localhost:5000/img"), [2]);
    assert_eq!(governing(scopes, "localhost/img"), [1]);
}

#[test]
fn c6_docker_hub_has_one_name() {
    let names =
        ["nginx", "library/nginx", "docker.io/nginx", "index.docker.io/library/nginx", "registry-1.docker.io/nginx"];
    for registry in
        ["docker.io", "index.docker.io", "https://registry-1.docker.io/", "docker.io/nginx", "docker.io/library"]
    {
        for name in names {
            assert_eq!(governing(&[registry], name), [0], "{registry} {name}");
        }
    }
}

#[test]
fn a_single_component_of_docker_hub_is_read_both_ways() {
    let scopes = &["docker.io", "docker.io/nginx", "docker.io/library/nginx", "docker.io/library"];
    assert_eq!(governing(scopes, "nginx"), [1, 2], "equally specific, so both govern");
    assert_eq!(governing(scopes, "nginx/nginx-ingress"), [1]);
    assert_eq!(governing(scopes, "library/nginx/x"), [2], "the short name means the official image alone");
    assert_eq!(governing(scopes, "redis"), [3]);
    assert_eq!(governing(scopes, "nginxinc/x"), [0]);
    assert_eq!(governing(&["docker.io/library/nginx", "docker.io/nginx"], "nginx"), [0, 1], "in every order");
    assert!(governing(&["r.io/nginx"], "r.io/library/nginx").is_empty(), "on docker hub alone");
    assert_eq!(governing(&["docker.io/library"], "library/library"), [0]);
}

#[test]
fn c8_c15_hosts_compare_as_ascii_without_case() {
    assert_eq!(governing(&["Reg.Example.COM"], "rEG.example.com/a"), [0]);
    assert!(governing(&["xn--80ak6aa92e.com"], "apple.com/a").is_empty());
    assert!(governing(&["kube.io"], "xn--ube-5id.io/a").is_empty());
}

#[test]
fn c14_ipv6_hosts_are_hosts() {
    assert_eq!(governing(&["[::1]:5000", "docker.io", "*"], "[0:0::1]:5000/x"), [0]);
    assert_eq!(governing(&["127.0.0.1", "*"], "[::ffff:127.0.0.1]/x"), [1], "another spelling is another host");
}

#[test]
fn c18_ports_must_be_equal() {
    assert!(governing(&["r.io", "*.io"], "r.io:443/x").is_empty());
    assert!(governing(&["r.io:443", "*.io:443"], "r.io/x").is_empty());
    assert_eq!(governing(&["r.io:443", "*.io:443"], "r.io:443/x"), [0]);
    assert_eq!(governing(&["*.io:443"], "r.io:443/x"), [0]);
}

#[test]
fn specificity_is_host_first_then_path() {
    let scopes = &["*", "*.io/a/b", "*.r.io", "*.r.io/a", "x.r.io", "x.r.io/z"];
    assert_eq!(governing(scopes, "x.r.io/a/b"), [4], "an exact host outranks a longer path of a wildcard");
    assert_eq!(governing(scopes, "y.r.io/a/b"), [3], "a longer wildcard outranks a longer path");
    assert_eq!(governing(scopes, "y.r.io/c"), [2]);
    assert_eq!(governing(scopes, "s.io/a/b/c"), [1]);
    assert_eq!(governing(scopes, "s.io/a"), [0]);
    assert_eq!(
        governing(&["x.r.io/z", "*.r.io"], "x.r.io/a"),
        [1],
        "an exact host that does not match is out of the race"
    );
    assert_eq!(governing(&["*", "*.io/*", "*", "*.io"], "r.io/a"), [1, 3], "ties all govern");
}

#[test]
fn a_host_of_many_labels_and_a_deep_path_are_found() {
    let host = "a.".repeat(60) + "io";
    let path = "b/".repeat(60) + "c";
    assert_eq!(governing(&["*.io/b/b", "*"], &format!("{host}/{path}")), [0]);
}

fn host() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["r.io", "x.r.io", "y.x.r.io", "xr.io", "docker.io", "r.io:80", "x.r.io:80", "localhost"])
        .prop_map(str::to_owned)
}

fn path() -> impl Strategy<Value = String> {
    let component = prop::sample::select(vec!["a", "ab", "a-b", "library", "nginx"]);
    prop::collection::vec(component, 1..4).prop_map(|parts| parts.join("/"))
}

fn any_scope() -> impl Strategy<Value = String> {
    let host = prop_oneof![6 => host(), 3 => host().prop_map(|host| format!("*.{host}")), 1 => Just("*.io".to_owned())];
    let path = prop_oneof![Just(String::new()), path().prop_map(|path| format!("/{path}"))];
    prop_oneof![9 => (host, path).prop_map(|(host, path)| host + &path), 1 => Just("*".to_owned())]
}

proptest! {
    #[test]
    fn the_index_agrees_with_the_definition_in_every_order(
        texts in prop::collection::vec(any_scope(), 0..12), host in host(), path in path(), turn in 0usize..12,
    ) {
        let mut scopes: Vec<_> = texts.iter().map(|text| scope(text)).collect();
        let image = repo(&format!("{host}/{path}"));
        prop_assert_eq!(indexed(&scopes, &image), naive(&scopes, &image));
        let pick = |scopes: &[Scope]| {
            let mut found: Vec<_> = indexed(scopes, &image).into_iter().map(|i| scopes[i].clone()).collect();
            found.sort();
            found
        };
        let before = pick(&scopes);
        scopes.reverse();
        let middle = turn.min(scopes.len());
        scopes.rotate_left(middle);
        prop_assert_eq!(pick(&scopes), before);
    }

    #[test]
    fn reading_never_panics_and_its_normal_form_is_stable(text in "\\PC{0,30}|[a-z*./:@\\[\\]-]{0,20}") {
        if let Ok((read, _)) = Scope::parse(&text) {
            prop_assert_eq!(Scope::parse(&read.to_string()).map(|again| again.0), Ok(read));
        }
    }

    #[test]
    fn c1_c3_a_changed_host_or_path_never_matches(host in host(), path in path(), extra in "[x-z0-9]{1,4}") {
        let scope = scope(&format!("{host}/{path}"));
        let others = [
            format!("{extra}{host}/{path}"),
            format!("{extra}.{host}/{path}"),
            format!("{host}/{extra}/{path}"),
            format!("{host}/{path}{extra}"),
            format!("{host}/{path}-{extra}"),
            format!("evil.com/{}/{path}", host.replace(':', "-")),
        ];
        for other in others {
            // Single components on Docker Hub mean library/…, which the scopes named so do cover.
            if scope.official().is_none() || other.matches('/').count() > 1 {
                prop_assert!(!scope.matches(&repo(&other)), "{} {}", scope, other);
            }
        }
    }
}
