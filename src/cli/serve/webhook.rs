//! Wiring of the webhook.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tracing::warn;

use super::sources::{SourceFiles, api_server_addresses, follow_api_servers, follow_files, follow_tuf, verifier};
use super::{Base, listen};
use crate::admission::{Admission, AdmissionConfig, Enforcement};
use crate::cli::args::ServeCommand;
use crate::cluster::denials::Denials;
use crate::cluster::roots::ClusterRoots;
use crate::fault::causes;
use crate::verify::CacheLimits;
use crate::webhook::{App, Gate, Limits, Routes, Timing, Tls, serve, tls};

/// A webhook that is ready to run.
pub(super) struct Webhook {
    listener: TcpListener,
    tls: Tls,
    routes: Routes,
}

impl Webhook {
    /// Reads the administrator's files, opens the listener and begins to follow what changes.
    pub(super) async fn prepare(command: &ServeCommand, base: &Base) -> Result<Self, String> {
        let url = base.kubernetes.cluster_url.clone();
        let known = command.api_server_address.clone();
        let addresses = api_server_addresses(&url, &known);
        let cache =
            CacheLimits { positive: command.verdict_ttl, negative: command.negative_ttl, entries: command.verdicts };
        let serving = Some((cache, addresses));
        let (objects, metrics) = (base.objects.clone(), base.metrics.clone());
        let verifier = verifier(&command.source, &command.decision, serving, objects, metrics.clone())?;
        let roots = ClusterRoots::new(base.client.clone(), &base.namespace);
        let verifier = Arc::new(verifier.with_roots(Arc::new(roots)));
        metrics.enforcing(command.enforcement == Enforcement::Enforce);
        let admission =
            Admission::new(admission_config(command), verifier.clone(), base.inputs.clone(), metrics.clone());
        let (denials, telling) = denials(command, base);
        let admission = admission.with_denials(denials);
        let tls = certificate(command, base).await?;
        let listener = listen(command.listen).await?;
        let limits = Limits { in_flight: command.max_in_flight, ..Limits::default() };
        let gate: Gate = {
            let tls = tls.clone();
            Arc::new(move || tls.ready())
        };
        let routes = App::gated(gate, admission, metrics, limits).routes();

        tokio::spawn(telling);
        tokio::spawn(follow_api_servers(base.client.clone(), url, known, verifier.clone()));
        if command.source.sigstore_tuf {
            tokio::spawn(follow_tuf(command.source.ca_file.clone(), verifier.clone()));
        }
        tokio::spawn(follow_files(SourceFiles::of(&command.source), verifier));
        tokio::spawn(tls.clone().watch_dates());
        Ok(Self { listener, tls, routes })
    }

    /// What it answers.
    pub(super) fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Serves until `shutdown`, and through the drain that follows.
    pub(super) async fn run(self, timing: Timing, shutdown: impl Future<Output = ()>) {
        serve(self.listener, Some(self.tls), self.routes, timing, shutdown).await;
    }
}

/// The serving certificate, followed from now on. Files must be good at the start; a Secret may come later, because
/// somebody else makes it.
async fn certificate(command: &ServeCommand, base: &Base) -> Result<Tls, String> {
    let metrics = base.metrics.clone();
    let client_ca = command.client_ca.clone();
    if let Some(name) = command.tls_secret.clone() {
        let missing = format!("the Secret {name} with the webhook's certificate was not read yet");
        let tls = Tls::waiting(client_ca.is_some(), missing, metrics);
        let changes = base.inputs.changes();
        tokio::spawn(tls.clone().follow(tls::SecretSource { name, secrets: base.own.clone(), changes, client_ca }));
        return Ok(tls);
    }
    let files = tls::Files { certificate: command.tls_cert.clone(), key: command.tls_key.clone(), client_ca };
    let tls = Tls::open(&files, "the webhook", metrics).await.map_err(|e| unusable(&files, &e))?;
    tokio::spawn(tls.clone().watch(files, tls::POLL));
    Ok(tls)
}

/// Events about denials, if they are wanted, and the work that goes with them.
fn denials(command: &ServeCommand, base: &Base) -> (Denials, BoxFuture<'static, ()>) {
    if !command.events {
        return (Denials::off(), std::future::ready(()).boxed());
    }
    let (denials, telling) = Denials::new(base.client.clone(), &instance(), base.metrics.clone());
    (denials, telling.boxed())
}

/// What tells this process from other replicas: in a Pod, its name.
fn instance() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| "podseal".to_owned())
}

/// podseal's own namespace and kube-system are exempt always; the installation adds others.
fn admission_config(command: &ServeCommand) -> AdmissionConfig {
    let decision = &command.decision;
    let own = ["kube-system".to_owned(), decision.own_namespace.clone()];
    if command.enforcement == Enforcement::Audit {
        warn!("nothing is enforced (--enforcement audit): what would be denied is admitted, and told");
    }
    AdmissionConfig {
        exempt_namespaces: own.into_iter().chain(decision.exempt_namespace.iter().cloned()).collect(),
        templates: command.templates,
        enforcement: command.enforcement,
    }
}

/// What is wrong with the serving certificate, the key or the client CA: the files by their flags, and every cause.
pub(in crate::cli) fn unusable(files: &tls::Files, error: &dyn std::error::Error) -> String {
    let mut text = format!("--tls-cert {}, --tls-key {}", files.certificate.display(), files.key.display());
    if let Some(path) = &files.client_ca {
        let _ = write!(text, ", --client-ca {}", path.display());
    }
    format!("{text}: {}", causes(error))
}
