//! `cargo bench --bench store` (`make bench`): signatures served per second, by `podseal store` and by nginx.
//!
//! Both serve the same folder, with their logs of requests off, on as many threads as there are cores, and take turns:
//! what counts is the median of the ratios of neighbours. wrk asks over keep-alive connections for the signatures of one
//! image after the other and for the number after the last, as readers do.
//!
//! `--quick` does less. Exit status 1: the target was missed.

// A benchmark that cannot be set up ends with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

// Only a part of it is used here.
#[allow(dead_code)]
#[path = "../webhook/table.rs"]
mod table;

use table::{Table, Target, median};

/// podseal serves at least so many signatures per second for each that nginx serves.
const LEAST: f64 = 0.7;
const IMAGES: usize = 500;
const EACH: usize = 2;
const CONNECTIONS: usize = 32;

/// A server, killed at the end.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(mut command: Command, port: u16) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a server");
        let server = Self { child, url: format!("http://127.0.0.1:{port}") };
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{} does not answer", server.url);
    }

    fn podseal(dir: &Path) -> Self {
        let port = free();
        let mut command = Command::new(env!("CARGO_BIN_EXE_podseal"));
        command.arg("store").arg("--dir").arg(dir).args(["--listen", &format!("127.0.0.1:{port}")]);
        Self::start(command, port)
    }

    fn nginx(dir: &Path, home: &Path) -> Self {
        let port = free();
        let config = home.join("nginx.conf");
        let text = CONFIG.replace("HOME", home.to_str().unwrap()).replace("DIR", dir.to_str().unwrap());
        std::fs::write(&config, text.replace("PORT", &port.to_string())).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p"]).arg(home).arg("-c").arg(&config);
        Self::start(command, port)
    }

    /// Answers per second.
    fn measure(&self, script: &Path, time: Duration) -> f64 {
        let mut command = Command::new("wrk");
        command.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{}s", time.as_secs())]);
        let output = command.arg("-s").arg(script).arg(&self.url).output().expect("wrk is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        assert!(!text.contains("Socket errors"), "{text}");
        rate.unwrap_or_else(|| panic!("{text}")).trim().parse().unwrap()
    }
}

/// As distributions configure it: a worker per core, `sendfile`; without the log that podseal does not write either.
const CONFIG: &str = r"
daemon off; master_process on; worker_processes auto; user root; pid HOME/pid; error_log /dev/null;
events { worker_connections 768; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; default_type application/octet-stream;
  client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
  uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  server { listen 127.0.0.1:PORT; root DIR; }
}
";

fn free() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The folder, and a script that asks for what is in it.
fn scene(home: &Path) -> (PathBuf, PathBuf) {
    let dir = home.join("sigstore");
    let mut paths = String::new();
    for n in 0..IMAGES {
        let image = format!("sigstore/team-{}/app-{n}@sha256={n:064x}", n % 20);
        std::fs::create_dir_all(dir.join(&image)).unwrap();
        for number in 1..=EACH {
            // As large as a signature by an RSA key of 4096 bits.
            std::fs::write(dir.join(&image).join(format!("signature-{number}")), vec![0xA5; 1024]).unwrap();
        }
        for number in 1..=EACH + 1 {
            writeln!(paths, "'/{image}/signature-{number}',").unwrap();
        }
    }
    let script = home.join("paths.lua");
    let text = format!(
        "paths = {{{paths}}}\nat = 0\nrequest = function()\n  at = at % #paths + 1\n  return wrk.format('GET', paths[at])\nend\n"
    );
    std::fs::write(&script, text).unwrap();
    (dir, script)
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, time) = if quick { (3, Duration::from_secs(1)) } else { (9, Duration::from_secs(3)) };
    let home = tempfile::tempdir().unwrap();
    let (dir, script) = scene(home.path());
    let (podseal, nginx) = (Server::podseal(&dir), Server::nginx(&dir, home.path()));
    for server in [&podseal, &nginx] {
        server.measure(&script, Duration::from_secs(1));
    }
    let mut pairs = Vec::new();
    for _ in 0..rounds {
        pairs.push((podseal.measure(&script, time), nginx.measure(&script, time)));
    }
    let mut table = Table::default();
    let of = |figure: fn(&(f64, f64)) -> f64| median(pairs.iter().map(figure).collect());
    table.row("signatures served by podseal store", of(|pair| pair.0), "per s", Target::None);
    table.row("signatures served by nginx from the same folder", of(|pair| pair.1), "per s", Target::None);
    table.row("ratio, median of the rounds", of(|pair| pair.0 / pair.1), "", Target::Least(LEAST));
    drop((podseal, nginx));
    if table.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
