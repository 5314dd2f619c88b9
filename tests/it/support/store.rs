//! A signature store as the original's users run it: nginx in front of a lookaside tree.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::process::Process;
use super::registry::{Image, Request, requests};
use super::{http::Http, ports, scratch, tools};

/// A running store.
#[derive(Debug)]
pub struct Store {
    /// `http://127.0.0.1:PORT/sigstore/`.
    pub url: String,
    folder: PathBuf,
    requests: PathBuf,
    _process: Process,
}

impl Store {
    /// An empty one.
    pub fn start() -> Self {
        let home = scratch::folder("nginx");
        let folder = home.join("store");
        std::fs::create_dir(&folder).unwrap();
        let port = ports::free();
        let requests = home.join("access.log");
        let config = home.join("nginx.conf");
        let text = CONFIG.replace("HOME", home.to_str().unwrap()).replace("PORT", &port.to_string());
        std::fs::write(&config, text).unwrap();
        // The workers of nginx run as another user when it is started by root.
        let mut command = tools::server("nginx");
        command.args(["-e", "stderr", "-p"]).arg(&home).arg("-c").arg(&config);
        let process = Process::spawn("nginx", &mut command);
        let url = format!("http://127.0.0.1:{port}/sigstore/");
        let http = Http::trusting("");
        // A path that the log leaves out: lines are written after answers, and this one would be taken for a client's.
        process.wait_ready(|_| http.get(&format!("http://127.0.0.1:{port}/ready")).ok());
        Self { url, folder, requests, _process: process }
    }

    /// The tree that it serves: `REPOSITORY@sha256=HEX/signature-N`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts a signature into the tree; the first one of an image has number 1.
    pub fn put(&self, image: &Image, number: usize, signature: &[u8]) {
        let file = self.file(image, number);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, signature).unwrap();
    }

    /// Where that signature is.
    pub fn file(&self, image: &Image, number: usize) -> PathBuf {
        self.folder.join(format!("{}@sha256={}/signature-{number}", image.repository, image.hex()))
    }

    /// What it was asked, in order.
    pub fn requests(&self) -> Vec<Request> {
        requests(&self.requests)
    }

    /// Forgets what it was asked so far.
    pub fn forget(&self) {
        std::fs::File::options().write(true).open(&self.requests).unwrap().set_len(0).unwrap();
    }
}

const CONFIG: &str = r"
daemon off; master_process off; pid HOME/pid; error_log stderr warn; events { worker_connections 64; }
http {
  access_log HOME/access.log;
  client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
  uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  server {
    listen 127.0.0.1:PORT;
    location /sigstore/ { alias HOME/store/; default_type application/octet-stream; }
    location = /ready { access_log off; return 204; }
  }
}
";

/// A registries.d folder: `(registry or repository, lookaside URL)`.
pub fn registries_d(entries: &[(&str, &str)]) -> PathBuf {
    let folder = scratch::folder("registries.d");
    let mut text = "docker:\n".to_owned();
    for (name, url) in entries {
        writeln!(text, "  '{name}': {{lookaside: '{url}', lookaside-staging: '{url}'}}").unwrap();
    }
    std::fs::write(folder.join("default.yaml"), text).unwrap();
    folder
}
