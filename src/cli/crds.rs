//! `podseal crds`.

use std::process::ExitCode;

use super::args::CrdsCommand;
use super::output;

pub(super) fn run(_: &CrdsCommand) -> ExitCode {
    output::print(&crate::api::crds_yaml());
    ExitCode::SUCCESS
}
