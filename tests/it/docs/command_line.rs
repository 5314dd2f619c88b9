//! Flags, metrics, reasons and the output that is shown, as the docs have them.

use std::collections::{BTreeMap, BTreeSet};

use podseal::telemetry::Metrics;
use serde_json::Value;

use super::{blocks, read, rows, section};
use crate::support::podseal::podseal;
use crate::support::scratch;
use crate::support::text::assert_text;

crate::tests! {
    needs [];
    every_flag_of_serve_is_documented_with_its_default,
    every_flag_of_check_is_documented,
    every_flag_of_verify_and_explain_is_documented,
    every_reason_of_verify_is_documented,
    every_flag_of_store_is_documented_with_its_default,
    every_flag_of_sign_and_load_sign_is_documented,
    every_metric_is_documented,
    every_fault_is_documented,
    every_reason_is_documented,
    every_reason_of_a_policys_status_is_documented,
    the_example_of_check_prints_what_is_shown,
    the_json_of_check_is_as_shown,
    the_entries_of_the_page_on_signing_are_taken_without_a_warning,
}

const COMMON: [&str; 3] = ["--help", "--version", "--verbose"];

/// The long flags of a command with their defaults, as `--help` lists them.
fn flags(command: &str) -> BTreeMap<String, Option<String>> {
    let help = podseal(&[command, "--help"]).succeeded().stdout;
    let mut flags = BTreeMap::new();
    let mut last = None;
    for line in help.lines().map(str::trim) {
        // `- text: For people` is a value of the flag before.
        if line.starts_with('-') && !line.starts_with("- ") {
            let flag = line.split([' ', ',']).find(|word| word.starts_with("--"));
            let flag = flag.unwrap_or_else(|| panic!("no long flag: {line}")).trim_end_matches("...").to_owned();
            flags.insert(flag.clone(), None);
            last = Some(flag);
        } else if let Some(default) = line.strip_prefix("[default: ").and_then(|rest| rest.strip_suffix(']')) {
            flags.insert(last.clone().expect("a flag"), Some(default.to_owned()));
        }
    }
    flags.retain(|flag, _| !COMMON.contains(&flag.as_str()));
    assert!(flags.len() > 5, "{help}");
    flags
}

/// The long flags that a row's first cell names.
fn named(row: &str) -> Vec<String> {
    let cell = row.split('|').nth(1).expect("a cell");
    let words = cell.split(['`', ' ', ',']).filter(|word| word.starts_with("--"));
    words.map(str::to_owned).collect()
}

fn every_flag_of_serve_is_documented_with_its_default() {
    let page = read("docs/install.md");
    let rows = rows(section(&page, "## Flags"));
    let flags = flags("serve");
    for (flag, default) in &flags {
        let row = rows.iter().find(|row| named(row).contains(flag)).unwrap_or_else(|| panic!("{flag} has no row"));
        if let Some(default) = default {
            // Of the paths of certificate and key, the second is shortened.
            let file = default.rsplit('/').next().unwrap_or_default();
            let shown = row.contains(default.as_str()) || (default.starts_with('/') && row.contains(file));
            assert!(shown, "{flag} has the default {default}; the row is {row}");
        }
    }
    let documented: BTreeSet<_> = rows.iter().flat_map(|row| named(row)).collect();
    let unknown: Vec<_> = documented.iter().filter(|flag| !flags.contains_key(*flag)).collect();
    assert!(unknown.is_empty(), "documented, and no flags: {unknown:?}");
}

fn every_flag_of_check_is_documented() {
    let (install, page) = (read("docs/install.md"), read("docs/try-out.md"));
    let shared = rows(section(&install, "## Flags")).into_iter().filter(|row| row.contains('∘')).flat_map(named);
    let own = rows(section(&page, "## Your own Pods and policies: `podseal check`")).into_iter();
    let mut documented: BTreeSet<_> = shared.chain(own.flat_map(named)).collect();
    // These two stand there by their short forms.
    for (short, long) in [("`-f ", "--filename"), ("`-n ", "--namespace"), ("`-o ", "--output")] {
        assert!(page.contains(short), "{short}");
        documented.insert(long.to_owned());
    }
    let flags: BTreeSet<_> = flags("check").into_keys().collect();
    assert_eq!(documented, flags, "documented, and existing");
}

