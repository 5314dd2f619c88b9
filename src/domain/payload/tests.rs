use super::*;
use proptest::prelude::*;

const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn good() -> String {
    format!(
        r#"{{"critical":{{"type":"atomic container signature","image":{{"docker-manifest-digest":"{SHA}"}},"identity":{{"docker-reference":"testing/manifest"}}}},"optional":{{"creator":"tool 1.0","timestamp":1458239713}}}}"#
    )
}

fn with_optional(optional: &str) -> String {
    good().replace(r#"{"creator":"tool 1.0","timestamp":1458239713}"#, optional)
}

fn parse(text: &str) -> Result<SimplePayload, PayloadError> {
    SimplePayload::parse(text.as_bytes())
}

#[test]
fn reads_a_whole_payload() {
    let payload = parse(&good()).expect("payload");
    assert_eq!(payload.digest.as_str(), SHA);
    assert_eq!(payload.reference, "testing/manifest");
    assert_eq!((payload.creator.as_deref(), payload.timestamp), (Some("tool 1.0"), Some(1_458_239_713)));
}

#[test]
fn accepts_what_the_format_leaves_free() {
    let reordered = format!(
        "\n {{\"optional\": {{}}, \"critical\": {{\"identity\": {{\"docker-reference\": \"\"}}, \"image\": \
         {{\"docker-manifest-digest\": \"{SHA}\"}}, \"type\": \"atomic container signature\"}} }} \r\n"
    );
    let payload = parse(&reordered).expect("any order, any blanks");
    assert_eq!((payload.creator, payload.timestamp), (None, None));
    for optional in [
        "{}",
        r#"{"unknown":null}"#,
        r#"{"creator":null,"timestamp":null}"#,
        r#"{"unknown":[1,{"a":1},[[]]],"other":{"x":{}},"b":true,"n":1e3,"s":"x"}"#,
        r#"{"Creator":1,"TIMESTAMP":"x"}"#,
    ] {
        assert!(parse(&with_optional(optional)).is_ok(), "{optional}");
    }
    for (number, value) in [
        ("1e3", 1000),
        ("1.0", 1),
        ("-5", -5),
        ("0", 0),
        ("-0.0", 0),
        ("-9223372036854775808", i64::MIN),
        ("1.5e1", 15),
    ] {
        let payload = parse(&with_optional(&format!(r#"{{"timestamp":{number}}}"#)));
        assert_eq!(payload.map(|payload| payload.timestamp), Ok(Some(value)), "{number}");
    }
    let escaped = good().replace("docker-reference", "docker\\u002dreference");
    assert!(parse(&escaped).is_ok(), "an escaped name is the same name");
}

/// Each mutation of the good payload must be refused.
#[test]
fn rejects_every_mutation() {
    let mutations: &[(&str, &str, &str)] = &[
        ("an extra top-level field", r#""optional":{"#, r#""x":1,"optional":{"#),
        ("a repeated top-level field", r#""optional":{"#, r#""optional":{},"optional":{"#),
        ("no critical", r#""critical""#, r#""criticall""#),
        ("wrong case of critical", r#""critical""#, r#""Critical""#),
        ("no optional", r#","optional":{"creator":"tool 1.0","timestamp":1458239713}"#, ""),
        ("optional is null", r#"{"creator":"tool 1.0","timestamp":1458239713}"#, "null"),
        ("optional is an array", r#"{"creator":"tool 1.0","timestamp":1458239713}"#, "[]"),
        ("optional is a number", r#"{"creator":"tool 1.0","timestamp":1458239713}"#, "1"),
        ("an extra field in critical", r#""type""#, r#""x":1,"type""#),
        ("type repeated", r#""type""#, r#""type":"atomic container signature","type""#),
        ("no type", r#""type":"atomic container signature","#, ""),
        ("another type", "atomic container signature", "cosign container image signature"),
        ("type with a blank", "atomic container signature", "atomic container signature "),
        ("type is a number", r#""atomic container signature""#, "1"),
        ("type is null", r#""atomic container signature""#, "null"),
        ("image repeated", r#""image""#, r#""image":{"docker-manifest-digest":"x"},"image""#),
        ("image is a text", r#"{"docker-manifest-digest""#, r#""x","y":{"docker-manifest-digest""#),
        ("no image", r#""image""#, r#""imagee""#),
        ("an extra field in image", r#"{"docker-manifest-digest""#, r#"{"x":1,"docker-manifest-digest""#),
        (
            "digest repeated",
            r#"{"docker-manifest-digest""#,
            r#"{"docker-manifest-digest":"x","docker-manifest-digest""#,
        ),
        (
            "digest repeated in escapes",
            r#"{"docker-manifest-digest""#,
            r#"{"docker-manifest-diges\u0074":"x","docker-manifest-digest""#,
        ),
        ("no digest", "docker-manifest-digest", "docker-manifest-digestt"),
        ("digest of another algorithm", "sha256:", "md5:"),
        ("digest in upper case", "sha256:e3b0", "sha256:E3B0"),
        ("digest too short", "sha256:e3b0", "sha256:"),
        ("digest is a path", SHA, "sha256:../../x"),
        ("identity repeated", r#""identity""#, r#""identity":{"docker-reference":"x"},"identity""#),
        ("an extra field in identity", r#"{"docker-reference""#, r#"{"x":1,"docker-reference""#),
        ("reference repeated", r#"{"docker-reference""#, r#"{"docker-reference":"x","docker-reference""#),
        ("no reference", "docker-reference", "dockerReference"),
        ("reference is a number", r#""testing/manifest""#, "1"),
        ("reference is null", r#""testing/manifest""#, "null"),
        ("reference is an array", r#""testing/manifest""#, r#"["testing/manifest"]"#),
        ("creator is a number", r#""tool 1.0""#, "1"),
        ("creator repeated", r#""creator""#, r#""creator":"x","creator""#),
        ("timestamp is a text", "1458239713", r#""1458239713""#),
        ("timestamp is no whole number", "1458239713", "0.5"),
        ("timestamp is too large", "1458239713", "9223372036854775808"),
        ("timestamp is much too large", "1458239713", "1e300"),
        ("timestamp is beyond every number", "1458239713", "1e999"),
        ("timestamp is too small", "1458239713", "-9223372036854777856"),
        ("timestamp repeated", r#""timestamp""#, r#""timestamp":1,"timestamp""#),
        ("unknown optional field repeated", r#""creator""#, r#""x":1,"x":2,"creator""#),
        ("a trailing comma", "1458239713}}", "1458239713,}}"),
        ("a comment", r#""critical""#, r#"/**/"critical""#),
        ("a control character", "testing/manifest", "testing/\nmanifest"),
        ("half a surrogate", "testing/manifest", "\\ud800"),
    ];
    for (defect, from, to) in mutations {
        let mutated = good().replacen(from, to, 1);
        assert_ne!(mutated, good(), "{defect}: nothing was changed");
        let error = parse(&mutated).expect_err(defect);
        assert!(!error.0.is_empty(), "{defect}");
    }
}

#[test]
fn rejects_what_is_not_one_json_object() {
    let text = good();
    for (defect, bytes) in [
        ("nothing", Vec::new()),
        ("blanks", b"  ".to_vec()),
        ("text", b"this is not JSON".to_vec()),
        ("null", b"null".to_vec()),
        ("an array of the values", format!("[{text}]").into_bytes()),
        ("trailing data", format!("{text}x").into_bytes()),
        ("a second object", format!("{text}{text}").into_bytes()),
        ("a trailing NUL", format!("{text}\0").into_bytes()),
        ("a byte order mark", format!("\u{feff}{text}").into_bytes()),
        ("cut off", text.as_bytes()[..text.len() - 1].to_vec()),
        (
            "no UTF-8",
            text.replace("testing", "\u{1}").into_bytes().into_iter().map(|b| if b == 1 { 0xff } else { b }).collect(),
        ),
    ] {
        assert!(SimplePayload::parse(&bytes).is_err(), "{defect}");
    }
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("{\"x\":", "}"), ("[", "]")] {
        let deep = format!("{{\"x\":{}1{}}}", open.repeat(100_000), close.repeat(100_000));
        // Ignored arrays are skipped without recursion; whatever the answer, the stack holds.
        let _ = parse(&with_optional(&deep));
        let _ = parse(&deep);
    }
    let objects = format!("{}1{}", "{\"x\":".repeat(200), "}".repeat(200));
    assert!(parse(&with_optional(&objects)).is_err());
}

#[test]
fn messages_do_not_repeat_signed_text() {
    let secret =
        good().replace("atomic container signature", "<script>").replace("\"creator\"", "\"<b>\":1,\"creator\"");
    assert!(!parse(&secret).expect_err("another type").0.contains('<'));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(SimplePayload::parse(&bytes).is_err());
    }

    #[test]
    fn one_changed_byte_changes_only_free_text_or_fails(at in 0usize..230, to in any::<u8>()) {
        let mut bytes = good().into_bytes();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(payload) = SimplePayload::parse(&bytes) {
            prop_assert_eq!(payload.digest.as_str().len(), SHA.len());
        }
    }
}
