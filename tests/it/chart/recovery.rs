//! docs/recovery.md, done in its order: every replica of podseal is gone, and the webhooks are armed.

use std::process::Command;

use serde_json::json;

use super::{folder, helm, rendered, root, wanted};
use crate::support::cluster::{Cluster, OWN_NAMESPACE, User};
use crate::support::podseal::{Options, Podseal};
use crate::support::process::eventually;
use crate::support::review::Review;
use crate::support::scratch;
use crate::support::tools::{self, Ran};

crate::tests! {
    needs [Cluster, Helm];
    h26_the_runbook_leads_out_of_an_outage_step_by_step,
}

/// The commands below a heading, block by block.
fn blocks(heading: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/recovery.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// A block as it is written, in the tree, by the administrator.
fn run(cluster: &Cluster, block: &str) -> Ran {
    let home = scratch::folder("home");
    let programs = root().join("tests/tools/bin");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-euc", block]).current_dir(root()).env("PATH", path).env("HOME", &home);
    command.env("KUBECONFIG", cluster.kubeconfig(User::Admin)).env_remove("HELM_NAMESPACE");
    for name in ["CACHE", "CONFIG", "DATA"] {
        command.env(format!("HELM_{name}_HOME"), home.join(name));
    }
    tools::run(&mut command)
}

/// The webhooks as the controller left them: nobody answers behind the Service.
fn arm(cluster: &Cluster) {
    let mut webhooks = wanted(&rendered(&[]), "podseal");
    for entry in webhooks.iter_mut().flat_map(|c| c["webhooks"].as_array_mut().unwrap()) {
        entry["clientConfig"] = json!({"url": "https://127.0.0.1:1/", "caBundle": cluster.authority().bundle()});
    }
    let args = ["apply", "--server-side", "--force-conflicts", "--field-manager=podseal", "-f", "-"];
    cluster.kubectl_as(User::Admin, &args, &webhooks[0].to_string()).succeeded();
}

fn h26_the_runbook_leads_out_of_an_outage_step_by_step() {
    let cluster = Cluster::empty();
    let (chart, kubeconfig) = (folder(), cluster.kubeconfig(User::Admin));
    let install = ["install", "podseal", chart.to_str().unwrap(), "--create-namespace", "-n", OWN_NAMESPACE];
    helm(&[&install[..], &["--kubeconfig", kubeconfig.to_str().unwrap()]].concat()).succeeded();
    let pod = || cluster.kubectl(&["run", "any", "--image=any.invalid/x:1", "--dry-run=server"]);
    let replicas = || {
        let get = ["-n", OWN_NAMESPACE, "get", "deployment/podseal-controller", "-o", "jsonpath={.spec.replicas}"];
        cluster.kubectl(&get).succeeded().line().to_owned()
    };
    pod().succeeded();
    arm(&cluster);
    eventually("no Pod starts", || pod().stderr.contains("failed calling webhook \"pods.podseal.tmax.io\""));

    let looked = run(&cluster, &blocks("Look")[0]).succeeded();
    assert!(looked.stdout.contains("pods.podseal.tmax.io Fail\n"), "{looked}");
    for block in blocks("Bring it back") {
        run(&cluster, &block).succeeded();
    }
    // Its own Pods are not asked about.
    cluster.kubectl(&["-n", OWN_NAMESPACE, "run", "own", "--image=any.invalid/x:1", "--dry-run=server"]).succeeded();
    pod().failed();

    let [ignore, take_out] = &blocks("Take it out of the way")[..] else { panic!("two blocks") };
    run(&cluster, ignore).succeeded();
    eventually("Pods start", || pod().ok());
    arm(&cluster);
    eventually("no Pod starts", || !pod().ok());
    run(&cluster, take_out).succeeded();
    eventually("Pods start", || pod().ok());
    assert_eq!(replicas(), "0");
    run(&cluster, &blocks("Put it back")[0]).succeeded();
    assert_eq!(replicas(), "2");
    arm(&cluster);
    eventually("Pods are judged again", || !pod().ok());

    exception(&cluster);
}

/// With a replica that answers: the whitelist lets one image through, and no more, and no longer.
fn exception(cluster: &Cluster) {
    cluster.kubectl(&["-n", OWN_NAMESPACE, "create", "configmap", "image-validation-webhook-whitelist"]).succeeded();
    let deny =
        "{apiVersion: tmax.io/v1, kind: ClusterRegistrySecurityPolicy, metadata: {name: p}, spec: {registries: []}}";
    cluster.apply(deny).succeeded();
    let mut options = Options::new("recovery");
    options.user = User::Admin;
    let podseal = Podseal::start(cluster, &options);
    let allowed = |image: &str| podseal.review(&Review::pod("default").container("c", image)).allowed;
    let rescue = "registry.example.com/rescue/tool:1";
    eventually("nothing runs", || !allowed(rescue));
    let [through, back] = &blocks("Let one thing through: the whitelist")[..] else { panic!("two blocks") };
    run(cluster, through).succeeded();
    eventually("the exception acts", || allowed(rescue));
    assert!(!allowed("registry.example.com/other:1"));
    assert!(podseal.metric("podseal_whitelisted_total", &["by=\"image\""]) >= 1.0);
    run(cluster, back).succeeded();
    eventually("the exception ends", || !allowed(rescue));
}
