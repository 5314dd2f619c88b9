//! Writers that say who they are by a client certificate.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::archives::set;
use super::world::World;
use crate::support::front::USER;
use crate::support::http::Http;
use crate::support::pki::{Authority, Issued, LOCAL};
use crate::support::podseal::BINARY;
use crate::support::process::{Process, eventually};
use crate::support::registry::{Image, Registry};
use crate::support::signer::KeySpec;
use crate::support::tools::{self, Ran};
use crate::support::{ports, scratch};

crate::tests! {
    needs [Registry, DebianRegistry, Gpg, Sq, Store, Cosign];
    a_store_takes_those_of_its_client_ca_and_nobody_else,
    what_a_server_would_refuse_is_said_before_anything_is_signed,
    the_store_alone_is_shown_the_certificate,
    the_registry_is_shown_it_where_it_is_the_store,
    load_sign_goes_on_where_the_certificate_was_missing,
}

const MAIL: &str = "m@registry.local";

/// `podseal store` with TLS whose writers have certificates, beside a registry of the same authority.
struct Scene {
    world: World,
    clients: Authority,
    folder: PathBuf,
    url: String,
    store: Process,
}

impl Scene {
    fn new() -> Self {
        let world = World::of(Registry::tls());
        world.gpg.generate(&KeySpec::new(&format!("Maker <{MAIL}>")));
        let (authority, clients) = (world.registry.authority.as_ref().unwrap(), Authority::new("clients"));
        let server = authority.server(&LOCAL);
        let folder = scratch::folder("sigstore");
        let host = format!("127.0.0.1:{}", ports::free());
        let mut command = Command::new(BINARY);
        command.arg("store").arg("--dir").arg(&folder).args(["--listen", &host]);
        command.arg("--tls-cert").arg(&server.cert).arg("--tls-key").arg(&server.key);
        let store = Process::spawn("store", command.arg("--client-ca").arg(clients.file()));
        let http = Http::trusting(&authority.pem);
        store.wait_ready(|_| http.get(&format!("https://{host}/keys/none.pgp")).ok());
        Self { world, clients, folder, url: format!("https://{host}/sigstore"), store }
    }

    fn ca(&self) -> PathBuf {
        self.world.registry.authority.as_ref().unwrap().file()
    }

    /// Without `--insecure`: both certificates are verified.
    fn sign(&self, image: &Image, more: &[&str]) -> Ran {
        let ca = self.ca();
        let args = ["sign", &image.tagged(), "--sign-by", MAIL, "--ca", ca.to_str().unwrap(), "--upload", &self.url];
        self.world.podseal(&[&args[..], more].concat())
    }

