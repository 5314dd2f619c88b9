//! The command line: arguments as typed → checked configuration → one wiring function per command.

mod args;
mod check;
mod convert;
mod crds;
mod demo;
mod documents;
mod explain;
mod imagemaker;
mod keys;
mod load_sign;
mod logins;
mod output;
mod plugin;
mod probe;
mod serve;
mod sign;
mod store;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use self::args::{Arguments, Command};
use self::plugin::Called;

/// Wrong usage, after sysexits(3).
const USAGE: u8 = 64;

/// Runs the command and gives the exit code. Messages for people go to standard error, results to standard output. The
/// first argument is what the program was called as: a plugin of kubectl, for one.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let called = Called::by(arguments.first().map(OsString::as_os_str));
    let arguments = match called {
        Called::Podseal => arguments,
        Called::Plugin => plugin::arguments(arguments),
        Called::Completion => {
            let mut root = Arguments::command();
            root.build();
            output::print(&plugin::complete(&root, arguments.get(1..).unwrap_or_default()));
            return ExitCode::SUCCESS;
        }
    };
    match typed(called, &arguments) {
        Ok(arguments) => carry_out(arguments, called == Called::Plugin),
        Err(error) if error.use_stderr() => {
            output::complain_of_usage(&error, &arguments, |safe| typed(called, safe).err());
            ExitCode::from(USAGE)
        }
        Err(help) => {
            // Help and version are no errors.
            let _ = help.print();
            ExitCode::SUCCESS
        }
    }
}

fn typed(called: Called, arguments: &[OsString]) -> Result<Arguments, clap::Error> {
    let command = match called {
        Called::Plugin => Arguments::command().bin_name(plugin::NAME),
        _ => Arguments::command(),
    };
    Arguments::from_arg_matches_mut(&mut command.try_get_matches_from(arguments)?)
}

fn carry_out(arguments: Arguments, plugin: bool) -> ExitCode {
    // Both providers of rustls could be in the build one day; the choice is made once, here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match arguments.command {
        Command::Serve(command) => serve::run(&command, arguments.verbose),
        Command::Check(command) => check::run(command, plugin, arguments.verbose),
        Command::Demo(command) => demo::run(&command, arguments.verbose),
        Command::Keys(command) => keys::run(&command, arguments.verbose),
        Command::Convert(command) => convert::run(&command, arguments.verbose),
        Command::Verify(command) => verify::run(&command, plugin, arguments.verbose),
        Command::Explain(command) => explain::run(&command, arguments.verbose),
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
