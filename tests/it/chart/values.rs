//! What the chart's values may be.

use super::{folder, helm, template};

crate::tests! {
    needs [Helm];
    the_chart_is_linted_without_a_complaint,
    what_is_meant_is_accepted,
    what_cannot_be_meant_is_refused_by_its_name,
    every_value_has_a_place_in_the_schema_and_the_docs,
}

fn the_chart_is_linted_without_a_complaint() {
    let ran = helm(&["lint", "--strict", "--kube-version", "1.36.0", folder().to_str().unwrap()]).succeeded();
    assert!(!ran.stdout.contains("[WARNING]") && !ran.stdout.contains("[ERROR]"), "{ran}");
}

/// Settings that are taken, each with a twin that is not and what is said of it.
const TWINS: &[(&str, &str, &str)] = &[
    ("enforcement=Audit", "enforcement=audit", "/enforcement"),
    ("enforcement=Audit", "enforcement=Audit,pinning.enabled=true", "/pinning/enabled"),
    ("templates=off", "templates=deny", "/templates"),
    ("webhooks.failurePolicy=Ignore", "webhooks.failurePolicy=ignore", "/webhooks/failurePolicy"),
    ("webhooks.timeoutSeconds=30", "webhooks.timeoutSeconds=31", "/webhooks/timeoutSeconds"),
    ("exempt.namespaces={calico-system}", "exempt.namespaces={calico-*}", "/exempt/namespaces/0"),
    ("exempt.nodeAgents={a,b}", "exempt.nodeAgents={a,a}", "/exempt/nodeAgents"),
    ("keys.source=hostPath,keys.hostPath.nodeSelector.a=b", "keys.source=hostPath", "/keys/hostPath/nodeSelector"),
    ("keys.source=pvc,keys.pvc.claimName=keys", "keys.source=pvc", "/keys/pvc/claimName"),
    ("keys.source=configMap,keys.configMap.name=keys", "keys.source=configMap", "/keys/configMap/name"),
    ("keys.source=urls,keys.urls={https://a/keys/b.pgp}", "keys.source=urls", "/keys/urls"),
    (
        "keys.urls={http://a/keys/b.pgp#0123456789ABCDEF0123456789ABCDEF01234567}",
        "keys.urls={file:///etc/passwd}",
        "/keys/urls/0",
    ),
    ("keys.urls={https://a/keys/b.pgp}", "keys.urls={http://a/keys/b.pgp}", "/keys/urls/0"),
    ("certificates.source=secret,certificates.secretName=a", "certificates.source=secret", "/certificates/secretName"),
    ("image.tag=1.2.3", "image.tag=-v", "/image/tag"),
    ("image.digest=", "image.digest=sha256:0", "/image/digest"),
    ("replicas=1", "replicas=0", "/replicas"),
    ("controller.replicas=2", "controller.replicas=0", "/controller/replicas"),
    ("image.registry=a.example.com:5000/b", "image.registry=https://a.example.com", "/image/registry"),
    ("podLabels.a=b", "podLabels.app\\.kubernetes\\.io/name=b", "invalid propertyName 'app.kubernetes.io/name'"),
    ("ports.plain=8081", "ports.plain=8443", "ports.webhook and ports.plain"),
    ("webhooks.clientCA.configMap=callers", "webhooks.clientCA.configMap=Callers", "/webhooks/clientCA/configMap"),
    ("drainDelay=1m30s", "drainDelay=5", "/drainDelay"),
    ("terminationGracePeriodSeconds=31", "terminationGracePeriodSeconds=10", "/terminationGracePeriodSeconds"),
    ("listenAddress=[::]", "listenAddress=::", "/listenAddress"),
    ("ca.bundle=-----BEGIN CERTIFICATE-----", "ca.bundle=/etc/ca.crt", "/ca/bundle"),
    ("registriesD.files.a\\.yaml=x", "registriesD.files.a=x", "invalid propertyName 'a'"),
    ("sources.allowAddresses={10.0.0.0/8}", "sources.allowAddresses={10.0.0.1}", "/sources/allowAddresses/0"),
    ("crds.manage=false", "crds.manage=maybe", "/crds/manage"),
    ("imageSignatures.import=false", "imageSignatures.import=yes", "/imageSignatures/import"),
    ("denyWithoutPolicy=true", "denyWithoutPolicies=true", "denyWithoutPolicies"),
    ("controller.replicas=1", "controller.replica=1", "replica"),
    ("podSecurityContext.runAsUser=null", "podSecurityContext=none", "/podSecurityContext"),
    ("global.imageRegistry=x", "globals.imageRegistry=x", "globals"),
];

fn what_is_meant_is_accepted() {
    for (taken, _, _) in TWINS {
        template("podseal", "registry-system", &[taken], &[]).succeeded();
    }
}

fn what_cannot_be_meant_is_refused_by_its_name() {
    for (_, refused, name) in TWINS {
        let ran = template("podseal", "registry-system", &[refused], &[]).failed();
        assert!(ran.stderr.contains(name), "{ran}");
    }
}

/// Paths of the leaves, `a.b.c`.
fn leaves(prefix: &str, value: &serde_json::Value, found: &mut Vec<String>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() && !prefix.ends_with("esources") => {
            for (name, value) in fields {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                leaves(&path, value, found);
            }
        }
        _ => found.push(prefix.to_owned()),
    }
}

fn every_value_has_a_place_in_the_schema_and_the_docs() {
    let read = |path: &str| std::fs::read_to_string(super::root().join(path)).unwrap();
    let values = super::documents(&read("charts/podseal/values.yaml")).remove(0);
    let schema: serde_json::Value = serde_json::from_str(&read("charts/podseal/values.schema.json")).unwrap();
    let described = schema["properties"].as_object().unwrap();
    for name in values.as_object().unwrap().keys() {
        assert!(described.contains_key(name), "{name} is not in the schema");
    }
    for name in described.keys().filter(|name| *name != "global") {
        assert!(values.get(name).is_some(), "{name} is in the schema and has no default");
    }
    let page = read("docs/install.md");
    let (mut paths, mut missing) = (Vec::new(), Vec::new());
    leaves("", &values, &mut paths);
    for path in paths {
        // A row may stand for everything below a value.
        let above = path.match_indices('.').any(|(at, _)| page.contains(&format!("`{}.*`", &path[..at])));
        if !above && !page.contains(&format!("`{path}`")) {
            missing.push(path);
        }
    }
    assert!(missing.is_empty(), "not in docs/install.md: {missing:?}");
}
