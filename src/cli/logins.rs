//! Logins to registries: of a file that is named, or those that podman, skopeo and docker wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::output::complain;
use super::sign::context::read;
use crate::domain::printable::printable;
use crate::source::credentials::{DockerConfig, Keychain};

/// The file that is named with this flag must be there; of those that tools write by themselves, what is there counts.
pub(super) fn keychain(flag: &str, authfile: Option<&Path>) -> Result<Keychain, String> {
    if let Some(path) = authfile {
        let config = credentials(path, &read(flag, path)?)?;
        return Ok(Keychain::new([Arc::new(config)]));
    }
    let mut found = Vec::new();
    for path in usual_authfiles() {
        if path.is_file() {
            found.push(Arc::new(credentials(&path, &read("credentials", &path)?)?));
        }
    }
    Ok(Keychain::new(found))
}

fn credentials(path: &Path, bytes: &[u8]) -> Result<DockerConfig, String> {
    let config = DockerConfig::from_file_bytes(bytes).map_err(|why| format!("{}: {why}", path.display()))?;
    for problem in config.problems() {
        complain(&printable(&format!("{}: {problem}", path.display())));
    }
    Ok(config)
}

/// Where podman, skopeo and docker keep logins: containers-auth.json(5).
fn usual_authfiles() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = variable("REGISTRY_AUTH_FILE") {
        return vec![path];
    }
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
    let runtime = variable("XDG_RUNTIME_DIR").map(|path| path.join("containers/auth.json"));
    let config = config.map(|path| path.join("containers/auth.json"));
    runtime.into_iter().chain(config).chain(docker.map(|path| path.join("config.json"))).collect()
}
