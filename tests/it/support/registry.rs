//! Registries with tiny images in them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::pki::{Authority, LOCAL};
use super::process::Process;
use super::tools::{self, Ran};
use super::{ports, scratch};

/// How a registry asks for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    Open,
    /// Bearer tokens of its own `/token`.
    Token,
    /// Basic credentials.
    Basic,
}

/// What kind of registry to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether it has the referrers API of OCI 1.1.
    pub referrers: bool,
    /// Whether it speaks TLS, with a certificate by an authority of its own.
    pub tls: bool,
    /// How it asks for credentials. The tests push with an account that may do everything.
    pub auth: Auth,
    /// Accounts that may pull, `name:password:repository-prefix`.
    pub users: Vec<String>,
    /// Further arguments of referrers-registry.
    pub args: Vec<String>,
    /// The address that it listens at.
    pub address: String,
}

impl Default for Options {
    fn default() -> Self {
        let address = LOCAL[0].to_owned();
        Self { referrers: true, tls: false, auth: Auth::Open, users: Vec::new(), args: Vec::new(), address }
    }
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    /// `127.0.0.1:PORT`, or with another address.
    pub host: String,
    /// Who issued its certificate, when it speaks TLS.
    pub authority: Option<Authority>,
    process: Process,
    requests: PathBuf,
    docker_config: PathBuf,
}

/// One request that a server was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// The path with the query.
    pub path: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Whether it had an Authorization header; `None` when the server does not say.
    pub authorized: Option<bool>,
}

/// An image, an index or an artifact in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `127.0.0.1:PORT`.
    pub host: String,
    /// Such as `alt/a`.
    pub repository: String,
    /// Such as `1`.
    pub tag: String,
    /// `sha256:…`.
    pub digest: String,
}

const PUSHER: (&str, &str) = ("pusher", "pushers-password");

impl Registry {
    /// A registry with the referrers API over plain HTTP for everyone.
    pub fn start() -> Self {
        Self::with(&Options::default())
    }

    /// The same over TLS.
    pub fn tls() -> Self {
        Self::with(&Options { tls: true, ..Options::default() })
    }

    /// referrers-registry as wanted.
    pub fn with(options: &Options) -> Self {
        let requests = scratch::folder("requests").join("log");
        let mut command = tools::server("referrers-registry");
        command.arg("--log").arg(&requests).arg(format!("--referrers={}", options.referrers));
        command.arg(format!("--listen={}:0", options.address));
        let authority = options.tls.then(|| Authority::new("registry"));
        if let Some(authority) = &authority {
            let tls = authority.server(&[&LOCAL[..], &[&options.address]].concat());
            command.arg("--tls-cert").arg(tls.cert).arg("--tls-key").arg(tls.key);
        }
        match options.auth {
            Auth::Open => {}
            Auth::Token => drop(command.args(["--auth-realm", "self"])),
            Auth::Basic => drop(command.arg("--auth-basic")),
        }
        if options.auth != Auth::Open {
            command.args(["--push-user", &format!("{}:{}:", PUSHER.0, PUSHER.1)]);
        }
        command.args(options.users.iter().flat_map(|user| ["--user", user])).args(&options.args);
        let process = Process::spawn("registry", &mut command);
        let address = |process: &Process| {
            let log = process.log();
            let (first, _) = log.split_once('\n')?;
            first.starts_with(&format!("{}:", options.address)).then(|| first.to_owned())
        };
        let host = process.wait_ready(address);
        let docker_config = docker_config(&[(&host, PUSHER.0, PUSHER.1)]);
        Self { host, authority, process, requests, docker_config }
    }

    /// Debian's registry: no referrers API.
    pub fn debian() -> Self {
        Self::debian_with("")
    }

    /// The same as a pull-through cache of another registry.
    pub fn cache_of(other: &Self) -> Self {
        Self::debian_with(&format!("proxy: {{remoteurl: 'http://{}'}}\n", other.host))
    }

