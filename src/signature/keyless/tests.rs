use std::path::Path;

use super::{Evidence, TrustRoot};
use crate::domain::keyless::{KeylessIdentity, TextRule, Workflow};
use crate::signature::cosign::{PublicKeys, Signer, Trust};

const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/\
                        extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

fn text(path: &Path, default: &str) -> String {
    std::fs::read_to_string(path).map_or_else(|_| default.to_owned(), |text| text.trim().to_owned())
}

/// One case as its README says; the error is why it is refused.
fn judge(case: &Path) -> Result<(), String> {
    let root = std::fs::read(case.join("trusted_root.json"));
    let root = root.map_or_else(|_| TrustRoot::public_good(), |json| TrustRoot::parse(&json))?;
    let artifact = std::fs::read(case.join("artifact")).or_else(|_| std::fs::read(case.with_file_name("a.txt")));
    let artifact = artifact.map_err(|error| error.to_string())?;
    let bundle = std::fs::read(case.join("bundle.sigstore.json")).map_err(|error| error.to_string())?;
    let key = std::fs::read(case.join("key.pub")).ok();
    let keys = key.as_ref().map(|pem| PublicKeys::from_pem(pem).0).unwrap_or_default();
    let trust = Trust {
        keys: &keys,
        root: Some(&root),
        log_for_keys: true,
        keyless: key.is_none().then_some(Evidence { log: true, sct: true }),
        attestations: true,
    };
    let rule = KeylessIdentity {
        issuer: TextRule::Exact(text(&case.join("issuer"), ISSUER)),
        subject: TextRule::Exact(text(&case.join("identity"), IDENTITY)),
        workflow: Workflow::default(),
    };
    match trust.artifact(&bundle, &artifact).map_err(|error| error.to_string())? {
        Signer::Key(_) => Ok(()),
        Signer::Certificate(certified) => {
            rule.accepts(&certified).map(drop).ok_or_else(|| format!("another identity: {certified:?}"))
        }
    }
}

/// The vectors of Sigstore's conformance suite, where they are at hand: the folder `bundle-verify` of its assets.
#[test]
fn the_conformance_vectors_give_the_expected_answers() {
    let Some(directory) = std::env::var_os("PODSEAL_SIGSTORE_CONFORMANCE") else {
        eprintln!("skipped: PODSEAL_SIGSTORE_CONFORMANCE does not name the vectors");
        return;
    };
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for case in std::fs::read_dir(Path::new(&directory)).unwrap() {
        let case = case.unwrap().path();
        if !case.is_dir() {
            continue;
        }
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        match (judge(&case), name.ends_with("_fail")) {
            (Ok(()), false) => accepted += 1,
            (Err(why), true) => {
                eprintln!("{name}: {why}");
                refused += 1;
            }
            (result, _) => wrong.push(format!("{name}: {result:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(accepted >= 20 && refused >= 40, "{accepted} accepted, {refused} refused: are all there?");
}
