//! Reading: as from the web server of the seed, and by skopeo.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::world::{Maker, Store, image, signature_path};
use crate::support::registry::Registry;
use crate::support::signer::{Gpg, KeySpec, Skopeo};
use crate::support::store::{Store as Nginx, registries_d};
use crate::support::{scratch, tools};

/// After this time a changed key file is served.
const LOOKED_AT: std::time::Duration = std::time::Duration::from_millis(400);

/// Status, length and body of what curl gets.
fn curl(url: &str, args: &[&str]) -> (String, Vec<u8>) {
    let body = scratch::folder("curl").join("body");
    let mut command = tools::command("curl");
    command.args(["-s", "--path-as-is", "-w", "%{http_code} %header{content-length} %header{content-range}", "-o"]);
    let ran = tools::run(command.arg(&body).args(args).arg(url));
    (ran.stdout, std::fs::read(&body).unwrap_or_default())
}

fn the_same_folder_is_served_as_nginx_serves_it() {
    let nginx = Nginx::start();
    let dir = scratch::folder("twin").join("sigstore");
    std::fs::create_dir(&dir).unwrap();
    symlink(nginx.folder(), dir.join("sigstore")).unwrap();
    let store = Store::over(&dir, &[]);
    let (maker, digest) = (Maker::new("maker@example.org"), image("twin"));
    let folder = nginx.folder().join(format!("alt/alt@sha256={}", digest.hex()));
    std::fs::create_dir_all(&folder).unwrap();
    let blob = maker.sign(&digest, "registry.local/alt/alt:1");
    std::fs::write(folder.join("signature-1"), &blob).unwrap();
    std::fs::write(folder.join("signature-2"), maker.sign(&digest, "registry.local/alt/alt:2")).unwrap();
    let base = nginx.url.trim_end_matches("/sigstore/");
    let path = signature_path("alt/alt", &digest, 1);
    let doubled = path.replace("/sigstore/", "/sigstore//");
    let encoded = path.replace('@', "%40").replace('=', "%3D");
    let missing = [signature_path("alt/alt", &digest, 3), signature_path("alt/other", &digest, 1)];
    let paths = [path, doubled, encoded, signature_path("alt/alt", &digest, 2)].into_iter().chain(missing);
    let mut compared = 0;
    for path in paths {
        for args in [
            &[][..],
            &["-I"],
            &["-r", "0-9"],
            &["-r", "10-"],
            &["-r", "-5"],
            &["-r", "99999-"],
            &["-H", "If-None-Match: *"],
            &["-H", "If-None-Match: \"other\""],
            &["-H", "If-Modified-Since: Thu, 01 Jan 1970 00:00:01 GMT"],
            &["--http1.0"],
            &["-X", "POST"],
        ] {
            // nginx looks for the file before it looks at the method.
            if args == ["-X", "POST"] && (path.contains("/other@") || path.ends_with("-3")) {
                continue;
            }
            let (theirs, ours) = (curl(&format!("{base}{path}"), args), curl(&format!("{}{path}", store.url), args));
            let of = |answer: &(String, Vec<u8>)| answer.0.split(' ').next().unwrap().to_owned();
            assert_eq!(of(&theirs), of(&ours), "{path} {args:?}");
            if matches!(&*of(&ours), "200" | "206" | "304") {
                assert_eq!(theirs.0, ours.0, "{path} {args:?}");
                assert!(theirs.1 == ours.1 || args == ["-I"], "{path} {args:?}");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 64);
    assert_eq!(curl(&format!("{}{}", store.url, signature_path("alt/alt", &digest, 1)), &[]).1, blob);
}

fn skopeo_verifies_by_what_is_served_and_writes_beside_the_store() {
    let (registry, gpg) = (Registry::start(), Gpg::new());
    let key = gpg.generate(&KeySpec::new("imagemaker@registry.local"));
    let store = Store::over(&scratch::folder("skopeo-store").join("sigstore"), &[]);
    let image = registry.push("alt/alt:1");
    std::fs::create_dir_all(store.dir.join("keys")).unwrap();
    std::fs::write(store.dir.join("keys/group1.pgp"), gpg.export_armored(&[&key])).unwrap();
    std::thread::sleep(LOOKED_AT);
    // As in the seed: skopeo writes to the folder, and others read over HTTP by a URL with a slash at its end.
    let staging = format!("file://{}/sigstore/", store.dir.display());
    let writes = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &staging)]) };
    writes.sign(&registry, &image, &key).succeeded();
    let url = format!("{}/sigstore/", store.url);
    let reads = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &url)]) };
    let fetched = scratch::folder("fetched").join("group1.pgp");
    std::fs::write(&fetched, store.get("/keys/group1.pgp").body).unwrap();
    reads.accepts(&registry, &image.tagged(), &fetched, None).succeeded();
    let unsigned = registry.push("alt/unsigned:1");
    reads.accepts(&registry, &unsigned.tagged(), &fetched, None).failed();
    // A key file that is spoilt is served as one without a key, and nothing verifies by it.
    std::fs::write(store.dir.join("keys/group1.pgp"), "aaa\n").unwrap();
    std::thread::sleep(LOOKED_AT);
    let spoilt = store.get("/keys/group1.pgp");
    assert_eq!((spoilt.status, spoilt.text().as_str()), (200, "there is no public key in this file\n"));
    std::fs::write(&fetched, spoilt.body).unwrap();
    let refused = reads.accepts(&registry, &image.tagged(), &fetched, None).failed();
    assert!(refused.stderr.contains("No public keys imported"), "{refused}");
}