    fn debian_with(more: &str) -> Self {
        let folder = scratch::folder("debian-registry");
        let config = folder.join("config.yml");
        let host = format!("127.0.0.1:{}", ports::free());
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '{host}'}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}}}\n{more}",
            folder.join("data").display(),
        );
        std::fs::write(&config, text).unwrap();
        let process = Process::spawn("docker-registry", tools::server("docker-registry").arg("serve").arg(&config));
        process.wait_ready(|process| process.log().contains("listening on").then_some(()));
        let requests = process.log_file().to_owned();
        Self { host, authority: None, process, requests, docker_config: docker_config(&[]) }
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it was asked, in order. The tests' own pushes are among it: see [`Self::forget`].
    pub fn requests(&self) -> Vec<Request> {
        requests(&self.requests)
    }

    /// Forgets what it was asked so far.
    pub fn forget(&self) {
        std::fs::File::options().write(true).open(&self.requests).unwrap().set_len(0).unwrap();
    }

    /// How many requests had this method and this text in the path.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.requests().iter().filter(|r| r.method == method && r.path.contains(path)).count()
    }

    /// A program with what it needs to talk to this registry with all rights, as Go programs take it.
    pub fn client(&self, program: &str) -> Command {
        let mut command = tools::command(program);
        command.env("DOCKER_CONFIG", &self.docker_config);
        if let Some(authority) = &self.authority {
            command.env("SSL_CERT_FILE", authority.file());
        }
        command
    }

    /// The folder with the tests' credentials in `config.json`.
    pub fn docker_config(&self) -> &Path {
        &self.docker_config
    }

    /// `crane ARGS`.
    #[must_use]
    pub fn crane(&self, args: &[&str]) -> Ran {
        tools::run(self.client("crane").args(args))
    }

    /// Pushes a new image; no two images have the same digest. `name` is `repository:tag`.
    #[track_caller]
    pub fn push(&self, name: &str) -> Image {
        let layer = scratch::folder("layer").join("layer.tar");
        std::fs::write(&layer, layer_tar(&self.host)).unwrap();
        let target = format!("{}/{name}", self.host);
        let ran = self.crane(&["append", "--oci-empty-base", "-f", layer.to_str().unwrap(), "-t", &target]);
        self.image(name, &ran.succeeded())
    }

    /// Pushes a new image that runs on a node: it waits until it is told to stop. No two have the same digest.
    #[track_caller]
    pub fn push_program(&self, name: &str, entrypoint: &[&str]) -> Image {
        let root = scratch::folder("program");
        std::fs::copy(tools::file("pause"), root.join("pause")).unwrap();
        std::fs::write(root.join("name"), unique(&self.host)).unwrap();
        let layer = root.join("layer.tar");
        let mut tar = Command::new("tar");
        tar.args(["--create", "--owner=0", "--group=0", "--file"]).arg(&layer);
        tools::run(tar.arg("--directory").arg(&root).args(["pause", "name"])).succeeded();
        let target = format!("{}/{name}", self.host);
        self.crane(&["append", "--oci-empty-base", "-f", layer.to_str().unwrap(), "-t", &target]).succeeded();
        let entrypoint = if entrypoint.is_empty() { &["/pause"] } else { entrypoint };
        // Without a platform the node would not find the image meant for it.
        let platform = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
        let mutate = ["mutate", "--set-platform", &platform, "--user", "65532", "--entrypoint", &entrypoint.join(",")];
        self.crane(&[&mutate[..], &["-t", &target, &target]].concat()).succeeded();
        self.image_at(name)
    }

    /// An image that somebody else has pushed, `repository:tag`.
    #[track_caller]
    pub fn image_at(&self, name: &str) -> Image {
        let digest = self.crane(&["digest", &format!("{}/{name}", self.host)]).succeeded();
        let (repository, tag) = name.split_once(':').unwrap();
        let digest = digest.line().to_owned();
        Image { host: self.host.clone(), repository: repository.to_owned(), tag: tag.to_owned(), digest }
    }

    /// Pushes an index of images that are there already.
    #[track_caller]
    pub fn push_index(&self, name: &str, children: &[&Image]) -> Image {
        let target = format!("{}/{name}", self.host);
        let children: Vec<_> = children.iter().flat_map(|child| ["-m".to_owned(), child.pinned()]).collect();
        let args: Vec<_> =
            ["index", "append", "-t", &target].into_iter().chain(children.iter().map(String::as_str)).collect();
        let ran = self.crane(&args);
        self.image(name, &ran.succeeded())
    }

    /// Gives an image another name in this registry, `repository:tag`.
    #[track_caller]
    pub fn copy(&self, image: &Image, name: &str) -> Image {
        self.crane(&["copy", &image.pinned(), &format!("{}/{name}", self.host)]).succeeded();
        let (repository, tag) = name.split_once(':').unwrap();
        Image { host: self.host.clone(), repository: repository.to_owned(), tag: tag.to_owned(), ..image.clone() }
    }

    /// The manifest's bytes.
    #[track_caller]
    pub fn manifest(&self, image: &Image) -> Vec<u8> {
        self.crane(&["manifest", &image.pinned()]).succeeded().bytes
    }

    #[track_caller]
    fn image(&self, name: &str, pushed: &Ran) -> Image {
        let (repository, tag) = name.split_once(':').unwrap();
        let digest = match pushed.line().rsplit_once('@') {
            Some((_, digest)) => digest.to_owned(),
            None => self.crane(&["digest", &format!("{}/{name}", self.host)]).succeeded().line().to_owned(),
        };
        Image { host: self.host.clone(), repository: repository.to_owned(), tag: tag.to_owned(), digest }
    }
}

