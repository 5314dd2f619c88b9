//! One run of gpg: bounded in output and time, the passphrase by a pipe.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::secret::{Passphrase, Secret};
use super::{Gnupg, GnupgError, MAX_DATA};
use crate::domain::printable::printable;

/// A large key may take minutes to make, and a person to find his card.
const PATIENCE: Duration = Duration::from_secs(600);
/// Most of status and messages.
const MAX_SAID: usize = 1 << 20;
const STATUS: &str = "[GNUPG:] ";

/// What gpg is given on its standard input.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Input<'a> {
    /// In front of the data, as a line of its own.
    pub(super) passphrase: Option<&'a Passphrase>,
    pub(super) data: &'a [u8],
}

/// What came out.
#[derive(Debug, Clone, Default)]
pub(super) struct Output {
    pub(super) data: Vec<u8>,
    /// Status lines and messages as they came.
    pub(super) said: String,
    pub(super) ok: bool,
}

impl Output {
    /// The rest of the last status line of that kind.
    pub(super) fn status(&self, keyword: &str) -> Option<&str> {
        let lines = self.said.lines().filter_map(|line| line.strip_prefix(STATUS));
        let mut rests = lines.filter_map(|line| line.strip_prefix(keyword));
        rests.rfind(|rest| rest.is_empty() || rest.starts_with(' ')).map(str::trim)
    }

    /// Itself, if gpg ended well.
    pub(super) fn succeeded(self, what: &str) -> Result<Self, GnupgError> {
        if self.ok { Ok(self) } else { Err(self.failure(what)) }
    }

    /// Why it failed, in gpg's words.
    pub(super) fn failure(&self, what: &str) -> GnupgError {
        let said = self.said.lines().filter(|line| !line.starts_with(STATUS));
        let mut lines: Vec<_> = said.map(|line| line.strip_prefix("gpg: ").unwrap_or(line).trim()).collect();
        lines.retain(|line| !line.is_empty());
        let start = lines.len().saturating_sub(3);
        let why = lines.get(start..).unwrap_or_default().join("; ");
        // It may quote what others wrote.
        let short: String = why.chars().take(500).collect();
        let why = printable(&short).into_owned();
        let why = if why.is_empty() { "it does not say why".to_owned() } else { why };
        GnupgError::Failed(what.to_owned(), why)
    }
}

impl Gnupg {
    pub(super) fn run_program(
        &self,
        program: &Path,
        what: &str,
        arguments: &[&str],
        input: Input<'_>,
    ) -> Result<Output, GnupgError> {
        let secret = input.passphrase.map(Passphrase::secret).transpose()?.flatten();
        let mut child = self.start(program, arguments)?;
        let done = converse(&mut child, what, secret.as_ref(), input.data);
        if done.is_err() {
            // It may have ended; and it must not outlive the one who asked.
            let _ = child.kill();
            let _ = child.wait();
        }
        done
    }
}

/// What gpg is answered when it asks.
pub(super) enum Reply {
    /// A line.
    Line(String),
    /// A passphrase.
    Secret(Secret),
    /// Nothing: it is not to go on.
    Stop,
}

impl Gnupg {
    /// A run in which gpg asks (`--command-fd`) and `answer` is given the keyword of each question. With `loopback` it asks
    /// for passphrases here, else the agent does.
    pub(super) fn dialogue(
        &self,
        what: &str,
        arguments: &[&str],
        loopback: bool,
        answer: impl FnMut(&str) -> Reply,
    ) -> Result<Output, GnupgError> {
        let mut all = vec![
            "--no-tty",
            "--quiet",
            "--no-greeting",
            "--no-auto-check-trustdb",
            "--command-fd",
            "0",
            "--status-fd",
            "2",
        ];
        if loopback {
            all.extend(["--pinentry-mode", "loopback"]);
        }
        all.extend(arguments);
        let mut child = self.start(&self.program, &all)?;
        let done = answered(&mut child, what, answer);
        if done.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        done
    }

    fn start(&self, program: &Path, arguments: &[&str]) -> Result<Child, GnupgError> {
        let mut command = Command::new(program);
        if let Some(home) = &self.home {
            command.arg("--homedir").arg(home);
        }
        // Messages in one language; what may hold anything is never the environment.
        command.args(arguments).env("LC_ALL", "C.UTF-8").env_remove("LANGUAGE");
        if let Some(terminal) = terminal() {
            command.env("GPG_TTY", terminal);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| GnupgError::Program(program.display().to_string(), error.to_string()))
    }
}

