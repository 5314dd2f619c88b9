//! The image of podseal, built by the Dockerfile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::node::Node;
use super::process::Process;
use super::registry::Image;
use super::tools::{self, Ran};
use super::{harness, scratch};

/// A build with every core to itself takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The archive with the image that is tested: `PODSEAL_IMAGE_ARCHIVE` (in OCI layout), or built by the Dockerfile.
pub fn first() -> &'static Path {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| harness::attempt("the image", || given().unwrap_or_else(|| build("first"))));
    built.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

/// The archive of a second build of the same sources, from nothing.
pub fn second() -> PathBuf {
    first();
    build("again")
}

fn given() -> Option<PathBuf> {
    std::env::var_os("PODSEAL_IMAGE_ARCHIVE").filter(|file| !file.is_empty()).map(PathBuf::from)
}

fn build(which: &str) -> PathBuf {
    let started = Instant::now();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/podseal-image");
    let process = Process::spawn(&format!("image-{which}"), Command::new(script).arg(which));
    let status = process.ended_within(PATIENCE).unwrap_or_else(|| panic!("no image after {PATIENCE:?}"));
    let log = process.log();
    assert!(status.success(), "{status}\n{log}");
    let archive = PathBuf::from(log.lines().last().unwrap());
    let size = std::fs::metadata(&archive).unwrap().len();
    eprintln!("image ({which} build): {} s, archive of {} kB", started.elapsed().as_secs(), size / 1000);
    archive
}

/// The files of an image's only layer, in a folder of their own.
#[track_caller]
pub fn unpack(archive: &Path) -> PathBuf {
    let (parts, root) = (scratch::folder("image"), scratch::folder("root"));
    let target = format!("dir:{}", parts.display());
    skopeo(&["copy", "--quiet", &reference(archive), &target]).succeeded();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(parts.join("manifest.json")).unwrap()).unwrap();
    let [layer] = manifest["layers"].as_array().unwrap().as_slice() else { panic!("not one layer: {manifest}") };
    let blob = layer["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--auto-compress", "--file"]).arg(parts.join(blob)).arg("--directory").arg(&root);
    tools::run(&mut tar).succeeded();
    root
}

/// What the image says of itself: `skopeo inspect --config`.
#[track_caller]
pub fn config(archive: &Path) -> serde_json::Value {
    serde_json::from_slice(&skopeo(&["inspect", "--config", &reference(archive)]).succeeded().bytes).unwrap()
}

/// The digest of the image's manifest.
#[track_caller]
pub fn digest(archive: &Path) -> String {
    let ran = skopeo(&["inspect", "--format", "{{.Digest}}", &reference(archive)]).succeeded();
    ran.line().to_owned()
}

fn reference(archive: &Path) -> String {
    format!("oci-archive:{}", archive.display())
}

fn skopeo(args: &[&str]) -> Ran {
    tools::run(tools::command("skopeo").args(args))
}

impl Node {
    /// The image that is tested, in this node's registry.
    pub fn podseal(&self) -> &Image {
        self.image.get_or_init(|| {
            let name = concat!("e2e/podseal:", env!("CARGO_PKG_VERSION"));
            let authority = self.registry.authority.as_ref().unwrap();
            let target = format!("docker://{}/{name}", self.registry.host);
            let certificates = authority.folder().to_str().unwrap();
            let push = ["copy", "--quiet", "--preserve-digests", "--dest-cert-dir", certificates];
            skopeo(&[&push[..], &[&reference(first()), &target]].concat()).succeeded();
            self.registry.image_at(name)
        })
    }
}
