//! A running store with its folder, and makers whose signatures cost no process.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use podseal::domain::digest::Digest;
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};

use crate::support::http::{Http, Reply};
use crate::support::podseal::BINARY;
use crate::support::process::Process;
use crate::support::signer::Payload;
use crate::support::{ports, scratch};

/// The user of [`users`] and their password.
pub const USER: (&str, &str) = ("maker", "correct horse");

/// A running `podseal store`.
pub struct Store {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Its `--dir`.
    pub dir: PathBuf,
    pub process: Process,
    pub http: Http,
}

impl Store {
    /// One with an empty folder, in which [`USER`] may write.
    pub fn start() -> Self {
        let users = users();
        Self::over(&scratch::folder("store").join("sigstore"), &["--htpasswd", users.to_str().unwrap()])
    }

    /// One over this folder.
    pub fn over(dir: &Path, args: &[&str]) -> Self {
        Self::with(dir, args, "http", Http::trusting(""))
    }

    /// One that speaks `scheme` to clients like this one.
    pub fn with(dir: &Path, args: &[&str], scheme: &str, http: Http) -> Self {
        let port = ports::free();
        let mut command = Command::new(BINARY);
        command.arg("store").arg("--dir").arg(dir).args(["--listen", &format!("127.0.0.1:{port}")]).args(args);
        let process = Process::spawn("store", &mut command);
        let url = format!("{scheme}://127.0.0.1:{port}");
        process.wait_ready(|_| http.get(&format!("{url}/keys/none.pgp")).ok());
        Self { url, dir: dir.to_owned(), process, http }
    }

    /// GET of a path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.http.get(&format!("{}{path}", self.url)).unwrap()
    }

    /// A folder of signatures.
    pub fn folder(&self, path: &str, digest: &Digest) -> PathBuf {
        self.dir.join(format!("sigstore/{path}@sha256={}", digest.hex()))
    }

    /// What went into its log.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// A file of users with [`USER`] in it.
pub fn users() -> PathBuf {
    let file = scratch::folder("users").join("htpasswd");
    std::fs::write(&file, format!("{}:{}\n", USER.0, bcrypt::hash(USER.1, 4).unwrap())).unwrap();
    file
}

/// The path of a signature, and of the extension API.
pub fn signature_path(path: &str, digest: &Digest, number: usize) -> String {
    format!("/sigstore/{path}@sha256={}/signature-{number}", digest.hex())
}

pub fn extension_path(path: &str, digest: &Digest) -> String {
    format!("/extensions/v2/{path}/signatures/{digest}")
}

/// The document of an upload.
pub fn document(digest: &Digest, name: &str, blob: &[u8]) -> String {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(blob);
    serde_json::json!({"schemaVersion": 2, "name": format!("{digest}@{name}"), "type": "atomic", "content": content})
        .to_string()
}

/// An image maker.
pub struct Maker(pub Cert);

impl Maker {
    pub fn new(user_id: &str) -> Self {
        Self(CertBuilder::general_purpose(Some(user_id)).generate().unwrap().0)
    }

    /// The public key file, armored.
    pub fn public(&self) -> Vec<u8> {
        self.0.armored().to_vec().unwrap()
    }

    /// The secret key file.
    pub fn secret(&self) -> Vec<u8> {
        self.0.as_tsk().to_vec().unwrap()
    }

    /// A signature that this digest is this image.
    pub fn sign(&self, digest: &Digest, reference: &str) -> Vec<u8> {
        self.sign_bytes(&Payload::new(digest.as_str(), reference).bytes())
    }

    /// A signed message with this content.
    pub fn sign_bytes(&self, content: &[u8]) -> Vec<u8> {
        let policy = StandardPolicy::new();
        let key = self.0.keys().with_policy(&policy, None).secret().for_signing().next().unwrap();
        let pair = key.key().clone().into_keypair().unwrap();
        let mut blob = Vec::new();
        let signer = Signer::new(Message::new(&mut blob), pair).unwrap().build().unwrap();
        let mut literal = LiteralWriter::new(signer).build().unwrap();
        literal.write_all(content).unwrap();
        literal.finalize().unwrap();
        blob
    }
}

/// The digest of some image.
pub fn image(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

/// The `Authorization` header of [`USER`].
pub fn authorization() -> String {
    use base64::Engine as _;
    let credential = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", USER.0, USER.1));
    format!("Basic {credential}")
}
