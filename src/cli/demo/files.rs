//! What `--keep` leaves for the user: files to check against the running demo, and the commands to do so.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Demo;
use super::config::Places;

/// A directory for the demo's files. One that the demo named itself is removed in the end, because the addresses in its
/// files lead nowhere then.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    own: bool,
}

impl Directory {
    /// The given directory, made if need be; it must be empty. Without one, a new one among the temporary files.
    pub(super) fn create(given: Option<&Path>) -> Result<Self, String> {
        let Some(path) = given else { return Self::temporary() };
        let cannot = |error: std::io::Error| format!("--dir {}: {error}", path.display());
        if path.exists() && !path.is_dir() {
            return Err(format!("--dir {}: not a directory", path.display()));
        }
        DirBuilder::new().recursive(true).create(path).map_err(cannot)?;
        if path.read_dir().map_err(cannot)?.next().is_some() {
            return Err(format!("--dir {}: the directory is not empty; name an empty or a new one", path.display()));
        }
        // Full, so that the commands work from everywhere.
        Ok(Self { path: path.canonicalize().map_err(cannot)?, own: false })
    }

    fn temporary() -> Result<Self, String> {
        let (base, id) = (std::env::temp_dir(), std::process::id());
        for attempt in 0..100 {
            let path = base.join(format!("podseal-demo-{id}-{attempt}"));
            // Fails when anything is there, a link included: nobody else prepares the place.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, own: true }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("{}: {error}; name a directory with --dir", path.display())),
            }
        }
        Err(format!("{}: no free name for a directory; name one with --dir", base.display()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes policies, keys, objects and their reviews. No private key is among them.
    pub(super) fn write(&self, demo: &Demo) -> Result<(), String> {
        for name in ["policies", "pods", "reviews"] {
            let path = self.path.join(name);
            DirBuilder::new().create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        let texts = &demo.texts;
        self.file("policies/policies.yaml", &texts.policies)?;
        self.file("policies/whitelist.yaml", &texts.whitelist)?;
        self.file("policies/keys.yaml", &texts.keys)?;
        self.file("ca.crt", &demo.authority.pem())?;
        for scene in &demo.scenes {
            self.file(&format!("pods/{}.yaml", scene.name), &scene.yaml)?;
            self.file(&format!("reviews/{}.json", scene.name), &format!("{:#}\n", scene.review()?))?;
        }
        Ok(())
    }

    fn file(&self, name: &str, content: &str) -> Result<(), String> {
        let path = self.path.join(name);
        std::fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.own {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// This program as it was called, so that the printed commands can be pasted.
pub(super) fn program() -> String {
    let called = std::env::args_os().next().filter(|name| !name.is_empty());
    called.map_or_else(|| "podseal".to_owned(), |name| quote(&name.to_string_lossy()))
}

/// As a shell takes it for one word.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What to try after a demo that has ended.
pub(super) fn what_next(program: &str) -> String {
    format!(
        "
Try next:
  {program} demo --keep      leaves all of this running, with files and commands to play with
  {program} check --help     the same decision about your own Pods and policies, without a cluster
  {program} crds             the policy kinds, to be piped into kubectl apply -f -
"
    )
}

/// What to try while the demo runs.
pub(super) fn what_runs(demo: &Demo, directory: &Directory, program: &str) -> String {
    let Places { registry, .. } = &demo.places;
    let webhook = demo.webhook.address;
    let proxies = if super::has_proxy() {
        "  export NO_PROXY=\"$NO_PROXY,127.0.0.1\" no_proxy=\"$no_proxy,127.0.0.1\"   # no proxy leads here\n"
    } else {
        ""
    };
    let end = if directory.own { "ends it and removes $D" } else { "ends it and leaves $D as it is" };
    format!(
        "
Everything keeps running; Ctrl-C {end}. In another terminal:

  D={dir}
{proxies}
  # the same decision by the command line: exit status 0 allowed, 1 denied, 2 could not decide
  {program} check -f \"$D\"/pods/signed.yaml --policy \"$D\"/policies
  {program} check -f \"$D\"/pods/unsigned.yaml --policy \"$D\"/policies
  {program} check -f \"$D\"/pods/store-down.yaml --policy \"$D\"/policies
  {program} check --image {registry}/platform/api:1 --policy \"$D\"/policies -o json

  # ask the webhook as a Kubernetes API server does
  curl -sS --cacert \"$D\"/ca.crt -H 'Content-Type: application/json' \\
    -d @\"$D\"/reviews/tampered.json https://{webhook}/validate
  curl -sS --cacert \"$D\"/ca.crt https://{webhook}/metrics

  # look into the registry
  curl -sS --cacert \"$D\"/ca.crt https://{registry}/v2/_catalog
  curl -sS --cacert \"$D\"/ca.crt https://{registry}/v2/shop/web/manifests/1

Change $D/policies/policies.yaml or a Pod and check again; the webhook keeps what it started with.
",
        dir = quote(&directory.path().to_string_lossy()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_somebody_else_is_neither_filled_nor_removed() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new/one");
        let directory = Directory::create(Some(&path)).unwrap();
        directory.file("x", "x").unwrap();
        drop(directory);
        assert!(path.join("x").exists());

        let error = Directory::create(Some(&path)).unwrap_err();
        assert!(error.contains("not empty"), "{error}");
        let error = Directory::create(Some(&path.join("x"))).unwrap_err();
        assert!(error.starts_with(&format!("--dir {}", path.join("x").display())), "{error}");
    }

    #[test]
    fn a_directory_of_its_own_is_removed() {
        let directory = Directory::create(None).unwrap();
        let path = directory.path().to_owned();
        directory.file("x", "x").unwrap();
        assert!(path.join("x").exists());
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn words_are_quoted_for_the_shell_where_they_must_be() {
        assert_eq!(quote("/tmp/podseal-demo-1"), "/tmp/podseal-demo-1");
        assert_eq!(quote("/tmp/it's here"), r"'/tmp/it'\''s here'");
        assert_eq!(quote(""), "''");
    }
}
