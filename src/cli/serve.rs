//! `podseal serve`: the webhook against a cluster.

use std::fmt::{Display, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::args::{DecisionArguments, LogFormat, ServeCommand, SourceArguments};
use super::output::complain;
use super::runtime;
use crate::admission::{Admission, AdmissionConfig};
use crate::cluster::remote::RemoteObjects;
use crate::cluster::watch::{self, OwnSecrets};
use crate::cluster::{Inputs, Objects};
use crate::domain::evaluate::Options;
use crate::source::SourceConfig;
use crate::source::credentials::DockerConfig;
use crate::source::registries_d::RegistriesD;
use crate::source::registry::Upstream;
use crate::telemetry::Metrics;
use crate::telemetry::logging::{self, Format, Guard};
use crate::verify::{CacheLimits, Verifier, VerifyConfig};
use crate::webhook::{App, Limits, Routes, Timing, Tls, serve, tls};

/// How often files of the administrator are looked at for changes.
const FILE_POLL: Duration = Duration::from_secs(5);
/// How often the API server's addresses are.
const API_SERVER_POLL: Duration = Duration::from_secs(60);

pub(super) fn run(command: &ServeCommand, verbose: u8) -> ExitCode {
    // What the client says of a watch, podseal says as well, once.
    let _logs = match logs(command.log_format, verbose, "info,kube_client=off,kube_runtime=off") {
        Ok(guard) => guard,
        Err(message) => return failed(&message),
    };
    match runtime().and_then(|runtime| runtime.block_on(serve_until_told(command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => failed(&message),
    }
}

/// What is wrong with the serving certificate, the key or the client CA: the files by their flags, and every cause.
fn unusable(files: &tls::Files, error: &dyn std::error::Error) -> String {
    let mut text = format!("--tls-cert {}, --tls-key {}", files.certificate.display(), files.key.display());
    if let Some(path) = &files.client_ca {
        let _ = write!(text, ", --client-ca {}", path.display());
    }
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.fold(text, |text, cause| format!("{text}: {cause}"))
}

fn failed(message: &str) -> ExitCode {
    complain(message);
    ExitCode::FAILURE
}

/// Sets up logging; `PODSEAL_LOG` decides unless `-v` asks for more.
pub(super) fn logs(format: LogFormat, verbose: u8, quiet: &str) -> Result<Guard, String> {
    let format = if format == LogFormat::Json { Format::Json } else { Format::Text };
    let filter = match verbose {
        0 if std::env::var_os(logging::FILTER_VARIABLE).is_some() => None,
        0 => Some(quiet),
        1 => Some("info,podseal=debug"),
        _ => Some("debug,podseal=trace"),
    };
    logging::init(format, filter).map_err(|e| e.to_string())
}

async fn serve_until_told(command: &ServeCommand) -> Result<(), String> {
    let kubernetes = kube_config(command.kubeconfig.as_deref()).await?;
    let api_servers = api_server_addresses(&kubernetes.cluster_url, &command.api_server_address);
    let known = command.api_server_address.clone();
    let url = kubernetes.cluster_url.clone();
    let client = Client::try_from(kubernetes).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
    let metrics = Arc::new(Metrics::new());
    let inputs = Arc::new(Inputs::new());
    let own: OwnSecrets = Arc::new(ArcSwapOption::empty());
    let namespace = command.decision.own_namespace.clone();
    let objects = Arc::new(RemoteObjects::new(client.clone(), &namespace, own.clone()));
    let cache =
        CacheLimits { positive: command.verdict_ttl, negative: command.negative_ttl, entries: command.verdicts };
    let verifier =
        Arc::new(verifier(&command.source, &command.decision, Some((cache, api_servers)), objects, metrics.clone())?);
    let admission = Admission::new(admission_config(command), verifier.clone(), inputs.clone(), metrics.clone());
    let limits = Limits { in_flight: command.max_in_flight, ..Limits::default() };
    let routes = Routes::new(&App::new(admission, metrics.clone(), limits));

    let files = tls::Files {
        certificate: command.tls_cert.clone(),
        key: command.tls_key.clone(),
        client_ca: command.client_ca.clone(),
    };
    let tls = Tls::open(&files, metrics.clone()).await.map_err(|e| unusable(&files, &e))?;
    let listener = listen(command.listen).await?;
    let plain = match command.metrics_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    info!(version = env!("CARGO_PKG_VERSION"), listen = %command.listen, %namespace, "podseal starts");

    tokio::spawn(follow_api_servers(client.clone(), url, known, verifier.clone()));
    tokio::spawn(watch::run(client, namespace, inputs, own, metrics.clone()));
    tokio::spawn(tls.clone().watch(files, tls::POLL));
    let files_of_source = SourceFiles {
        registries_d: command.source.registries_d.clone(),
        docker_config: command.source.docker_config.clone(),
        ca: command.source.ca_file.clone(),
    };
    tokio::spawn(follow_files(files_of_source, verifier));
    let timing = Timing { drain_delay: command.drain_delay, ..Timing::default() };
    let (stop, stopping) = tokio::sync::watch::channel(false);
    if let Some(plain) = plain {
        tokio::spawn(serve(plain, None, routes.clone(), timing.clone(), stopped(stopping.clone())));
    }
    tokio::spawn(async move {
        terminated().await;
        let _ = stop.send(true);
    });
    serve(listener, Some(tls), routes, timing, stopped(stopping)).await;
    info!("podseal stops");
    Ok(())
}

async fn stopped(mut stopping: tokio::sync::watch::Receiver<bool>) {
    // A sender that is gone without a word means that the signal task died: stopping is the safe reading.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn terminated() {
    if let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    } else {
        error!("signals cannot be watched; only a kill ends this process");
        std::future::pending::<()>().await;
    }
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| format!("cannot listen on {address}: {e}"))
}

pub(super) async fn kube_config(kubeconfig: Option<&Path>) -> Result<kube::Config, String> {
    match kubeconfig {
        None => kube::Config::infer()
            .await
            .map_err(|e| format!("no cluster configuration: {e}; run in a Pod or give --kubeconfig")),
        Some(path) => {
            let name = format!("--kubeconfig {}", path.display());
            let file = kube::config::Kubeconfig::read_from(path).map_err(|e| format!("{name}: {e}"))?;
            let options = kube::config::KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|e| format!("{name}: {e}"))
        }
    }
}

