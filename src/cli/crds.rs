//! `podseal crds`.

use std::process::ExitCode;

use super::args::CrdsCommand;
use super::output::{complain, print};
use crate::api::Kind;

pub(super) fn run(command: &CrdsCommand) -> ExitCode {
    let text = match &command.kind {
        None => crate::api::crds_yaml(),
        Some(name) => {
            if let Some(kind) = Kind::find(name) {
                kind.yaml()
            } else {
                complain(&format!("no such kind: {name}; there are {}", Kind::ALL.map(Kind::kind).join(", ")));
                return ExitCode::from(super::USAGE);
            }
        }
    };
    match text {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
