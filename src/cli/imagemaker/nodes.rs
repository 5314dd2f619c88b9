//! `podseal imagemaker policy`: what nodes are to ask for, for all makers; or the cluster.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Failure, entries};
use crate::cli::args::imagemaker::PolicyArguments;
use crate::cli::output::{complain, new_directory, print};
use crate::containers::ContainersPolicy;
use crate::signing::makers::{Maker, Makers};

pub(super) fn run(arguments: &PolicyArguments) -> Result<ExitCode, Failure> {
    let makers = Makers::read(&arguments.host.dir)?;
    if makers.list().is_empty() {
        return Err(Failure::Failed(format!(
            "{}: no image makers: podseal imagemaker create makes them",
            arguments.host.dir.display()
        )));
    }
    match &arguments.out {
        Some(out) => write(out, arguments, &makers)?,
        None if arguments.entries.apply => entries::apply(makers.list(), &arguments.entries)?,
        None => print(&entries::yaml(makers.list(), &arguments.entries)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// policy.json: a scope for each maker, of which nodes take the longest that covers an image; everything else is rejected.
fn policy_json(makers: &[Maker], node_keys: &Path) -> Result<String, Failure> {
    let mut docker = serde_json::Map::new();
    for maker in makers {
        let rule = json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": node_keys.join(&maker.key_file)}]);
        for scope in scopes(&maker.path) {
            docker.insert(scope, rule.clone());
        }
    }
    let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": docker}});
    let text = format!("{policy:#}\n");
    // Read as nodes read it: one mistake in it and they pull nothing.
    ContainersPolicy::parse(text.as_bytes()).map_err(|error| Failure::Failed(format!("policy.json: {error}")))?;
    Ok(text)
}

/// Nodes know official images by their whole names alone.
fn scopes(path: &str) -> Vec<String> {
    match path.strip_prefix("docker.io/") {
        Some(name) if !name.contains('/') => vec![path.to_owned(), format!("docker.io/library/{name}")],
        _ => vec![path.to_owned()],
    }
}

/// registries.d: where signatures are read, under both names, the newer and the one that CRI-O before 1.26 knows.
///
/// As soon as two makers differ, each has a section of its own: a maker without one would be sent to the store of a maker
/// whose path lies around its own, and not to the default.
fn registries_d(makers: &[Maker], staging: Option<&Path>) -> String {
    let mut text = "# Made by podseal imagemaker policy. It stands in for the file of this name that comes with the packages, because\n\
                    # default-docker may be in one file only.\n"
        .to_owned();
    let stores: Vec<_> = makers.iter().map(|maker| maker.lookaside.as_deref()).collect();
    let differ = stores.iter().any(|store| Some(store) != stores.first());
    // A section that names no store is passed over. With one for all images, makers without a store would be sent to it.
    let common = if stores.contains(&None) { None } else { most(&stores) };
    let section = |indent: &str, store: Option<&str>| {
        let mut lines = String::new();
        if let Some(store) = store {
            let store = Value::from(store);
            let _ = writeln!(lines, "{indent}lookaside: {store}\n{indent}sigstore: {store}");
        }
        if let Some(folder) = staging {
            let _ =
                writeln!(lines, "{indent}lookaside-staging: {}", Value::from(format!("file://{}", folder.display())));
        }
        lines
    };
    let _ = write!(text, "default-docker:\n{}", section("  ", common));
    if differ {
        text.push_str("docker:\n");
    }
    for maker in makers.iter().filter(|_| differ) {
        for scope in scopes(&maker.path) {
            let _ = write!(text, "  {}:\n{}", Value::from(scope), section("    ", maker.lookaside.as_deref()));
        }
    }
    text
}

/// The store that most makers have.
fn most<'a>(stores: &[Option<&'a str>]) -> Option<&'a str> {
    stores.iter().max_by_key(|store| stores.iter().filter(|other| other == store).count()).copied().flatten()
}

/// Makers without a store below the path of one that has a store: registries.d cannot say of them that there is none.
fn misled(makers: &[Maker]) -> Vec<String> {
    let around = |inner: &Maker| {
        let around = |outer: &&Maker| inner.path.strip_prefix(&outer.path).is_some_and(|rest| rest.starts_with('/'));
        makers.iter().filter(around).max_by_key(|outer| outer.path.len()).and_then(|outer| outer.lookaside.as_deref())
    };
    let storeless = makers.iter().filter(|maker| maker.lookaside.is_none());
    let found = storeless.filter_map(|maker| Some((maker, around(maker)?)));
    let note = |(maker, store): (&Maker, &str)| {
        format!("note: {} has no lookaside, and nodes will look for its signatures in {store}: give it one", maker.path)
    };
    found.map(note).collect()
}

