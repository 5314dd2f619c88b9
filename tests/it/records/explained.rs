//! `podseal explain` says why, and only what the caller may know.

use serde_json::Value;

use super::world::{MAKER, OTHER, Scripted, World, json, records};
use crate::support::cluster::{Cluster, Namespace, User};
use crate::support::pki::Authority;
use crate::support::podseal::{Podseal, podseal_with};
use crate::support::registry::{Image, Registry};
use crate::support::signer::Skopeo;
use crate::support::store::registries_d;
use crate::support::tools::Ran;

crate::tests! {
    needs [Cluster, Registry, Store, Gpg];
    what_governs_and_which_key_is_needed_is_explained,
    i15_what_the_caller_may_not_read_is_said_and_not_shown,
    an_image_that_no_policy_names_is_explained,
    own_credentials_go_nowhere_that_a_namespace_made_insecure,
    keys_that_a_policy_may_not_name_are_none,
    a_registry_is_asked_over_tls_with_the_authority_of_the_entry,
    what_is_on_record_is_shown_to_those_who_may_read_it,
}

fn explain(user: User, image: &str, more: &[&str]) -> Ran {
    let kubeconfig = Cluster::shared().kubeconfig(user);
    let common = ["explain", image, "--kubeconfig", kubeconfig.to_str().unwrap(), "--allow-address", "127.0.0.0/8"];
    podseal_with(&[&common, more].concat(), &[], b"")
}

/// A namespace whose policy asks for the other maker's signature in one repository and for the maker's elsewhere.
fn namespace(world: &World) -> Namespace<'static> {
    let namespace = Cluster::shared().namespace(Podseal::shared(), "explained");
    namespace.secret("maker", &[("maker.pgp", &world.gpg.export(&[&world.maker]))]);
    namespace.secret("other", &[("other.pgp", &world.gpg.export(&[&world.other]))]);
    namespace.policy("p", &entries(world, &namespace.name));
    namespace
}

fn entries(world: &World, namespace: &str) -> String {
    let entry = |registry: &str, key: &str| {
        format!(
            "- {{registry: '{registry}', signCheck: true, insecure: true, gpgKeyRef: k8s://{namespace}/{key}, lookaside: '{}'}}\n",
            world.store.url
        )
    };
    let host = &world.registry.host;
    entry(host, "maker") + &entry(&format!("{host}/records/strict"), "other")
}

fn keys(found: &Value) -> Vec<String> {
    let entries = found["governing"].as_array().unwrap();
    let lists = entries.iter().flat_map(|entry| entry["keys"].as_array().unwrap());
    let keys = lists.flat_map(|list| list["keys"].as_array().unwrap());
    keys.map(|key| key["fingerprint"].as_str().unwrap().to_owned()).collect()
}

