//! The whole way of one image maker: directories, web server, key, registry, settings, signature, pull; a damaged key file,
//! and its return; a second computer.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::world::{Keys, Served, Server, Signer, containers, policy_of, pull, registry, sign};
use crate::imagemaker::cluster::World;
use crate::imagemaker::world::Host;
use crate::support::http::Http;
use crate::support::registry::{Image, Registry};
use crate::support::scratch;
use crate::support::tools;

crate::tests! {
    needs [Cluster, Gpg, DebianRegistry, Store];
    with_keys_of_podseal_signed_and_served_by_podseal,
    with_keys_of_podseal_signed_by_skopeo_and_served_by_nginx,
    with_keys_of_gpg_signed_by_podseal_and_served_by_nginx,
    with_keys_of_gpg_signed_by_skopeo_and_served_by_podseal,
}

fn with_keys_of_podseal_signed_and_served_by_podseal() {
    whole(Keys::Podseal, Signer::Podseal, Server::Podseal);
}

fn with_keys_of_podseal_signed_by_skopeo_and_served_by_nginx() {
    whole(Keys::Podseal, Signer::Skopeo, Server::Nginx);
}

fn with_keys_of_gpg_signed_by_podseal_and_served_by_nginx() {
    whole(Keys::Gpg, Signer::Podseal, Server::Nginx);
}

fn with_keys_of_gpg_signed_by_skopeo_and_served_by_podseal() {
    whole(Keys::Gpg, Signer::Skopeo, Server::Podseal);
}

const MAIL: &str = "imagemaker@registry.local";
const UID: &str = "Images Developer (ImageMaker Signer) <imagemaker@registry.local>";

/// What those who sign have on their computer.
struct Computer {
    host: Host,
    registry: Registry,
    store: Served,
    /// `/var/sigstore/keys/group1.pgp`.
    key_file: PathBuf,
    /// `/etc/containers` of everybody else.
    clients: PathBuf,
    /// `~/.config/containers/registries.d` of the maker.
    own_registries_d: PathBuf,
}

