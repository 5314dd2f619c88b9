//! The command line: arguments as typed → checked configuration → one wiring function per command.

mod args;
mod check;
mod convert;
mod crds;
mod demo;
mod documents;
mod imagemaker;
mod keys;
mod load_sign;
mod output;
mod probe;
mod serve;
mod sign;
mod store;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{Arguments, Command};

/// Wrong usage, after sysexits(3).
const USAGE: u8 = 64;

/// Runs the command and gives the exit code. Messages for people go to standard error, results to standard output.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; clap prints each where it belongs.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    // Both providers of rustls could be in the build one day; the choice is made once, here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match arguments.command {
        Command::Serve(command) => serve::run(&command, arguments.verbose),
        Command::Check(command) => check::run(&command, arguments.verbose),
        Command::Demo(command) => demo::run(&command, arguments.verbose),
        Command::Keys(command) => keys::run(&command, arguments.verbose),
        Command::Convert(command) => convert::run(&command, arguments.verbose),
        Command::Sign(command) => sign::run(&command, arguments.verbose),
        Command::LoadSign(command) => load_sign::run(&command, arguments.verbose),
        Command::Store(command) => store::run(&command, arguments.verbose),
        Command::Imagemaker(command) => imagemaker::run(&command, arguments.verbose),
        Command::Crds(command) => crds::run(&command),
        Command::Probe(command) => probe::run(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "podseal", &mut script);
            output::print(&String::from_utf8_lossy(&script));
            ExitCode::SUCCESS
        }
    }
}

/// A runtime for a command; the error is for the user.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| format!("cannot start: {e}"))
}
