//! `podseal convert`: policies of a policy.json, and the nodes' configuration of policies.

use std::process::ExitCode;

use super::args::{ConvertCommand, Target};
use super::output::{complain, print};
use crate::containers::{ContainersPolicy, Naming, convert};
use crate::source::registries_d::RegistriesD;

pub(super) fn run(command: &ConvertCommand, _verbose: u8) -> ExitCode {
    let done = match command.to {
        Target::Policies => into_policies(command),
        Target::Containers => Err("not yet".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn into_policies(command: &ConvertCommand) -> Result<(), String> {
    let Some(file) = &command.policy else { return Err("--policy is missing".to_owned()) };
    let policy = ContainersPolicy::load(file).map_err(|error| error.to_string())?;
    let registries_d = command.registries_d.as_deref().map(RegistriesD::load).transpose()?;
    let naming = Naming { policy: command.name.clone(), namespace: command.access.own_namespace.clone() };
    let converted = convert(&policy, registries_d.as_ref(), &naming)?;
    let mut text = format!("# Made by podseal convert from {}.\n", one_line(&file.display().to_string()));
    for note in &converted.notes {
        complain(&format!("note: {note}"));
        text.push_str(&format!("# note: {}\n", one_line(note)));
    }
    for document in &converted.documents {
        text.push_str("---\n");
        text.push_str(document);
    }
    print(&text);
    Ok(())
}

/// Scopes and file names may hold anything, and a comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
