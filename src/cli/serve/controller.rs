//! Wiring of the controller.

use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::OptionFuture;
use kube::client::ClientBuilder;

use super::Base;
use crate::cli::args::ServeCommand;
use crate::controller::lease::{Candidate, Fence, FenceLayer, Times};
use crate::controller::{Context, certificates, keys, schema, signatures, status, webhooks, whitelist};
use crate::webhook::{Gate, Routes};

/// A controller that is ready to run.
pub(super) struct Controller {
    candidate: Candidate,
    parts: Parts,
    armed: webhooks::Armed,
    routes: Routes,
}

/// What the leader does.
struct Parts {
    /// With a client that writes only while this replica leads.
    context: Context,
    certificates: Option<certificates::Config>,
    webhooks: Option<webhooks::Config>,
    schema: schema::Config,
    status: status::Config,
    keys: keys::Config,
    signatures: Option<signatures::Config>,
}

impl Controller {
    /// Makes everything that can fail.
    pub(super) fn prepare(command: &ServeCommand, base: &Base) -> Result<Self, String> {
        let instance = instance();
        let fence = Fence::new();
        let client = ClientBuilder::try_from(base.kubernetes.clone())
            .map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?
            .with_layer(&FenceLayer(fence.clone()))
            .build();
        let context = |client| Context::new(client, &base.namespace, &instance, base.metrics.clone());
        let candidate = Candidate {
            context: context(base.client.clone()),
            lease: command.controller.lease.clone(),
            // The same Pod after a restart is another candidate: what the one before began may still be under way.
            identity: format!("{instance}_{:016x}", std::hash::RandomState::new().build_hasher().finish()),
            times: Times::default(),
            fence,
        };
        let addresses = super::api_server_addresses(&base.kubernetes.cluster_url, &command.api_server_address);
        let parts = Parts::of(command, context(client), &instance, addresses)?;
        let armed = webhooks::Armed::default();
        let gate: Gate = match &parts.webhooks {
            Some(_) => {
                let armed = armed.clone();
                Arc::new(move || armed.state())
            }
            None => Arc::new(|| Ok(())),
        };
        Ok(Self { candidate, parts, armed, routes: Routes::of_probes(gate, base.metrics.clone()) })
    }

    /// What its probes answer.
    pub(super) fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Stands for election, keeps things in order while it leads, and gives the lease back at `shutdown`.
    pub(super) async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { candidate, parts, armed, .. } = self;
        let context = candidate.context.clone();
        let observes = parts.webhooks.clone().map(|config| webhooks::observe(context, config, armed));
        let observes = async {
            OptionFuture::from(observes).await;
            std::future::pending::<()>().await;
        };
        tokio::select! { () = candidate.run(|| parts.run(), shutdown) => {}, () = observes => {} }
    }
}

impl Parts {
    fn of(command: &ServeCommand, context: Context, instance: &str, api_servers: Vec<IpAddr>) -> Result<Self, String> {
        let wanted = &command.controller;
        let certificates = wanted.certificate_secret.clone().map(|secret| certificates::Config {
            secret,
            service: wanted.webhook_service.clone(),
            webhooks_file: wanted.webhooks_file.clone(),
            authority_lifetime: wanted.ca_lifetime,
            leaf_lifetime: wanted.certificate_lifetime,
            propagation: wanted.propagation,
        });
        let webhooks = wanted.webhooks_file.clone().map(|file| webhooks::Config {
            file,
            service: wanted.webhook_service.clone(),
            ca_secret: wanted.ca_secret.clone().or_else(|| wanted.certificate_secret.clone()),
        });
        let status = status::Config {
            restrict_namespaces: command.decision.restrict_namespaces,
            shared_namespaces: command.decision.shared_namespace.clone(),
            ..status::Config::new(instance)
        };
        let keys = keys_config(command)?;
        let schema = schema::Config { manage: wanted.manage_crds };
        let import = wanted.import_signatures.then(|| signatures_config(command, api_servers, &context));
        let signatures = import.transpose()?;
        Ok(Self { context, certificates, webhooks, schema, status, keys, signatures })
    }

    /// Everything that a leader does, until it is dropped. Each part is a future that does not end.
    async fn run(&self) {
        let context = || self.context.clone();
        let certificates = self.certificates.clone().map(|config| certificates::run(context(), config));
        let webhooks = self.webhooks.clone().map(|config| webhooks::run(context(), config));
        let signatures = self.signatures.clone().map(|config| signatures::run(context(), config));
        tokio::join!(
            keys::run(context(), self.keys.clone()),
            status::run(context(), self.status.clone()),
            OptionFuture::from(certificates),
            OptionFuture::from(webhooks),
            schema::run(context(), self.schema),
            whitelist::run(context()),
            OptionFuture::from(signatures),
        );
    }
}

/// Where key files come from. What is wrong with the flags is said at the start.
fn keys_config(command: &ServeCommand) -> Result<keys::Config, String> {
    let extra_ca = match &command.source.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|e| format!("--ca-file {}: {e}", path.display()))?),
        None => None,
    };
    let wanted = &command.controller;
    let config = keys::Config { directory: wanted.keys_dir.clone(), urls: wanted.keys_url.clone(), extra_ca };
    config.check().map_err(|e| format!("--keys-url {e}"))?;
    Ok(config)
}

/// Where signatures are imported from, as often as the flags say.
fn signatures_config(
    command: &ServeCommand,
    api_servers: Vec<IpAddr>,
    context: &Context,
) -> Result<signatures::Config, String> {
    let upstream = super::upstream(&command.source, api_servers, context.metrics.clone())?;
    Ok(signatures::Config {
        interval: command.controller.import_interval,
        keep: command.controller.import_keep,
        registries_d: command.source.registries_d.clone(),
        ca: command.source.ca_file.clone(),
        upstream: Arc::new(upstream),
    })
}

/// What tells this replica from others: the Pod's name or the machine's.
fn instance() -> String {
    let of_variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let of_file = || std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned());
    of_variable("POD_NAME").or_else(|| of_variable("HOSTNAME")).or_else(of_file).unwrap_or_else(|| "podseal".to_owned())
}
