//! Writing, by curl as in the seed.

use std::path::Path;

use podseal::domain::digest::Digest;
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::crypto::mpi;
use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::packet::signature::Signature4;
use sequoia_openpgp::packet::signature::subpacket::{Subpacket, SubpacketTag, SubpacketValue};
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::serialize::Serialize as _;
use sequoia_openpgp::serialize::stream::{Compressor, Message};
use sequoia_openpgp::{Packet, PacketPile};

use super::world::{Maker, Store, USER, authorization, document, extension_path, image, signature_path, users};
use crate::support::http::Http;
use crate::support::pki::{Authority, LOCAL};
use crate::support::process::{Process, eventually};
use crate::support::registry::Registry;
use crate::support::signer::{Gpg, GpgKey, KeySpec, Skopeo};
use crate::support::store::registries_d;
use crate::support::{ports, scratch, tools};

/// curl with these arguments; the status, and what was said.
fn curl(args: &[&str]) -> (String, String) {
    let ran = tools::run(tools::command("curl").args(["-s", "-w", "\n%{http_code}"]).args(args));
    let (body, status) = ran.stdout.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

fn file(text: &[u8]) -> String {
    let file = scratch::folder("upload").join("signature.json");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn the_seeds_curl_writes_and_reads_signatures() {
    let store = Store::start();
    let (maker, digest) = (Maker::new("maker@example.org"), image("a"));
    let blob = maker.sign(&digest, "registry.local/team/app:1");
    let name = "0123456789abcdef0123456789abcdef";
    let path = extension_path("team/app", &digest);
    let address = store.url.replace("http://", &format!("http://{}:{}@", USER.0, USER.1.replace(' ', "%20")));
    let data = format!("@{}", file(document(&digest, name, &blob).as_bytes()));
    let put = |data: &str| curl(&["-X", "PUT", "--data", data, &format!("{address}{path}")]);
    assert_eq!(put(&data).0, "201");
    assert_eq!(put(&data).0, "200", "the same again");
    let (status, listed) = curl(&[&format!("{}{path}", store.url)]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let wanted: serde_json::Value = serde_json::from_str(&document(&digest, name, &blob)).unwrap();
    assert_eq!((&*status, &listed["signatures"]), ("200", &serde_json::json!([wanted])));
    // What came by one way is read by the other.
    assert_eq!(store.get(&signature_path("team/app", &digest, 1)).body, blob);
    // The name is taken for other content, and free for another image.
    let other = document(&digest, name, &maker.sign(&digest, "registry.local/team/app:2"));
    let (status, said) = put(&format!("@{}", file(other.as_bytes())));
    assert!(status == "409" && said.contains("has the name"), "{status} {said}");
    let log = store.log();
    let line = log.lines().find(|line| line.contains("signature uploaded")).unwrap();
    for word in ["maker", "htpasswd", "team/app", digest.as_str(), name, "127.0.0.1"] {
        assert!(line.contains(word), "{line}");
    }
}

fn uploads_to_a_number_never_replace() {
    let store = Store::start();
    let (maker, digest) = (Maker::new("maker@example.org"), image("a"));
    let put = |number: usize, tag: &str, condition: &str| {
        let url = format!("{}{}", store.url, signature_path("team/app", &digest, number));
        let blob = format!("@{}", file(&maker.sign(&digest, &format!("registry.local/team/app:{tag}"))));
        let user = format!("{}:{}", USER.0, USER.1);
        curl(&["-X", "PUT", "-u", &user, "-H", condition, "--data-binary", &blob, &url]).0
    };
    let new = "If-None-Match: *";
    assert_eq!(put(1, "1", "X-None: x"), "428");
    assert_eq!(put(2, "1", new), "412", "a gap");
    assert_eq!(put(1, "1", new), "201");
    assert_eq!(put(1, "2", new), "412", "taken");
    assert_eq!(put(2, "2", new), "201");
    assert_eq!(std::fs::read_dir(store.folder("team/app", &digest)).unwrap().count(), 2);
}

fn only_good_signatures_of_known_writers_are_kept() {
    let store = Store::start();
    let (maker, digest) = (Maker::new("maker@example.org"), image("a"));
    let good = maker.sign(&digest, "registry.local/a:1");
    let url = format!("{}{}", store.url, extension_path("a", &digest));
    let known = authorization();
    let put = |body: Vec<u8>, authorization: &str| {
        let headers = [("authorization", authorization)];
        let reply = store.http.send(reqwest::Method::PUT, &url, &headers, body).unwrap();
        (reply.status, reply.text())
    };
    let of = |blob: &[u8]| document(&digest, &"a".repeat(32), blob).into_bytes();
    for (body, status, word) in [
        (of(&maker.sign(&image("b"), "registry.local/a:1")), 422, "not for sha256"),
        (of(&maker.sign_bytes(b"{}")), 422, "malformed"),
        (of(b"-----BEGIN PGP MESSAGE-----"), 422, "malformed"),
        (of(b"<html>"), 422, "malformed"),
        (of(&good[..good.len() - 3]), 422, "malformed"),
        (of(&[good.clone(), good.clone()].concat()), 422, "malformed"),
        (of(&vec![0xC4; 70_000]), 413, ""),
        (b"{}".to_vec(), 400, "JSON"),
        (document(&digest, "short", &good).into_bytes(), 400, "32 characters"),
        (document(&image("b"), &"a".repeat(32), &good).into_bytes(), 400, "digest"),
    ] {
        let (found, said) = put(body, &known);
        assert!(found == status && said.contains(word) && said.contains("errors"), "{found} {said}");
    }
    for (authorization, status) in [("", 401), ("Basic YTpi", 401), ("Bearer x", 401), ("Nonsense", 401)] {
        assert_eq!(put(of(&good), authorization).0, status, "{authorization}");
    }
    assert!(!store.dir.join("sigstore").join(format!("a@sha256={}", digest.hex())).exists());
    assert_eq!(put(of(&good), &known).0, 201);
    let asked = tools::run(tools::command("curl").args(["-s", "-i", "-X", "PUT", "-d", "x", &url]));
    assert!(asked.stdout.to_lowercase().contains("www-authenticate: basic realm="), "{asked}");
}

fn a_store_without_writers_is_read_only_and_says_so() {
    let store = Store::over(&scratch::folder("read-only").join("sigstore"), &[]);
    let digest = image("a");
    let body = document(&digest, &"a".repeat(32), &Maker::new("a@example.org").sign(&digest, "a/a:1"));
    let headers = [("authorization", &*authorization())];
    let url = format!("{}{}", store.url, extension_path("a", &digest));
    let reply = store.http.send(reqwest::Method::PUT, &url, &headers, body.into_bytes()).unwrap();
    assert!(reply.status == 403 && reply.text().contains("read-only"), "{} {}", reply.status, reply.text());
    eventually("the log says so", || store.log().contains("this store is read-only"));
}

fn client_certificates_let_write_and_everybody_reads() {
    let (authority, other) = (Authority::new("store"), Authority::new("other"));
    let (server, client, stranger) = (authority.server(&LOCAL), authority.client("ci-robot"), other.client("stranger"));
    let path = |file: &Path| file.to_str().unwrap().to_owned();
    let (cert, key, ca) = (path(&server.cert), path(&server.key), path(&authority.file()));
    let args = ["--tls-cert", &*cert, "--tls-key", &*key, "--client-ca", &*ca];
    let dir = scratch::folder("mtls").join("sigstore");
    let store = Store::with(&dir, &args, "https", Http::trusting(&authority.pem));
    let digest = image("a");
    let blob = file(&Maker::new("a@example.org").sign(&digest, "registry.local/a:1"));
    let (url, data) = (format!("{}{}", store.url, signature_path("a", &digest, 1)), format!("@{blob}"));
    let put = |more: &[&str]| {
        let fixed = ["--cacert", &*ca, "-X", "PUT", "-H", "If-None-Match: *", "--data-binary", &data, &url];
        curl(&[more, &fixed].concat()).0
    };
    let by = |issued: &crate::support::pki::Issued| [path(&issued.cert), path(&issued.key)];
    let ([cert, key], [bad_cert, bad_key]) = (by(&client), by(&stranger));
    assert_eq!(put(&[]), "401");
    assert_eq!(put(&["--cert", &bad_cert, "--key", &bad_key]), "000", "not even a handshake");
    assert_eq!(put(&["--cert", &cert, "--key", &key]), "201");
    assert_eq!(curl(&["--cacert", &ca, "-o", "/dev/null", &url]).0, "200");
    eventually("the log names the writer", || store.log().contains("ci-robot"));
}

fn skopeo_reads_by_the_lookaside_what_the_extension_api_took() {
    let (registry, gpg) = (Registry::start(), Gpg::new());
    let key = gpg.generate(&KeySpec::new("imagemaker@registry.local"));
    let users = users();
    let store = Store::over(
        &scratch::folder("front").join("sigstore"),
        &["--htpasswd", users.to_str().unwrap(), "--max-signatures", "2"],
    );
    let image = registry.push("team/app:1");
    let digest = image.digest.parse().unwrap();
    for tag in ["1", "2", "3"] {
        let name = format!("{}/team/app:{tag}", registry.host);
        let blob = gpg.sign(&key, &crate::support::signer::Payload::new(&image.digest, &name).bytes());
        let body = document(&digest, &tag.repeat(32), &blob).into_bytes();
        let headers = [("authorization", &*authorization())];
        let url = format!("{}{}", store.url, extension_path("team/app", &digest));
        let status = store.http.send(reqwest::Method::PUT, &url, &headers, body).unwrap().status;
        assert_eq!(status, if tag == "3" { 409 } else { 201 }, "no more than two are kept");
    }
    let reads =
        Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &format!("{}/sigstore", store.url))]) };
    reads.accepts(&registry, &image.tagged(), &gpg.export_file(&[&key]), None).succeeded();
}