fn nothing_but_public_keys_and_signatures_can_be_read() {
    let dir = scratch::folder("secrets").join("sigstore");
    let maker = Maker::new("maker@example.org");
    for folder in ["keys", "sigstore/a"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    write("imagemakers.json", b"{\"secret\":1}");
    write("keys/secret.pgp", &maker.secret());
    write("keys/.hidden.pgp", &maker.public());
    write("keys/public.pgp", &maker.public());
    write("sigstore/a/.new-00", b"unfinished");
    symlink("/etc", dir.join("sigstore/etc")).unwrap();
    symlink(dir.join("imagemakers.json"), dir.join("keys/linked.pub")).unwrap();
    symlink("/etc/hostname", dir.join("keys/host.pub")).unwrap();
    let store = Store::over(&dir, &[]);
    assert_eq!(store.get("/keys/public.pgp").body, maker.public());
    for path in [
        "/imagemakers.json",
        "/keys/secret.pgp",
        "/keys/.hidden.pgp",
        "/keys/linked.pub",
        "/keys/host.pub",
        "/keys/../imagemakers.json",
        "/keys/..%2fimagemakers.json",
        "/sigstore/a/.new-00",
        "/sigstore/../imagemakers.json",
        "/sigstore/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/sigstore/etc/passwd",
        "//etc/passwd",
        "/../../../../etc/passwd",
    ] {
        let (answer, body) = curl(&format!("{}{path}", store.url), &[]);
        assert!(answer.starts_with("404 "), "{path}: {answer} {}", String::from_utf8_lossy(&body));
    }
    assert!(store.log().contains("it holds secret key material"), "{}", store.log());
    let posted = tools::run(tools::command("curl").args([
        "-s",
        "-i",
        "-X",
        "DELETE",
        &format!("{}/keys/public.pgp", store.url),
    ]));
    assert!(posted.stdout.starts_with("HTTP/1.1 405 ") && posted.stdout.contains("allow: GET, HEAD"), "{posted}");
}

fn a_store_that_cannot_be_opened_says_what_is_wrong() {
    let file = scratch::folder("file").join("file");
    std::fs::write(&file, "").unwrap();
    let refuse = |args: &[&str]| {
        let mut command = tools::once(Path::new(crate::support::podseal::BINARY));
        tools::run(command.arg("store").args(["--listen", "127.0.0.1:0"]).args(args)).failed()
    };
    let ran = refuse(&["--dir", file.to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("--dir ") && ran.stderr.contains("cannot make"), "{ran}");
    std::fs::write(&file, "anna:{SHA}x\n").unwrap();
    let dir = scratch::folder("dir");
    let ran = refuse(&["--dir", dir.to_str().unwrap(), "--htpasswd", file.to_str().unwrap()]);
    assert!(ran.stderr.contains("line 1: not a bcrypt hash"), "{ran}");
    for args in [&["--client-ca", "x"][..], &["--tls-cert", "x"], &["--max-signatures", "129"], &["--kubeconfig", "x"]]
    {
        assert_eq!(refuse(args).code, Some(64), "{args:?}");
    }
}

crate::tests! {
    needs [Registry, Gpg, Store];
    the_same_folder_is_served_as_nginx_serves_it,
    skopeo_verifies_by_what_is_served_and_writes_beside_the_store,
    nothing_but_public_keys_and_signatures_can_be_read,
    a_store_that_cannot_be_opened_says_what_is_wrong,
}