/// `policy.json`, registries.d and the keys of all makers, in one new directory.
fn write(out: &Path, arguments: &PolicyArguments, makers: &Makers) -> Result<(), Failure> {
    let list = makers.list();
    let staging = arguments.host.dir.join("sigstore/");
    let policy = policy_json(list, &arguments.node_keys)?;
    let registries = registries_d(list, arguments.staging.then_some(staging.as_path()));
    let mut keys = Vec::new();
    for maker in list {
        keys.push((Path::new("keys").join(&maker.key_file), makers.key_file_of(maker)?));
    }
    let mut files =
        vec![("policy.json".into(), policy.as_bytes()), ("registries.d/default.yaml".into(), registries.as_bytes())];
    files.extend(keys.iter().map(|(name, content)| (name.clone(), content.as_slice())));
    new_directory(out, &["keys".as_ref(), "registries.d".as_ref()], &files).map_err(Failure::Failed)?;
    print(&format!(
        "{0}/policy.json and {0}/registries.d/default.yaml belong into /etc/containers of every node, {0}/keys/ into {1}\n",
        out.display(),
        arguments.node_keys.display()
    ));
    for note in misled(list) {
        complain(&note);
    }
    complain(
        "note: nodes reject every image of another registry, those of the node itself (sandbox, network) included",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::registries_d::RegistriesD;

    fn maker(name: &str, path: &str, lookaside: &str) -> Maker {
        Maker {
            name: name.to_owned(),
            path: path.to_owned(),
            email: String::new(),
            full_name: String::new(),
            note: String::new(),
            key_file: format!("{name}.pgp"),
            gnupg_home: None,
            lookaside: Some(lookaside.to_owned()),
            insecure: false,
            keys: Vec::new(),
        }
    }

    #[test]
    fn every_maker_has_a_scope_and_the_rest_is_rejected() {
        let store = "http://sigstore.local:81/sigstore/";
        let makers = [
            maker("imklocal", "registry.local", store),
            maker("immkk8s", "registry.local/k8s-c10f1", store),
            maker("hub", "docker.io/nginx", store),
        ];
        let text = policy_json(&makers, Path::new("/var/sigstore/keys")).unwrap();
        let policy: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(policy["default"], json!([{"type": "reject"}]));
        let docker = policy["transports"]["docker"].as_object().unwrap();
        assert_eq!(docker.len(), 4, "{docker:?}");
        let key = |scope: &str| docker[scope][0]["keyPath"].as_str().unwrap();
        assert_eq!(key("registry.local/k8s-c10f1"), "/var/sigstore/keys/immkk8s.pgp");
        assert_eq!(key("docker.io/library/nginx"), key("docker.io/nginx"));
    }

    #[test]
    fn registries_d_has_both_names_and_a_section_for_another_store() {
        let folder = tempfile::tempdir().unwrap();
        let common = "http://sigstore.local:81/sigstore/";
        let makers = [
            maker("a", "registry.local", common),
            maker("b", "registry.local/x", common),
            maker("c", "other.local", "http://other.local/s"),
        ];
        let text = registries_d(&makers, Some(Path::new("/var/sigstore/sigstore/")));
        assert_eq!(
            text.matches("\n  lookaside: \"http://sigstore.local:81/sigstore/\"\n  sigstore: ").count(),
            1,
            "{text}"
        );
        assert_eq!(text.matches("lookaside-staging: \"file:///var/sigstore/sigstore/\"").count(), 4, "{text}");
        assert!(text.contains("  \"other.local\":\n    lookaside: \"http://other.local/s\"\n"), "{text}");
        std::fs::write(folder.path().join("default.yaml"), &text).unwrap();
        RegistriesD::load_as_written(folder.path()).unwrap();
        assert!(!registries_d(&makers[..2], None).contains("docker:\n  \""));
    }

    /// Where nodes with this registries.d look for signatures of an image; `-` is nowhere.
    fn store_of(text: &str, image: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("default.yaml"), text).unwrap();
        let read = RegistriesD::load_as_written(folder.path()).unwrap();
        let found = read.lookaside(&image.parse::<crate::domain::image::ImageRef>().unwrap());
        found.map_or("-".to_owned(), ToString::to_string)
    }

    #[test]
    fn nested_makers_each_have_their_own_store() {
        let (common, other) = ("http://sigstore.local:81/sigstore", "http://other.local/sigstore");
        let makers = [
            maker("a", "registry.local", common),
            maker("b", "registry.local/x/y", common),
            maker("c", "registry.local/x", other),
            maker("hub", "docker.io", other),
            maker("nginx", "docker.io/nginx", common),
        ];
        for staging in [None, Some(Path::new("/var/sigstore/sigstore/"))] {
            let text = registries_d(&makers, staging);
            for (image, store) in [
                ("registry.local/app:1", common),
                ("registry.local/x/app:1", other),
                ("registry.local/x/y/app:1", common),
                ("registry.local/x/yy/app:1", other),
                ("docker.io/team/app:1", other),
                ("nginx:1", common),
            ] {
                assert_eq!(store_of(&text, image).trim_end_matches('/'), store, "{image}\n{text}");
            }
        }
        assert_eq!(misled(&makers), Vec::<String>::new());
    }

    #[test]
    fn a_maker_without_a_store_is_sent_to_none_or_it_is_said() {
        let store = "http://other.local/sigstore";
        let mut makers = [maker("a", "registry.local", store), maker("b", "elsewhere.local", store)];
        makers[1].lookaside = None;
        let text = registries_d(&makers, None);
        assert_eq!(store_of(&text, "registry.local/app:1").trim_end_matches('/'), store, "{text}");
        assert_eq!(store_of(&text, "elsewhere.local/app:1"), "-", "{text}");
        assert_eq!(misled(&makers), Vec::<String>::new());
        makers[1].path = "registry.local/x".to_owned();
        let notes = misled(&makers);
        assert!(notes.len() == 1 && notes[0].contains("registry.local/x has no lookaside"), "{notes:?}");
        makers[1].path = "registry.localx".to_owned();
        assert_eq!(misled(&makers), Vec::<String>::new(), "not below it");
    }
}