fn what_governs_and_which_key_is_needed_is_explained() {
    let world = World::shared();
    let (loose, strict) = (world.signed("loose"), world.signed("strict"));
    let namespace = namespace(world);
    let ask = |image: &str| explain(User::Admin, image, &["-n", &namespace.name, "-o", "json"]);
    let ran = ask(&loose.tagged()).succeeded();
    let found = json(&ran);
    assert_eq!((&found["verdict"]["verdict"], &found["digest"]), (&"Allowed".into(), &loose.digest.as_str().into()));
    assert_eq!(keys(&found), [world.maker.fingerprint.as_str()]);
    assert_eq!(found["governing"][0]["keys"][0]["keys"][0]["userIDs"][0], format!("Maker <{MAKER}>"));
    assert_eq!(
        (
            &found["governing"][0]["signatures"][0]["reason"],
            found["governing"][0]["signatures"][0]["verified"].as_bool()
        ),
        (&"Verified".into(), Some(true))
    );
    // The same maker's signature where the other's alone counts.
    let ran = ask(&strict.tagged());
    let found = json(&ran);
    assert_eq!((ran.code, &found["verdict"]["verdict"]), (Some(1), &"Denied".into()), "{ran}");
    assert_eq!(keys(&found), [world.other.fingerprint.as_str()]);
    assert!(found["governing"][0]["why"].as_str().unwrap().contains("path records/strict"), "{ran}");
    assert_eq!(found["overruled"][0]["registry"], world.registry.host.as_str(), "{ran}");
    assert_eq!(found["governing"][0]["signatures"][0]["reason"], "UntrustedKey");
    // A trusted key is not enough where signers are listed.
    let entry = format!(
        "- {{registry: '{}', signCheck: true, insecure: true, gpgKeyRef: k8s://{}/maker, lookaside: '{}', signer: ['{OTHER}']}}",
        world.registry.host, namespace.name, world.store.url
    );
    namespace.policy("p", &entry);
    let by_nobody = json(&ask(&loose.tagged()));
    let reason = |value: &Value| value["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason(&by_nobody["verdict"]), "SignerMismatch", "{by_nobody}");
    assert_eq!(reason(&by_nobody["governing"][0]["signatures"][0]), "SignerMismatch", "{by_nobody}");
    assert_eq!(by_nobody["governing"][0]["signers"][0], OTHER);
    namespace.policy("p", &entries(world, &namespace.name));
    // It says what the webhook says.
    let denied = namespace.run("strict", &strict.tagged()).failed();
    let message = found["verdict"]["messages"][0].as_str().unwrap();
    assert!(denied.stderr.contains(message), "{message}\n{denied}");
    // And in words.
    let text = explain(User::Admin, &strict.tagged(), &["-n", &namespace.name]);
    for said in
        ["Entries that govern", "do not govern", &world.other.fingerprint, "Verdict:    Denied (InvalidSignature)"]
    {
        assert!(text.stdout.contains(said), "{said}: {text}");
    }
}

fn i15_what_the_caller_may_not_read_is_said_and_not_shown() {
    let world = World::shared();
    let image = world.signed("secretive");
    let namespace = namespace(world);
    let cluster = Cluster::shared();
    let ran = explain(User::Alice, &image.tagged(), &["-n", &namespace.name]);
    assert!(ran.code == Some(2) && ran.stdout.contains("registrysecuritypolicies cannot be listed"), "{ran}");
    assert!(!ran.stdout.contains(&world.maker.fingerprint), "{ran}");
    // She may read policies and the whitelist, and no Secret.
    let name = &namespace.name;
    let role = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: look-{name}}}\nrules:\n\
         - {{apiGroups: [tmax.io], resources: ['*'], verbs: [get, list]}}\n\
         - {{apiGroups: [''], resources: [configmaps], verbs: [get]}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: look-{name}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: look-{name}}}\n\
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}}]\n"
    );
    cluster.apply(&role).succeeded();
    let ran = explain(User::Alice, &image.tagged(), &["-n", name, "-o", "json"]);
    let found = json(&ran);
    assert_eq!((ran.code, &found["verdict"]["verdict"]), (Some(2), &"Error".into()), "{ran}");
    assert!(found["governing"][0]["keys"][0]["note"].as_str().unwrap().contains("cannot be read"), "{ran}");
    assert_eq!(
        (keys(&found).len(), &found["governing"][0]["signatures"][0]["reason"]),
        (0, &"NotJudged".into()),
        "{ran}"
    );
    // What the status of the policy tells everybody who may read it, is told.
    let status = format!(
        r#"{{"status": {{"registries": [{{"registry": "{}", "keys": [{{"fingerprint": "{}"}}], "signers": ["{MAKER}"]}}]}}}}"#,
        world.registry.host, world.maker.fingerprint
    );
    namespace.kubectl(&["patch", "rsp", "p", "--subresource=status", "--type=merge", "-p", &status]).succeeded();
    let ran = explain(User::Alice, &image.tagged(), &["-n", name, "-o", "json"]);
    let found = json(&ran);
    assert_eq!(keys(&found), [world.maker.fingerprint.as_str()], "{ran}");
    assert!(
        found["governing"][0]["keys"][0]["note"].as_str().unwrap().contains("from the status of the policy"),
        "{ran}"
    );
    cluster.kubectl(&["delete", "clusterrolebinding", &format!("look-{name}")]).succeeded();
}

