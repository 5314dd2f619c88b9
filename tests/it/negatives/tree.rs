//! What can be said of the source text alone.

use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                walk(&entry, found);
            } else {
                found.push(entry);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        (name, String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned())
    };
    found.into_iter().map(read).collect()
}

/// The product's own code, without tests.
fn product() -> Vec<(String, String)> {
    let tests = |name: &str| name.contains("/tests") || name.ends_with("testing.rs");
    let own = |text: String| text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    files("src").into_iter().filter(|(name, _)| !tests(name)).map(|(name, text)| (name, own(text))).collect()
}

/// Whether a file is of the side that signs and keeps signatures: commands of people, and a server of its own.
fn signs_or_keeps(name: &str) -> bool {
    ["src/cli/", "src/signing", "src/store"].iter().any(|beginning| name.starts_with(beginning))
}

/// What answers reviews cannot reach the code of that side.
fn d17_e48_what_decides_neither_signs_nor_keeps_signatures() {
    for (name, text) in product().iter().filter(|(name, _)| !signs_or_keeps(name)) {
        for layer in ["crate::signing", "crate::store", "super::super::signing", "super::super::store"] {
            assert!(!text.contains(layer), "{name}: {layer}");
        }
    }
}

/// Nothing that comes from a registry, a store or the cluster can become the name of a file on the way of a review.
fn d17_only_commands_write_files() {
    const WRITING: [&str; 7] =
        ["fs::write", "File::create", "OpenOptions", "create_dir", "fs::rename", "fs::remove", "fs::copy"];
    for (name, text) in product().iter().filter(|(name, _)| !signs_or_keeps(name)) {
        for word in WRITING {
            assert!(!text.contains(word), "{name}: {word}");
        }
    }
}

/// What answers reviews has no private key besides that of its TLS certificate, which another library uses.
fn e48_no_private_key_operation_is_used_on_the_way_of_a_review() {
    const PRIVATE: [&str; 6] =
        ["RsaPrivateKey", "into_keypair", "parts_into_secret", "RsaKeyPair", "decrypt_key", "SigningKey"];
    for (name, text) in product().iter().filter(|(name, _)| !signs_or_keeps(name)) {
        for word in PRIVATE {
            assert!(!text.contains(word), "{name}: {word}");
        }
    }
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(!manifest.lines().any(|line| line.starts_with("rsa ") || line.starts_with("rsa=")), "a direct dependency");
}

/// Keys, certificates and signatures of the tests are made when they run.
fn h22_no_key_certificate_or_signature_is_stored() {
    for (name, text) in files("src").iter().chain(&files("tests/it")) {
        // The one script makes the namespaces of a test's node; the other is how the store's page looks.
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        let others = ["tests/it/support/node/space.sh", "src/store/page/style.css"];
        assert!(extension == Some("rs") || others.contains(&name.as_str()), "{name}");
        for kind in ["CERTIFICATE", "PRIVATE KEY", "PGP PUBLIC KEY BLOCK", "PGP MESSAGE"] {
            let stored = text.split(&format!("-----BEGIN {kind}-----")).skip(1).any(|rest| {
                let word = rest.trim_start_matches("\\n").trim_start();
                word.chars().take(40).filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/')).count() == 40
            });
            assert!(!stored, "{name}: a stored {kind}");
        }
    }
}

crate::tests! {
    needs [];
    d17_e48_what_decides_neither_signs_nor_keeps_signatures,
    d17_only_commands_write_files,
    e48_no_private_key_operation_is_used_on_the_way_of_a_review,
    h22_no_key_certificate_or_signature_is_stored,
}
