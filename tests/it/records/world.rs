//! A registry, a store and two image makers, shared; every test has an image of its own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::cluster::{Cluster, User};
use crate::support::http::Http;
use crate::support::podseal::podseal_with;
use crate::support::process::Process;
use crate::support::registry::{Image, Registry};
use crate::support::signer::{Gpg, GpgKey, KeySpec, Skopeo};
use crate::support::store::{Store, registries_d};
use crate::support::tools::{self, Ran};
use crate::support::{harness, ports, scratch};

pub const MAKER: &str = "immkk8s@registry.local";
pub const OTHER: &str = "imklocal@registry.local";

pub struct World {
    pub registry: Registry,
    pub store: Store,
    pub gpg: Gpg,
    pub maker: GpgKey,
    pub other: GpgKey,
    /// The makers' public keys.
    pub maker_file: PathBuf,
    pub other_file: PathBuf,
}

impl World {
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<World, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| harness::attempt("the image makers", Self::new));
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    fn new() -> Self {
        let (registry, store, gpg) = (Registry::start(), Store::start(), Gpg::new());
        let maker = gpg.generate(&KeySpec::new(&format!("Maker <{MAKER}>")));
        let other = gpg.generate(&KeySpec::new(&format!("Other <{OTHER}>")));
        let (maker_file, other_file) = (gpg.export_file(&[&maker]), gpg.export_file(&[&other]));
        Self { registry, store, gpg, maker, other, maker_file, other_file }
    }

    /// A new image.
    pub fn image(&self, name: &str) -> Image {
        self.registry.push(&format!("records/{name}:1"))
    }

    /// The same, signed by skopeo under its own name.
    pub fn signed(&self, name: &str) -> Image {
        let image = self.image(name);
        self.sign(&image, &self.maker);
        image
    }

    /// Adds a signature under the image's own name.
    pub fn sign(&self, image: &Image, key: &GpgKey) {
        let staging = format!("file://{}", self.store.folder().display());
        let skopeo = Skopeo { gpg: &self.gpg, registries_d: registries_d(&[(&self.registry.host, &staging)]) };
        skopeo.sign(&self.registry, image, key).succeeded();
    }

    /// `podseal verify IMAGE --expected-identity NAME` with the store and more.
    pub fn verify(&self, image: &str, expected: &str, more: &[&str]) -> Ran {
        self.verify_in(None, image, expected, more)
    }

    /// The same with a `GnuPG` home.
    pub fn verify_in(&self, home: Option<&Path>, image: &str, expected: &str, more: &[&str]) -> Ran {
        let common = ["verify", image, "--expected-identity", expected, "--insecure", "--lookaside", &self.store.url];
        let nothing = scratch::folder("home");
        let home = home.unwrap_or(&nothing).to_str().unwrap();
        podseal_with(&[&common, more].concat(), &[("GNUPGHOME", home), ("HOME", nothing.to_str().unwrap())], b"")
    }

    /// The same with the maker's key, recorded with these rights.
    pub fn save(&self, user: User, image: &Image, more: &[&str]) -> Ran {
        self.save_by(user, &self.maker_file, &image.tagged(), image, more)
    }

    /// The same with another key and another name that is expected.
    pub fn save_by(&self, user: User, key: &Path, expected: &str, image: &Image, more: &[&str]) -> Ran {
        let kubeconfig = Cluster::shared().kubeconfig(user);
        let own = [
            "--save",
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "--public-key",
            key.to_str().unwrap(),
            "-o",
            "json",
        ];
        self.verify(&image.pinned(), expected, &[&own, more].concat())
    }
}

/// A registry that says that it keeps signatures itself, with these for one image.
pub struct Keeping {
    pub host: String,
    _registry: Scripted,
}

impl Keeping {
    pub fn start(image: &Image, signatures: &[Vec<u8>]) -> Self {
        let home = scratch::folder("keeping");
        let folder = home.join("extensions/v2").join(&image.repository).join("signatures");
        std::fs::create_dir_all(&folder).unwrap();
        let entry = |(i, blob): (usize, &Vec<u8>)| {
            serde_json::json!({
                "schemaVersion": 2, "type": "atomic", "name": format!("{}@{i:032}", image.digest),
                "content": STANDARD.encode(blob),
            })
        };
        let list: Vec<Value> = signatures.iter().enumerate().map(entry).collect();
        std::fs::write(folder.join(&image.digest), serde_json::json!({"signatures": list}).to_string()).unwrap();
        let registry = Scripted::start(&home, KEEPING);
        Self { host: registry.host.clone(), _registry: registry }
    }
}

/// A registry that answers what it is told to.
pub struct Scripted {
    pub host: String,
    home: PathBuf,
    _process: Process,
}

impl Scripted {
    /// With these locations, in nginx's words.
    pub fn start(home: &Path, locations: &str) -> Self {
        let host = format!("127.0.0.1:{}", ports::free());
        let text = SCRIPTED.replace("LOCATIONS", locations).replace("HOME", home.to_str().unwrap());
        let config = home.join("nginx.conf");
        std::fs::write(&config, text.replace("HOST", &host)).unwrap();
        let mut command = tools::server("nginx");
        command.args(["-e", "stderr", "-p"]).arg(home).arg("-c").arg(&config);
        let process = Process::spawn("scripted", &mut command);
        let http = Http::trusting("");
        process.wait_ready(|_| http.get(&format!("http://{host}/v2/")).ok());
        Self { host, home: home.to_owned(), _process: process }
    }

    /// Every request with what it had to authorize it.
    pub fn requests(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap()
    }
}

const KEEPING: &str = r"
    location = /v2/ { add_header X-Registry-Supports-Signatures 1; return 200; }
    location /extensions/ { root HOME; default_type application/json; }
";

const SCRIPTED: &str = r"
daemon off; master_process off; pid HOME/pid; error_log stderr warn; events { worker_connections 64; }
http {
  log_format who '$request_uri [$http_authorization]'; access_log HOME/log who;
  client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
  uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  server {
    listen HOST;
LOCATIONS
  }
}
";

pub fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

/// The records of an image, by name.
pub fn records(image: &Image) -> Vec<Value> {
    let ran = Cluster::shared().kubectl(&["get", "imagesignatures", "-o", "json"]).succeeded();
    let all = json(&ran)["items"].as_array().unwrap().clone();
    all.into_iter().filter(|record| record["spec"]["image"] == image.digest.as_str()).collect()
}

/// The status of a condition, and its reason.
pub fn condition(record: &Value, type_: &str) -> (String, String) {
    let conditions = record["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == type_).cloned().unwrap_or_default();
    let text = |member: &str| found[member].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}
