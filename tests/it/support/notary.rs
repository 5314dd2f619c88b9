//! Debian's notary-server, and publishers with the real `notary` client.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use serde_json::{Value, json};

use super::http::Http;
use super::pki::Authority;
use super::process::Process;
use super::tools::{self, Ran};
use super::{ports, scratch};

/// A server that keeps everything in memory and signs timestamps itself.
#[derive(Debug)]
pub struct Notary {
    /// Its base URL.
    pub url: String,
    /// Who issued its certificate, when it speaks TLS.
    pub authority: Option<Authority>,
    process: Process,
    http: Http,
}

/// Somebody who signs images: his keys, and what he has published.
#[derive(Debug)]
pub struct Publisher {
    folder: PathBuf,
    url: String,
    authority: Option<PathBuf>,
}

/// The key of a delegation, in a certificate.
#[derive(Debug)]
pub struct DelegationKey {
    /// Its name, which is the role's, too.
    pub name: String,
    certificate: PathBuf,
    key: PathBuf,
}

/// Kinds of delegation keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    #[allow(missing_docs)]
    Ecdsa,
    #[allow(missing_docs)]
    Rsa,
}

impl Notary {
    /// Over plain HTTP.
    pub fn start() -> Self {
        Self::at("127.0.0.1", None)
    }

    /// Over TLS on another loopback address, with a certificate by an authority of its own.
    pub fn tls() -> Self {
        Self::at("127.0.0.2", Some(Authority::new("notary")))
    }

    fn at(host: &str, authority: Option<Authority>) -> Self {
        let address = format!("{host}:{}", ports::free());
        let mut server = json!({"http_addr": address});
        if let Some(authority) = &authority {
            let tls = authority.server(&[host]);
            server["tls_cert_file"] = tls.cert.to_str().unwrap().into();
            server["tls_key_file"] = tls.key.to_str().unwrap().into();
        }
        let config = json!({
            "server": server, "trust_service": {"type": "local"}, "storage": {"backend": "memory"},
            "logging": {"level": "error"},
        });
        let file = scratch::folder("notary-server").join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let process = Process::spawn("notary-server", tools::server("notary-server").arg("-config").arg(&file));
        let scheme = if authority.is_some() { "https" } else { "http" };
        let (url, http) = (format!("{scheme}://{address}"), Http::trusting(authority.as_ref().map_or("", |a| &a.pem)));
        process.wait_ready(|_| http.get(&format!("{url}/_notary_server/health")).ok());
        Self { url, authority, process, http }
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Somebody with no keys yet.
    pub fn publisher(&self) -> Publisher {
        let authority = self.authority.as_ref().map(Authority::file);
        Publisher { folder: scratch::folder("publisher"), url: self.url.clone(), authority }
    }

    /// A file of a repository, such as `timestamp.json`.
    #[track_caller]
    pub fn file(&self, gun: &str, name: &str) -> Vec<u8> {
        let reply = self.http.get(&format!("{}/v2/{gun}/_trust/tuf/{name}", self.url)).unwrap();
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        reply.body
    }

    /// The id of the root certificate's key, as `root.json` has it.
    #[track_caller]
    pub fn root_id(&self, gun: &str) -> String {
        let root: Value = serde_json::from_slice(&self.file(gun, "root.json")).unwrap();
        root["signed"]["roles"]["root"]["keyids"][0].as_str().unwrap().to_owned()
    }
}

impl Publisher {
    /// `notary ARGS`, with every passphrase that it may want.
    #[must_use]
    pub fn notary(&self, args: &[&str]) -> Ran {
        tools::run_with(&mut self.command(args), b"yes\n")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = tools::command("notary");
        command.args(["-s", &self.url]).arg("-d").arg(&self.folder);
        if let Some(authority) = &self.authority {
            command.arg("--tlscacert").arg(authority);
        }
        for role in ["ROOT", "TARGETS", "SNAPSHOT", "DELEGATION"] {
            command.env(format!("NOTARY_{role}_PASSPHRASE"), "a-passphrase-of-the-tests");
        }
        command.args(args).env("HOME", &self.folder);
        command
    }

    /// Begins a repository with a root of its own.
    #[track_caller]
    pub fn init(&self, gun: &str) {
        self.notary(&["init", gun, "-p"]).succeeded();
    }

    /// Begins a repository whose root certificate is from an authority; gives that authority's certificate.
    #[track_caller]
    pub fn init_certified(&self, gun: &str) -> String {
        let (authority, key) = (RootAuthority::new(), KeyPair::generate().unwrap());
        let (certificate, file) = (self.folder.join("root.crt"), self.folder.join("root.pem"));
        std::fs::write(&certificate, leaf(gun).signed_by(&key, &authority.issuer).unwrap().pem()).unwrap();
        std::fs::write(&file, key.serialize_pem()).unwrap();
        self.notary(&["key", "import", text(&file), "--role", "root"]).succeeded();
        self.notary(&["init", gun, "--rootcert", text(&certificate), "-p"]).succeeded();
        authority.pem
    }

    /// Signs a digest (in hexadecimal) under a tag, in `targets` or in these roles.
    #[track_caller]
    pub fn sign(&self, gun: &str, tag: &str, hex: &str, roles: &[&str]) {
        let roles = roles.iter().flat_map(|role| ["-r", role]);
        let args = ["addhash", gun, tag, "1", "--sha256", hex].into_iter().chain(roles).chain(["-p"]);
        self.notary(&args.collect::<Vec<_>>()).succeeded();
    }

    /// Lets a key sign for a role, and takes it into this publisher's own keys.
    #[track_caller]
    pub fn delegate(&self, gun: &str, role: &str, key: &DelegationKey) {
        self.notary(&["delegation", "add", gun, role, text(&key.certificate), "--all-paths", "-p"]).succeeded();
        self.notary(&["key", "import", text(&key.key), "--role", &key.name]).succeeded();
    }

    /// Another key for `root`, `targets` or `snapshot`.
    #[track_caller]
    pub fn rotate(&self, gun: &str, role: &str) {
        self.notary(&["key", "rotate", gun, role]).succeeded();
    }

    /// Takes everything of the repository from the server.
    #[track_caller]
    pub fn delete(&self, gun: &str) {
        self.notary(&["delete", gun, "--remote"]).succeeded();
    }

    /// The id of the root key, as `notary key list` shows it.
    #[track_caller]
    pub fn root_key(&self) -> String {
        let listed = self.notary(&["key", "list"]).succeeded();
        let line = listed.stdout.lines().find(|line| line.starts_with("root")).expect("a root key");
        line.split_whitespace().nth(1).expect("its id").to_owned()
    }
}

impl DelegationKey {
    /// A new one.
    pub fn new(name: &str, kind: Kind) -> Self {
        let algorithm = if kind == Kind::Rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 };
        let (pair, folder) = (KeyPair::generate_for(algorithm).unwrap(), scratch::folder("delegation"));
        let (certificate, key) = (folder.join("key.crt"), folder.join("key.pem"));
        std::fs::write(&certificate, leaf(name).self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        Self { name: name.to_owned(), certificate, key }
    }
}

/// Who issues root certificates.
struct RootAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl RootAuthority {
    fn new() -> Self {
        let mut params = leaf("roots of the tests");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }
}

/// Ten years, as the client itself makes them.
fn leaf(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
