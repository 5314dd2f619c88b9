//! What is to be made: from flags, and at a terminal from answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::Failure;
use super::choice::{self, PlannedKey};
use super::prompt::Terminal;
use crate::cli::args::imagemaker::{CreateArguments, KeyType, MakerArgument};
use crate::signing::makers::check_text;

/// A maker that is to be made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) full_name: String,
    /// Without one, that of the existing key.
    pub(super) email: Option<String>,
    pub(super) note: String,
    pub(super) key: PlannedKey,
}

/// The makers that were named, each with its path. The error says which two collide.
pub(super) fn wanted(arguments: &[MakerArgument]) -> Result<Vec<(String, String)>, Failure> {
    let usage = |why: String| Err(Failure::Usage(why));
    let all = match arguments {
        [] => vec![MakerArgument::usual()],
        [one] => vec![one.clone().only()],
        several => several.to_vec(),
    };
    let (mut names, mut paths) = (BTreeSet::new(), BTreeMap::new());
    let mut wanted = Vec::with_capacity(all.len());
    for maker in all {
        let Some(path) = maker.path else {
            return usage(format!("{0}: of several makers each needs a path: {0}@REGISTRY[/PATH]", maker.name));
        };
        if !names.insert(maker.name.clone()) {
            return usage(format!("the maker {} is named twice", maker.name));
        }
        if let Some(other) = paths.insert(path.clone(), maker.name.clone()) {
            return usage(format!("{other} and {} have the same path {path}: no two makers may", maker.name));
        }
        wanted.push((maker.name, path));
    }
    Ok(wanted)
}

/// The makers of `create` with everything that is to be known before anything is made.
pub(super) fn makers(arguments: &CreateArguments, now: SystemTime) -> Result<Vec<Plan>, Failure> {
    let wanted = wanted(&arguments.names)?;
    choice::check_flags(&arguments.key)?;
    if wanted.len() > 1 && arguments.email.is_some() {
        return Err(Failure::Usage("--email is for one maker: each has an address of its own".to_owned()));
    }
    if wanted.len() > 1 && arguments.key.key_type == Some(KeyType::Existing) {
        return Err(Failure::Usage("--key-type existing is for one maker: each has a key of its own".to_owned()));
    }
    let missing = choice::missing(&arguments.key, arguments.full_name.is_some());
    let mut terminal = choice::respondent(&missing)?;
    wanted.into_iter().map(|(name, path)| maker(arguments, name, path, terminal.as_mut(), now)).collect()
}

fn maker(
    arguments: &CreateArguments,
    name: String,
    path: String,
    mut terminal: Option<&mut Terminal>,
    now: SystemTime,
) -> Result<Plan, Failure> {
    if let Some(terminal) = &mut terminal {
        terminal.say(&format!("Image maker {name} for {path}"))?;
    }
    let kind = choice::key_type(&arguments.key, terminal.as_deref_mut())?;
    if kind == KeyType::Existing {
        if let Some(email) = &arguments.email {
            mailbox(email).map_err(|why| Failure::Usage(format!("E-mail: {why}")))?;
        }
        let key = PlannedKey::Existing(choice::existing(&arguments.key, terminal)?);
        let (full_name, note) = (arguments.full_name.clone(), arguments.note.clone());
        let (full_name, note) = (full_name.unwrap_or_default(), note.unwrap_or_default());
        for (flag, text) in [("Full name", &full_name), ("Note", &note)] {
            check_text(text).map_err(|why| Failure::Usage(format!("{flag}: {why}")))?;
        }
        return Ok(Plan { name, path, full_name, email: arguments.email.clone(), note, key });
    }
    let (bits, lifetime) = choice::size_and_lifetime(&arguments.key, kind, terminal.as_deref_mut(), now)?;
    let text =
        |flag: &Option<String>, question: &str, default: &str, terminal: Option<&mut Terminal>, read: Check| match (
            flag, terminal,
        ) {
            (Some(text), _) => read(text).map_err(|why| Failure::Usage(format!("{question}: {why}"))),
            (None, Some(terminal)) => terminal.ask(question, Some(default), read),
            (None, None) => Ok(default.to_owned()),
        };
    let usual = address(&name, &path);
    if arguments.email.is_none() && terminal.is_none() && mailbox(&usual).is_err() {
        return Err(Failure::Usage(format!(
            "--email is missing: {usual} cannot be an address in a key, because {path} names no domain"
        )));
    }
    let address = if mailbox(&usual).is_ok() { usual } else { String::new() };
    let full_name = text(&arguments.full_name, "Full name", "", terminal.as_deref_mut(), holder)?;
    let email = text(&arguments.email, "E-mail", &address, terminal.as_deref_mut(), mailbox)?;
    let note = text(&arguments.note, "Note", "", terminal.as_deref_mut(), plain)?;
    let passphrase = choice::passphrase(&arguments.key, &name, terminal)?;
    let key = PlannedKey::New { algorithm: choice::algorithm(kind), bits, lifetime, passphrase };
    Ok(Plan { name, path, full_name, email: Some(email), note, key })
}

