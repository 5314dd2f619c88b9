use super::SignedIdentity::{MatchExact, MatchRepoDigestOrExact, MatchRepository};
use super::*;
use proptest::prelude::*;

fn sha(n: u8) -> String {
    Digest::sha256(&[n]).to_string()
}

/// `@1` and `@2` stand for two digests.
fn text(short: &str) -> String {
    short.replace("@1", &format!("@{}", sha(1))).replace("@2", &format!("@{}", sha(2)))
}

fn accepts(rule: &SignedIdentity, image: &str, signed: &str) -> bool {
    rule.accepts(&text(image).parse().expect(image), &text(signed))
}

/// Image, signed reference, and what `matchExact`, `matchRepoDigestOrExact` and `matchRepository` say.
const TABLE: &[(&str, &str, [bool; 3])] = &[
    // Equal names with tags.
    ("r.io/a:1", "r.io/a:1", [true, true, true]),
    ("r.io/a:1", "r.io/a:2", [false, false, true]),
    ("r.io/a", "r.io/a:latest", [true, true, true]),
    ("r.io/a:latest", "r.io/a:latest", [true, true, true]),
    ("R.io/a:1", "r.IO/a:1", [true, true, true]),
    // A bare name in a signature claims no version, not even `latest`.
    ("r.io/a", "r.io/a", [false, false, true]),
    ("r.io/a:latest", "r.io/a", [false, false, true]),
    ("r.io/a@1", "r.io/a", [false, false, true]),
    // Digests.
    ("r.io/a@1", "r.io/a@1", [true, true, true]),
    ("r.io/a@1", "r.io/a@2", [false, true, true]),
    ("r.io/a@1", "r.io/a:1", [false, true, true]),
    ("r.io/a:1", "r.io/a@1", [false, false, true]),
    // Tag and digest: in the image the tag is free text, in the signature both count.
    ("r.io/a:1@1", "r.io/a:1", [false, true, true]),
    ("r.io/a:1@1", "r.io/a:2", [false, true, true]),
    ("r.io/a:1@1", "r.io/a@1", [true, true, true]),
    ("r.io/a:1@1", "r.io/a:1@1", [false, true, true]),
    ("r.io/a@1", "r.io/a:1@1", [false, true, true]),
    ("r.io/a:1", "r.io/a:1@1", [false, false, true]),
    ("r.io/a:1@1", "r.io/a", [false, false, true]),
    ("r.io/a:1@1", "r.io/b@1", [false, false, false]),
    // Docker Hub.
    ("busybox", "busybox:latest", [true, true, true]),
    ("busybox", "docker.io/library/busybox:latest", [true, true, true]),
    ("docker.io/library/busybox:1", "library/busybox:1", [true, true, true]),
    ("busybox:1", "index.docker.io/library/busybox:1", [true, true, true]),
    ("busybox:1", "docker.io/other/busybox:1", [false, false, false]),
    ("busybox:1", "r.io/busybox:1", [false, false, false]),
    // Other repositories; names that begin or end alike.
    ("r.io/a:1", "r.io/b:1", [false, false, false]),
    ("r.io/a:1", "evil.io/r.io/a:1", [false, false, false]),
    ("r.io/a:1", "r.io/a/b:1", [false, false, false]),
    ("r.io/a/b:1", "r.io/a:1", [false, false, false]),
    ("r.io/a:1", "r.io:443/a:1", [false, false, false]),
    ("r.io:443/a:1", "r.io/a:1", [false, false, false]),
    ("r.io/a@1", "r.io/a-evil@1", [false, false, false]),
    // What is no reference counts for nothing.
    ("r.io/a:1", "", [false, false, false]),
    ("r.io/a:1", "r.io/a:1 ", [false, false, false]),
    ("r.io/a:1", "r.io/a:1\n", [false, false, false]),
    ("r.io/a:1", "r.io/A:1", [false, false, false]),
    ("r.io/a:1", "https://r.io/a:1", [false, false, false]),
    ("r.io/a:1", "r.io/a:1:1", [false, false, false]),
    ("r.io/a:1", "r.io/a:", [false, false, false]),
    ("r.io/a:1", "r.io/a:.1", [false, false, false]),
    ("r.io/a@1", "r.io/a@sha256:00", [false, false, false]),
    ("r.io/a@1", "r.io/a@", [false, false, false]),
    ("r.io/a@1", "r.io/a@1@1", [false, false, false]),
    ("r.io/a:1", ":1", [false, false, false]),
    ("r.io/a@1", "@1", [false, false, false]),
];

