use super::*;
use serde_json::json;

fn holds(source: &str) -> Result<bool, String> {
    let predicate = json!({
        "buildType": "https://build.test/v1", "n": 3, "big": 1e300, "ok": true, "none": null,
        "materials": [{"uri": "git+https://a.test/x", "n": 1}, {"uri": "git+https://a.test/y", "n": 2}],
        "labels": {"a-b": "c", "d": ""},
    });
    let subject = json!([{"name": "r.io/a", "digest": {"sha256": "00"}}]);
    Expression::new(source).expect(source).holds(
        &predicate,
        "https://slsa.dev/provenance/v1",
        &subject,
        &Budget::default(),
    )
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
    let eval = |source: &str| Expression::new(source).unwrap().holds(&predicate, "t", &json!([]), &Budget::default());
    let before = std::time::Instant::now();
    assert_eq!(eval("predicate.list.all(x, x.n >= 0)"), Ok(true));
    assert!(before.elapsed() < std::time::Duration::from_secs(5));
    let error = eval("predicate.list.all(x, predicate.list.exists(y, y.n == x.n))").unwrap_err();
    assert!(error.contains("too large"), "{error}");
    assert_eq!(eval("predicate.list.filter(x, x.n > 1).size() > 1"), Ok(true));
    assert_eq!(eval("predicate.list[4].n == 4"), Ok(true));
}

#[test]
fn h12_comparisons_of_lists_maps_and_texts_are_priced_by_what_they_go_through() {
    let numbers = vec![0; 9500];
    let predicate = json!({"a": numbers, "s": "x".repeat(200_000), "small": [1, 2, 3]});
    let eval =
        |source: &str| Expression::new(source).expect(source).holds(&predicate, "t", &json!([]), &Budget::default());
    let many = |part: &str| format!("predicate.a.all(x, {})", vec![part; 20].join(" && "));
    for source in [
        many("predicate == predicate"),
        many("predicate != predicate || true"),
        many("predicate.a == predicate.a"),
        "predicate.a.all(x, 1 in predicate.a || true)".to_owned(),
        "predicate.a.all(x, [predicate] == [predicate])".to_owned(),
        "predicate.a.all(x, {'a': predicate.a} != {'b': 1})".to_owned(),
        "predicate.a.all(x, (predicate.a + predicate.a).size() > x)".to_owned(),
        "(predicate.a + predicate.a).filter(x, predicate.a != []).all(x, predicate.a.exists(y, y == x))".to_owned(),
        "predicate.a.all(x, predicate.a.all(y, x == y))".to_owned(),
        "predicate.a.all(x, predicate.s == predicate.s)".to_owned(),
        "predicate.a.all(x, predicate.s.contains('y') || true)".to_owned(),
        "predicate.a.all(x, predicate.s.startsWith(predicate.s))".to_owned(),
        "predicate.a.all(x, predicate.s < predicate.s || true)".to_owned(),
        "predicate.a.all(x, predicate.s + 'a' != '')".to_owned(),
        "predicate.a.all(x, string(predicate.s) != '')".to_owned(),
        "predicate.a.all(x, predicate.s.matches('^x'))".to_owned(),
        "predicate.s.matches('(x|y)*[xy]{900}z')".to_owned(),
    ] {
        let error = eval(&source).expect_err(&source);
        assert!(error.contains("too large"), "{source}: {error}");
    }
    for source in [
        many("x == 0"),
        "predicate == predicate".to_owned(),
        "predicate.a.all(x, x == 0 && x in predicate.small || x == 0)".to_owned(),
        "predicate.a.all(x, predicate.small == [1, 2, 3])".to_owned(),
        "predicate.a.filter(x, x == 0).size() == 9500".to_owned(),
        "predicate.s.startsWith('xx') && !predicate.s.contains('y')".to_owned(),
        "predicate.s.matches('^x+$')".to_owned(),
    ] {
        assert_eq!(eval(&source), Ok(true), "{source}");
    }
}

#[test]
fn h12_what_passes_the_price_ends_soon() {
    let packages: Vec<_> = (0..4000)
        .map(|i| json!({"name": format!("package-{i}"), "license": "MIT", "files": ["a", "b"], "n": i}))
        .collect();
    let predicate = json!({ "packages": packages });
    for source in [
        "predicate.packages.all(p, p.name != 'left-pad' && p.license in ['MIT', 'Apache-2.0'])",
        "predicate.packages.all(p, p.files.all(f, f != p.name))",
        "predicate.packages.all(p, p == p && p.files == p.files)",
        "predicate.packages.all(p, p.name.matches('^[a-z]+-[0-9]+$'))",
        "predicate.packages.filter(p, p.n > 10).exists_one(p, p.name == 'package-11')",
    ] {
        let before = std::time::Instant::now();
        let expression = Expression::new(source).expect(source);
        assert_eq!(expression.holds(&predicate, "t", &json!([]), &Budget::default()), Ok(true), "{source}");
        assert!(before.elapsed() < std::time::Duration::from_secs(10), "{source} {:?}", before.elapsed());
    }
}

#[test]
fn h12_the_attestations_of_one_image_share_a_budget() {
    let predicate = json!({"a": vec![0; 60_000]});
    let expression = Expression::new("predicate.a.all(x, x == 0)").expect("an expression");
    let budget = Budget::default();
    let results: Vec<_> = (0..100).map(|_| expression.holds(&predicate, "t", &json!([]), &budget)).collect();
    assert_eq!(results.first(), Some(&Ok(true)));
    let error = results.last().and_then(|last| last.clone().err()).expect("it is used up");
    assert!(error.contains("too many attestations"), "{error}");
}
