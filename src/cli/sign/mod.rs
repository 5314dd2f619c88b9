//! `podseal sign`: signatures for images that are in a registry.

mod certificate;
pub(super) mod context;
mod one;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use self::context::{Destinations, SigningKeys};
use self::one::Job;
use self::one::Subject;
pub(super) use self::one::{Failed, sign_digest, tell};
use super::args::LogFormat;
use super::args::sign::SignCommand;
use super::output::complain;
use super::{USAGE, runtime};
use crate::domain::printable::printable;

/// At least one image is not signed, and somebody has to do something about it.
pub(super) const NOT_SIGNED: u8 = 1;
/// At least one image is not signed, and the same may succeed later.
pub(super) const NOT_FOUND_OUT: u8 = 2;

pub(super) fn run(command: &SignCommand, verbose: u8) -> ExitCode {
    let _logs = super::serve::logs(LogFormat::Text, verbose, "error,podseal::signing=warn");
    let done = subjects(command).and_then(|subjects| {
        let runtime = runtime()?;
        runtime.block_on(until_interrupted(async { all(command, &subjects).await }))
    });
    done.unwrap_or_else(|error| {
        complain(&printable(&error));
        ExitCode::from(USAGE)
    })
}

/// Does the work, unless the process is told to end first: then what must not be left behind is removed.
///
/// The watch is a task of its own: unpacking an archive, or a person at gpg's prompt, must not keep it from hearing.
pub(super) async fn until_interrupted<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let failed = |error: std::io::Error| format!("signals cannot be waited for: {error}");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let mut quit = signal(SignalKind::quit()).map_err(failed)?;
    let watch = tokio::spawn(async move {
        let number = tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            _ = hangup.recv() => 1,
            _ = quit.recv() => 3,
        };
        crate::signing::home::remove_all();
        complain("interrupted: what was signed is signed, the rest is not");
        std::process::exit(128 + number)
    });
    let done = work.await;
    watch.abort();
    done
}

/// What the images and names are, before anything is asked.
fn subjects(command: &SignCommand) -> Result<Vec<Subject>, String> {
    if command.identity.is_some() && command.images.len() > 1 {
        return Err("--identity names one image: sign the others apart".to_owned());
    }
    command.images.iter().map(|image| Subject::read(image, command.identity.as_deref())).collect()
}

async fn all(command: &SignCommand, subjects: &[Subject]) -> Result<ExitCode, String> {
    let line = context::line(&command.registry)?;
    let destinations = Destinations::new(&command.destination, line)?;
    // gpg may ask for a passphrase here, and a card for its PIN.
    let keys = tokio::task::block_in_place(|| SigningKeys::open(&command.key))?;
    let job = Job { destinations, keys, again: command.again, all_platforms: command.all_platforms };
    let mut code = 0;
    for subject in subjects {
        code = worse(code, job.sign(subject).await);
    }
    Ok(ExitCode::from(code))
}

/// What has to be told: a definite failure before one that may pass.
pub(super) fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (NOT_SIGNED, _) | (_, NOT_SIGNED) => NOT_SIGNED,
        _ => one.max(other),
    }
}