impl Image {
    /// `host/repository:tag`.
    pub fn tagged(&self) -> String {
        format!("{}/{}:{}", self.host, self.repository, self.tag)
    }

    /// `host/repository@digest`.
    pub fn pinned(&self) -> String {
        format!("{}/{}@{}", self.host, self.repository, self.digest)
    }

    /// The digest's hexadecimal part.
    pub fn hex(&self) -> &str {
        self.digest.trim_start_matches("sha256:")
    }
}

/// A folder with a `config.json` that has credentials for hosts: `(host, user, password)`.
pub fn docker_config(logins: &[(&str, &str, &str)]) -> PathBuf {
    let folder = scratch::folder("docker");
    std::fs::write(folder.join("config.json"), docker_config_json(logins)).unwrap();
    folder
}

/// The text of such a file, which is also what a pull secret holds as `.dockerconfigjson`.
pub fn docker_config_json(logins: &[(&str, &str, &str)]) -> String {
    let auth = |(host, user, password): &(&str, &str, &str)| {
        ((*host).to_owned(), json!({"auth": STANDARD.encode(format!("{user}:{password}"))}))
    };
    json!({"auths": logins.iter().map(auth).collect::<serde_json::Map<_, _>>()}).to_string()
}

/// Reads a request log: referrers-registry's own, or the combined format that nginx and Debian's registry write.
pub(super) fn requests(file: &Path) -> Vec<Request> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| own_line(line).or_else(|| combined_line(line))).collect()
}

fn own_line(line: &str) -> Option<Request> {
    let [method, path, status, authorized] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let status = status.parse().ok()?;
    Some(Request { method: method.to_owned(), path: path.to_owned(), status, authorized: Some(authorized == "yes") })
}

fn combined_line(line: &str) -> Option<Request> {
    let (_, request) = line.split_once("] \"")?;
    let (request, rest) = request.split_once("\" ")?;
    let (method, path) = request.rsplit_once(' ')?.0.split_once(' ')?;
    let status = rest.split(' ').next()?.parse().ok()?;
    Some(Request { method: method.to_owned(), path: path.to_owned(), status, authorized: None })
}

/// A text that no other image of this run has.
fn unique(host: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("layer {} for {host}\n", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A tar archive of one small file that no other archive of this run has.
fn layer_tar(host: &str) -> Vec<u8> {
    let content = unique(host);
    let mut header = [0_u8; 512];
    let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, "file");
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", content.len()));
    field(136, "00000000000\0");
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.write_all(content.as_bytes()).unwrap();
    // Padded to whole blocks, then two empty ones.
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}
