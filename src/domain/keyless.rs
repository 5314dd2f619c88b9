//! Who counts as signer of a keyless signature: rules over what a certificate says, and their matching.
//!
//! A Fulcio certificate names the one who signed (its subject alternative names) and the issuer who vouched for him. Both
//! must fit the same rule: a name means something only together with who gave it.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Longest text or pattern of a rule, in bytes.
pub const MAX_RULE: usize = 1024;
/// Memory of a compiled pattern. Matching takes time linear in the text, times this at most.
const MAX_COMPILED: usize = 128 * 1024;
/// Nested groups and repetitions of a pattern.
const MAX_NESTING: u32 = 32;

/// A regular expression that must fit a whole text.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles a pattern in the syntax of the `regex` crate (RE2's: without look-around and back-references). It is
    /// anchored at both ends here, whatever it says itself; `.` fits no line break. The error says what is wrong.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.is_empty() || source.len() > MAX_RULE {
            return Err(format!("must have 1 to {MAX_RULE} bytes"));
        }
        let build = |text: &str| {
            let mut builder = RegexBuilder::new(text);
            builder.size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).nest_limit(MAX_NESTING);
            builder.build().map_err(|error| explain(&error))
        };
        // By itself first: something like `a)|(?:b` must not become a pattern by what is put around it.
        build(source)?;
        Ok(Self { source: source.to_owned(), regex: build(&format!(r"\A(?:{source})\z"))? })
    }

    /// Whether it fits the whole text.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// The last line of what the crate says, which names the fault; the lines before repeat the pattern.
fn explain(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "is too large once compiled: make it simpler".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            format!("is not a regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

/// What a text must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextRule {
    /// This text, byte for byte.
    Exact(String),
    /// Fitted by this pattern as a whole.
    Pattern(Pattern),
}

impl TextRule {
    /// Whether the text is as it must be. The empty text never is.
    pub fn accepts(&self, text: &str) -> bool {
        match self {
            _ if text.is_empty() => false,
            Self::Exact(exact) => exact == text,
            Self::Pattern(pattern) => pattern.matches(text),
        }
    }
}

/// The GitHub workflow extensions of Fulcio certificates (1.3.6.1.4.1.57264.1.2 to .1.6); as a rule, those that are given
/// must be equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workflow {
    /// `.1.2`, the event that started it, such as `push`.
    pub trigger: Option<String>,
    /// `.1.3`, the commit.
    pub sha: Option<String>,
    /// `.1.4`, the workflow's name.
    pub name: Option<String>,
    /// `.1.5`, such as `owner/name`.
    pub repository: Option<String>,
    /// `.1.6`, such as `refs/heads/main`.
    pub reference: Option<String>,
}

impl Workflow {
    fn accepts(&self, found: &Self) -> bool {
        let fits = |rule: &Option<String>, found: &Option<String>| rule.is_none() || rule == found;
        fits(&self.trigger, &found.trigger)
            && fits(&self.sha, &found.sha)
            && fits(&self.name, &found.name)
            && fits(&self.repository, &found.repository)
            && fits(&self.reference, &found.reference)
    }
}

/// One of `cosign.identities`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeylessIdentity {
    /// Who vouched.
    pub issuer: TextRule,
    /// Who signed.
    pub subject: TextRule,
    /// From which workflow.
    pub workflow: Workflow,
}

/// What a verified certificate says about the one who signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certified {
    /// The OIDC issuer.
    pub issuer: String,
    /// All subject alternative names of the kinds that name a signer.
    pub subjects: Vec<String>,
    /// The workflow extensions.
    pub workflow: Workflow,
}

