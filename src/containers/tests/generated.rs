//! Both conversions of what a seed makes: for no image do they ask for less than what they are made of, without a note.
//!
//! No registry is asked, so that Docker Hub and domains can be had. That nodes choose scopes as [`ContainersPolicy`] does is
//! compared with containers/image in the integration tests.

use std::collections::BTreeSet;

use super::*;
use crate::domain::policy::PolicySet;
use crate::source::registries_d::Names;

/// splitmix64.
struct Seed(u64);

impl Seed {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).expect("small")
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Docker Hub with and without `library`, capitals, domains, ports, domains with path and port, a tag.
const SCOPES: &[&str] = &[
    "docker.io",
    "docker.io/library",
    "docker.io/foo",
    "docker.io/library/foo",
    "docker.io/foo/bar",
    "registry-1.docker.io",
    "a.example.com",
    "a.example.com/p",
    "a.example.com/p/app",
    "a.example.com/p/app:1",
    "A.example.com",
    "A.example.com/p",
    "a.example.com:5000",
    "a.example.com:5000/p",
    "*.a.example.com",
    "*.example.com",
    "*.Example.com",
    "*.com",
    "*.example.com/p",
    "*.example.com:5000",
    "localhost:5000",
];

/// Registries of policies, which have domains with path and port.
const REGISTRIES: &[&str] = &[
    "*",
    "docker.io",
    "docker.io/library",
    "docker.io/foo",
    "docker.io/library/foo",
    "docker.io/foo/bar",
    "a.example.com",
    "a.example.com/p",
    "a.example.com:5000",
    "*.example.com",
    "*.example.com/p",
    "*.example.com:5000",
    "*.a.example.com",
    "*.a.example.com/p",
    "*.a.example.com:5000/p",
    "*.com",
    "*.com/p",
    "*.com:5000",
];

const IMAGES: &[&str] = &[
    "foo:1",
    "docker.io/foo/bar:1",
    "bar:1",
    "other/x:1",
    "registry-1.docker.io/library/foo:1",
    "a.example.com/p/app:1",
    "a.example.com/p/app:2",
    "a.example.com/q:1",
    "A.example.com/p/app:1",
    "a.Example.com/q:1",
    "a.example.com:5000/p/app:1",
    "a.example.com:5000/q:1",
    "x.a.example.com/p/app:1",
    "x.a.example.com/q:1",
    "x.a.example.com:5000/p/app:1",
    "x.a.example.com:5000/q:1",
    "b.example.com/p:1",
    "b.example.com/q:1",
    "b.example.com:5000/q:1",
    "b.example.com:5001/q:1",
    "z.com/p:1",
    "z.com:5000/q:1",
    "localhost:5000/q:1",
    "LOCALHOST:5000/q:1",
    "z.org/q:1",
];

/// What an image needs: `None` is never met; keys each with the place of the signatures.
type Needs = Option<BTreeSet<String>>;

/// What nodes ask for, by these files.
fn on_nodes(
    policy: &ContainersPolicy,
    registries_d: Option<&RegistriesD>,
    image: &str,
    key: impl Fn(&Key) -> String,
) -> Needs {
    let parsed: ImageRef = image.parse().expect("an image");
    let names = Names::as_written(image, &parsed).unwrap_or_else(|| Names::of(&parsed));
    let none = RegistriesD::default();
    let files = registries_d.unwrap_or(&none);
    let name = names.scopes().nth(1).expect("the name behind name:tag").to_owned();
    let place = files.lookaside_of(&name).map_or("-".to_owned(), ToString::to_string);
    // Without any file the store is what it is: a note says so.
    let place = if registries_d.is_some() { place } else { "?".to_owned() };
    let mut needs = BTreeSet::new();
    for requirement in policy.requirements_for(&names).1 {
        match requirement {
            Requirement::AcceptAnything => {}
            Requirement::SignedBy(by) => drop(needs.insert(format!("gpg {} {place}", key(by.keys.first()?)))),
            Requirement::Sigstore(by) => match &by.signer {
                SigstoreSigner::Keys(keys) if files.sigstore_attachments(&names) => {
                    needs.insert(format!("cosign {}", key(keys.first()?)));
                }
                _ => return None,
            },
            _ => return None,
        }
    }
    Some(needs)
}

