//! wrk as the API server: keep-alive connections over TLS, each with one request at a time. It is the cheapest generator
//! there is, so that on a small machine the servers and not the generator are compared; what it costs, it costs everybody.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{scratch, tools};

/// What came of a run.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Answered requests.
    pub requests: u64,
    /// Per second.
    pub rate: f64,
    /// Microseconds.
    pub median: f64,
    /// Microseconds.
    pub p99: f64,
}

/// A line when wrk is not there.
pub fn missing() -> Option<String> {
    let there = Command::new("wrk").arg("-v").output().is_ok();
    (!there).then(|| "missing: wrk; tests/tools/install.sh installs it".to_owned())
}

/// A request body with the script that sends it.
#[derive(Debug)]
pub struct Shot(PathBuf);

const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("BODY", "rb")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

impl Shot {
    /// Writes both down.
    pub fn new(body: &[u8]) -> Self {
        let folder = scratch::folder("load");
        let file = folder.join("review.json");
        std::fs::write(&file, body).unwrap();
        let script = folder.join("post.lua");
        std::fs::write(&script, SCRIPT.replace("BODY", file.to_str().unwrap())).unwrap();
        Self(script)
    }

    /// Fires for about this long; anything but status 200 fails.
    pub fn fire(&self, url: &str, connections: usize, time: Duration) -> Measured {
        let mut command = tools::once(Path::new("wrk"));
        // wrk takes whole seconds only.
        let seconds = time.as_secs_f64().ceil();
        command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "10s", "-s"]);
        let ran = tools::run(command.arg(&self.0).arg(url)).succeeded();
        let line = ran.stdout.lines().find_map(|line| line.strip_prefix("RESULT ")).unwrap_or_else(|| panic!("{ran}"));
        let figures: Vec<f64> = line.split(' ').map(|figure| figure.parse().unwrap()).collect();
        let [requests, micros, median, p99, errors] = figures[..] else { panic!("{ran}") };
        assert!(errors == 0.0, "{ran}");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = requests as u64;
        Measured { requests: count, rate: requests / micros * 1e6, median, p99 }
    }
}
