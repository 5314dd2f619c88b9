//! What verification reads besides the cluster's objects: the administrator's files and where the API server is.

use std::fmt::Display;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use tracing::{error, info, warn};

use crate::cli::args::{DecisionArguments, SourceArguments};
use crate::cluster::Objects;
use crate::domain::evaluate::Options;
use crate::signature::keyless::TrustRoot;
use crate::source::SourceConfig;
use crate::source::credentials::DockerConfig;
use crate::source::registries_d::RegistriesD;
use crate::source::registry::Upstream;
use crate::source::tuf::TufSource;
use crate::telemetry::Metrics;
use crate::verify::{CacheLimits, Verifier, VerifyConfig};

/// How often files of the administrator are looked at for changes.
const FILE_POLL: Duration = Duration::from_secs(5);
/// How often the API server's addresses are.
const API_SERVER_POLL: Duration = Duration::from_secs(60);

/// How often the public Sigstore's trust root is fetched, and how soon again when it could not be.
const TUF_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const TUF_AGAIN: Duration = Duration::from_secs(300);

/// Where the API server is, as far as it is known: what namespaced policies may not lead to.
pub(in crate::cli) fn api_server_addresses(url: &http::Uri, further: &[IpAddr]) -> Vec<IpAddr> {
    let mut addresses = further.to_vec();
    let service = std::env::var("KUBERNETES_SERVICE_HOST").ok();
    for host in [url.host().map(str::to_owned), service].into_iter().flatten() {
        match (host.trim_matches(['[', ']']), 443).to_socket_addrs() {
            Ok(found) => addresses.extend(found.map(|a| a.ip())),
            Err(error) => warn!(%host, "the API server's address cannot be resolved: {error}"),
        }
    }
    addresses
}

/// Looks again and again where the API server is: the addresses behind its Service are those of nodes, and they change.
pub(super) async fn follow_api_servers(client: Client, url: http::Uri, known: Vec<IpAddr>, verifier: Arc<Verifier>) {
    let mut interval = tokio::time::interval(API_SERVER_POLL);
    let mut warned = false;
    loop {
        interval.tick().await;
        match find_api_servers(client.clone(), url.clone(), known.clone()).await {
            Ok(addresses) => verifier.set_api_servers(&addresses),
            Err(error) if !warned => {
                warned = true;
                warn!("the API server's own addresses are not known to the address guard: {error}");
            }
            Err(_) => {}
        }
    }
}

/// Every address of the API server: that of its URL, and those behind its Service.
pub(in crate::cli) async fn find_api_servers(
    client: Client,
    url: http::Uri,
    known: Vec<IpAddr>,
) -> Result<Vec<IpAddr>, kube::Error> {
    // Name resolution blocks.
    let resolved = tokio::task::spawn_blocking(move || api_server_addresses(&url, &known)).await;
    let mut addresses = resolved.unwrap_or_default();
    let api: Api<EndpointSlice> = Api::namespaced(client, "default");
    let of_the_api_server = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let slices = api.list(&of_the_api_server).await?;
    let endpoints = slices.items.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    addresses.extend(endpoints.flat_map(|e| &e.addresses).filter_map(|a| a.parse::<IpAddr>().ok()));
    Ok(addresses)
}

/// A verifier with the administrator's files read once.
pub(in crate::cli) fn verifier(
    source: &SourceArguments,
    decision: &DecisionArguments,
    serving: Option<(CacheLimits, Vec<IpAddr>)>,
    objects: Arc<dyn Objects>,
    metrics: Arc<Metrics>,
) -> Result<Verifier, String> {
    let verifier = bare_verifier(source, decision, serving, false, objects, metrics)?;
    if let Some(directory) = &source.registries_d {
        verifier.set_registries_d(RegistriesD::load(directory)?);
    }
    Ok(verifier)
}

/// The same for decisions by a policy.json: it finds signatures as nodes do, and registries.d is set by the caller.
pub(in crate::cli) fn containers_verifier(
    source: &SourceArguments,
    decision: &DecisionArguments,
    objects: Arc<dyn Objects>,
    metrics: Arc<Metrics>,
) -> Result<Verifier, String> {
    bare_verifier(source, decision, None, true, objects, metrics)
}

/// The way to registries and stores, under the administrator's settings.
pub(in crate::cli) fn upstream(
    source: &SourceArguments,
    api_server_addresses: Vec<IpAddr>,
    metrics: Arc<Metrics>,
) -> Result<Upstream, String> {
    let extra_ca = match &source.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|e| format!("--ca-file {}: {e}", path.display()))?),
        None => None,
    };
    Upstream::new(SourceConfig {
        token_realms: source.token_realm.clone(),
        allowed_addresses: source.allow_address.clone(),
        api_server_addresses,
        extra_ca,
        per_host: source.per_upstream,
        request_timeout: source.request_timeout,
        observer: Some(Arc::new(move |kind, elapsed, result| metrics.upstream(kind, elapsed, result))),
    })
    .map_err(|e| match &source.ca_file {
        Some(path) => format!("--ca-file {}: {e}", path.display()),
        None => e,
    })
}