impl KeylessIdentity {
    /// The first of the certificate's names that the rule accepts; `None` when the certificate does not fit.
    pub fn accepts<'a>(&self, certified: &'a Certified) -> Option<&'a str> {
        if !self.issuer.accepts(&certified.issuer) || !self.workflow.accepts(&certified.workflow) {
            return None;
        }
        certified.subjects.iter().map(String::as_str).find(|subject| self.subject.accepts(subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> TextRule {
        TextRule::Exact(text.to_owned())
    }

    fn pattern(text: &str) -> TextRule {
        TextRule::Pattern(Pattern::new(text).expect("a pattern"))
    }

    fn certified() -> Certified {
        Certified {
            issuer: "https://issuer.test".into(),
            subjects: vec!["first@example.test".into(), "dev@example.test".into()],
            workflow: Workflow {
                repository: Some("team/app".into()),
                reference: Some("refs/heads/main".into()),
                ..Workflow::default()
            },
        }
    }

    fn rule(issuer: TextRule, subject: TextRule) -> KeylessIdentity {
        KeylessIdentity { issuer, subject, workflow: Workflow::default() }
    }

    #[test]
    fn e16_issuer_and_subject_are_both_honoured_exact_and_as_patterns() {
        for issuer in [exact("https://issuer.test"), pattern("https://issuer\\.test"), pattern("https://.*")] {
            for subject in [exact("dev@example.test"), pattern("dev@example\\.test"), pattern("[dev]+@.+")] {
                let rule = rule(issuer.clone(), subject);
                assert_eq!(rule.accepts(&certified()), Some("dev@example.test"), "{rule:?}");
            }
        }
        for (issuer, subject) in [
            (exact("https://other.test"), exact("dev@example.test")),
            (exact("https://issuer.test/"), exact("dev@example.test")),
            (pattern("http://.*"), pattern(".*")),
            (pattern(".*"), exact("Dev@example.test")),
            (pattern(".*"), pattern("dev")),
            (exact("https://issuer.test"), exact("")),
        ] {
            let rule = rule(issuer, subject);
            assert_eq!(rule.accepts(&certified()), None, "{rule:?}");
        }
    }

    #[test]
    fn e16_a_pattern_fits_the_whole_text_whatever_it_says_itself() {
        for (source, fits, differs) in [
            ("a|b", "a", "ax"),
            ("a|b", "b", "xb"),
            ("^dev@x\\.io$", "dev@x.io", "dev@x.io\n"),
            ("(?m)^dev$", "dev", "dev\nother"),
            ("(?s).*", "a\nb", ""),
            (".*", "ab", "a\nb"),
            ("x?", "x", ""),
        ] {
            let rule = pattern(source);
            assert!(rule.accepts(fits) && !rule.accepts(differs), "{source}");
        }
    }

    #[test]
    fn e16_a_pattern_that_breaks_out_of_its_anchors_is_none() {
        for source in ["a)|(?:b", "a)|(b", "(", "(?x)a # comment", "\\", "[a", "(?=a)", "(a)\\1", ""] {
            assert!(Pattern::new(source).is_err(), "{source}");
        }
        let twice = format!("{0}|{0}", "(?:".repeat(40) + "a" + &")".repeat(40));
        for source in ["\\pL{1000}", "(?:a{100}){100}", &twice, &"a".repeat(MAX_RULE + 1)] {
            assert!(Pattern::new(source).is_err(), "{source}");
        }
    }

    #[test]
    fn workflow_extensions_must_be_equal_where_they_are_asked_for() {
        let rule = |repository: &str, sha: Option<&str>| KeylessIdentity {
            workflow: Workflow {
                repository: Some(repository.to_owned()),
                sha: sha.map(str::to_owned),
                ..Workflow::default()
            },
            ..rule(pattern(".*"), pattern(".*"))
        };
        assert!(rule("team/app", None).accepts(&certified()).is_some());
        assert!(rule("team/ap", None).accepts(&certified()).is_none());
        assert!(rule("team/app", Some("0")).accepts(&certified()).is_none(), "an extension that is absent");
    }

    #[test]
    fn a_certificate_without_names_or_issuer_fits_nothing() {
        let all = rule(pattern("(?s).*"), pattern("(?s).*"));
        assert!(all.accepts(&Certified { issuer: String::new(), ..certified() }).is_none());
        assert!(all.accepts(&Certified { subjects: vec![], ..certified() }).is_none());
        assert!(all.accepts(&Certified { subjects: vec![String::new()], ..certified() }).is_none());
    }
}