/// What policies ask for.
fn at_admission(policies: &[Policy], objects: &FileObjects, image: &str, places: bool) -> Needs {
    let image: ImageRef = image.parse().expect("an image");
    let governing = PolicySet::new(policies).governing_cluster(image.repository());
    let secret = |name: &str, namespace: &str| {
        let secret = &objects.secrets[&(namespace.to_owned(), name.to_owned())];
        plain(secret.data.values().next().expect("a key"))
    };
    let mut needs = BTreeSet::new();
    for entry in &governing {
        match &entry.check {
            Check::Unchecked => {}
            Check::Broken(why) => panic!("{why}"),
            Check::Signed(check) => match (&check.gpg, &check.cosign) {
                (Some(gpg), _) => {
                    let place = if places { gpg.lookaside.as_deref().unwrap_or("-") } else { "?" };
                    needs.insert(format!("gpg {} {place}", secret(&gpg.key_ref.name, &gpg.key_ref.namespace)));
                }
                (None, Some(cosign)) => {
                    let key = cosign.key_ref.as_ref()?;
                    needs.insert(format!("cosign {}", secret(&key.name, &key.namespace)));
                }
                (None, None) => return None,
            },
        }
    }
    (!governing.is_empty()).then_some(needs)
}

/// Whether the second one lets anything pass that the first one does not.
fn looser(first: &Needs, second: &Needs) -> bool {
    match (first, second) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(first), Some(second)) => !first.is_subset(second),
    }
}

/// Without line breaks, which PEM may have anywhere.
fn plain(content: &[u8]) -> String {
    String::from_utf8_lossy(content).split_whitespace().collect()
}

/// Content of a key: GPG keys are not read by this conversion, so any text does.
fn content(key: &Key) -> String {
    match key {
        Key::Data(data) => plain(data),
        Key::File(file) => panic!("{}", file.display()),
    }
}

fn requirements(seed: &mut Seed, pem: &str) -> Value {
    let one = |seed: &mut Seed| match seed.below(10) {
        0..=2 => json!({"type": "insecureAcceptAnything"}),
        3..=4 => json!({"type": "reject"}),
        5 | 6 => json!({"type": "sigstoreSigned", "keyData": base64::prelude::BASE64_STANDARD.encode(pem)}),
        _ => {
            let key = base64::prelude::BASE64_STANDARD.encode(format!("key {}", seed.below(3)));
            json!({"type": "signedBy", "keyType": "GPGKeys", "keyData": key})
        }
    };
    (0..=usize::from(seed.chance(20))).map(|_| one(seed)).collect()
}

fn sections(seed: &mut Seed) -> String {
    let section = |seed: &mut Seed| {
        let mut members = vec![format!("use-sigstore-attachments: {}", seed.chance(70))];
        if seed.chance(60) {
            members.push(format!("lookaside: 'http://s{}.local/'", seed.below(3)));
        }
        members.join(", ")
    };
    let mut text = String::new();
    if seed.chance(80) {
        text = format!("default-docker: {{{}}}\n", section(seed));
    }
    let scopes: Vec<_> = SCOPES.iter().filter(|scope| !scope.ends_with(":1") && seed.chance(15)).copied().collect();
    let lines: Vec<_> = scopes.iter().map(|scope| format!("  '{scope}': {{{}}}\n", section(seed))).collect();
    if lines.is_empty() { text } else { format!("{text}docker:\n{}", lines.concat()) }
}