/// Where the API server is, as far as it is known: what namespaced policies may not lead to.
fn api_server_addresses(url: &http::Uri, further: &[IpAddr]) -> Vec<IpAddr> {
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

/// podseal's own namespace and kube-system are exempt always; the installation adds others.
fn admission_config(command: &ServeCommand) -> AdmissionConfig {
    let decision = &command.decision;
    let own = ["kube-system".to_owned(), decision.own_namespace.clone()];
    AdmissionConfig {
        exempt_namespaces: own.into_iter().chain(decision.exempt_namespace.iter().cloned()).collect(),
        templates: command.templates,
    }
}

/// Looks again and again where the API server is: the addresses behind its Service are those of nodes, and they change.
async fn follow_api_servers(client: Client, url: http::Uri, known: Vec<IpAddr>, verifier: Arc<Verifier>) {
    let api: Api<EndpointSlice> = Api::namespaced(client, "default");
    let of_the_api_server = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let mut interval = tokio::time::interval(API_SERVER_POLL);
    let mut warned = false;
    loop {
        interval.tick().await;
        let mut addresses = {
            let (url, known) = (url.clone(), known.clone());
            // Name resolution blocks.
            let resolved = tokio::task::spawn_blocking(move || api_server_addresses(&url, &known)).await;
            resolved.unwrap_or_default()
        };
        match api.list(&of_the_api_server).await {
            Ok(slices) => {
                let endpoints = slices.items.iter().flat_map(|slice| slice.endpoints.iter().flatten());
                addresses.extend(endpoints.flat_map(|e| &e.addresses).filter_map(|a| a.parse::<IpAddr>().ok()));
            }
            Err(error) if !warned => {
                warned = true;
                warn!("the API server's own addresses are not known to the address guard: {error}");
                continue;
            }
            Err(_) => continue,
        }
        verifier.set_api_servers(&addresses);
    }
}

/// A verifier with the administrator's files read once.
pub(super) fn verifier(
    source: &SourceArguments,
    decision: &DecisionArguments,
    serving: Option<(CacheLimits, Vec<IpAddr>)>,
    objects: Arc<dyn Objects>,
    metrics: Arc<Metrics>,
) -> Result<Verifier, String> {
    let (cache, api_server_addresses) = serving.unwrap_or_default();
    let extra_ca = match &source.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|e| format!("--ca-file {}: {e}", path.display()))?),
        None => None,
    };
    let observer = metrics.clone();
    let upstream = Upstream::new(SourceConfig {
        token_realms: source.token_realm.clone(),
        allowed_addresses: source.allow_address.clone(),
        api_server_addresses,
        extra_ca,
        per_host: source.per_upstream,
        request_timeout: source.request_timeout,
        observer: Some(Arc::new(move |kind, elapsed, result| observer.upstream(kind, elapsed, result))),
    })
    .map_err(|e| match &source.ca_file {
        Some(path) => format!("--ca-file {}: {e}", path.display()),
        None => e,
    })?;
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
    };
    let verifier = Verifier::new(config, Arc::new(upstream), objects, metrics);
    if let Some(directory) = &source.registries_d {
        verifier.set_registries_d(RegistriesD::load(directory)?);
    }
    if let Some(file) = &source.docker_config {
        verifier.set_credentials(read_docker_config(file)?);
    }
    Ok(verifier)
}

fn read_docker_config(file: &Path) -> Result<DockerConfig, String> {
    let failed = |e: &dyn Display| format!("--docker-config {}: {e}", file.display());
    let bytes = std::fs::read(file).map_err(|e| failed(&e))?;
    let config = DockerConfig::from_file_bytes(&bytes).map_err(|e| failed(&e))?;
    for problem in config.problems() {
        warn!(file = %file.display(), "{problem}");
    }
    Ok(config)
}

/// Reads the administrator's files again and again; what cannot be read leaves the last good state.
async fn follow_files(source: SourceFiles, verifier: Arc<Verifier>) {
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
struct SourceFiles {
    registries_d: Option<PathBuf>,
    docker_config: Option<PathBuf>,
    ca: Option<PathBuf>,
}

impl SourceFiles {
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
        if let Some(path) = &self.ca {
            let pem = std::fs::read(path).map_err(|error| error.to_string());
            if let Err(problem) = pem.and_then(|pem| verifier.set_extra_ca(&pem)) {
                problems.push(format!("{}: {problem}", path.display()));
            }
        }
        problems
    }
}
