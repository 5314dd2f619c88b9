//! A server: started in a process group of its own, ready when it says so, killed when it is dropped.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{harness, scratch, tools};

/// How long a server may take to become ready. Other builds may keep every core busy meanwhile.
pub const READY: Duration = Duration::from_secs(90);
const STEP: Duration = Duration::from_millis(20);

/// A running server.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Mutex<Child>,
    id: u32,
    log: PathBuf,
}

impl Process {
    /// Starts it; both its outputs go to a log file.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        let log = scratch::folder(name).join("log");
        let output = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let id = child.id();
        scratch::started(id);
        Self { name: name.to_owned(), child: Mutex::new(child), id, log }
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The file it writes to.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Its process id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits until `ready` has an answer; fails when the server ends or takes too long.
    #[track_caller]
    pub fn wait_ready<T>(&self, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(answer) = ready(self) {
                return answer;
            }
            if let Some(status) = self.ended() {
                panic!("{} ended with {status} before it was ready\n{}", self.name, self.log());
            }
            assert!(started.elapsed() < READY, "{} is not ready after {READY:?}\n{}", self.name, self.log());
            std::thread::sleep(STEP);
        }
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    /// How it ended, if it does so in time.
    pub fn ended_within(&self, time: Duration) -> Option<ExitStatus> {
        within(time, || self.ended())
    }

    /// Sends a signal, such as `TERM`, `HUP`, `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        tools::run(Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id.to_string()])).succeeded();
    }

    /// Ends it at once.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // An error says that it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        scratch::ended(self.id);
        if std::thread::panicking() {
            harness::attach(&self.name, &self.log());
        }
    }
}

/// Asks again and again until there is an answer; `None` when time is up.
pub fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if started.elapsed() > time {
            return None;
        }
        std::thread::sleep(STEP);
    }
}

/// Waits until a condition holds, half a minute at most; `what` says what was waited for.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let time = Duration::from_secs(30);
    assert!(within(time, || holds().then_some(())).is_some(), "not within {time:?}: {what}");
}
