//! `podseal check --containers-policy`: the decision of nodes with this policy.json.

use std::path::Path;
use std::sync::Arc;

use super::Judge;
use crate::cli::args::CheckCommand;
use crate::cli::documents::Configuration;
use crate::cluster::files::{FileObjects, Overlay};
use crate::containers::ContainersPolicy;
pub(super) use crate::containers::Judge as ByFile;
use crate::source::registries_d::RegistriesD;
use crate::telemetry::Metrics;

/// Reads policy and registries.d. The Pods' own objects, such as pull secrets, are from the files.
pub(super) fn judge(command: &CheckCommand, file: &Path, objects: FileObjects) -> Result<Judge, String> {
    let policy = ContainersPolicy::load(file).map_err(|error| format!("--containers-policy {error}"))?;
    let registries_d = match &command.source.registries_d {
        Some(directory) => RegistriesD::load_as_written(directory)?,
        None => RegistriesD::default(),
    };
    let registries_d = registries_d.or_built_in();
    let (judge, keys) = ByFile::new(policy, registries_d.clone(), command.insecure_registry.clone());
    let objects = Arc::new(Overlay { files: keys, cluster: objects });
    let metrics = Arc::new(Metrics::new());
    let verifier = crate::cli::serve::containers_verifier(&command.source, &command.decision, objects, metrics)?;
    verifier.set_registries_d(registries_d);
    Ok(Judge::Containers(verifier, Box::new(judge)))
}

/// What the files hold that does not count.
pub(super) fn ignored(configuration: &Configuration) -> Option<String> {
    let some = !configuration.has_no_policy() || configuration.has_whitelist();
    some.then(|| "policies and whitelist are not looked at with --containers-policy".to_owned())
}
