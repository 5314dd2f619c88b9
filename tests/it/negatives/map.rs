//! `tests/negative-cases.txt` names, for each case of the attack list, the tests that show it or the later work it is part of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// How many cases each class has.
const CLASSES: [(char, usize); 10] =
    [('A', 18), ('B', 16), ('C', 23), ('D', 17), ('E', 52), ('F', 15), ('G', 20), ('H', 26), ('I', 17), ('J', 13)];
const THEMES: [&str; 3] = ["controller and chart", "signing side", "oversight"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One line: id, what it is about, and what shows it.
struct Case {
    id: String,
    shown: Vec<String>,
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(root().join("tests/negative-cases.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let case = |line: &str| {
        let parts: Vec<_> = line.split(" | ").collect();
        let [id, about, shown] = parts[..] else { panic!("three fields, divided by ' | ': {line}") };
        assert!(!about.trim().is_empty(), "{line}");
        let shown: Vec<_> = shown.split("; ").map(|item| item.trim().to_owned()).collect();
        Case { id: id.trim().to_owned(), shown }
    };
    lines.map(case).collect()
}

fn every_case_is_there_once() {
    let listed: Vec<_> = cases().into_iter().map(|case| case.id).collect();
    let expected: Vec<_> =
        CLASSES.iter().flat_map(|(class, count)| (1..=*count).map(move |n| format!("{class}{n}"))).collect();
    assert_eq!(expected.len(), 217);
    let count = |id: &String| listed.iter().filter(|other| *other == id).count();
    let wrong: Vec<_> = expected.iter().filter(|id| count(id) != 1).collect();
    assert!(wrong.is_empty(), "not exactly once: {wrong:?}");
    assert_eq!(listed, expected, "in the order of the list, and nothing else");
}

/// The tests of the tree: `unit module::path::name` and `it module::path::name`.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (kind, folder) in [("unit", "src"), ("it", "tests/it")] {
        collect(&root().join(folder), kind, &[], &mut found);
    }
    found
}

fn collect(folder: &Path, kind: &str, path: &[String], found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let stem = entry.file_stem().unwrap().to_string_lossy().into_owned();
        let mut inner = path.to_vec();
        if !["mod", "lib", "main"].contains(&stem.as_str()) {
            inner.push(stem);
        }
        if entry.is_dir() {
            collect(&entry, kind, &inner, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            read(&fs::read_to_string(&entry).unwrap(), kind, &inner, found);
        }
    }
}

/// Functions that are tests: of the library after `#[test]` or `#[tokio::test]`, or inside `proptest!`; of the integration
/// tests when the list at the end of their module names them.
fn read(text: &str, kind: &str, path: &[String], found: &mut BTreeSet<String>) {
    let inline = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let mut attributed = false;
    let mut at = 0;
    let listed = text.rsplit_once("crate::tests! {").map_or("", |(_, list)| list);
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with("#[test]") || trimmed.starts_with("#[tokio::test") {
            attributed = true;
        } else if let Some(rest) = trimmed.strip_prefix("async fn ").or_else(|| trimmed.strip_prefix("fn ")) {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let names = |word: &str| word == name;
            let is_test = if kind == "it" {
                listed.split(|c: char| !c.is_alphanumeric() && c != '_').any(names)
            } else {
                attributed
            };
            if is_test {
                let tests = (kind == "unit" && at > inline).then_some("tests");
                let parts: Vec<_> = path.iter().map(String::as_str).chain(tests).chain([name.as_str()]).collect();
                found.insert(format!("{kind} {}", parts.join("::")));
            }
            attributed = false;
        }
        at += line.len();
    }
}

fn every_named_test_exists_and_the_rest_is_later_work() {
    let tests = tests();
    assert!(tests.len() > 300, "the tree was read: {}", tests.len());
    let mut wrong = Vec::new();
    for case in cases() {
        for shown in &case.shown {
            let known = match shown.strip_prefix("later: ") {
                Some(theme) => THEMES.contains(&theme),
                None => tests.contains(shown),
            };
            if !known {
                wrong.push(format!("{}: {shown}", case.id));
            }
        }
        if case.shown.iter().collect::<BTreeSet<_>>().len() != case.shown.len() {
            wrong.push(format!("{}: something twice", case.id));
        }
    }
    assert!(wrong.is_empty(), "no such test:\n{}", wrong.join("\n"));
}

/// The ids in front of a test's name: `a1_a9_init_container` shows A1 and A9.
fn ids_of(test: &str) -> Vec<String> {
    let name = test.rsplit("::").next().unwrap_or_default();
    let known: BTreeMap<char, usize> = CLASSES.into_iter().collect();
    let id = |part: &str| {
        let (class, number) = part.split_at_checked(1)?;
        let class = class.chars().next()?.to_ascii_uppercase();
        let number: usize = number.parse().ok()?;
        (1..=*known.get(&class)?).contains(&number).then(|| format!("{class}{number}"))
    };
    name.split('_').map_while(id).collect()
}

fn every_test_named_by_a_case_is_in_the_map() {
    let cases = cases();
    let mut missing = Vec::new();
    for test in tests() {
        for id in ids_of(&test) {
            let shown = cases.iter().any(|case| case.id == id && case.shown.contains(&test));
            if !shown {
                missing.push(format!("{id}: {test}"));
            }
        }
    }
    assert!(missing.is_empty(), "not in tests/negative-cases.txt:\n{}", missing.join("\n"));
}

fn ids_are_read_from_the_front_of_a_name() {
    assert_eq!(ids_of("it quickstart::objects::a1_a9_init_container"), ["A1", "A9"]);
    assert_eq!(ids_of("unit x::tests::f14_lifetime_ends_e1_no_id"), ["F14"]);
    assert!(ids_of("unit x::tests::a_tag").is_empty() && ids_of("unit x::tests::z9_x").is_empty());
    assert!(ids_of("unit x::tests::a99_beyond_the_class").is_empty());
}

crate::tests! {
    needs [];
    every_case_is_there_once,
    every_named_test_exists_and_the_rest_is_later_work,
    every_test_named_by_a_case_is_in_the_map,
    ids_are_read_from_the_front_of_a_name,
}
