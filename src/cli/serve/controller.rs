//! Wiring of the controller.

use std::future::Future;
use std::sync::Arc;

use super::Base;
use crate::cli::args::ServeCommand;
use crate::controller::Context;
use crate::webhook::{Gate, Routes};

/// A controller that is ready to run.
pub(super) struct Controller {
    context: Context,
    routes: Routes,
}

impl Controller {
    /// Makes everything that can fail.
    pub(super) fn prepare(_command: &ServeCommand, base: &Base) -> Result<Self, String> {
        let instance = std::env::var("POD_NAME").unwrap_or_else(|_| "podseal".to_owned());
        let context = Context::new(base.client.clone(), &base.namespace, &instance, base.metrics.clone());
        let gate: Gate = Arc::new(|| Ok(()));
        let routes = Routes::of_probes(gate, base.metrics.clone());
        Ok(Self { context, routes })
    }

    /// What its probes answer.
    pub(super) fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Keeps things in order until `shutdown`.
    pub(super) async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { context, .. } = self;
        let parts = async {
            tokio::join!(
                // keys: controller::keys::run(context.clone(), keys::Config { … })
                // status: controller::status::run(context.clone(), status::Config { … })
                std::future::pending::<()>(),
            );
        };
        tracing::debug!(?context, "the controller runs");
        tokio::select! { () = parts => {}, () = shutdown => {} }
    }
}