fn bare_verifier(
    source: &SourceArguments,
    decision: &DecisionArguments,
    serving: Option<(CacheLimits, Vec<IpAddr>)>,
    registry_before_store: bool,
    objects: Arc<dyn Objects>,
    metrics: Arc<Metrics>,
) -> Result<Verifier, String> {
    let (cache, api_server_addresses) = serving.unwrap_or_default();
    let upstream = upstream(source, api_server_addresses, metrics.clone())?;
    let options = Options {
        deny_without_policy: decision.deny_without_policy,
        restrict_namespaces: decision.restrict_namespaces,
    };
    let config = VerifyConfig {
        options,
        own_namespace: decision.own_namespace.as_str().into(),
        shared_namespaces: decision.shared_namespace.clone(),
        per_namespace: source.per_namespace,
        cache,
        registry_before_store,
        platforms: source.platform.clone(),
    };
    let verifier = Verifier::new(config, Arc::new(upstream), objects, metrics);
    if let Some(file) = &source.docker_config {
        verifier.set_credentials(read_docker_config(file)?);
    }
    if let Some(file) = &source.sigstore_trusted_root {
        verifier.set_trust_root(read_trust_root(file)?);
    }
    Ok(verifier)
}

fn read_trust_root(file: &Path) -> Result<TrustRoot, String> {
    let failed = |e: &dyn Display| format!("--sigstore-trusted-root {}: {e}", file.display());
    let json = std::fs::read(file).map_err(|e| failed(&e))?;
    TrustRoot::parse(&json).map_err(|e| failed(&e))
}

/// Keeps the public Sigstore's trust root up to date. What cannot be fetched leaves the one before in force.
pub(super) async fn follow_tuf(ca_file: Option<PathBuf>, verifier: Arc<Verifier>) {
    let mut in_force = [0; 32];
    loop {
        let pause = match refresh_by_tuf(ca_file.as_deref(), &verifier).await {
            Ok(hash) => {
                if hash != in_force {
                    info!("the public Sigstore's trust root was brought up to date");
                }
                in_force = hash;
                TUF_INTERVAL
            }
            Err(problem) => {
                warn!("the trust root from before stays in force: {problem}");
                TUF_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Fetches the public Sigstore's trust root and puts it in force; its hash.
pub(in crate::cli) async fn refresh_by_tuf(ca_file: Option<&Path>, verifier: &Verifier) -> Result<[u8; 32], String> {
    let failed = |why: String| format!("the public Sigstore's trust root could not be fetched by TUF: {why}");
    let extra_ca = match ca_file {
        Some(path) => Some(tokio::fs::read(path).await.map_err(|e| failed(format!("{}: {e}", path.display())))?),
        None => None,
    };
    let json = TufSource::public(extra_ca.as_deref()).map_err(failed)?.fetch().await.map_err(failed)?;
    let root = TrustRoot::parse(&json).map_err(|why| failed(format!("what was fetched {why}")))?;
    let hash = root.hash();
    verifier.set_trust_root(root);
    Ok(hash)
}

pub(in crate::cli) fn read_docker_config(file: &Path) -> Result<DockerConfig, String> {
    let failed = |e: &dyn Display| format!("--docker-config {}: {e}", file.display());
    let bytes = std::fs::read(file).map_err(|e| failed(&e))?;
    let config = DockerConfig::from_file_bytes(&bytes).map_err(|e| failed(&e))?;
    for problem in config.problems() {
        warn!(file = %file.display(), "{problem}");
    }
    Ok(config)
}

/// Reads the administrator's files again and again; what cannot be read leaves the last good state.
pub(super) async fn follow_files(source: SourceFiles, verifier: Arc<Verifier>) {
    let mut interval = tokio::time::interval(FILE_POLL);
    loop {
        interval.tick().await;
        let (source, verifier) = (source.clone(), verifier.clone());
        // Files may lie on a network.
        let read = tokio::task::spawn_blocking(move || {
            for problem in source.read_again(&verifier) {
                warn!("what was read before stays in force: {problem}");
            }
        });
        if read.await.is_err() {
            error!("the administrator's files could not be read again");
        }
    }
}

/// Files of the administrator that are read again when they change.
#[derive(Debug, Clone)]
pub(super) struct SourceFiles {
    registries_d: Option<PathBuf>,
    docker_config: Option<PathBuf>,
    ca: Option<PathBuf>,
    trust_root: Option<PathBuf>,
}

impl SourceFiles {
    pub(super) fn of(source: &SourceArguments) -> Self {
        Self {
            registries_d: source.registries_d.clone(),
            docker_config: source.docker_config.clone(),
            ca: source.ca_file.clone(),
            trust_root: source.sigstore_trusted_root.clone(),
        }
    }

    fn read_again(&self, verifier: &Verifier) -> Vec<String> {
        let mut problems = Vec::new();
        match self.registries_d.as_deref().map(RegistriesD::load) {
            Some(Ok(stores)) => verifier.set_registries_d(stores),
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
        match self.docker_config.as_deref().map(read_docker_config) {
            Some(Ok(credentials)) => verifier.set_credentials(credentials),
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
        match self.trust_root.as_deref().map(read_trust_root) {
            Some(Ok(root)) => verifier.set_trust_root(root),
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
        if let Some(path) = &self.ca {
            let pem = std::fs::read(path).map_err(|error| error.to_string());
            if let Err(problem) = pem.and_then(|pem| verifier.set_extra_ca(&pem)) {
                problems.push(format!("{}: {problem}", path.display()));
            }
        }
        problems
    }
}