fn answered(child: &mut Child, what: &str, mut answer: impl FnMut(&str) -> Reply) -> Result<Output, GnupgError> {
    let broken = |error: std::io::Error| GnupgError::Failed(what.to_owned(), error.to_string());
    let out = child.stdout.take().map(|stream| collect(stream, MAX_DATA));
    let mut given = child.stdin.take();
    let (sender, lines) = channel();
    if let Some(stream) = child.stderr.take() {
        std::thread::spawn(move || {
            let lines = BufReader::new(stream.take(MAX_SAID as u64)).split(b'\n');
            // Nobody listens any longer when time ran out.
            let _ = lines.map_while(Result::ok).try_for_each(|line| sender.send(line));
        });
    } else {
        drop(sender);
    }
    let (deadline, mut said) = (Instant::now() + PATIENCE, String::new());
    loop {
        let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => String::from_utf8_lossy(&line).into_owned(),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => return Err(GnupgError::Timeout(what.to_owned(), PATIENCE.as_secs())),
        };
        let question = line.strip_prefix(STATUS).and_then(|line| line.strip_prefix("GET_")?.split_once(' '));
        if let Some((_, keyword)) = question {
            let spoken = match (answer(keyword.trim()), &mut given) {
                (Reply::Line(text), Some(given)) => given.write_all(format!("{text}\n").as_bytes()),
                (Reply::Secret(secret), Some(given)) => {
                    secret.with(|text| given.write_all(text)).and_then(|()| given.write_all(b"\n"))
                }
                // With its input at an end it gives up.
                _ => {
                    given = None;
                    Ok(())
                }
            };
            // One that ended says why in its messages.
            let _ = spoken;
        }
        said.push_str(&line);
        said.push('\n');
    }
    drop(given);
    let (data, _) = await_both(what, out, None, deadline)?;
    Ok(Output { data, said, ok: child.wait().map_err(broken)?.success() })
}

/// Where the agent's pinentry may ask.
fn terminal() -> Option<PathBuf> {
    if std::env::var_os("GPG_TTY").is_some() || !std::io::stdin().is_terminal() {
        return None;
    }
    std::fs::read_link("/proc/self/fd/0").ok()
}

fn converse(child: &mut Child, what: &str, secret: Option<&Secret>, data: &[u8]) -> Result<Output, GnupgError> {
    let broken = |error: std::io::Error| GnupgError::Failed(what.to_owned(), error.to_string());
    let out = child.stdout.take().map(|stream| collect(stream, MAX_DATA * 2));
    let err = child.stderr.take().map(|stream| collect(stream, MAX_SAID));
    let deadline = Instant::now() + PATIENCE;
    let given = child.stdin.take();
    std::thread::scope(|scope| {
        // A program that does not read its input to the end says why in its messages. When it is killed, writing ends.
        let writing = scope.spawn(move || {
            let Some(mut given) = given else { return };
            let spoken = secret.map_or(Ok(()), |secret| {
                secret.with(|text| given.write_all(text)).and_then(|()| given.write_all(b"\n"))
            });
            let _ = spoken.and_then(|()| given.write_all(data));
        });
        let both = await_both(what, out, err, deadline);
        if both.is_err() {
            let _ = child.kill();
        }
        let _ = writing.join();
        let (data, said) = both?;
        let ended = child.wait().map_err(broken)?;
        Ok(Output { data, said: String::from_utf8_lossy(&said).into_owned(), ok: ended.success() })
    })
}

type Collected = Receiver<Option<Vec<u8>>>;

fn await_both(
    what: &str,
    out: Option<Collected>,
    err: Option<Collected>,
    deadline: Instant,
) -> Result<(Vec<u8>, Vec<u8>), GnupgError> {
    let get = |stream: Option<Collected>| {
        let Some(stream) = stream else { return Ok(Vec::new()) };
        let left = deadline.saturating_duration_since(Instant::now());
        match stream.recv_timeout(left) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(GnupgError::Failed(what.to_owned(), "it says more than is taken".to_owned())),
            Err(_) => Err(GnupgError::Timeout(what.to_owned(), PATIENCE.as_secs())),
        }
    };
    Ok((get(out)?, get(err)?))
}

/// Everything up to a limit, `None` beyond it.
fn collect(stream: impl Read + Send + 'static, limit: usize) -> Collected {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stream.take(limit as u64 + 1).read_to_end(&mut bytes);
        let whole = read.is_ok() && bytes.len() <= limit;
        // Nobody waits any longer when time ran out.
        let _ = sender.send(whole.then_some(bytes));
    });
    receiver
}
