//! `podseal convert`: policies of a policy.json, and the nodes' configuration of policies.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use kube::Client;
use tokio::time::Instant;

use super::args::{ConvertCommand, LogFormat, Target};
use super::documents::{self, Configuration};
use super::output::{complain, new_directory, print};
use super::{USAGE, runtime, serve};
use crate::cluster::remote::RemoteObjects;
use crate::cluster::{Objects, read};
use crate::containers::{ContainersPolicy, Naming, Node, NodeFiles, convert, node_files};
use crate::domain::policy::Policy;
use crate::source::registries_d::RegistriesD;

/// How long all objects of a cluster may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(command: &ConvertCommand, verbose: u8) -> ExitCode {
    let _logs = serve::logs(LogFormat::Text, verbose, "error");
    let wrong = match command.to {
        Target::Policies => command.policy.is_none().then_some("give the policy.json with --policy"),
        Target::Containers if command.filename.is_empty() && !command.cluster => {
            Some("give the policies with -f, or --cluster")
        }
        Target::Containers => command.out.is_none().then_some("give a new directory with --out"),
    };
    if let Some(wrong) = wrong {
        complain(wrong);
        return ExitCode::from(USAGE);
    }
    let done = match command.to {
        Target::Policies => into_policies(command),
        Target::Containers => runtime().and_then(|runtime| runtime.block_on(from_policies(command))),
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
    let registries_d = command.registries_d.as_deref().map(RegistriesD::load_as_written).transpose()?;
    let naming = Naming { policy: command.name.clone(), namespace: command.access.own_namespace.clone() };
    let converted = convert(&policy, registries_d.as_ref(), &naming)?;
    let mut text = format!("# Made by podseal convert of {}.\n", one_line(&file.display().to_string()));
    for note in &converted.notes {
        tell(note);
        let _ = writeln!(text, "# note: {}", one_line(note));
    }
    for document in &converted.documents {
        text.push_str("---\n");
        text.push_str(document);
    }
    print(&text);
    Ok(())
}

async fn from_policies(command: &ConvertCommand) -> Result<(), String> {
    let Some(out) = &command.out else { return Err("--out is missing".to_owned()) };
    let (policies, objects) = if command.cluster { of_cluster(command).await? } else { of_files(command)? };
    let node = Node { keys: command.node_keys.display().to_string() };
    let files = node_files(&policies, &*objects, &node, SystemTime::now(), Instant::now() + PATIENCE).await?;
    for note in &files.notes {
        tell(note);
    }
    write(out, &command.node_keys, &files)
}

type Found = (Vec<Policy>, Arc<dyn Objects>);

fn of_files(command: &ConvertCommand) -> Result<Found, String> {
    let mut configuration = Configuration::in_namespace("default");
    for path in &command.filename {
        for document in documents::read(path)? {
            configuration.take(&document, &command.access.own_namespace)?;
        }
    }
    let policies = configuration.take_policies();
    Ok((policies, Arc::new(std::mem::take(&mut configuration.objects))))
}

async fn of_cluster(command: &ConvertCommand) -> Result<Found, String> {
    let kubernetes = serve::kube_config_of(&command.access.connection).await?;
    let client = Client::try_from(kubernetes).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
    let policies = read::policies(&client, None).await?;
    Ok((policies, Arc::new(RemoteObjects::new(client, "", Arc::new(ArcSwapOption::empty())))))
}

/// `policy.json`, registries.d and the keys, in one new directory.
fn write(out: &Path, node_keys: &Path, files: &NodeFiles) -> Result<(), String> {
    let keys = Path::new(node_keys.file_name().unwrap_or_else(|| "podseal".as_ref()));
    let mut all = vec![
        ("policy.json".into(), files.policy.as_bytes()),
        ("registries.d/podseal.yaml".into(), files.registries_d.as_bytes()),
    ];
    all.extend(files.keys.iter().map(|(name, content)| (keys.join(name), content.as_slice())));
    new_directory(out, &[keys, "registries.d".as_ref()], &all)
}

fn tell(note: &str) {
    complain(&format!("note: {}", one_line(note)));
}

/// Scopes and file names may hold anything, and a comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