fn an_image_that_no_policy_names_is_explained() {
    let world = World::shared();
    let namespace = namespace(world);
    let ran = explain(User::Admin, "elsewhere.invalid/x:1", &["-n", &namespace.name]);
    assert!(ran.code == Some(1) && ran.stdout.contains("Denied (NoMatchingPolicy)"), "{ran}");
    let ran = explain(User::Admin, "elsewhere.invalid/x:1", &["-n", "kube-system"]);
    assert!(ran.stdout.contains("podseal is not asked about Pods of the namespace kube-system"), "{ran}");
    let ran = explain(User::Admin, "elsewhere.invalid/x:1", &["-n", "no-such-namespace"]);
    assert!(ran.code == Some(2) && ran.stdout.contains("there is no namespace no-such-namespace"), "{ran}");
    assert!(ran.stdout.contains("could not be found out") && ran.stdout.contains("not known, see below"), "{ran}");
    let ran = explain(User::Admin, "A B", &["-n", &namespace.name]);
    assert!(ran.code == Some(1) && ran.stdout.contains("MalformedImage"), "{ran}");
}

fn own_credentials_go_nowhere_that_a_namespace_made_insecure() {
    use base64::Engine as _;
    let world = World::shared();
    let namespace = namespace(world);
    let locations = "location / { if ($http_authorization = '') { add_header WWW-Authenticate 'Basic realm=\"r\"' always; \
                     return 401; } return 404; }";
    let registry = Scripted::start(&crate::support::scratch::folder("asking"), locations);
    let secret = base64::engine::general_purpose::STANDARD.encode("admin:secret");
    let config = crate::support::scratch::folder("docker").join("config.json");
    std::fs::write(&config, format!(r#"{{"auths": {{"{}": {{"auth": "{secret}"}}}}}}"#, registry.host)).unwrap();
    let entry = format!(
        "{{registry: '{}', signCheck: true, insecure: true, gpgKeyRef: k8s://{}/maker, lookaside: '{}'}}",
        registry.host, namespace.name, world.store.url
    );
    let ask = || {
        let image = format!("{}/a:1", registry.host);
        let more = ["-n", &namespace.name, "--docker-config", config.to_str().unwrap()];
        explain(User::Admin, &image, &more)
    };
    namespace.policy("p", &format!("- {entry}\n"));
    let ran = ask();
    assert!(registry.requests().contains("/v2/a/manifests/1"), "{ran}");
    assert!(!registry.requests().contains("Basic"), "{}", registry.requests());
    // An administrator's entry is an administrator's decision.
    let name = format!("credentials-{}", namespace.name);
    let policy = format!(
        "apiVersion: tmax.io/v1\nkind: ClusterRegistrySecurityPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{registries: [{entry}]}}\n"
    );
    Cluster::shared().apply(&policy).succeeded();
    ask();
    assert!(registry.requests().contains(&format!("Basic {secret}")), "{}", registry.requests());
    Cluster::shared().kubectl(&["delete", "crsp", &name]).succeeded();
}

fn keys_that_a_policy_may_not_name_are_none() {
    let world = World::shared();
    let (namespace, other) = (namespace(world), namespace(world));
    let image = world.signed("foreign-keys");
    namespace.policy("p", &entries(world, &other.name));
    let ran = explain(User::Admin, &image.tagged(), &["-n", &namespace.name, "-o", "json"]);
    let found = json(&ran);
    assert_eq!((ran.code != Some(0), keys(&found).len()), (true, 0), "{ran}");
    let note = found["governing"][0]["keys"][0]["note"].as_str().unwrap();
    assert!(note.contains("cannot be used"), "{ran}");
}

fn a_registry_is_asked_over_tls_with_the_authority_of_the_entry() {
    let (world, registry) = (World::shared(), Registry::tls());
    let namespace = namespace(world);
    let image = registry.push("tls/app:1");
    let staging = format!("file://{}", world.store.folder().display());
    let skopeo = Skopeo { gpg: &world.gpg, registries_d: registries_d(&[(&registry.host, &staging)]) };
    skopeo.sign(&registry, &image, &world.maker).succeeded();
    let (right, wrong) = (registry.authority.as_ref().unwrap(), Authority::new("stranger"));
    namespace.secret("right", &[("ca.crt", right.pem.as_bytes())]);
    namespace.secret("wrong", &[("ca.crt", wrong.pem.as_bytes())]);
    let ask = |ca: &str| {
        let name = &namespace.name;
        let entry = format!(
            "- {{registry: '{}', signCheck: true, gpgKeyRef: k8s://{name}/maker, lookaside: '{}'{ca}}}\n",
            registry.host, world.store.url
        );
        namespace.policy("p", &entry);
        let ran = explain(User::Admin, &image.tagged(), &["-n", name, "-o", "json"]);
        (ran.code, json(&ran))
    };
    let (code, found) = ask(&format!(", caRef: k8s://{}/right", namespace.name));
    assert_eq!((code, &found["digest"]), (Some(0), &image.digest.as_str().into()), "{found}");
    assert_eq!(found["governing"][0]["signatures"][0]["reason"], "Verified", "{found}");
    for ca in ["", &format!(", caRef: k8s://{}/wrong", namespace.name)] {
        let (code, found) = ask(ca);
        assert_eq!((code, &found["digest"], &found["verdict"]["verdict"]), (Some(2), &Value::Null, &"Error".into()));
        assert!(found["notes"][0].as_str().unwrap().contains("certificate"), "{found}");
    }
    let (code, found) = ask(&format!(", caRef: k8s://{}/missing", namespace.name));
    assert_eq!(code, Some(2), "{found}");
    assert!(found["notes"][0].as_str().unwrap().contains("missing"), "{found}");
}

fn what_is_on_record_is_shown_to_those_who_may_read_it() {
    let world = World::shared();
    let (verified, unverified) = (world.signed("on-record"), world.signed("only-imported"));
    let namespace = namespace(world);
    world.save(User::Admin, &verified, &[]).succeeded();
    let said = |user: User, image: &Image| explain(user, &image.tagged(), &["-n", &namespace.name]).stdout;
    let name = records(&verified)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let line = format!("{name}: signed by Maker <{MAKER}> as {}, verified by ", verified.tagged());
    let shown = said(User::Admin, &verified);
    assert!(shown.contains("On record, which decides nothing:") && shown.contains(&line), "{shown}");
    let shown = said(User::Alice, &verified);
    assert!(!shown.contains("On record"), "{shown}");

    let mut copy = records(&verified)[0].clone();
    let name = format!("{}-{}", unverified.digest.replace(':', "-"), "a".repeat(32));
    copy["metadata"] = serde_json::json!({"name": name});
    copy["spec"]["image"] = unverified.digest.as_str().into();
    copy["spec"]["reference"] = format!("{}/{}", unverified.host, unverified.repository).into();
    copy.as_object_mut().unwrap().remove("status");
    Cluster::shared().apply(&copy.to_string()).succeeded();
    let shown = said(User::Admin, &unverified);
    assert!(shown.contains(&format!("{name}: not verified by anybody")), "{shown}");

    // One that is being deleted is no record any more, whoever holds it.
    let held = r#"{"metadata": {"finalizers": ["evil.example.com/hold"]}}"#;
    Cluster::shared().kubectl(&["patch", "imgsig", &name, "--type=merge", "-p", held]).succeeded();
    Cluster::shared().kubectl(&["delete", "imgsig", &name, "--wait=false"]).succeeded();
    let shown = said(User::Admin, &unverified);
    assert!(!shown.contains(&name), "{shown}");
    Cluster::shared()
        .kubectl(&["patch", "imgsig", &name, "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#])
        .succeeded();
}
