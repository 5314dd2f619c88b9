//! `podseal store`: wiring of the signature store.

use std::process::ExitCode;
use std::sync::Arc;

use kube::Client;
use tracing::{info, warn};

use super::args::StoreCommand;
use super::output::complain;
use super::runtime;
use super::serve::{kube_config, listen, logs, stop_channel, stopped, unusable};
use crate::server::{Routes, Timing, Tls, serve, tls};
use crate::store::auth::{Htpasswd, Kubernetes, Writers};
use crate::store::disk::DirLimits;
use crate::store::{Store, StoreConfig};
use crate::telemetry::Metrics;

pub(super) fn run(command: &StoreCommand, verbose: u8) -> ExitCode {
    let _logs = match logs(command.log_format, verbose, "info,kube_client=off") {
        Ok(guard) => guard,
        Err(message) => return failed(&message),
    };
    match runtime().and_then(|runtime| runtime.block_on(serve_until_told(command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => failed(&message),
    }
}

fn failed(message: &str) -> ExitCode {
    complain(message);
    ExitCode::FAILURE
}

async fn serve_until_told(command: &StoreCommand) -> Result<(), String> {
    let metrics = Arc::new(Metrics::new());
    let tls = certificate(command, &metrics).await?;
    let writers = writers(command).await?;
    let (read_only, unprotected) = (writers.is_empty(), tls.is_none());
    let limits = DirLimits { signatures: command.max_signatures, size: command.max_size };
    let config = StoreConfig {
        dir: command.dir.clone(),
        limits,
        total: command.max_total,
        known_keys_only: command.known_keys_only,
    };
    let opened = {
        let metrics = metrics.clone();
        tokio::task::spawn_blocking(move || Store::open(&config, writers, metrics)).await
    };
    let store = opened.map_err(|_| "the store cannot be opened".to_owned())??;
    let listener = listen(command.listen).await?;
    let plain = match command.metrics_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let listening = listener.local_addr().map_err(|e| format!("cannot listen on {}: {e}", command.listen))?;
    info!(
        version = env!("CARGO_PKG_VERSION"), dir = %command.dir.display(), listen = %listening, tls = !unprotected,
        signatures = store.signatures(), "the signature store starts"
    );
    warn_of(read_only, unprotected);
    if !read_only && !command.known_keys_only {
        info!("signatures of any key are taken; with --known-keys-only those alone that a key of /keys verifies");
    }

    let stopping = stop_channel();
    let timing = Timing { drain_delay: command.drain_delay, ..Timing::default() };
    tokio::spawn(store.clone().recount());
    if let Some(plain) = plain {
        let ready = store.clone();
        let probes = Routes::of_probes(Arc::new(move || ready.ready()), metrics);
        tokio::spawn(serve(plain, None, probes, timing.clone(), stopped(stopping.clone())));
    }
    serve(listener, tls, store.routes(), timing, stopped(stopping)).await;
    info!("the signature store stops");
    Ok(())
}

fn warn_of(read_only: bool, unprotected: bool) {
    if read_only {
        warn!("this store is read-only: it was started without --kubernetes-auth, --client-ca and --htpasswd");
    } else if unprotected {
        warn!(
            "passwords and tokens of uploads cross the network readable: give --tls-cert, or put a proxy with TLS before"
        );
    }
}

/// The serving certificate, if there is one, followed from now on.
async fn certificate(command: &StoreCommand, metrics: &Arc<Metrics>) -> Result<Option<Tls>, String> {
    let (Some(certificate), Some(key)) = (command.tls_cert.clone(), command.tls_key.clone()) else { return Ok(None) };
    let files = tls::Files { certificate, key, client_ca: command.client_ca.clone() };
    let tls = Tls::open(&files, "the store", metrics.clone()).await.map_err(|e| unusable(&files, &e))?;
    tokio::spawn(tls.clone().watch(files, tls::POLL));
    tokio::spawn(tls.clone().watch_dates());
    Ok(Some(tls))
}

async fn writers(command: &StoreCommand) -> Result<Writers, String> {
    let kubernetes = if command.kubernetes_auth {
        let config = kube_config(command.kubeconfig.as_deref(), None).await?;
        let client = Client::try_from(config).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
        Some(Kubernetes::new(client))
    } else {
        None
    };
    let htpasswd = command.htpasswd.as_deref().map(Htpasswd::open).transpose()?;
    Ok(Writers { certificates: command.client_ca.is_some(), htpasswd, kubernetes })
}