fn every_flag_of_verify_and_explain_is_documented() {
    let (install, page) = (read("docs/install.md"), read("docs/records.md"));
    let of = |heading: &str| -> BTreeSet<String> {
        let mut named: BTreeSet<_> = rows(section(&page, heading)).into_iter().flat_map(named).collect();
        // It stands there by its short form.
        assert!(section(&page, heading).contains("`-o json`"));
        named.insert("--output".to_owned());
        named
    };
    let existing = |command: &str| flags(command).into_keys().collect::<BTreeSet<_>>();
    assert_eq!(of("## Verify an image"), existing("verify"), "documented, and existing");
    let mut documented = of("## Why is this image denied?");
    documented.insert("--namespace".to_owned());
    documented.extend(rows(section(&install, "## Flags")).into_iter().filter(|row| row.contains('∘')).flat_map(named));
    assert_eq!(documented, existing("explain"), "documented, and existing");
}

fn every_reason_of_verify_is_documented() {
    let page = read("docs/records.md");
    let rows = rows(section(&page, "## Verify an image"));
    let documented: BTreeSet<_> = rows.iter().filter_map(|row| row.split('`').nth(1)).collect();
    let source = read("src/records/examine.rs");
    let (_, reasons) = source.split_once("pub fn reason(self)").expect("the reasons");
    let (reasons, _) = reasons.split_once("\n    }\n").expect("an end");
    let existing: Vec<_> = reasons.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(existing.len() > 6, "{existing:?}");
    for reason in existing.into_iter().chain(["NotJudged"]) {
        assert!(documented.contains(reason), "the reason {reason} is not in docs/records.md");
    }
}

fn every_flag_of_store_is_documented_with_its_default() {
    let page = read("docs/store.md");
    let rows = rows(section(&page, "## Flags"));
    let flags = flags("store");
    for (flag, default) in &flags {
        let row = rows.iter().find(|row| named(row).contains(flag)).unwrap_or_else(|| panic!("{flag} has no row"));
        assert!(default.as_ref().is_none_or(|default| row.contains(default.as_str())), "{flag}: {default:?}; {row}");
    }
    let documented: BTreeSet<_> = rows.iter().flat_map(|row| named(row)).collect();
    assert!(documented.iter().all(|flag| flags.contains_key(flag)), "{documented:?}");
}

fn every_flag_of_sign_and_load_sign_is_documented() {
    let page = read("docs/signing.md");
    let documented =
        |heading: &str| -> BTreeSet<String> { rows(section(&page, heading)).into_iter().flat_map(named).collect() };
    let of_sign = documented("## Signing with podseal");
    assert_eq!(of_sign, flags("sign").into_keys().collect(), "documented, and existing");
    let mut of_load_sign = documented("## An archive of images: load-sign");
    let sign_alone = ["--identity", "--all-platforms", "--again"];
    of_load_sign.extend(of_sign.into_iter().filter(|flag| !sign_alone.contains(&flag.as_str())));
    assert_eq!(of_load_sign, flags("load-sign").into_keys().collect(), "documented, and existing");
}

/// A page with every metric on it.
fn metrics() -> String {
    let metrics = Metrics::new();
    metrics.key("fingerprint", "k8s://ns/name", Some(1.0));
    metrics.watch("whitelist", true);
    metrics.certificate_expiry("webhook", 1.0);
    metrics.encode()
}

fn every_metric_is_documented() {
    let page = read("docs/install.md");
    let rows = rows(section(&page, "## Metrics"));
    let name = |row: &&str| row.split('`').nth(1).unwrap_or_default().to_owned();
    let documented: BTreeSet<_> = rows.iter().map(name).collect();
    let metrics = metrics();
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let existing: BTreeSet<_> = types
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    assert_eq!(documented, existing, "documented, and existing");
}