type Check = fn(&str) -> Result<String, String>;

/// `NAME@HOST`, without the port that no address has.
fn address(name: &str, path: &str) -> String {
    let host = path.split('/').next().unwrap_or(path);
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    format!("{name}@{host}")
}

fn holder(text: &str) -> Result<String, String> {
    // What gpg takes from a file, shorter names than in its dialogue, too; nothing that could be taken for an address.
    if text.trim().is_empty() || text.contains('@') {
        return Err("a name without @ (--full-name)".to_owned());
    }
    plain(text)
}

fn mailbox(text: &str) -> Result<String, String> {
    let parts = text.split_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    // As gpg takes it, which asks only when the key is made.
    let fine = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "_-.".contains(c);
    let taken = parts.is_some_and(|(name, host)| {
        name.chars().all(|c| fine(c) || "!#$%&'*+/=?^`{|}~".contains(c)) && host.chars().all(fine)
    });
    let dots = text.starts_with('.') || text.ends_with('.') || text.contains("..") || text.contains("@.");
    if !taken || dots || text.contains(char::is_whitespace) {
        return Err("an address such as imagemaker@registry.local".to_owned());
    }
    plain(text)
}

fn plain(text: &str) -> Result<String, String> {
    check_text(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Result<Vec<(String, String)>, Failure> {
        wanted(&names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn one_maker_without_a_path_signs_for_the_local_registry() {
        let one = |name: &str, path: &str| vec![(name.to_owned(), path.to_owned())];
        assert_eq!(named(&[]).unwrap(), one("imagemaker", "registry.local"));
        assert_eq!(named(&["maker"]).unwrap(), one("maker", "registry.local"));
        assert_eq!(named(&["maker@registry.local/k8s"]).unwrap(), one("maker", "registry.local/k8s"));
    }

    #[test]
    fn several_makers_need_names_and_paths_of_their_own() {
        assert_eq!(named(&["a@registry.local", "b@registry.local/x"]).unwrap().len(), 2);
        for (names, said) in [
            (["a@registry.local", "b@REGISTRY.local"], "a and b have the same path registry.local"),
            (["a@registry.local", "a@registry.local/x"], "the maker a is named twice"),
            (["a@registry.local", "b"], "b: of several makers each needs a path"),
        ] {
            let Err(Failure::Usage(why)) = named(&names) else { panic!("{names:?}") };
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn an_address_is_made_of_name_and_host() {
        assert_eq!(address("immkk8s", "registry.local/k8s-c10f1"), "immkk8s@registry.local");
        assert_eq!(address("a", "registry.local:5000/x"), "a@registry.local");
        assert!(mailbox(&address("a", "[::1]:5000/x")).is_err());
        for fine in ["a@registry.local", "a@127.0.0.1", "a+b@x-y.z", "имя@пример.рф"] {
            mailbox(fine).unwrap();
        }
        for wrong in [
            "a@[::1]",
            "a@b.",
            "a@.b",
            "a@b..c",
            ".a@b",
            "a,b@c",
            "\"a\"@b",
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b<c>",
            "a@b\nName-Real: x",
        ] {
            assert!(mailbox(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", " ", "a@b.com", "Image <Maker>", "Image (Maker)", "Image\nMaker"] {
            assert!(holder(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(holder("Bob").unwrap(), "Bob", "gpg takes it, only not in its dialogue");
        assert_eq!(holder("Разработчик образов").unwrap(), "Разработчик образов");
    }
}
