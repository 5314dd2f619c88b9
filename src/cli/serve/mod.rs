//! `podseal serve`: the webhook and the controller against a cluster.
//!
//! What both need is made here; each has a wiring of its own, of which everything that can fail comes first.

mod controller;
mod sources;
mod webhook;

pub(super) use self::webhook::unusable;

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

pub(super) use self::sources::{
    api_server_addresses, containers_verifier, find_api_servers, read_docker_config, refresh_by_tuf, upstream, verifier,
};
use super::args::{ConnectionArguments, LogFormat, Part, ServeCommand};
use super::output::complain;
use super::runtime;
use crate::cluster::Inputs;
use crate::cluster::remote::RemoteObjects;
use crate::cluster::watch::{self, OwnSecrets};
use crate::telemetry::Metrics;
use crate::telemetry::logging::{self, Format, Guard};
use crate::webhook::{Timing, serve};

/// What the parts share.
struct Base {
    kubernetes: kube::Config,
    client: Client,
    namespace: String,
    metrics: Arc<Metrics>,
    /// Policies and whitelist, followed by watches.
    inputs: Arc<Inputs>,
    /// Secrets of podseal's namespace, followed by a watch.
    own: OwnSecrets,
    /// Those of the namespaces that the administrator lists.
    further: HashMap<String, OwnSecrets>,
    /// Objects by `get`, and those of `own`.
    objects: Arc<RemoteObjects>,
    /// Turns true when the process is told to end.
    stopping: tokio::sync::watch::Receiver<bool>,
}

impl Base {
    async fn new(command: &ServeCommand) -> Result<Self, String> {
        let kubernetes = kube_config(command.kubeconfig.as_deref(), None).await?;
        let client =
            Client::try_from(kubernetes.clone()).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
        let namespace = command.decision.own_namespace.clone();
        let own: OwnSecrets = Arc::new(ArcSwapOption::empty());
        let listed = command.watch_secrets.iter().filter(|name| **name != namespace);
        let further: HashMap<_, _> = listed.map(|name| (name.clone(), OwnSecrets::default())).collect();
        let objects = Arc::new(RemoteObjects::new(client.clone(), &namespace, own.clone()).watching(further.clone()));
        let stopping = stop_channel();
        let (metrics, inputs) = (Arc::new(Metrics::new()), Arc::new(Inputs::new()));
        Ok(Self { kubernetes, client, namespace, metrics, inputs, own, further, objects, stopping })
    }

    /// Begins to follow policies, whitelist and Secrets.
    fn watch(&self) {
        let (inputs, own, metrics) = (self.inputs.clone(), self.own.clone(), self.metrics.clone());
        tokio::spawn(watch::run(self.client.clone(), self.namespace.clone(), inputs, own, metrics));
        for (namespace, secrets) in &self.further {
            tokio::spawn(watch::watch_further(self.client.clone(), namespace.clone(), secrets.clone()));
        }
    }
}

async fn serve_until_told(command: &ServeCommand) -> Result<(), String> {
    let base = Base::new(command).await?;
    let has = |part| command.run.contains(&part);
    let webhook = if has(Part::Webhook) { Some(webhook::Webhook::prepare(command, &base).await?) } else { None };
    let controller = if has(Part::Controller) { Some(controller::Controller::prepare(command, &base)?) } else { None };
    let plain = match command.metrics_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    info!(version = env!("CARGO_PKG_VERSION"), parts = ?command.run, namespace = %base.namespace, "podseal starts");

    base.watch();
    let timing = Timing { drain_delay: command.drain_delay, ..Timing::default() };
    // Of a process that is both, readiness is the webhook's: whether it is sent reviews must not depend on whether
    // reviews are sent to it.
    let routes =
        webhook.as_ref().map(webhook::Webhook::routes).or(controller.as_ref().map(controller::Controller::routes));
    if let (Some(plain), Some(routes)) = (plain, routes) {
        tokio::spawn(serve(plain, None, routes, timing.clone(), stopped(base.stopping.clone())));
    }
    let webhook = async {
        if let Some(webhook) = webhook {
            webhook.run(timing, stopped(base.stopping.clone())).await;
        }
    };
    let controller = async {
        if let Some(controller) = controller {
            // Boxed: all parts of a leader in one future.
            Box::pin(controller.run(stopped(base.stopping.clone()))).await;
        }
    };
    tokio::join!(webhook, controller);
    info!("podseal stops");
    Ok(())
}

pub(super) fn run(command: &ServeCommand, verbose: u8) -> ExitCode {
    // What the client says of a watch, podseal says as well, once.
    logged(command.log_format, verbose, "info,kube_client=off,kube_runtime=off", serve_until_told(command))
}

/// Runs a server with its log; what ends it early is said.
pub(super) fn logged(
    format: LogFormat,
    verbose: u8,
    quiet: &str,
    server: impl Future<Output = Result<(), String>>,
) -> ExitCode {
    let ended = logs(format, verbose, quiet).and_then(|_guard| runtime()?.block_on(server));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
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

/// Turns true when the process is told to end.
pub(super) fn stop_channel() -> tokio::sync::watch::Receiver<bool> {
    let (stop, stopping) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        terminated().await;
        let _ = stop.send(true);
    });
    stopping
}

pub(super) async fn stopped(mut stopping: tokio::sync::watch::Receiver<bool>) {
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

pub(super) async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| format!("cannot listen on {address}: {e}"))
}

/// The same by a command's flags.
pub(super) async fn kube_config_of(connection: &ConnectionArguments) -> Result<kube::Config, String> {
    kube_config(connection.kubeconfig.as_deref(), connection.context.as_deref()).await
}

/// How the cluster is reached: by this kubeconfig and context, or as clients find out for themselves.
pub(super) async fn kube_config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<kube::Config, String> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let named = |e: KubeconfigError| match context {
        Some(context) => format!("--context {context}: {e}"),
        None => e.to_string(),
    };
    match kubeconfig {
        None if context.is_some() => kube::Config::from_kubeconfig(&options).await.map_err(named),
        None => kube::Config::infer()
            .await
            .map_err(|e| format!("no cluster configuration: {e}; run in a Pod or give --kubeconfig")),
        Some(path) => {
            let name = format!("--kubeconfig {}", path.display());
            let file = Kubeconfig::read_from(path).map_err(|e| format!("{name}: {e}"))?;
            let config = kube::Config::from_custom_kubeconfig(file, &options).await;
            config.map_err(|e| format!("{name}: {}", named(e)))
        }
    }
}
