//! The servers that are compared, each a process of its own.

use std::process::Command;

use crate::support::cluster::{Cluster, OWN_NAMESPACE, User};
use crate::support::http::Http;
use crate::support::pki::{Authority, LOCAL};
use crate::support::podseal::BINARY;
use crate::support::process::Process;
use crate::support::review::{Answer, Review};
use crate::support::{ports, scratch};

/// A server of reviews.
#[derive(Debug)]
pub struct Server {
    /// Where reviews go.
    pub url: String,
    base: String,
    process: Process,
    http: Http,
}

impl Server {
    /// The floor.
    pub fn floor() -> Self {
        let authority = Authority::new("floor");
        let tls = authority.server(&LOCAL);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env("MALLOC_ARENA_MAX", "2");
        let process = Process::spawn("floor", command.arg("floor").arg(tls.cert).arg(tls.key));
        let address = process.wait_ready(|process| process.log().split_once('\n').map(|(line, _)| line.to_owned()));
        Self::at(&address, process, &authority)
    }

    /// podseal's webhook on a cluster, ready, run as the chart runs it; logs as they are by default.
    pub fn podseal(cluster: &Cluster, args: &[&str]) -> Self {
        let authority = Authority::new("webhook");
        let tls = authority.server(&LOCAL);
        let address = format!("127.0.0.1:{}", ports::free());
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--kubeconfig").arg(cluster.kubeconfig(User::Podseal));
        command.args(["--run=webhook", "--own-namespace", OWN_NAMESPACE, "--listen", &address, "--drain-delay", "0s"]);
        command.arg("--tls-cert").arg(&tls.cert).arg("--tls-key").arg(&tls.key).args(args);
        command.env("HOME", scratch::folder("home")).env("MALLOC_ARENA_MAX", "2");
        let server = Self::at(&address, Process::spawn("podseal", &mut command), &authority);
        let ready = format!("{}/readyz", server.base);
        server.process.wait_ready(|_| server.http.get(&ready).is_ok_and(|reply| reply.status == 200).then_some(()));
        server
    }

    fn at(address: &str, process: Process, authority: &Authority) -> Self {
        let base = format!("https://{address}");
        Self { url: format!("{base}/validate?timeout=10s"), base, process, http: Http::trusting(&authority.pem) }
    }

    /// The answer to one review.
    pub fn review(&self, review: &Review) -> Answer {
        let body = review.json.to_string().into_bytes();
        let reply = self.http.post(&self.url, "application/json", body).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        Answer::read(&reply.body)
    }

    /// The same, which must be an allowance.
    pub fn allows(&self, review: &Review) {
        let answer = self.review(review);
        assert!(answer.allowed, "{}\n{}", answer.json, self.process.log());
    }

    /// A sample of `/metrics`, by its whole series name.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.http.get(&format!("{}/metrics", self.base)).unwrap().text();
        let sample = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        sample.unwrap_or_else(|| panic!("no {series}: {text}"))
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// Processor time so far, in seconds, user and system.
    pub fn processor(&self) -> f64 {
        // Linux counts in hundredths of a second here, whatever its own clock.
        const TICK: f64 = 0.01;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum::<f64>() * TICK
    }

    /// Empties the log.
    pub fn clear_log(&self) {
        std::fs::File::options().write(true).open(self.process.log_file()).unwrap().set_len(0).unwrap();
    }
}