fn every_fault_is_documented() {
    let page = read("docs/install.md");
    let rows = rows(section(&page, "## Metrics"));
    let row = rows.iter().find(|row| row.contains("`podseal_faults_total`")).expect("a row");
    let listed: BTreeSet<_> = row.split([' ', ',', '|']).collect();
    let metrics = metrics();
    let series = metrics.lines().filter_map(|line| line.strip_prefix("podseal_faults_total{kind=\""));
    let kinds: Vec<_> = series.filter_map(|rest| rest.split('"').next()).collect();
    assert!(kinds.len() > 5, "{metrics}");
    for kind in kinds {
        assert!(listed.contains(kind), "the fault {kind} is not in the row of podseal_faults_total");
    }
}

fn every_reason_is_documented() {
    let page = read("docs/troubleshooting.md");
    let table = rows(section(&page, "### Reasons")).join("\n");
    let documented: BTreeSet<_> = table.split('`').skip(1).step_by(2).collect();
    let verdict = read("src/domain/verdict.rs");
    let (_, reasons) = verdict.split_once("impl RefusalKind {").expect("the reasons of refusals");
    let (reasons, _) = reasons.split_once("\n}\n").expect("an end");
    let check = read("src/cli/check/rows.rs");
    let (_, allowed) = check.split_once("row.reason = match basis {").expect("the reasons of allowances");
    let (allowed, _) = allowed.split_once("};").expect("an end");
    let literals = |text: &str| {
        text.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let existing = [literals(reasons), literals(allowed)].concat();
    assert!(existing.len() > 12, "{existing:?}");
    for reason in existing {
        assert!(documented.contains(reason.as_str()), "the reason {reason} is not in docs/troubleshooting.md");
    }
}

fn every_reason_of_a_policys_status_is_documented() {
    let page = read("docs/troubleshooting.md");
    let rows = rows(section(&page, "## Policies that are not ready"));
    let documented: Vec<_> = rows.iter().filter_map(|row| row.split('`').nth(1)).collect();
    let existing: Vec<_> = podseal::telemetry::metrics::READY_REASONS.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(documented, existing, "documented, and existing, in the same order");
}

fn the_example_of_check_prints_what_is_shown() {
    let page = read("docs/try-out.md");
    let blocks = blocks(&page);
    let at =
        blocks.iter().position(|(_, block)| block.starts_with("podseal check --policy deploy/")).expect("an example");
    let (command, shown) = (blocks[at].1, blocks[at + 1].1);
    let arguments: Vec<_> = command.split_whitespace().skip(1).collect();
    let ran = podseal(&arguments);
    assert_text(ran.stdout.trim_end(), shown);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran}");
}

fn the_json_of_check_is_as_shown() {
    let page = read("docs/try-out.md");
    let shown = blocks(&page).into_iter().find(|(language, _)| *language == "json").expect("a JSON block").1;
    let shown: Value = serde_json::from_str(shown).unwrap();
    let policy = "deploy/samples/unchecked-registry.yaml";
    let ran = podseal(&["check", "--policy", policy, "--image", "nginx", "-o", "json"]);
    let mut found: Value = serde_json::from_str(&ran.stdout).unwrap();
    found["images"][0]["messages"] = serde_json::json!(["…"]);
    assert_eq!(shown, found);
}

fn the_entries_of_the_page_on_signing_are_taken_without_a_warning() {
    let page = read("docs/signing.md");
    let entries: Vec<_> = blocks(&page).into_iter().filter(|(_, block)| block.starts_with("  - registry: ")).collect();
    assert!(entries.len() > 3, "{entries:?}");
    let file = scratch::folder("signing").join("policy.yaml");
    let check = |entry: &str| {
        let header =
            "apiVersion: tmax.io/v1\nkind: ClusterRegistrySecurityPolicy\nmetadata: {name: p}\nspec:\n  registries:";
        std::fs::write(&file, format!("{header}\n{entry}\n")).unwrap();
        podseal(&["check", "--policy", file.to_str().unwrap(), "--image", "elsewhere.invalid/x:1"])
    };
    for (_, entry) in &entries {
        let ran = check(entry);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{entry}\n{ran}");
    }
    // Warnings would be seen.
    let (_, notary) = entries.iter().find(|(_, entry)| entry.contains("notaryTrust:")).expect("one with Notary");
    let without = notary.split("    notaryTrust:").next().unwrap();
    assert!(check(without).stderr.contains("notary"), "{}", check(without));
}