#[test]
fn c10_c21_the_three_matching_rules() {
    for (image, signed, expected) in TABLE {
        let found = [MatchExact, MatchRepoDigestOrExact, MatchRepository].map(|rule| accepts(&rule, image, signed));
        assert_eq!(found, *expected, "{image} signed as {signed:?}");
    }
    assert_eq!(SignedIdentity::default(), MatchRepoDigestOrExact);
}

#[test]
fn an_exact_reference_stands_in_for_the_image() {
    let fixed = SignedIdentity::exact_reference("r.io/signed:1").expect("reference");
    for image in ["r.io/a:7", "other.io/x@1", "r.io/signed:1"] {
        assert!(accepts(&fixed, image, "r.io/signed:1"), "{image}");
        for signed in ["r.io/signed:2", "r.io/signed", "r.io/signed@1", "r.io/signed:1@1", "r.io/a:7", image] {
            assert_eq!(accepts(&fixed, image, signed), signed == "r.io/signed:1", "{image} {signed}");
        }
    }
    let digest = SignedIdentity::exact_reference(&text("r.io/signed:1@1")).expect("reference");
    assert!(accepts(&digest, "r.io/a", "r.io/signed:1@1"));
    assert!(!accepts(&digest, "r.io/a", "r.io/signed@1"), "the whole text counts");
    let hub = SignedIdentity::exact_reference("busybox:latest").expect("reference");
    assert!(accepts(&hub, "r.io/a", "docker.io/library/busybox:latest"));
    assert!(!accepts(&hub, "r.io/a", "busybox"));
    for bad in ["r.io/signed", "busybox", "", "r.io/A:1", "r.io/a:1 ", "https://r.io/a:1"] {
        assert!(SignedIdentity::exact_reference(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn an_exact_repository_stands_in_for_the_images_one() {
    let fixed = SignedIdentity::exact_repository("r.io/signed").expect("repository");
    for signed in ["r.io/signed", "r.io/signed:9", "r.io/signed@2", "r.io/signed:9@2"] {
        assert!(accepts(&fixed, "r.io/a:1", signed), "{signed}");
    }
    for signed in ["r.io/a:1", "r.io/signed/x:1", "r.io/signed-x:1", "x.r.io/signed:1", ""] {
        assert!(!accepts(&fixed, "r.io/a:1", signed), "{signed}");
    }
    for bad in ["r.io/signed:1", "r.io/signed@1", "", "r.io", "r.io/", "R.io/B"] {
        let read = SignedIdentity::exact_repository(&text(bad));
        // A text without a slash is a repository of Docker Hub, as in every image name.
        assert_eq!(read.is_err(), bad != "r.io", "{bad:?}");
    }
}

#[test]
fn remapping_replaces_whole_leading_components_once() {
    // prefix, signed prefix, image, signed reference, accepted
    let table = [
        ("mirror.io", "vendor.io", "mirror.io/a:1", "vendor.io/a:1", true),
        ("mirror.io", "vendor.io", "mirror.io/a:1", "mirror.io/a:1", false),
        ("mirror.io", "vendor.io", "mirror.io/a:1", "vendor.io/a:2", false),
        ("mirror.io", "vendor.io", "mirror.io/a@1", "vendor.io/a:2", true),
        ("mirror.io", "vendor.io", "mirror.io/a:9@1", "vendor.io/a:2", true),
        ("mirror.io", "vendor.io", "mirror.io/a@1", "vendor.io/a", false),
        ("mirror.io", "vendor.io", "mirror.io/a@1", "vendor.io/b@1", false),
        ("mirror.io", "vendor.io", "mirror.io/mirror.io/a:1", "vendor.io/mirror.io/a:1", true),
        ("mirror.io", "vendor.io", "mirror.io/mirror.io/a:1", "vendor.io/vendor.io/a:1", false),
        ("mirror.io/v", "vendor.io", "mirror.io/v/a:1", "vendor.io/a:1", true),
        ("mirror.io/v", "vendor.io/x/y", "mirror.io/v/a:1", "vendor.io/x/y/a:1", true),
        ("mirror.io/v/a", "vendor.io/b", "mirror.io/v/a:1", "vendor.io/b:1", true),
        ("mirror.io", "docker.io/library", "mirror.io/busybox:1", "busybox:1", true),
        ("docker.io/library/busybox", "r.io/bb", "busybox:1", "r.io/bb:1", true),
        ("INDEX.docker.io", "Vendor.io", "team/a:1", "vendor.io/team/a:1", true),
        ("mirror.io:5000", "vendor.io", "mirror.io:5000/a:1", "vendor.io/a:1", true),
        // Another name stays as it is.
        ("mirror.io", "vendor.io", "other.io/a:1", "other.io/a:1", true),
        ("mirror.io", "vendor.io", "other.io/a:1", "vendor.io/a:1", false),
        ("mirror.io/v", "vendor.io", "mirror.io/v-evil/a:1", "vendor.io-evil/a:1", false),
        ("mirror.io/v", "vendor.io", "mirror.io/v-evil/a:1", "mirror.io/v-evil/a:1", true),
        ("mirror.io", "vendor.io", "mirror.io.evil.io/a:1", "vendor.io.evil.io/a:1", false),
        ("mirror.io", "vendor.io", "mirror.io:5000/a:1", "vendor.io:5000/a:1", false),
        ("mirror.io", "vendor.io", "evil.io/mirror.io/a:1", "evil.io/vendor.io/a:1", false),
        ("mirror.io", "vendor.io", "evil.io/mirror.io/a:1", "vendor.io/a:1", false),
        // The result must be a whole name in normal form.
        ("mirror.io/a", "vendor.io", "mirror.io/a:1", "vendor.io:1", false),
        ("mirror.io/a", "vendor.io", "mirror.io/a@1", "vendor.io/a@1", false),
        ("mirror.io", "docker.io", "mirror.io/busybox:1", "busybox:1", false),
    ];
    for (prefix, signed_prefix, image, signed, expected) in table {
        let rule = SignedIdentity::remap(prefix, signed_prefix).expect(prefix);
        assert_eq!(accepts(&rule, image, signed), expected, "{prefix} -> {signed_prefix}: {image} signed as {signed}");
    }
}

#[test]
fn remapping_prefixes_are_hosts_or_full_names() {
    for good in [
        "localhost",
        "localhost:5000/a",
        "r.io",
        "r.io:80",
        "r.io/a",
        "r.io:80/a/b.c-d_e",
        "[::1]:5000/x",
        "docker.io/library",
    ] {
        assert_eq!(SignedIdentity::remap(good, good).err(), None, "{good}");
    }
    for bad in [
        "",
        "/",
        "busybox",
        "ns/busybox",
        "r.io/",
        "r.io/A",
        "r.io/a/",
        "r.io/a:1",
        "r.io//a",
        "r.io/*",
        "*.r.io",
        "https://r.io",
        "user@r.io",
        " r.io",
        "r.io:x",
        "a_b.io",
        "r.io/a@sha256:00",
    ] {
        assert!(SignedIdentity::remap(bad, "r.io").is_err_and(|error| error.starts_with("prefix: ")), "{bad:?}");
        assert!(SignedIdentity::remap("r.io", bad).is_err_and(|error| error.starts_with("signedPrefix: ")), "{bad:?}");
    }
}

#[test]
fn unchecked_remapping_prefixes_fail_closed() {
    for (prefix, signed_prefix) in
        [("", "vendor.io"), ("r.io/", "vendor.io/"), ("r.io", ""), ("r.io", "../x"), ("r", "x")]
    {
        let rule = SignedIdentity::RemapIdentity { prefix: prefix.to_owned(), signed_prefix: signed_prefix.to_owned() };
        for signed in ["vendor.io/a:1", "vendor.io/r.io/a:1", "a:1", "library/a:1"] {
            assert!(!accepts(&rule, "r.io/a:1", signed), "{prefix:?} {signed_prefix:?} {signed}");
        }
    }
}

fn rules() -> Vec<SignedIdentity> {
    let remap = SignedIdentity::remap("r.io", "s.io").expect("prefixes");
    vec![MatchExact, MatchRepoDigestOrExact, MatchRepository, remap]
}

proptest! {
    #[test]
    fn any_text_is_judged_without_panic(signed in "\\PC{0,40}|[a-z:/@.]{0,20}") {
        let image: ImageRef = "r.io/a:1".parse().expect("reference");
        for rule in rules() {
            // What is accepted must be a reference by the one grammar there is.
            prop_assert!(!rule.accepts(&image, &signed) || signed.parse::<ImageRef>().is_ok());
        }
    }

    #[test]
    fn c1_a_changed_repository_is_never_accepted(extra in "[a-z0-9]{1,5}", tag in "[a-z]{1,3}") {
        for image in [format!("r.io/a:{tag}"), format!("r.io/a:{tag}@{}", sha(1))] {
            let image: ImageRef = image.parse().expect("reference");
            for name in [
                format!("{extra}.r.io/a"), format!("r.io/a{extra}"), format!("r.io/a/{extra}"), format!("r.io/{extra}/a"),
                format!("r.io.{extra}/a"), format!("{extra}.com/r.io/a"), format!("s.io/a{extra}"),
            ] {
                for signed in [name.clone(), format!("{name}:{tag}"), format!("{name}@{}", sha(1))] {
                    for rule in rules() {
                        prop_assert!(!rule.accepts(&image, &signed), "{:?} {} {}", rule, image, signed);
                    }
                }
            }
        }
    }
}
