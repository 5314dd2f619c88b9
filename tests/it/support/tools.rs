//! Where the programs are that the tests drive.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a test wants to have at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// etcd, kube-apiserver and kubectl.
    Cluster,
    /// A registry with the referrers API, and images to push.
    Registry,
    /// Debian's registry, without the referrers API.
    DebianRegistry,
    /// gpg and skopeo.
    Gpg,
    /// A terminal to type at.
    Terminal,
    /// Sequoia's command line.
    Sq,
    /// cosign and openssl, which makes its odder keys.
    Cosign,
    /// notary-server and the notary client.
    Notary,
    /// The current containers/image.
    Containers,
    /// nginx, which serves a lookaside tree.
    Store,
    /// A private Sigstore, and cosign that signs in it.
    Sigstore,
    /// A node that runs Pods: its programs, root, namespaces and control groups.
    Node,
    /// What builds the image of podseal.
    Image,
    /// helm.
    Helm,
    /// A browser without a window.
    Browser,
    /// Readers of manifests, one per release of Kubernetes.
    Decoders,
}

/// What reads manifests strictly, from the oldest supported release of Kubernetes to the newest.
pub const DECODERS: [&str; 4] =
    ["strict-decode-1.33", "strict-decode-1.34", "strict-decode-1.35", "strict-decode-1.36"];

impl Need {
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &["etcd", "kube-apiserver", "kubectl"],
            Self::Registry => &["referrers-registry", "crane"],
            Self::DebianRegistry => &["docker-registry", "crane"],
            Self::Gpg => &["gpg", "gpgconf", "skopeo"],
            Self::Terminal => &["script"],
            Self::Sq => &["sq"],
            Self::Cosign => &["cosign", "openssl"],
            Self::Notary => &["notary-server", "notary"],
            Self::Containers => &["image-copy"],
            Self::Store => &["nginx"],
            Self::Sigstore => &[
                "cosign",
                "openssl",
                "fulcio",
                "rekor-server",
                "rekor-tiles",
                "ct_server",
                "trillian-memory",
                "timestamp-server",
                "oidc-issuer",
            ],
            Self::Node => &[
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "containerd",
                "containerd-shim-runc-v2",
                "ctr",
                "pause",
                "runc",
                "ip",
                "nsenter",
            ],
            Self::Image => &["buildah", "debootstrap", "skopeo", "git"],
            Self::Browser => &["chromium", "curl"],
            Self::Helm => &["helm"],
            Self::Decoders => &DECODERS,
        }
    }

    /// Why this machine cannot have it whatever is installed.
    fn unable(self) -> Option<String> {
        match self {
            Self::Node | Self::Image => super::node::unable(),
            _ => None,
        }
    }
}

/// One line that names the missing programs and the way out; `None` when all are there.
pub fn missing(needs: &[Need]) -> Option<String> {
    let wanted: BTreeSet<_> = needs.iter().flat_map(|need| need.programs()).copied().collect();
    let missing: Vec<_> = wanted.into_iter().filter(|program| find(program).is_none()).collect();
    (!missing.is_empty()).then(|| format!("missing: {}; tests/tools/install.sh installs them", missing.join(", ")))
}

/// One line that says what this machine lacks and no installation gives; `None` when nothing.
pub fn unable(needs: &[Need]) -> Option<String> {
    needs.iter().find_map(|need| need.unable())
}

/// The file of a program.
pub fn file(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| panic!("{program} is missing"))
}

/// The program in `tests/tools/bin` or, as Debian packages, on the path.
fn find(program: &str) -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [installed].into_iter().chain(std::env::split_paths(&path));
    let folders = folders.chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A program that runs on until it is killed.
pub fn server(program: &str) -> Command {
    Command::new(file(program))
}

/// A program that does one thing, and is stopped when it takes two minutes over it.
pub fn command(program: &str) -> Command {
    once(&file(program))
}

/// The same for a program whose file is known.
pub fn once(file: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120"]).arg(file);
    command
}

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command as it was started.
    pub command: String,
    /// Exit status; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output, not necessarily text.
    pub bytes: Vec<u8>,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Whether it ended with 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Itself when it ended with 0.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.ok(), "{self}");
        self
    }

    /// Itself when it ended with something else than 0.
    #[track_caller]
    pub fn failed(self) -> Self {
        assert!(!self.ok(), "expected to fail: {self}");
        self
    }

    /// Standard output without the blanks around it.
    pub fn line(&self) -> &str {
        self.stdout.trim()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nended with {:?}\n{}{}", self.command, self.code, self.stdout, self.stderr)
    }
}

/// Runs a command to its end.
#[must_use]
pub fn run(command: &mut Command) -> Ran {
    run_with(command, &[])
}

/// Runs a command to its end with this on its standard input.
#[must_use]
pub fn run_with(command: &mut Command, input: &[u8]) -> Ran {
    let text = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A program that does not read its input to the end is none of the writer's concern.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    });
    Ran {
        command: text,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        bytes: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