#[test]
fn policies_made_of_a_policy_json_ask_for_no_less_without_a_note() {
    let pem = CosignKey::new().pem;
    let mut seed = Seed(20_261_123);
    let (mut open, mut told, mut equal) = (0, 0, 0);
    for number in 0..1500 {
        let docker: serde_json::Map<_, _> = {
            let scopes: Vec<_> = SCOPES.iter().filter(|_| seed.chance(22)).copied().collect();
            scopes.into_iter().map(|scope| (scope.to_owned(), requirements(&mut seed, &pem))).collect()
        };
        let policy = json!({"default": requirements(&mut seed, &pem), "transports": {"docker": docker}});
        let text = seed.chance(75).then(|| sections(&mut seed));
        let folder = tempfile::tempdir().expect("folder");
        let registries_d = text.as_ref().map(|text| {
            std::fs::write(folder.path().join("a.yaml"), text).expect("written");
            RegistriesD::load_as_written(folder.path()).expect("registries.d")
        });
        let read = parse(&policy);
        let made = convert(&read, registries_d.as_ref(), &naming()).expect("converted");
        let (policies, objects) = taken(&made);
        let notes = made.notes.join("\n");
        for image in IMAGES {
            let before = on_nodes(&read, registries_d.as_ref(), image, content);
            let after = at_admission(&policies, &objects, image, registries_d.is_some());
            let odd = Names::as_written(image, &image.parse().expect("an image")).is_some();
            let excused = odd && notes.contains("nodes compare hosts as they are written");
            let looser = looser(&before, &after);
            assert!(
                excused || !looser,
                "case {number}, {image}: {before:?} became {after:?}\n{policy:#}\n{text:?}\n{}\n{notes}",
                made.documents.concat()
            );
            open += usize::from(after.is_some());
            told += usize::from(looser);
            equal += usize::from(before == after);
        }
    }
    let all = 1500 * IMAGES.len();
    assert!(open > all / 4 && equal > all / 2 && told < all / 10, "{open} {equal} {told} of {all}");
}

#[tokio::test]
async fn nodes_made_of_policies_ask_for_no_less_without_a_note() {
    let keys = ["one", "two", "three"].map(|name| GpgKey::new(name).public());
    let named = ["one", "two", "three"].map(|name| format!("{name}.pgp"));
    let list: Vec<_> =
        ["one", "two", "three"].into_iter().zip(&named).zip(&keys).map(|((n, f), k)| (n, f.as_str(), &k[..])).collect();
    let objects = objects(&list);
    let mut seed = Seed(7);
    let (mut open, mut told, mut equal) = (0, 0, 0);
    for number in 0..800 {
        let mut entries = Vec::new();
        for registry in REGISTRIES {
            while seed.chance(18) {
                entries.push(match seed.below(10) {
                    0..=2 => json!({"registry": registry, "signCheck": false}),
                    3 => json!({"registry": registry, "signCheck": true}),
                    _ => {
                        let key = ["one", "two", "three"][seed.below(3)];
                        json!({"registry": registry, "signCheck": true, "gpgKeyRef": format!("k8s://team/{key}"),
                            "lookaside": if seed.chance(80) { "http://s.local/" } else { "http://t.local/" }})
                    }
                });
            }
        }
        let policies = cluster_policy(&json!(entries));
        let files = nodes(&policies, &objects).await;
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("a.yaml"), &files.registries_d).expect("written");
        let registries_d = RegistriesD::load_as_written(folder.path()).expect("registries.d");
        let read = ContainersPolicy::parse(files.policy.as_bytes()).expect("a policy");
        let key = |key: &Key| match key {
            Key::File(path) => {
                let name = path.file_name().expect("name").to_string_lossy().into_owned();
                plain(&files.keys[&name])
            }
            Key::Data(_) => panic!("files"),
        };
        let notes = files.notes.join("\n");
        for image in IMAGES {
            let before = at_admission(&policies, &objects, image, true);
            let after = on_nodes(&read, Some(&registries_d), image, key);
            let parsed: ImageRef = image.parse().expect("an image");
            let odd = Names::as_written(image, &parsed).is_some();
            let port = parsed.repository().host().contains(':');
            let excused = (odd && notes.contains("nodes compare hosts as they are written"))
                || (port
                    && before.is_none()
                    && notes.contains("weaker on nodes: on nodes it covers hosts with a port, too"));
            let looser = looser(&before, &after);
            assert!(
                excused || !looser,
                "case {number}, {image}: {before:?} became {after:?}\n{entries:#?}\n{}\n{notes}",
                files.policy
            );
            open += usize::from(after.is_some());
            told += usize::from(looser);
            equal += usize::from(before == after);
        }
    }
    let all = 800 * IMAGES.len();
    assert!(open > all / 8 && equal > all / 3 && told < all / 10, "{open} {equal} {told} of {all}");
}
