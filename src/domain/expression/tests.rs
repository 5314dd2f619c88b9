use super::*;
use serde_json::json;

fn holds(source: &str) -> Result<bool, String> {
    let predicate = json!({
        "buildType": "https://build.test/v1", "n": 3, "big": 1e300, "ok": true, "none": null,
        "materials": [{"uri": "git+https://a.test/x", "n": 1}, {"uri": "git+https://a.test/y", "n": 2}],
        "labels": {"a-b": "c", "d": ""},
    });
    let subject = json!([{"name": "r.io/a", "digest": {"sha256": "00"}}]);
    Expression::new(source).expect(source).holds(&predicate, "https://slsa.dev/provenance/v1", &subject)
}

#[test]
fn expressions_decide_over_predicate_type_and_subject() {
    for source in [
        "predicate.buildType == 'https://build.test/v1'",
        "predicate.n == 3 && predicate.n + 1 > 3 && predicate.ok",
        "predicate.big > 5.0",
        "predicate.none == null",
        "predicateType.startsWith('https://slsa.dev/provenance/')",
        "subject.exists(s, s.digest.sha256 == '00')",
        "predicate.materials.all(m, m.uri.startsWith('git+https://a.test/'))",
        "predicate.materials.exists_one(m, m.n == 2)",
        "predicate.materials.filter(m, m.n > 1).size() == 1",
        "predicate.buildType.matches('^https://build[.]test/v[0-9]+$')",
        "!has(predicate.absent) && has(predicate.n)",
        "predicate.labels['a-b'] == 'c' && 'd' in predicate.labels",
        "predicate.materials.all(m, predicate.materials.exists(o, o.uri == m.uri))",
        "size(predicate.materials) == 2 ? true : false",
        "// a comment\ntrue",
    ] {
        assert_eq!(holds(source), Ok(true), "{source}");
    }
    for source in [
        "predicate.buildType == 'https://build.test/v2'",
        "predicate.buildType.matches('^build')",
        "predicate.materials.all(m, m.n == 1)",
        "false",
    ] {
        assert_eq!(holds(source), Ok(false), "{source}");
    }
}

#[test]
fn what_has_no_value_is_an_error_and_never_a_pass() {
    for source in [
        "predicate.absent == 'x'",
        "predicate.n.deeper == 1",
        "predicate.materials[7].n == 1",
        "predicate.n",
        "'true'",
        "predicate.n / 0 == 1",
        "predicate.n > 'a'",
        "predicate.materials.all(m, m.absent == 1)",
        "9223372036854775807 + predicate.n > 0",
    ] {
        assert!(holds(source).is_err(), "{source} {:?}", holds(source));
    }
}

#[test]
fn what_cannot_be_evaluated_is_refused_when_it_is_read() {
    for (source, why) in [
        ("", "must have"),
        ("   ", "must have"),
        ("predicate.", "is not a CEL expression"),
        ("predicate == ", "is not a CEL expression"),
        ("image.name == 'a'", "there is no variable image"),
        ("m.n == 1 && predicate.materials.all(m, m.n == 1)", "there is no variable m"),
        ("timestamp(predicate.t) < now()", "is not supported"),
        ("predicate.a.matches(predicate.b)", "as a literal"),
        ("matches(predicate.a, 'x')", "as a literal"),
        ("predicate.a.matches('(')", "not a regular expression"),
        ("predicate.a.matches('\\\\pL{900}')", "too large"),
        ("predicate.a.map(x, x + x).size() == 1", "map is not supported"),
        ("predicate.a.map(x, x > 1, x.n).size() == 1", "map is not supported"),
        ("predicate.a.all(a, a.all(b, b.all(c, c == 1)))", "comprehensions within each other"),
        ("Foo{a: 1} == 1", "not supported"),
    ] {
        let error = Expression::new(source).expect_err(source);
        assert!(error.contains(why), "{source}: {error}");
    }
}

#[test]
fn e44_hostile_texts_are_refused_without_harm() {
    for source in [
        "(".repeat(2000),
        "((((((((((((((((((((1))))))))))))))))))))".to_owned(),
        "!".repeat(2001) + "",
        "-".repeat(2000) + "",
        "true ? ".repeat(250) + "true",
        "predicate".to_owned() + &".a".repeat(900),
        "1".to_owned() + &"+1".repeat(1000),
        "[".repeat(1500),
        "'".repeat(2001),
        "a".repeat(MAX_EXPRESSION + 1),
        "\u{0}\u{ffff}".to_owned(),
        "true\u{2028}".to_owned() + &"||true".repeat(300),
    ] {
        assert!(Expression::new(&source).is_err(), "{}", source.chars().take(20).collect::<String>());
    }
}

#[test]
fn e34_a_predicate_that_is_too_large_for_an_expression_is_refused_and_for_a_simpler_one_is_not() {
    let list: Vec<_> = (0..5000).map(|i| json!({"n": i})).collect();
    let predicate = json!({ "list": list });
    let eval = |source: &str| Expression::new(source).unwrap().holds(&predicate, "t", &json!([]));
    let before = std::time::Instant::now();
    assert_eq!(eval("predicate.list.all(x, x.n >= 0)"), Ok(true));
    assert!(before.elapsed() < std::time::Duration::from_secs(5));
    let error = eval("predicate.list.all(x, predicate.list.exists(y, y.n == x.n))").unwrap_err();
    assert!(error.contains("too large"), "{error}");
    assert!(eval("predicate.list.filter(x, x.n > 1).size() > 1").unwrap_err().contains("too large"));
    assert_eq!(eval("predicate.list[4].n == 4"), Ok(true));
}
