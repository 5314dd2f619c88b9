//! The keys that signatures are verified with: files, or the public keyring of a `GnuPG` home.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Trouble;
use crate::signature::openpgp::Keyring;

/// Largest file of keys, and largest keyring, in bytes.
const MAX_KEYS: u64 = 32 << 20;
/// gpg has so long: a keyring of that size takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// The keys of these files, or of the `GnuPG` home if there is none, with what ought to be said about them. No key at all is
/// trouble: every signature would look like one by a stranger.
pub(super) fn load(files: &[PathBuf]) -> Result<(Keyring, Vec<String>), Trouble> {
    let named = if files.is_empty() { vec![of_home()?] } else { read_all(files)? };
    let (keyring, problems) = Keyring::from_files(named.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    if keyring.is_empty() {
        let places: Vec<_> = named.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Trouble::Unknown(format!("no public keys imported from {}", places.join(", "))));
    }
    Ok((keyring, problems))
}

fn read_all(files: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        let bytes = read_file(path).map_err(|e| Trouble::Usage(format!("--public-key {name}: {e}")))?;
        Ok((name, bytes))
    };
    files.iter().map(read).collect()
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    // A pipe without a writer would block for ever.
    if !std::fs::metadata(path).map_err(|e| e.to_string())?.is_file() {
        return Err("not a regular file".to_owned());
    }
    bounded(std::fs::File::open(path).map_err(|e| e.to_string())?)
}

fn bounded(source: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    source.take(MAX_KEYS + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_KEYS {
        return Err(format!("larger than {} MiB", MAX_KEYS >> 20));
    }
    Ok(bytes)
}

/// `$GNUPGHOME`, or `.gnupg` in the home directory.
fn home() -> Result<PathBuf, Trouble> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("GNUPGHOME").or_else(|| variable("HOME").map(|home| home.join(".gnupg")));
    let usage = |what: &str| Trouble::Usage(format!("{what}: give --public-key FILE"));
    let home = home.ok_or_else(|| usage("there is neither $GNUPGHOME nor $HOME to find a keyring in"))?;
    // gpg would make one, and it would be empty.
    if !home.is_dir() {
        return Err(usage(&format!("there is no GnuPG home {}", home.display())));
    }
    Ok(home)
}

/// Its public keyring. gpg is asked, because it alone knows in which of its formats the keys are kept; without gpg the
/// old format can still be read.
fn of_home() -> Result<(String, Vec<u8>), Trouble> {
    let home = home()?;
    let name = format!("the keyring of {}", home.display());
    match export(&home) {
        Ok(bytes) => Ok((name, bytes)),
        Err(Failed::Missing) => {
            let old = home.join("pubring.gpg");
            let newer = ["pubring.kbx", "public-keys.d"].iter().any(|file| home.join(file).exists());
            let missing = "gpg is not installed, and only gpg reads this keyring: give --public-key FILE, as \
                           gpg --export makes it";
            if newer || !old.is_file() {
                return Err(Trouble::Usage(format!("{name}: {missing}")));
            }
            read_file(&old).map(|bytes| (name, bytes)).map_err(|e| Trouble::Unknown(format!("{}: {e}", old.display())))
        }
        Err(Failed::Otherwise(why)) => Err(Trouble::Unknown(format!("{name}: gpg --export: {why}"))),
    }
}

enum Failed {
    /// There is no gpg.
    Missing,
    Otherwise(String),
}

fn export(home: &Path) -> Result<Vec<u8>, Failed> {
    let mut gpg = Command::new("gpg");
    gpg.args(["--batch", "--no-tty", "--quiet", "--homedir"]).arg(home).arg("--export");
    gpg.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = gpg.spawn().map_err(|e| match e.kind() {
        ErrorKind::NotFound => Failed::Missing,
        _ => Failed::Otherwise(e.to_string()),
    })?;
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || output.map_or_else(|| Ok(Vec::new()), bounded));
    let ended = wait(&mut child);
    // A reader that stopped early closed its end, so gpg has ended or was killed, and this returns.
    let bytes = reader.join().map_err(|_| Failed::Otherwise("its output could not be read".to_owned()))?;
    ended.map_err(Failed::Otherwise)?;
    bytes.map_err(Failed::Otherwise)
}

/// Waits for the end, which comes in time or by force.
fn wait(child: &mut Child) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("ended with {status}")),
            Ok(None) if Instant::now() < end => std::thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("it does not end".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
