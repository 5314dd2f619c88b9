//! kubectl, as one of the users that the API server knows.

use std::time::Duration;

use super::Cluster;
use crate::support::process::within;
use crate::support::tools::{self, Ran};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// May do everything.
    Admin,
    /// podseal, with the rights that it needs and no others.
    Podseal,
    /// podseal's controller, with the rights that it needs and no others.
    Controller,
    /// A namespace owner without any rights of her own; a test binds what she may do.
    Alice,
    /// A node: in `system:nodes`, but RBAC grants what a test binds.
    Node,
}

impl User {
    pub(super) const ALL: [Self; 5] = [Self::Admin, Self::Podseal, Self::Controller, Self::Alice, Self::Node];

    /// The user's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Podseal => "podseal",
            Self::Controller => "podseal-controller",
            Self::Alice => "alice",
            Self::Node => "system:node:node-1",
        }
    }

    /// The user's bearer token.
    pub fn token(self) -> &'static str {
        match self {
            Self::Admin => "admintoken",
            Self::Podseal => "podsealtoken",
            Self::Controller => "controllertoken",
            Self::Alice => "alicetoken",
            Self::Node => "nodetoken",
        }
    }

    /// A line of the API server's token file.
    pub(super) fn token_line(self) -> String {
        let groups = match self {
            Self::Admin => "system:masters",
            Self::Podseal | Self::Controller => "system:serviceaccounts",
            Self::Alice => "tenants",
            Self::Node => "system:nodes",
        };
        format!("{},{},{}-uid,\"{groups}\"\n", self.token(), self.name(), self.name())
    }
}

impl Cluster {
    /// `kubectl ARGS` as the administrator.
    #[must_use]
    pub fn kubectl(&self, args: &[&str]) -> Ran {
        self.kubectl_as(User::Admin, args, "")
    }

    /// `kubectl ARGS` as any user, with `input` on its standard input.
    #[must_use]
    pub fn kubectl_as(&self, user: User, args: &[&str], input: &str) -> Ran {
        let mut command = tools::command("kubectl");
        command.env_remove("KUBECONFIG").env("HOME", &self.cache);
        command.arg("--kubeconfig").arg(self.kubeconfig(user)).arg("--cache-dir").arg(&self.cache).args(args);
        tools::run_with(&mut command, input.as_bytes())
    }

    /// `kubectl apply -f -` of YAML documents as the administrator.
    #[must_use]
    pub fn apply(&self, yaml: &str) -> Ran {
        self.kubectl_as(User::Admin, &["apply", "-f", "-"], yaml)
    }

    /// What a command prints, as soon as it ends well and prints what is wanted; half a minute at most.
    #[track_caller]
    pub fn wait_for(&self, args: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let found = within(Duration::from_secs(30), || {
            let ran = self.kubectl(args);
            last = ran.to_string();
            (ran.ok() && wanted(&ran.stdout)).then_some(ran.stdout)
        });
        found.unwrap_or_else(|| panic!("not what was waited for: {last}"))
    }
}