/// A registry and a store behind one address, which announces that it keeps signatures.
fn front(registry: &Registry, store: &Store) -> (Process, String) {
    let (home, port) = (scratch::folder("front-nginx"), ports::free());
    let text = FRONT
        .replace("HOME", home.to_str().unwrap())
        .replace("PORT", &port.to_string())
        .replace("REGISTRY", &registry.host)
        .replace("STORE", &store.url)
        .replace("AUTHORIZATION", &authorization());
    let config = home.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    let mut command = tools::server("nginx");
    let process = Process::spawn("front", command.args(["-e", "stderr", "-p"]).arg(&home).arg("-c").arg(&config));
    let http = Http::trusting("");
    process.wait_ready(|_| http.get(&format!("http://127.0.0.1:{port}/v2/")).ok());
    (process, format!("127.0.0.1:{port}"))
}

const FRONT: &str = r#"
daemon off; master_process off; pid HOME/pid; error_log stderr warn; events { worker_connections 64; }
http {
  access_log HOME/access.log; client_max_body_size 0;
  client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
  uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  server {
    listen 127.0.0.1:PORT;
    proxy_set_header Host $http_host;
    location /v2/ { proxy_pass http://REGISTRY; add_header X-Registry-Supports-Signatures 1 always; }
    location /extensions/ { proxy_pass STORE; proxy_set_header Authorization "AUTHORIZATION"; }
  }
}
"#;

/// skopeo's signature of an image; with registries.d that name no store, by the extension API.
#[track_caller]
fn sign_by_skopeo(gpg: &Gpg, key: &GpgKey, registries_d: &Path, name: &str) {
    let image = format!("docker://{name}");
    let mut command = gpg.command("skopeo");
    command.arg("--registries.d").arg(registries_d);
    command.args(["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    tools::run(command.args(["--sign-by", &key.fingerprint, &image, &image])).succeeded();
}

fn skopeo_signs_and_verifies_by_the_extension_api_of_a_front() {
    let (origin, gpg, store) = (Registry::start(), Gpg::new(), Store::start());
    let (key, stranger) =
        (gpg.generate(&KeySpec::new("maker@registry.local")), gpg.generate(&KeySpec::new("other@x.org")));
    let image = origin.push("team/app:1");
    let (_front, host) = front(&origin, &store);
    let name = format!("{host}/team/app:1");
    let nothing = scratch::folder("no-registries.d");
    sign_by_skopeo(&gpg, &key, &nothing, &name);
    let listed = store.get(&extension_path("team/app", &image.digest.parse().unwrap())).text();
    assert!(listed.contains(&format!("{}@", image.digest)), "{listed}");
    let verify = |key: &GpgKey| {
        let policy = serde_json::json!({"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": gpg.export_file(&[key])}]});
        let folder = scratch::folder("verify");
        std::fs::write(folder.join("policy.json"), policy.to_string()).unwrap();
        let mut command = gpg.command("skopeo");
        command.arg("--policy").arg(folder.join("policy.json")).arg("--registries.d").arg(&nothing);
        command.args(["copy", "-q", "--remove-signatures", "--src-tls-verify=false", &format!("docker://{name}")]);
        tools::run(command.arg(format!("dir:{}", folder.join("out").display())))
    };
    verify(&key).succeeded();
    verify(&stranger).failed();
}

fn put(store: &Store, digest: &Digest, blob: &[u8]) -> (u16, String) {
    let body = document(digest, "", blob).replace(&format!("{digest}@\""), "\"").into_bytes();
    let headers = [("authorization", &*authorization())];
    let url = format!("{}{}", store.url, extension_path("a", digest));
    let reply = store.http.send(reqwest::Method::PUT, &url, &headers, body).unwrap();
    (reply.status, reply.text())
}

fn keys_that_nobody_knows_are_refused_where_that_is_wanted() {
    let (known, stranger, digest) = (Maker::new("a@example.org"), Maker::new("b@example.org"), image("a"));
    let (dir, users) = (scratch::folder("known").join("sigstore"), users());
    std::fs::create_dir_all(dir.join("keys")).unwrap();
    std::fs::write(dir.join("keys/a.pgp"), known.public()).unwrap();
    let store = Store::over(&dir, &["--htpasswd", users.to_str().unwrap(), "--known-keys-only"]);
    let (status, said) = put(&store, &digest, &stranger.sign(&digest, "registry.local/a:1"));
    assert!(status == 422 && said.contains("no key of /keys verifies"), "{status} {said}");
    assert_eq!(put(&store, &digest, &known.sign(&digest, "registry.local/a:1")).0, 201);
    assert!(!store.log().contains("--known-keys-only"), "{}", store.log());
    let open = Store::start();
    eventually("the open store says so", || open.log().contains("signatures of any key are taken"));
}

fn one_key_takes_sixteen_places_and_none_of_others() {
    let store = Store::start();
    let (greedy, other, digest) = (Maker::new("a@example.org"), Maker::new("b@example.org"), image("a"));
    for tag in 0..16 {
        assert_eq!(put(&store, &digest, &greedy.sign(&digest, &format!("registry.local/a:{tag}"))).0, 201, "{tag}");
    }
    let (status, said) = put(&store, &digest, &greedy.sign(&digest, "registry.local/a:more"));
    assert!(status == 409 && said.contains("16 signatures of this digest by the same key"), "{status} {said}");
    assert_eq!(put(&store, &digest, &other.sign(&digest, "registry.local/a:more")).0, 201);
    assert_eq!(put(&store, &image("b"), &greedy.sign(&image("b"), "registry.local/a:more")).0, 201);
}

/// Ways to write one signature that need no key.
fn forms(blob: &[u8]) -> Vec<Vec<u8>> {
    let packets: Vec<Packet> = PacketPile::from_bytes(blob).unwrap().into_children().collect();
    let signature = packets.iter().find_map(|packet| match packet {
        Packet::Signature(signature) => Some(signature.clone()),
        _ => None,
    });
    let signature = signature.unwrap();
    let bytes = |signature: &Signature| {
        let mut bytes = Vec::new();
        for packet in &packets {
            match packet {
                Packet::Signature(_) => Packet::from(signature.clone()).serialize(&mut bytes).unwrap(),
                packet => packet.serialize(&mut bytes).unwrap(),
            }
        }
        bytes
    };
    let mut forms = Vec::new();
    for number in 0..20 {
        let mut noted = signature.clone();
        let value = SubpacketValue::Unknown { tag: SubpacketTag::Private(100), body: vec![number] };
        noted.unhashed_area_mut().add(Subpacket::new(value, false).unwrap()).unwrap();
        forms.push(bytes(&noted));
        let rewritten = |values: mpi::Signature| -> Signature {
            let (hashed, unhashed) = (signature.hashed_area().clone(), signature.unhashed_area().clone());
            let prefix = [number, number];
            Signature4::new(
                signature.typ(),
                signature.pk_algo(),
                signature.hash_algo(),
                hashed,
                unhashed,
                prefix,
                values,
            )
            .into()
        };
        forms.push(bytes(&rewritten(signature.mpis().clone())));
        if let mpi::Signature::ECDSA { r, s } = signature.mpis() {
            let s = less(&ORDER_OF_P256, &s.value_padded(32).unwrap());
            forms.push(bytes(&rewritten(mpi::Signature::ECDSA { r: r.clone(), s: s.into() })));
        }
    }
    let mut compressed = Vec::new();
    let mut message = Compressor::new(Message::new(&mut compressed)).build().unwrap();
    std::io::Write::write_all(&mut message, blob).unwrap();
    message.finalize().unwrap();
    forms.push(compressed);
    forms
}

const ORDER_OF_P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// `a - b` of numbers with the most significant byte first.
fn less(a: &[u8], b: &[u8]) -> Vec<u8> {
    let (mut left, mut borrow) = (a.to_vec(), 0_i16);
    for (byte, less) in left.iter_mut().rev().zip(b.iter().rev()) {
        let value = i16::from(*byte) - i16::from(*less) - borrow;
        borrow = i16::from(value < 0);
        *byte = value.to_le_bytes()[0];
    }
    left
}

fn all_forms_of_a_signature_are_the_one_that_is_there() {
    let maker = |suite| {
        let builder = CertBuilder::general_purpose(Some("a@example.org")).set_cipher_suite(suite);
        Maker(builder.generate().unwrap().0)
    };
    for (suite, options) in [
        (CipherSuite::Cv25519, &[][..]),
        (CipherSuite::Cv25519, &["--known-keys-only"]),
        (CipherSuite::P256, &["--known-keys-only"]),
        (CipherSuite::RSA2k, &["--known-keys-only"]),
    ] {
        let (maker, digest, users) = (maker(suite), image("a"), users());
        let dir = scratch::folder("forms").join("sigstore");
        std::fs::create_dir_all(dir.join("keys")).unwrap();
        if !options.is_empty() {
            std::fs::write(dir.join("keys/a.pgp"), maker.public()).unwrap();
        }
        let store = Store::over(&dir, &[&["--htpasswd", users.to_str().unwrap()], options].concat());
        let blob = maker.sign(&digest, "registry.local/a:1");
        assert_eq!(put(&store, &digest, &blob).0, 201);
        for (number, form) in forms(&blob).into_iter().enumerate() {
            assert!(form != blob, "{number}");
            let (status, said) = put(&store, &digest, &form);
            assert_eq!(status, 200, "{suite:?} {options:?}, form {number}: {said}");
            let url = format!("{}{}", store.url, signature_path("a", &digest, 2));
            let headers = [("authorization", &*authorization()), ("if-none-match", "*")];
            let reply = store.http.send(reqwest::Method::PUT, &url, &headers, form).unwrap();
            assert!(
                reply.status == 200 && reply.text().starts_with("signature-1 "),
                "{} {}",
                reply.status,
                reply.text()
            );
        }
        assert_eq!(std::fs::read_dir(store.folder("a", &digest)).unwrap().count(), 1);
        assert_eq!(store.get(&signature_path("a", &digest, 1)).body, blob, "and nothing is replaced");
        // All other places are still the maker's.
        for tag in 2..=16 {
            assert_eq!(put(&store, &digest, &maker.sign(&digest, &format!("registry.local/a:{tag}"))).0, 201, "{tag}");
        }
    }
}

fn nonsense_that_came_first_keeps_no_signature_out() {
    let (maker, digest) = (Maker::new("a@example.org"), image("a"));
    let store = Store::start();
    let good = maker.sign(&digest, "registry.local/a:1");
    let mut packets: Vec<Packet> = PacketPile::from_bytes(&*good).unwrap().into_children().collect();
    for packet in &mut packets {
        if let Packet::Signature(signature) = packet {
            let (hashed, unhashed) = (signature.hashed_area().clone(), signature.unhashed_area().clone());
            let values = mpi::Signature::EdDSA { r: vec![1; 32].into(), s: vec![2; 32].into() };
            let (typ, algo, hash) = (signature.typ(), signature.pk_algo(), signature.hash_algo());
            *packet = Signature::from(Signature4::new(typ, algo, hash, hashed, unhashed, [0, 0], values)).into();
        }
    }
    let mut nonsense = Vec::new();
    for packet in &packets {
        packet.serialize(&mut nonsense).unwrap();
    }
    assert_eq!(put(&store, &digest, &nonsense).0, 201);
    assert_eq!(put(&store, &digest, &good).0, 201);
    std::fs::create_dir_all(store.dir.join("keys")).unwrap();
    std::fs::write(store.dir.join("keys/a.pgp"), maker.public()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(put(&store, &digest, &good).0, 200);
}

fn uploads_that_are_refused_leave_no_folder() {
    let (store, maker, digest) = (Store::start(), Maker::new("a@example.org"), image("a"));
    let blob = maker.sign(&digest, "registry.local/a:1");
    for number in 0..20 {
        let url = format!("{}{}", store.url, signature_path(&format!("a/b/c/d{number}"), &digest, 100));
        let headers = [("authorization", &*authorization()), ("if-none-match", "*")];
        let reply = store.http.send(reqwest::Method::PUT, &url, &headers, blob.clone()).unwrap();
        assert!(reply.status == 412 && reply.text().contains("the next free number is 1"), "{}", reply.text());
    }
    assert_eq!(std::fs::read_dir(store.dir.join("sigstore")).unwrap().count(), 0);
}

fn what_is_there_is_acknowledged_by_a_full_store() {
    let (maker, digest, users) = (Maker::new("a@example.org"), image("a"), users());
    let dir = scratch::folder("full").join("sigstore");
    let store = Store::over(&dir, &["--htpasswd", users.to_str().unwrap(), "--max-total", "1"]);
    let blob = maker.sign(&digest, "registry.local/a:1");
    assert_eq!(put(&store, &digest, &blob).0, 201);
    assert_eq!(put(&store, &digest, &blob).0, 200);
    assert_eq!(put(&store, &digest, &maker.sign(&digest, "registry.local/a:2")).0, 507);
}

fn one_odd_entry_spoils_no_list_and_no_page() {
    let (store, maker, digest) = (Store::start(), Maker::new("a@example.org"), image("a"));
    assert_eq!(put(&store, &digest, &maker.sign(&digest, "registry.local/a:1")).0, 201);
    std::fs::create_dir(store.folder("a", &digest).join("signature-2")).unwrap();
    assert_eq!(put(&store, &digest, &maker.sign(&digest, "registry.local/a:3")).0, 201);
    let listed = store.get(&extension_path("a", &digest));
    let listed: serde_json::Value = serde_json::from_str(&listed.text()).unwrap();
    assert_eq!(listed["signatures"].as_array().unwrap().len(), 2);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let page = store.get("/?repository=a");
    assert!(page.status == 200 && page.text().contains("not readable</span> signature-2"), "{}", page.text());
    let statuses = [1, 2, 3, 4].map(|number| store.get(&signature_path("a", &digest, number)).status);
    assert_eq!(statuses, [200, 500, 200, 404]);
}

/// A store in whose folder `keys` these are.
fn knowing(keys: &[Vec<u8>], args: &[&str]) -> Store {
    let (dir, users) = (scratch::folder("knowing").join("sigstore"), users());
    std::fs::create_dir_all(dir.join("keys")).unwrap();
    for (number, key) in keys.iter().enumerate() {
        std::fs::write(dir.join(format!("keys/{number}.pgp")), key).unwrap();
    }
    Store::over(&dir, &[&["--htpasswd", users.to_str().unwrap()], args].concat())
}

fn strangers_have_half_of_the_places_where_makers_are_known() {
    let (known, digest) = (Maker::new("a@example.org"), image("a"));
    let store = knowing(&[known.public()], &["--max-signatures", "4"]);
    let strangers: Vec<_> = (0..4).map(|n| Maker::new(&format!("s{n}@example.org"))).collect();
    let by = |maker: &Maker, tag: &str| put(&store, &digest, &maker.sign(&digest, &format!("registry.local/a:{tag}")));
    assert_eq!([by(&strangers[0], "0").0, by(&strangers[1], "1").0], [201, 201]);
    let (status, said) = by(&strangers[2], "2");
    assert!(status == 409 && said.contains("2 signatures of this digest by keys that are not in /keys"), "{said}");
    assert_eq!([by(&known, "3").0, by(&known, "4").0, by(&known, "5").0], [201, 201, 409]);
    // Known ones may have all places, and where nobody is known, all others.
    let other = image("b");
    for tag in 0..4 {
        assert_eq!(put(&store, &other, &known.sign(&other, &format!("registry.local/a:{tag}"))).0, 201);
    }
    let open = knowing(&[], &["--max-signatures", "4"]);
    for maker in &strangers {
        assert_eq!(put(&open, &digest, &maker.sign(&digest, "registry.local/a:1")).0, 201);
    }
}

/// A signature with so much in it that its key says nothing about.
fn large(maker: &Maker, digest: &Digest, reference: &str, bytes: usize) -> Vec<u8> {
    let mut payload = crate::support::signer::Payload::new(digest.as_str(), reference);
    payload.0["optional"]["creator"] = "x".repeat(bytes).into();
    maker.sign_bytes(&payload.bytes())
}

/// The signatures of the extension API's list, which no reader finds too large.
#[track_caller]
fn listed(store: &Store, digest: &Digest) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let reply = store.get(&extension_path("a", digest));
    assert!(reply.status == 200 && reply.body.len() < 4 << 20, "{} {}", reply.status, reply.body.len());
    let list: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let content = |entry: &serde_json::Value| entry["content"].as_str().unwrap().to_owned();
    let entries = list["signatures"].as_array().unwrap().iter().map(content);
    entries.map(|content| base64::engine::general_purpose::STANDARD.decode(content).unwrap()).collect()
}

fn large_signatures_of_strangers_displace_none_from_the_list() {
    let (known, honest, digest) = (Maker::new("a@example.org"), Maker::new("h@example.org"), image("a"));
    let store = knowing(&[known.public()], &[]);
    let mut answers = Vec::new();
    for stranger in 0..5 {
        let maker = Maker::new(&format!("s{stranger}@example.org"));
        for tag in 0..16 {
            answers.push(put(&store, &digest, &large(&maker, &digest, &format!("registry.local/a:{tag}"), 60_000)));
        }
    }
    let taken = answers.iter().filter(|(status, _)| *status == 201).count();
    assert!((45..55).contains(&taken), "{taken} {:?}", answers.last());
    assert!(answers.iter().skip(taken).all(|(status, said)| *status == 409 && said.contains("readers take at once")));
    assert_eq!(listed(&store, &digest).len(), taken);
    let small = honest.sign(&digest, "registry.local/a:1");
    assert_eq!(put(&store, &digest, &small).0, 201);
    let [first, second] = ["1", "2"].map(|tag| large(&known, &digest, &format!("registry.local/a:{tag}"), 60_000));
    assert_eq!([put(&store, &digest, &first).0, put(&store, &digest, &second).0], [201, 201]);
    let list = listed(&store, &digest);
    assert_eq!(list[..2], [first.clone(), second.clone()]);
    assert!(list.contains(&small));
    eventually("the log says so", || store.log().contains("large ones are left out there"));
    assert_eq!(store.log().matches("large ones are left out there").count(), 1, "{}", store.log());
    // Each by itself is there for all.
    assert_eq!(store.get(&signature_path("a", &digest, 1)).status, 200);
    assert_eq!(store.get(&signature_path("a", &digest, taken + 3)).body, second);
    // What came into the folder by another way is bounded, too.
    for number in taken + 4..=128 {
        let nonsense = [vec![0xC4], vec![u8::try_from(number).unwrap(); 65_535]].concat();
        std::fs::write(store.folder("a", &digest).join(format!("signature-{number}")), nonsense).unwrap();
    }
    let list = listed(&store, &digest);
    assert!(list[..2] == [first, second] && list.contains(&small));
}

fn skopeo_and_podseal_read_the_list_of_an_image_that_strangers_filled() {
    let (origin, gpg) = (Registry::start(), Gpg::new());
    let key = gpg.generate(&KeySpec::new("maker@registry.local"));
    let store = knowing(&[gpg.export_armored(&[&key])], &[]);
    let image = origin.push("a:1");
    let digest: Digest = image.digest.parse().unwrap();
    let (_front, host) = front(&origin, &store);
    let name = format!("{host}/a:1");
    let folder = store.folder("a", &digest);
    // As rsync would, which asks for no place.
    std::fs::create_dir_all(&folder).unwrap();
    let maker = Maker::new("s@example.org");
    for number in 1..=120 {
        let blob = large(&maker, &digest, &format!("{name}{number}"), 60_000);
        std::fs::write(folder.join(format!("signature-{number}")), blob).unwrap();
    }
    let nothing = scratch::folder("no-registries.d");
    sign_by_skopeo(&gpg, &key, &nothing, &name);
    for (key, accepted) in [(&key, true), (&gpg.generate(&KeySpec::new("other@x.org")), false)] {
        let public = gpg.export_file(&[key]);
        let rule = serde_json::json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": public}]);
        let policy = scratch::folder("policy").join("policy.json");
        std::fs::write(&policy, serde_json::json!({"default": rule}).to_string()).unwrap();
        let mut command = gpg.command("skopeo");
        command.arg("--policy").arg(&policy).arg("--registries.d").arg(&nothing);
        command.args(["copy", "-q", "--remove-signatures", "--src-tls-verify=false", &format!("docker://{name}")]);
        let ran = tools::run(command.arg(format!("dir:{}", scratch::folder("out").display())));
        assert_eq!(ran.ok(), accepted, "{ran}");
        let mut command = tools::once(Path::new(crate::support::podseal::BINARY));
        command.args(["check", "--image", &name, "--insecure-registry", &host, "--containers-policy"]).arg(&policy);
        let ran = tools::run(&mut command);
        assert_eq!(ran.code, Some(i32::from(!accepted)), "{ran}");
    }
}

crate::tests! {
    needs [Registry, Gpg, Store];
    strangers_have_half_of_the_places_where_makers_are_known,
    large_signatures_of_strangers_displace_none_from_the_list,
    skopeo_and_podseal_read_the_list_of_an_image_that_strangers_filled,
    the_seeds_curl_writes_and_reads_signatures,
    keys_that_nobody_knows_are_refused_where_that_is_wanted,
    one_key_takes_sixteen_places_and_none_of_others,
    what_is_there_is_acknowledged_by_a_full_store,
    all_forms_of_a_signature_are_the_one_that_is_there,
    nonsense_that_came_first_keeps_no_signature_out,
    uploads_that_are_refused_leave_no_folder,
    one_odd_entry_spoils_no_list_and_no_page,
    uploads_to_a_number_never_replace,
    only_good_signatures_of_known_writers_are_kept,
    a_store_without_writers_is_read_only_and_says_so,
    client_certificates_let_write_and_everybody_reads,
    skopeo_reads_by_the_lookaside_what_the_extension_api_took,
    skopeo_signs_and_verifies_by_the_extension_api_of_a_front,
}
