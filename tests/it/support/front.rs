//! A registry that keeps signatures itself, as people build one: nginx before a registry and a podseal store.
//!
//! ```text
//!  /extensions/ ─► podseal store      everything else ─► registry, with X-Registry-Supports-Signatures: 1
//! ```
//! nginx asks for user and password, and hands them on, so that the store knows who writes.

use std::path::PathBuf;
use std::process::Command;

use super::http::Http;
use super::podseal::BINARY;
use super::process::Process;
use super::registry::{Registry, docker_config};
use super::{ports, scratch, tools};

/// Who may do everything.
pub const USER: (&str, &str) = ("maker", "correct horse");

/// A running `podseal store` in which [`USER`] may write.
#[derive(Debug)]
pub struct SignatureStore {
    /// `127.0.0.1:PORT`.
    pub host: String,
    /// What `--dir` names.
    pub folder: PathBuf,
    users: PathBuf,
    _process: Process,
}

impl SignatureStore {
    /// An empty one.
    pub fn start() -> Self {
        let users = scratch::folder("users").join("htpasswd");
        std::fs::write(&users, format!("{}:{}\n", USER.0, bcrypt::hash(USER.1, 4).unwrap())).unwrap();
        let folder = scratch::folder("sigstore");
        let host = format!("127.0.0.1:{}", ports::free());
        let mut command = Command::new(BINARY);
        command.arg("store").arg("--dir").arg(&folder).args(["--listen", &host]).arg("--htpasswd").arg(&users);
        let process = Process::spawn("podseal-store", &mut command);
        let http = Http::trusting("");
        process.wait_ready(|_| http.get(&format!("http://{host}/keys/none.pgp")).ok());
        Self { host, folder, users, _process: process }
    }

    /// Where signatures are read and written.
    pub fn url(&self) -> String {
        format!("http://{}/sigstore", self.host)
    }
}

/// A running front.
#[derive(Debug)]
pub struct Front {
    /// `127.0.0.1:PORT`.
    pub host: String,
    _process: Process,
}

impl Front {
    /// Before these two.
    pub fn before(registry: &Registry, store: &SignatureStore) -> Self {
        let home = scratch::folder("front");
        let host = format!("127.0.0.1:{}", ports::free());
        // nginx compares passwords with crypt(3), and its workers may run as another user.
        let text = CONFIG
            .replace("HOME", home.to_str().unwrap())
            .replace("LISTEN", &host)
            .replace("USERS", store.users.to_str().unwrap())
            .replace("REGISTRY", &registry.host)
            .replace("STORE", &store.host);
        let config = home.join("nginx.conf");
        std::fs::write(&config, text).unwrap();
        let mut command = tools::server("nginx");
        command.args(["-e", "stderr", "-p"]).arg(&home).arg("-c").arg(&config);
        let process = Process::spawn("front", &mut command);
        let http = Http::trusting("");
        process.wait_ready(|_| http.get(&format!("http://{host}/v2/")).ok());
        Self { host, _process: process }
    }

    /// A folder with the `config.json` of this user.
    pub fn login(&self, user: &str, password: &str) -> PathBuf {
        docker_config(&[(&self.host, user, password)])
    }
}

const CONFIG: &str = r#"
daemon off; master_process off; pid HOME/pid; error_log stderr warn; events { worker_connections 64; }
http {
  access_log HOME/access.log;
  client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
  uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  client_max_body_size 0;
  server {
    listen LISTEN;
    auth_basic "registry"; auth_basic_user_file USERS;
    add_header X-Registry-Supports-Signatures 1 always;
    proxy_set_header Host $http_host;
    location /extensions/ { proxy_pass http://STORE; }
    location / { proxy_pass http://REGISTRY; }
  }
}
"#;