impl Computer {
    fn new(keys: Keys, server: Server) -> Self {
        let (host, registry) = (Host::new(), registry());
        // mkdir -m 0775 and a page to try the web server with; `podseal imagemaker create` would make them, too.
        for folder in ["keys", "sigstore"] {
            std::fs::create_dir_all(host.dir.join(folder)).unwrap();
        }
        std::fs::write(host.dir.join("index.html"), "<html><body><h1>It works!</h1></body></html>\n").unwrap();
        let sigstore = Served::start(server, &host.dir);
        let index = sigstore.get("/");
        assert_eq!(index.status, 200, "{}", index.text());
        if server == Server::Nginx {
            assert!(index.text().contains("It works!"), "{}", index.text());
        }
        let store = format!("{}/sigstore/", sigstore.url);
        let key_file = host.key_file("group1");
        match keys {
            Keys::Podseal => made_by_podseal(&host, &registry, &store),
            Keys::Gpg => made_by_gpg(&host, &key_file),
        }
        assert!(std::fs::read_to_string(&key_file).unwrap().starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"));
        // curl -i http://registry.local
        assert_eq!(Http::trusting("").get(&format!("http://{}/", registry.host)).unwrap().status, 200);
        let own = format!(
            "default-docker:\n\ndocker:\n  {}:\n    lookaside: {}/sigstore\n    lookaside-staging: file://{}/sigstore/\n",
            registry.host,
            sigstore.url,
            host.dir.display()
        );
        let own_registries_d = containers(&Value::Null, &own).join("registries.d");
        let policy = policy_of(&registry.host, &key_file);
        let clients = containers(&policy, &format!("default-docker:\n  lookaside: {store}\n  sigstore: {store}\n"));
        if keys == Keys::Podseal {
            assert_same_settings(&host, &clients);
        }
        Self { host, registry, store: sigstore, key_file, clients, own_registries_d }
    }
}

/// RSA for signing and encryption, of 3072 bits, that does not end.
fn made_by_podseal(host: &Host, registry: &Registry, store: &str) {
    let maker = format!("group1@{}", registry.host);
    let flags = ["--key-type", "rsa", "--bits", "3072", "--expires", "0", "--no-passphrase", "--insecure"];
    let holder = ["--full-name", "Images Developer", "--note", "ImageMaker Signer", "--email", MAIL];
    host.run(&[&["create", &maker, "--lookaside", store], &flags[..], &holder[..]].concat()).succeeded();
}

/// What somebody chooses who is asked by `gpg --full-generate-key`, and `gpg --output … --armor --export UID`.
fn made_by_gpg(host: &Host, key_file: &Path) {
    let parameters = "Key-Type: RSA\nKey-Length: 3072\nKey-Usage: sign\nSubkey-Type: RSA\nSubkey-Length: 3072\n\
                      Subkey-Usage: encrypt\nName-Real: Images Developer\nName-Comment: ImageMaker Signer\n\
                      Name-Email: imagemaker@registry.local\nExpire-Date: 0\n%no-protection\n%commit\n";
    host.gpg.gpg(None, &["--generate-key"], parameters.as_bytes()).succeeded();
    host.gpg.gpg(None, &["--output", key_file.to_str().unwrap(), "--armor", "--export", UID], b"").succeeded();
}

/// What `podseal imagemaker policy` writes says what the document has its readers type.
fn assert_same_settings(host: &Host, clients: &Path) {
    let out = scratch::folder("made").join("containers");
    let keys = host.dir.join("keys");
    let arguments = ["policy", "--out", out.to_str().unwrap(), "--node-keys", keys.to_str().unwrap()];
    host.run(&arguments).succeeded();
    let read = |file: &Path| std::fs::read_to_string(file).unwrap();
    let json = |folder: &Path| serde_json::from_str::<Value>(&read(&folder.join("policy.json"))).unwrap();
    assert_eq!(json(&out), json(clients));
    let yaml =
        |folder: &Path| serde_saphyr::from_str::<Value>(&read(&folder.join("registries.d/default.yaml"))).unwrap();
    assert_eq!(yaml(&out), yaml(clients));
}

fn whole(keys: Keys, signer: Signer, server: Server) {
    let computer = Computer::new(keys, server);
    let image = computer.registry.push("alt/alt:latest");
    let world = World::new(&computer.host.dir.join("keys"));
    apply_policy(&computer, keys, &world);
    let name = image.tagged();

    // Before it is signed nobody runs it.
    let ran = pull(&computer.clients, &name).failed();
    assert!(ran.stderr.contains("A signature was required, but no signature exists"), "{ran}");
    world.wait("the unsigned image is denied", &name, |answer| {
        !answer.allowed && answer.message.contains("no signature")
    });
    world.run("unsigned", &name).failed();

    sign(signer, &computer.host, MAIL, &image, &computer.own_registries_d);
    let laid = format!("sigstore/{}@sha256={}/signature-1", image.repository, image.hex());
    assert!(computer.host.dir.join(&laid).is_file(), "{laid}");
    assert_eq!(computer.store.get(&format!("/{laid}")).status, 200);
    pull(&computer.clients, &name).succeeded();
    world.wait("the signed image is allowed", &name, |answer| answer.allowed);
    world.run("signed", &name).succeeded();

    damaged_and_put_back(&computer, &world, &image);
    on_another_computer(&computer, &image);
}

/// The cluster asks for the same as the nodes.
fn apply_policy(computer: &Computer, keys: Keys, world: &World) {
    if keys == Keys::Podseal {
        computer.host.run(&["policy", "--apply", "--kubeconfig", &world.kubeconfig()]).succeeded();
        return;
    }
    let entry = format!(
        "{{registry: '{}', signCheck: true, gpgKeyRef: k8s://registry-system/sigstore-key-group1, \
         lookaside: '{}/sigstore/', insecure: true}}",
        computer.registry.host, computer.store.url
    );
    let policy = format!(
        "{{apiVersion: tmax.io/v1, kind: ClusterRegistrySecurityPolicy, metadata: {{name: group1}}, \
         spec: {{registries: [{entry}]}}}}"
    );
    world.cluster.apply(&policy).succeeded();
}

/// cp group1.pgp /tmp; echo aaa > group1.pgp; cp /tmp/group1.pgp back.
fn damaged_and_put_back(computer: &Computer, world: &World, image: &Image) {
    let (name, saved) = (image.tagged(), scratch::folder("tmp").join("group1.pgp"));
    std::fs::copy(&computer.key_file, &saved).unwrap();
    std::fs::write(&computer.key_file, "aaa\n").unwrap();
    let ran = pull(&computer.clients, &name).failed();
    assert!(ran.stderr.to_lowercase().contains("source image rejected: no public keys imported"), "{ran}");
    world.wait("the damaged key file is noticed", &name, |answer| {
        !answer.allowed && answer.message.contains("no public keys imported")
    });
    let ran = world.run("damaged", &name).failed();
    assert!(ran.stderr.contains("denied the request") && ran.stderr.contains("no public keys imported"), "{ran}");

    std::fs::copy(&saved, &computer.key_file).unwrap();
    pull(&computer.clients, &name).succeeded();
    world.wait("the key file is back", &name, |answer| answer.allowed);
    world.run("again", &name).succeeded();
}

/// `curl http://sigstore.local:81/keys/group1.pgp > /var/sigstore/keys/group1.pgp`, and the same settings.
fn on_another_computer(computer: &Computer, image: &Image) {
    let key = computer.store.get("/keys/group1.pgp");
    assert_eq!((key.status, &key.body), (200, &std::fs::read(&computer.key_file).unwrap()));
    let file = scratch::folder("other").join("group1.pgp");
    std::fs::write(&file, &key.body).unwrap();
    let store = format!("{}/sigstore/", computer.store.url);
    let policy = policy_of(&computer.registry.host, &file);
    // By the newer name of the store, by the older one, by both.
    for names in [&["lookaside"][..], &["sigstore"], &["lookaside", "sigstore"]] {
        let lines = names.iter().fold(String::new(), |text, name| text + &format!("  {name}: {store}\n"));
        let clients = containers(&policy, &format!("default-docker:\n{lines}"));
        pull(&clients, &image.tagged()).succeeded();
        let other = computer.registry.push("alt/other:latest");
        pull(&clients, &other.tagged()).failed();
    }
    // podman's users see the same, whatever their agent does.
    let _ = tools::run(computer.host.gpg.command("gpgconf").args(["--kill", "all"]));
}
