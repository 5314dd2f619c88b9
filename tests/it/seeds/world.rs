//! The computer of those who sign, built in each of its ways: keys by podseal or gpg, signatures by podseal or skopeo,
//! served by podseal or nginx.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::imagemaker::world::Host;
use crate::support::http::{Http, Reply};
use crate::support::podseal::BINARY;
use crate::support::process::Process;
use crate::support::registry::{Image, Registry};
use crate::support::tools::{self, Ran};
use crate::support::{ports, scratch};

/// What makes keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    Podseal,
    Gpg,
}

/// What signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    Podseal,
    Skopeo,
}

/// What serves keys and signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Podseal,
    Nginx,
}

/// The web server of `sigstore.local:81`.
pub struct Served {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    _process: Process,
}

const NGINX: &str = r"
daemon off; master_process off; pid HOME/pid; error_log stderr warn; events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
  uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  server { listen 127.0.0.1:PORT; server_name sigstore.local; root ROOT; }
}
";

impl Served {
    /// Serves a directory with `keys/`, `sigstore/` and perhaps `index.html`.
    pub fn start(server: Server, root: &Path) -> Self {
        let port = ports::free();
        let url = format!("http://127.0.0.1:{port}");
        let mut command = match server {
            Server::Podseal => {
                let mut command = std::process::Command::new(BINARY);
                command.args(["store", "--listen", &format!("127.0.0.1:{port}"), "--dir"]).arg(root);
                command
            }
            Server::Nginx => {
                let home = scratch::folder("nginx");
                let text = NGINX.replace("HOME", home.to_str().unwrap()).replace("PORT", &port.to_string());
                std::fs::write(home.join("nginx.conf"), text.replace("ROOT", root.to_str().unwrap())).unwrap();
                let mut command = tools::server("nginx");
                command.args(["-e", "stderr", "-p"]).arg(&home).arg("-c").arg(home.join("nginx.conf"));
                command
            }
        };
        let process = Process::spawn("sigstore", &mut command);
        let http = Http::trusting("");
        process.wait_ready(|_| http.get(&format!("{url}/")).ok());
        Self { url, _process: process }
    }

    /// GET of a path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        Http::trusting("").get(&format!("{}{path}", self.url)).unwrap()
    }
}

/// A folder of containers-policy.json(5) and registries.d.
pub fn containers(policy: &Value, registries_d: &str) -> PathBuf {
    let folder = scratch::folder("containers");
    std::fs::create_dir(folder.join("registries.d")).unwrap();
    std::fs::write(folder.join("policy.json"), policy.to_string()).unwrap();
    std::fs::write(folder.join("registries.d/default.yaml"), registries_d).unwrap();
    folder
}

/// Only what this key signed, only from this registry.
pub fn policy_of(registry: &str, key: &Path) -> Value {
    json!({
        "default": [{"type": "reject"}],
        "transports": {"docker": {registry: [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": key}]}},
    })
}

/// Signs an image under its own name, by an address of the home, into the folder that registries.d names.
#[track_caller]
pub fn sign(signer: Signer, host: &Host, by: &str, image: &Image, registries_d: &Path) {
    let name = image.tagged();
    let ran = match signer {
        Signer::Podseal => {
            let mut command = tools::once(Path::new(BINARY));
            command.args(["sign", &name, "--sign-by", by, "--insecure", "--registries-d"]).arg(registries_d);
            tools::run(command.env("GNUPGHOME", host.gpg.home()))
        }
        Signer::Skopeo => {
            let mut command = host.gpg.command("skopeo");
            command.arg("--registries.d").arg(registries_d).args(["copy", "-q", "--src-tls-verify=false"]);
            command.args(["--dest-tls-verify=false", "--sign-by", by]);
            let name = format!("docker://{name}");
            tools::run(command.args([&name, &name]))
        }
    };
    ran.succeeded();
}

/// Pulls on a computer with these settings and no keys of its own.
#[must_use]
pub fn pull(containers: &Path, image: &str) -> Ran {
    let mut command = tools::command("skopeo");
    command.env("GNUPGHOME", scratch::folder("no-keys")).env("LC_ALL", "C");
    command.arg("--policy").arg(containers.join("policy.json"));
    command.arg("--registries.d").arg(containers.join("registries.d"));
    command.args(["copy", "-q", "--remove-signatures", "--src-tls-verify=false"]).arg(format!("docker://{image}"));
    tools::run(command.arg(format!("dir:{}", scratch::folder("pulled").join("out").display())))
}

/// The registry as the document has it: what the Debian package installs.
pub fn registry() -> Registry {
    Registry::debian()
}
