//! helm, as the administrator.

use super::Node;
use crate::support::cluster::User;
use crate::support::scratch;
use crate::support::tools::{self, Ran};

impl Node {
    /// `helm ARGS`, with nothing of the machine's own helm.
    #[must_use]
    pub fn helm(&self, args: &[&str]) -> Ran {
        let home = scratch::folder("helm");
        let mut command = tools::command("helm");
        command.env("HELM_CACHE_HOME", home.join("cache")).env("HELM_CONFIG_HOME", home.join("config"));
        command.env("HELM_DATA_HOME", home.join("data")).env("HOME", &home).env_remove("HELM_NAMESPACE");
        command.arg("--kubeconfig").arg(self.cluster.kubeconfig(User::Admin)).args(args);
        tools::run(&mut command)
    }
}
