//! The folder of the run, and the end of everything that was started, however the run ends.
//!
//! A small shell process hears of every server started and ended. When its standard input closes, because the run is over,
//! was interrupted or was killed, it kills what is left and removes the run's control groups and the folder.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const SHELL: &str = r#"
live=' '
while read -r what pid; do
  case $what in
  +) live="$live$pid " ;;
  -) live="${live%% $pid *} ${live#* $pid }" ;;
  esac
done
for pid in $live; do kill -s KILL -- "-$pid" 2>/dev/null; done
# What was killed may take a moment to be gone.
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  left=no
  for group in $(find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$1-*" 2>/dev/null); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || left=yes
  done
  if [ -n "$2" ] && ! rm -rf -- "$2" 2>/dev/null; then left=yes; fi
  [ $left = yes ] || exit 0
  sleep 0.1
done
"#;

struct Reaper {
    shell: Child,
    tell: ChildStdin,
}

static RUN: Mutex<Option<(PathBuf, Reaper)>> = Mutex::new(None);

/// A new folder of the run. Its path is short, as the sockets of gpg-agent need it, and `name` is part of it.
pub fn folder(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let path = with_run(|root, _| root.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))));
    std::fs::create_dir(&path).unwrap();
    path
}

/// A name for control groups, which are removed with the folder.
pub fn group() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = with_run(|root, _| root.file_name().unwrap().to_string_lossy().into_owned());
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A process group that must not outlive the run.
pub fn started(group: u32) {
    with_run(|_, reaper| reaper.say('+', group));
}

/// The process group has ended; its number may be somebody else's soon.
pub fn ended(group: u32) {
    with_run(|_, reaper| reaper.say('-', group));
}

/// Kills what is left and removes the folder.
pub fn finish() {
    let run = RUN.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some((root, Reaper { mut shell, tell })) = run {
        drop(tell);
        shell.wait().unwrap();
        if keep() {
            eprintln!("kept: {}", root.display());
        }
    }
}

impl Reaper {
    fn start(root: &Path) -> Self {
        let remove = if keep() { Path::new("") } else { root };
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "reaper"])
            .args([root.file_name().unwrap(), remove.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Its own group: an interrupt at the terminal must not end it first.
            .process_group(0)
            .spawn()
            .unwrap();
        let tell = shell.stdin.take().unwrap();
        Self { shell, tell }
    }

    fn say(&mut self, what: char, group: u32) {
        // A shell that is gone cannot be told; the process is then killed by its guard alone.
        let _ = writeln!(self.tell, "{what} {group}");
    }
}

fn with_run<T>(act: impl FnOnce(&Path, &mut Reaper) -> T) -> T {
    let mut run = RUN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (root, reaper) = run.get_or_insert_with(|| {
        let root = tempfile::Builder::new().prefix("podseal-it-").tempdir().unwrap().keep();
        let reaper = Reaper::start(&root);
        (root, reaper)
    });
    act(root, reaper)
}

fn keep() -> bool {
    std::env::var_os("PODSEAL_KEEP").is_some_and(|value| value != "0")
}