    fn signatures(&self, image: &Image) -> usize {
        let folder = self.folder.join(format!("sigstore/{}@sha256={}", image.repository, image.hex()));
        (1..=128).take_while(|n| folder.join(format!("signature-{n}")).is_file()).count()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn shown(issued: &Issued) -> [&str; 4] {
    ["--client-cert", text(&issued.cert), "--client-key", text(&issued.key)]
}

/// What openssl makes of a key: PKCS#1 or SEC1, or encrypted.
fn converted(issued: &Issued, args: &[&str]) -> Issued {
    let key = scratch::folder("key").join("converted.key");
    let mut command = tools::command("openssl");
    command.arg("pkey").arg("-in").arg(&issued.key).arg("-out").arg(&key).args(args);
    tools::run(&mut command).succeeded();
    Issued { cert: issued.cert.clone(), key }
}

fn a_store_takes_those_of_its_client_ca_and_nobody_else() {
    let scene = Scene::new();
    let (ec, rsa) = (scene.clients.client("ci-robot"), scene.clients.client_rsa("ci-rsa"));
    let (sec1, pkcs1) = (converted(&ec, &["-traditional"]), converted(&rsa, &["-traditional"]));
    for (issued, label) in [(&ec, "PRIVATE"), (&sec1, "EC PRIVATE"), (&rsa, "PRIVATE"), (&pkcs1, "RSA PRIVATE")] {
        let key = std::fs::read_to_string(&issued.key).unwrap();
        assert!(key.contains(&format!("-----BEGIN {label} KEY-----")), "{label}");
        let image = scene.world.registry.push("alt/good:1");
        let signed = scene.sign(&image, &shown(issued)).succeeded();
        assert!(signed.stdout.contains("(signature-1)"), "{signed}");
        assert_eq!(scene.signatures(&image), 1);
        let again = scene.sign(&image, &shown(issued)).succeeded();
        assert!(again.stderr.contains("before, and nothing is added"), "{again}");
    }
    eventually("the log names both", || ["ci-robot", "ci-rsa"].iter().all(|name| scene.store.log().contains(name)));
    let image = scene.world.registry.push("alt/bad:1");
    let without = scene.sign(&image, &[]);
    assert_eq!(without.code, Some(1), "{without}");
    assert!(without.stderr.contains("a client certificate with --client-cert"), "{without}");
    let stranger = Authority::new("others").client("stranger");
    let refused = scene.sign(&image, &shown(&stranger));
    assert_refused(&refused, "it does not know the authority that issued it");
    // What is valid itself, and comes from somebody who is not any more.
    let past = scene.clients.below("past", (2001, 2002));
    let late = past.client("late");
    let chain = std::fs::read_to_string(&late.cert).unwrap() + &past.pem;
    std::fs::write(&late.cert, chain).unwrap();
    let refused = scene.sign(&image, &shown(&late));
    assert_refused(&refused, "by its clock it is expired or not valid yet");
    assert_eq!(scene.signatures(&image), 0);
    // curl comes by the same door.
    let (ca, url) = (scene.ca(), format!("{}/alt/bad@sha256={}/signature-1", scene.url, image.hex()));
    let put = |more: &[&str]| {
        let mut command = tools::command("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "--data-binary", "x"]);
        command.args(["-H", "If-None-Match: *", "--cacert"]);
        tools::run(command.arg(&ca).arg(&url).args(more)).stdout
    };
    assert_eq!(put(&[]), "401");
    assert_eq!(put(&["--cert", text(&ec.cert), "--key", text(&ec.key)]), "422", "known, and x is no signature");
}

/// By the server, for this reason; or it closed before that was read, which is no reason to be sure.
#[track_caller]
fn assert_refused(ran: &Ran, why: &str) {
    let said = format!("the server refuses the client certificate: {why}");
    let definite = ran.code == Some(1) && ran.stderr.contains(&said);
    let closed = ran.code == Some(2) && ran.stderr.contains("the server may not accept the client certificate");
    assert!((definite || closed) && !ran.stderr.contains("alert"), "{ran}");
}

fn what_a_server_would_refuse_is_said_before_anything_is_signed() {
    let scene = Scene::new();
    let image = scene.world.registry.push("alt/a:1");
    let (good, other) = (scene.clients.client("ci-robot"), scene.clients.client("other"));
    let expired = scene.clients.client_between("ci-robot", (2001, 2002));
    let early = scene.clients.client_between("ci-robot", (2098, 2099));
    let of = |cert: &Path, key: &Path| Issued { cert: cert.to_owned(), key: key.to_owned() };
    let server = scene.clients.server(&LOCAL);
    let exposed = of(&good.cert, &scratch::folder("exposed").join("tls.key"));
    std::fs::copy(&good.key, &exposed.key).unwrap();
    tools::run(Command::new("chmod").arg("0640").arg(&exposed.key)).succeeded();
    let locked = converted(&good, &["-aes128", "-passout", "pass:sesame"]);
    let nothing = of(&good.cert, Path::new("/no/such/key"));
    let [cert, key] = ["--client-cert", "--client-key"];
    for (issued, of, said) in [
        (&expired, (cert, &expired.cert), "its certificate expired on 2002-01-01T00:00:00Z: have it renewed"),
        (&early, (cert, &early.cert), "its certificate is not valid before 2098-01-01T00:00:00Z"),
        (&server, (cert, &server.cert), "its certificate is not for clients"),
        (&of_key(&good, &other), (key, &other.key), "it belongs to another certificate"),
        (&of_key(&good, &good_as_key(&good)), (key, &good.cert), "it holds a certificate and no private key"),
        (&swapped(&good), (cert, &good.key), "it holds a private key and no certificate"),
        (&exposed, (key, &exposed.key), "others may read it (mode 0640): chmod 600"),
        (&locked, (key, &locked.key), "it is encrypted"),
        (&nothing, (key, &nothing.key), "No such file"),
    ] {
        let ran = scene.sign(&image, &shown(issued));
        assert_eq!(ran.code, Some(64), "{said}: {ran}");
        assert!(ran.stderr.contains(&format!("{} {}: ", of.0, of.1.display())), "{said}: {ran}");
        assert!(ran.stderr.contains(said) && !ran.stderr.contains("sesame"), "{said}: {ran}");
    }
    // Not in the clear, and not to nobody.
    let plain = scene.url.replace("https://", "http://");
    for (to, said) in [
        (&["--upload", &plain][..], "cannot be shown over plain HTTP: give --upload an https URL"),
        (&["--staging", text(&scene.folder)], "it is for --upload or --extension"),
        (&[], "it is for --upload or --extension"),
    ] {
        let args = ["sign", &image.tagged(), "--sign-by", MAIL, "--insecure"];
        let ran = scene.world.podseal(&[&args[..], &shown(&good), to].concat());
        assert_eq!(ran.code, Some(64), "{ran}");
        assert!(ran.stderr.contains(said), "{said}: {ran}");
    }
    let store = scene.store.log();
    assert!(!store.contains("signature uploaded") && scene.signatures(&image) == 0, "{store}");
    scene.sign(&image, &shown(&good)).succeeded();
}

fn of_key(one: &Issued, other: &Issued) -> Issued {
    Issued { cert: one.cert.clone(), key: other.key.clone() }
}

fn good_as_key(one: &Issued) -> Issued {
    Issued { cert: one.cert.clone(), key: one.cert.clone() }
}

fn swapped(one: &Issued) -> Issued {
    Issued { cert: one.key.clone(), key: one.cert.clone() }
}

/// nginx that says in its log who showed a certificate at which port: before the registry and a store with passwords, a
/// second server, to which the first one sends on, and a third that lets nobody in without one.
struct Front {
    hosts: [String; 3],
    log: PathBuf,
    _process: Process,
    _store: crate::support::front::SignatureStore,
}

impl Front {
    fn before(registry: &Registry, authority: &Authority, clients: &Authority) -> Self {
        let (home, store) = (scratch::folder("front"), crate::support::front::SignatureStore::start());
        let hosts = [(); 3].map(|()| format!("127.0.0.1:{}", ports::free()));
        let (server, http) = (authority.server(&LOCAL), Http::trusting(&authority.pem));
        let mut text = CONFIG.to_owned();
        for (from, to) in [
            ("HOME", text_of(&home)),
            ("FIRST", hosts[0].clone()),
            ("SECOND", hosts[1].clone()),
            ("THIRD", hosts[2].clone()),
            ("REGISTRY", registry.host.clone()),
            ("STORE", store.host.clone()),
            ("AUTHORIZATION", basic()),
            ("CLIENTS", text_of(&clients.file())),
            ("SERVERCERT", text_of(&server.cert)),
            ("SERVERKEY", text_of(&server.key)),
        ] {
            text = text.replace(from, &to);
        }
        let config = home.join("nginx.conf");
        std::fs::write(&config, text).unwrap();
        let mut command = tools::server("nginx");
        command.args(["-e", "stderr", "-p"]).arg(&home).arg("-c").arg(&config);
        let process = Process::spawn("front", &mut command);
        process.wait_ready(|_| http.get(&format!("https://{}/", hosts[1])).ok());
        let front = Self { hosts, log: home.join("access.log"), _process: process, _store: store };
        // nginx writes a request down after its answer: this one must not be taken for a later one.
        eventually("the first request is in the log", || !front.seen(1).is_empty());
        front
    }

    /// Whom it saw since the last question: `(port, who)`.
    fn seen(&self, server: usize) -> Vec<String> {
        let port = self.hosts[server].rsplit(':').next().unwrap().to_owned();
        let log = std::fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().filter_map(|line| line.split_once(' ')).filter(|(at, _)| *at == port);
        lines.map(|(_, who)| who.to_owned()).collect()
    }

    fn forget(&self) {
        std::fs::File::options().write(true).open(&self.log).unwrap().set_len(0).unwrap();
    }
}

fn text_of(path: &Path) -> String {
    text(path).to_owned()
}

fn basic() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", USER.0, USER.1))
}

const CONFIG: &str = r#"
daemon off; master_process off; pid HOME/pid; error_log stderr warn; events { worker_connections 64; }
http {
  log_format who '$server_port $ssl_client_verify $ssl_client_s_dn $request';
  access_log HOME/access.log who;
  client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
  uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  client_max_body_size 0;
  ssl_certificate SERVERCERT; ssl_certificate_key SERVERKEY; ssl_client_certificate CLIENTS;
  ssl_verify_client optional_no_ca;
  proxy_set_header Host $http_host;
  server {
    listen FIRST ssl;
    location /extensions/ {
      if ($ssl_client_verify != SUCCESS) { return 403; }
      proxy_set_header Authorization "Basic AUTHORIZATION";
      proxy_pass http://STORE;
    }
    location /moved/ { return 302 https://SECOND/elsewhere; }
    location / { proxy_pass http://REGISTRY; }
  }
  server { listen SECOND ssl; location / { return 404; } }
  server { listen THIRD ssl; ssl_verify_client on; location / { return 404; } }
}
"#;

/// A scene whose registry is behind such a front, and an image there.
fn fronted() -> (World, Authority, Authority, Front, Image) {
    let world = World::of(Registry::start());
    world.gpg.generate(&KeySpec::new(&format!("Maker <{MAIL}>")));
    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    let front = Front::before(&world.registry, &authority, &clients);
    front.forget();
    let image = Image { host: front.hosts[0].clone(), ..world.registry.push("alt/a:1") };
    (world, authority, clients, front, image)
}

fn the_store_alone_is_shown_the_certificate() {
    let (world, authority, clients, front, image) = fronted();
    let (client, ca) = (clients.client("ci-robot"), authority.file());
    let sign = |url: &str, issued: &Issued| {
        let args = ["sign", &image.tagged(), "--sign-by", MAIL, "--ca", text(&ca), "--upload", url];
        world.podseal(&[&args[..], &shown(issued)].concat())
    };
    // The registry is another server, of another port; what the store leads to is a third.
    let ran = sign(&format!("https://{}/", front.hosts[1]), &client);
    assert!(!ran.ok(), "{ran}");
    assert!(!front.seen(0).is_empty() && front.seen(0).iter().all(|line| line.starts_with("NONE ")), "{ran}");
    assert!(front.seen(1).iter().all(|line| line.starts_with("SUCCESS CN=ci-robot ")), "{:?}", front.seen(1));
    assert!(front.seen(1).iter().any(|line| line.contains("PUT /")), "{:?}", front.seen(1));
    front.forget();
    let ran = sign(&format!("https://{}/moved", front.hosts[0]), &client);
    assert!(!ran.ok() && ran.stderr.contains("a request that writes was redirected"), "{ran}");
    let (to_store, led_on) = (front.seen(0), front.seen(1));
    assert!(to_store.iter().any(|line| line.starts_with("SUCCESS ") && line.contains("GET /moved/")), "{to_store:?}");
    assert!(to_store.iter().filter(|line| line.contains("/v2/")).all(|line| line.starts_with("NONE ")), "{to_store:?}");
    assert!(!led_on.is_empty() && led_on.iter().all(|line| line.starts_with("NONE ")), "{led_on:?}");
    // nginx refuses by a status.
    let third = format!("https://{}/", front.hosts[2]);
    let stranger = Authority::new("others").client("stranger");
    let refused = sign(&third, &stranger);
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains("status 400; nginx answers so when it does not accept"), "{refused}");
    assert!(!sign(&third, &client).stderr.contains("status 400"));
}

fn the_registry_is_shown_it_where_it_is_the_store() {
    let (world, authority, clients, front, image) = fronted();
    let (client, ca) = (clients.client("ci-robot"), authority.file());
    let sign = |more: &[&str]| {
        let args = ["sign", &image.tagged(), "--sign-by", MAIL, "--ca", text(&ca), "--extension"];
        world.podseal(&[&args[..], more].concat())
    };
    let without = sign(&[]);
    assert_eq!(without.code, Some(1), "{without}");
    front.forget();
    let signed = sign(&shown(&client)).succeeded();
    assert!(signed.stdout.contains(&format!("in the registry {}", image.host)), "{signed}");
    assert!(front.seen(0).iter().all(|line| line.starts_with("SUCCESS CN=ci-robot ")), "{:?}", front.seen(0));
    let again = sign(&shown(&client)).succeeded();
    assert!(again.stderr.contains("before, and nothing is added"), "{again}");
    // A registry without TLS is not gone on with in the clear.
    let plain = Image { host: world.registry.host.clone(), ..image.clone() };
    let args = ["sign", &plain.tagged(), "--sign-by", MAIL, "--insecure", "--extension"];
    let ran = world.podseal(&[&args[..], &shown(&client)].concat());
    assert_eq!(ran.code, Some(2), "{ran}");
    assert!(ran.stderr.contains("a client certificate cannot be shown over plain HTTP"), "{ran}");
}

fn load_sign_goes_on_where_the_certificate_was_missing() {
    let (scene, set) = (Scene::new(), set(&["pause:3.9", "k8s-p10/coredns:v1.9.3"]));
    let (ca, target) = (scene.ca(), format!("{}/k8s-c10f1", scene.world.registry.host));
    let load = |more: &[&str]| {
        let args = ["load-sign", text(&set.folder), "--arch", "amd64", "--sign-by", MAIL, "--ca", text(&ca), &target];
        scene.world.podseal(&[&args[..], &["--upload", &scene.url], more].concat())
    };
    let signed = |image: &Image| {
        let there = scene.world.registry.image_at(&format!("k8s-c10f1/{}:{}", image.repository, image.tag));
        scene.signatures(&there)
    };
    let expired = scene.clients.client_between("ci-robot", (2001, 2002));
    let ran = load(&shown(&expired));
    assert_eq!(ran.code, Some(64), "{ran}");
    assert_eq!(scene.world.registry.count("PUT", "/manifests/"), 0, "nothing is pushed: {ran}");
    let ran = load(&[]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(set.images.iter().all(|image| signed(image) == 0), "{ran}");
    let client = scene.clients.client("ci-robot");
    let ran = load(&shown(&client)).succeeded();
    assert_eq!(ran.stdout.matches(": 0 B sent, ").count(), 2, "{ran}");
    assert_eq!(ran.stdout.matches("signed ").count(), 2, "{ran}");
    let again = load(&shown(&client)).succeeded();
    assert_eq!(again.stderr.matches("before, and nothing is added").count(), 2, "{again}");
    assert!(set.images.iter().all(|image| signed(image) == 1), "{again}");
}
