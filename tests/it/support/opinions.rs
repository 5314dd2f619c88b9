//! podseal's answers beside those of another verifier.
//!
//! Each case says what podseal is to answer and, for a refusal, by which words; so two programs that refuse for reasons
//! of their own do not count as agreeing. Where the other verifier answers differently, a list of deviations says why.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::podseal::podseal;
use super::scratch;

/// What a verifier answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The image may run.
    Accepts,
    /// It may not, whatever the reason.
    Refuses,
}

/// An answer with the words that came with it.
#[derive(Debug, Clone)]
pub struct Opinion {
    /// The answer.
    pub answer: Answer,
    /// All that was said.
    pub words: String,
}

/// What a case expects of podseal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The image may run.
    Accepted,
    /// It may not, and podseal's words have this in them.
    Refused(&'static str),
}

/// A case in which podseal knowingly answers differently.
#[derive(Debug, Clone, Copy)]
pub struct Deviation {
    /// The name of the case.
    pub case: &'static str,
    /// What podseal answers; the other verifier answers the opposite.
    pub podseal: Answer,
    /// Why that is right.
    pub reason: &'static str,
}

/// The answers to all cases.
#[derive(Debug)]
pub struct Table {
    other: &'static str,
    deviations: &'static [Deviation],
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    case: String,
    expected: Expected,
    podseal: Opinion,
    other: Opinion,
}

impl Answer {
    fn of(accepts: bool) -> Self {
        if accepts { Self::Accepts } else { Self::Refuses }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Accepts => "accepts",
            Self::Refuses => "refuses",
        }
    }
}

impl Opinion {
    /// An answer with its words.
    pub fn new(accepts: bool, words: &str) -> Self {
        Self { answer: Answer::of(accepts), words: words.split_whitespace().collect::<Vec<_>>().join(" ") }
    }

    /// What `podseal check` says about an image under these objects. Its exit status and its report must agree.
    #[track_caller]
    pub fn podseal(image: &str, objects: &[Value]) -> Self {
        let file =
            file("policy.json", json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string().as_bytes());
        let ran = podseal(&["check", "--policy", file.to_str().unwrap(), "--image", image, "-o", "json"]);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
        let code = match report["images"][0]["verdict"].as_str() {
            Some("Allowed") => 0,
            Some("Denied") => 1,
            Some("Error") => 2,
            _ => panic!("{ran}"),
        };
        assert_eq!(ran.code, Some(code), "{ran}");
        assert_eq!(report["allowed"], code == 0, "{ran}");
        // Unchecked or whitelisted would say nothing about signatures.
        assert!(code != 0 || report["images"][0]["reason"] == "Signed", "{ran}");
        Self::new(code == 0, &format!("{} {}", report["images"][0]["messages"], ran.stderr))
    }
}

impl Table {
    /// An empty one; `other` is the name of the other verifier.
    pub fn new(other: &'static str, deviations: &'static [Deviation]) -> Self {
        Self { other, deviations, rows: Vec::new() }
    }

    /// Adds a case.
    pub fn add(&mut self, case: &str, expected: Expected, podseal: Opinion, other: Opinion) {
        self.rows.push(Row { case: case.to_owned(), expected, podseal, other });
    }

    /// Prints the table; fails when there are [errors](Self::errors) or fewer than `least` cases.
    #[track_caller]
    pub fn check(&self, least: usize) {
        eprintln!("{}", self.text());
        let errors = self.errors();
        assert!(errors.is_empty(), "{} errors in {} cases\n{}", errors.len(), self.rows.len(), errors.join("\n"));
        assert!(self.rows.len() >= least, "{} cases, fewer than {least}", self.rows.len());
    }

    /// Answers other than expected, answers that differ without a deviation in the list, and listed deviations that are
    /// none.
    pub fn errors(&self) -> Vec<String> {
        let mut errors: Vec<_> = self.rows.iter().filter_map(|row| self.error(row)).collect();
        for deviation in self.deviations {
            match self.rows.iter().filter(|row| row.case == deviation.case).count() {
                1 => {}
                0 => errors.push(format!("{}: a deviation without a case", deviation.case)),
                _ => errors.push(format!("{}: a deviation with several cases", deviation.case)),
            }
        }
        let mut names: Vec<_> = self.rows.iter().map(|row| &row.case).collect();
        names.sort();
        errors.extend(names.windows(2).filter(|two| two[0] == two[1]).map(|two| format!("{}: repeated", two[0])));
        errors
    }

    fn deviation(&self, case: &str) -> Option<&Deviation> {
        self.deviations.iter().find(|deviation| deviation.case == case)
    }

    fn error(&self, row: &Row) -> Option<String> {
        let Row { case, expected, podseal, other } = row;
        let said = || format!("\n  podseal: {}\n  {}: {}", podseal.words, self.other, other.words);
        let wanted = match expected {
            Expected::Accepted => podseal.answer == Answer::Accepts,
            Expected::Refused(words) => podseal.answer == Answer::Refuses && podseal.words.contains(words),
        };
        if !wanted {
            return Some(format!("{case}: podseal {}, expected {expected:?}{}", podseal.answer.word(), said()));
        }
        let (ours, theirs) = (podseal.answer.word(), other.answer.word());
        match self.deviation(case) {
            None if ours != theirs => Some(format!("{case}: podseal {ours}, {} {theirs}{}", self.other, said())),
            Some(_) if ours == theirs => Some(format!("{case}: listed as a deviation, but both {ours}{}", said())),
            Some(listed) if listed.podseal != podseal.answer => {
                Some(format!("{case}: podseal {ours}, against the list"))
            }
            _ => None,
        }
    }

    fn text(&self) -> String {
        let width = self.rows.iter().map(|row| row.case.len()).max().unwrap_or(0);
        let mut text = format!("\n{:width$}  podseal  {:7}  deviation\n", "case", self.other);
        for row in &self.rows {
            let (ours, theirs) = (row.podseal.answer.word(), row.other.answer.word());
            let reason = self.deviation(&row.case).map_or("", |deviation| deviation.reason);
            writeln!(text, "{}", format!("{:width$}  {ours}  {theirs}  {reason}", row.case).trim_end()).unwrap();
        }
        let deviations = self.rows.iter().filter(|row| row.podseal.answer != row.other.answer).count();
        writeln!(text, "{} cases, {deviations} deviations", self.rows.len()).unwrap();
        text
    }
}

/// A cluster policy with one entry, which checks signatures of a registry or repository.
pub fn policy(registry: &str, entry: &Value) -> Value {
    let mut entry = entry.clone();
    entry["registry"] = registry.into();
    entry["signCheck"] = true.into();
    entry["insecure"] = true.into();
    json!({
        "apiVersion": "tmax.io/v1",
        "kind": "ClusterRegistrySecurityPolicy",
        "metadata": {"name": "differential"},
        "spec": {"registries": [entry]},
    })
}

/// A Secret in podseal's own namespace.
pub fn secret(name: &str, files: &[(String, Vec<u8>)]) -> Value {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let data: serde_json::Map<_, _> = files.iter().map(|(name, bytes)| (name.clone(), encode(bytes).into())).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "registry-system"},
        "data": data,
    })
}

/// A new file of the run.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let file = scratch::folder("opinion").join(name);
    std::fs::write(&file, bytes).unwrap();
    file
}
