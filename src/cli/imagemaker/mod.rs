//! `podseal imagemaker`: those who sign images, from their keys to the policies that ask for them.
//!
//! ```text
//!   arguments, terminal ─► plan, choice ─► create ─► gpg: a key ─► signing::makers: key file, registry
//!                                    │                       │
//!                                    └─► entries ◄───────────┴─► nodes (policy.json, registries.d)
//!                                        (cluster policy)
//! ```

mod choice;
mod create;
mod entries;
mod home;
mod hosts;
mod keys;
mod leftover;
mod list;
mod nodes;
mod obtain;
mod plan;
pub(super) mod prompt;
mod remove;
mod rotate;
mod withdraw;

use std::path::Path;
use std::process::ExitCode;

use super::USAGE;
use super::args::LogFormat;
use super::args::imagemaker::{ImagemakerAction, ImagemakerCommand, PassphraseArguments};
use super::output::complain;
use crate::signing::gnupg::{Gnupg, GnupgError, Passphrase, Secret};
use crate::signing::makers::Maker;

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum Failure {
    /// The arguments do not make sense.
    Usage(String),
    /// It could not be done.
    Failed(String),
}

impl Failure {
    /// What is wrong.
    pub(super) fn text(self) -> String {
        match self {
            Self::Usage(why) | Self::Failed(why) => why,
        }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<GnupgError> for Failure {
    fn from(error: GnupgError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) fn run(command: &ImagemakerCommand, verbose: u8) -> ExitCode {
    let _logs = super::serve::logs(LogFormat::Text, verbose, "error");
    let done = match &command.action {
        ImagemakerAction::Create(arguments) => create::run(arguments),
        ImagemakerAction::List(arguments) => list::run(arguments),
        ImagemakerAction::Passwd(arguments) => keys::passwd(arguments),
        ImagemakerAction::Rotate(arguments) => rotate::run(arguments),
        ImagemakerAction::Revoke(arguments) => keys::revoke(arguments),
        ImagemakerAction::Remove(arguments) => remove::run(arguments),
        ImagemakerAction::Policy(arguments) => nodes::run(arguments),
    };
    match done {
        Ok(code) => code,
        Err(Failure::Usage(why)) => {
            complain(&why);
            ExitCode::from(USAGE)
        }
        Err(Failure::Failed(why)) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

/// The home must be there: gpg would make an empty one.
fn check_home(maker: &Maker, gnupg: &Gnupg, otherwise: &str) -> Result<(), Failure> {
    match gnupg.home.as_ref().filter(|home| !home.is_dir()) {
        None => Ok(()),
        Some(home) => Err(Failure::Failed(format!(
            "the GnuPG home {} of the maker {} is not there: bring it back; {otherwise}",
            home.display(),
            maker.name
        ))),
    }
}

/// The home must be there, and the key in it not revoked behind the registry's back.
fn usable_home(maker: &Maker, gnupg: &Gnupg) -> Result<(), Failure> {
    let moved = format!("if it is elsewhere now: podseal imagemaker rotate {} --gnupg-home DIR", maker.name);
    check_home(maker, gnupg, &moved)?;
    let Some(active) = maker.active() else { return Ok(()) };
    if gnupg.secret_key(&active.fingerprint).is_ok_and(|key| key.validity == 'r') {
        return Err(Failure::Failed(format!(
            "key {} is revoked in {} already, and not in the key file: podseal imagemaker revoke {} --fingerprint {} \
             publishes that",
            active.fingerprint,
            gnupg.place(),
            maker.name,
            active.fingerprint
        )));
    }
    Ok(())
}

/// The passphrase that the flags give, if they do.
fn given(arguments: &PassphraseArguments) -> Result<Option<Passphrase>, Failure> {
    match &arguments.passphrase_file {
        Some(file) => file_passphrase(file).map(Some),
        None if arguments.passphrase_agent => Ok(Some(Passphrase::Agent)),
        None => Ok(None),
    }
}

/// Read at once, so that a file that cannot be used is known before anything is done.
fn file_passphrase(file: &Path) -> Result<Passphrase, Failure> {
    Ok(Passphrase::Prompted(Secret::read(file)?))
}

/// The passphrase of a key that is there: given, asked for, or none where there is none.
fn of_key(gnupg: &Gnupg, fingerprint: &str, arguments: &PassphraseArguments) -> Result<Passphrase, Failure> {
    if let Some(passphrase) = given(arguments)? {
        return Ok(passphrase);
    }
    match gnupg.is_protected(fingerprint) {
        Ok(false) => return Ok(Passphrase::Prompted(Secret::none())),
        // A card asks for its PIN by the agent.
        Err(_) => return Ok(Passphrase::Agent),
        Ok(true) => {}
    }
    let missing = "--passphrase-file or --passphrase-agent is missing, and there is no terminal to ask at";
    let mut terminal = prompt::Terminal::open().ok_or_else(|| Failure::Usage(missing.to_owned()))?;
    Ok(Passphrase::Prompted(terminal.secret(&format!("Passphrase of key {fingerprint}"))?))
}
