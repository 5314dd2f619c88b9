//! Killed in the middle, and asked nonsense.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use podseal::domain::digest::Digest;

use super::world::{Maker, Store, authorization, document, extension_path, image, signature_path, users};
use crate::support::scratch;

/// A signature that is to be uploaded.
struct Item {
    digest: Digest,
    name: String,
    blob: Vec<u8>,
}

const DIGESTS: usize = 40;
const EACH: usize = 25;
const WRITERS: usize = 32;

fn items() -> Vec<Item> {
    // Two, because one key has no more than sixteen signatures of a digest.
    let makers = [Maker::new("maker@example.org"), Maker::new("other@example.org")];
    let numbers = (0..EACH).flat_map(|n| (0..DIGESTS).map(move |d| (d, n)));
    let item = |(d, n): (usize, usize)| {
        let digest = image(&format!("image {d}"));
        let blob = makers[n % 2].sign(&digest, &format!("registry.local/team/app:{d}-{n}"));
        Item { digest, name: format!("{d:016}{n:016}"), blob }
    };
    numbers.map(item).collect()
}

/// Uploads everything from many clients at once; the store is killed after so many were acknowledged.
fn upload(store: &Store, items: &[Item], kill_after: usize) -> BTreeSet<usize> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    let authorization = authorization();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                while let Some((at, item)) = items
                    .get(next.fetch_add(1, Ordering::Relaxed))
                    .map(|item| (items.iter().position(|other| std::ptr::eq(other, item)).unwrap(), item))
                {
                    let url = format!("{}{}", store.url, extension_path("team/app", &item.digest));
                    let body = document(&item.digest, &item.name, &item.blob).into_bytes();
                    let headers = [("authorization", &*authorization)];
                    match store.http.send(reqwest::Method::PUT, &url, &headers, body) {
                        Ok(reply) => {
                            assert!(matches!(reply.status, 200 | 201), "{} {}", reply.status, reply.text());
                            let mut done = done.lock().unwrap();
                            done.insert(at);
                            if done.len() == kill_after {
                                store.process.kill();
                            }
                        }
                        Err(_) if kill_after < items.len() => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// Every number up to the first that is missing, and nothing that is not one of the items.
fn check_folders(dir: &Path, items: &[Item], after_restart: bool) -> usize {
    let mut found = 0;
    for d in 0..DIGESTS {
        let digest = image(&format!("image {d}"));
        let folder = dir.join(format!("sigstore/team/app@sha256={}", digest.hex()));
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let names: BTreeSet<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        let signatures = names.iter().filter(|name| name.starts_with("signature-")).count();
        for number in 1..=signatures {
            let blob = std::fs::read(folder.join(format!("signature-{number}"))).expect("no gap");
            assert!(items.iter().any(|item| item.digest == digest && item.blob == blob), "a torn signature");
        }
        assert!(!after_restart || !names.iter().any(|name| name.starts_with(".new-")), "{names:?}");
        found += signatures;
    }
    found
}

fn a_thousand_uploads_through_kills_lose_nothing_that_was_acknowledged() {
    let items = items();
    assert_eq!(items.len(), 1000);
    let users = users();
    let dir = scratch::folder("killed").join("sigstore");
    let start = || Store::over(&dir, &["--htpasswd", users.to_str().unwrap()]);
    let mut acknowledged = BTreeSet::new();
    for kill_after in [100, 450, 800] {
        let store = start();
        check_folders(&dir, &items, true);
        acknowledged.extend(upload(&store, &items, kill_after));
        assert!(store.process.ended_within(Duration::from_secs(5)).is_some());
        let kept = check_folders(&dir, &items, false);
        assert!(kept >= acknowledged.len(), "{kept} of {}", acknowledged.len());
    }
    let store = start();
    let mut listed: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for &at in &acknowledged {
        let item = &items[at];
        let all = listed.entry(item.digest.to_string()).or_insert_with(|| {
            let reply = store.get(&extension_path("team/app", &item.digest));
            let list: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            list["signatures"].as_array().unwrap().clone()
        });
        let wanted: serde_json::Value = serde_json::from_str(&document(&item.digest, &item.name, &item.blob)).unwrap();
        assert!(all.contains(&wanted), "an acknowledged signature is lost, or its name");
    }
    assert_eq!(upload(&store, &items, usize::MAX).len(), 1000);
    assert_eq!(check_folders(&dir, &items, true), 1000);
    assert!(acknowledged.len() >= 800);
}

/// Numbers that only look random: the run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }

    /// Bytes like these, changed in a few places.
    fn bend(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..self.roll(4) {
            let at = self.roll(bytes.len().max(1)).min(bytes.len());
            match self.roll(4) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => {
                    let piece =
                        self.pick(&["../", "%2e%2e", "%00", "//", "\0", "/./", "@sha256=", "%", "é", "\\", ";", "?"]);
                    bytes.splice(at..at, piece.bytes());
                }
            }
        }
        bytes
    }
}

/// What a fuzzed request is made of.
struct Parts {
    paths: Vec<String>,
    bodies: Vec<Vec<u8>>,
    authorization: String,
}

impl Parts {
    fn new() -> Self {
        let (maker, digest) = (Maker::new("maker@example.org"), image("fuzz"));
        let blob = maker.sign(&digest, "registry.local/a:1");
        let paths = vec![
            "/".to_owned(),
            "/?repository=a%2Fb&page=2&q=x".to_owned(),
            "/keys/public.pgp".to_owned(),
            "/keys/secret.pgp".to_owned(),
            "/imagemakers.json".to_owned(),
            "/sigstore/linked/canary".to_owned(),
            signature_path("a/b", &digest, 1),
            signature_path("../outside", &digest, 1),
            signature_path("linked", &digest, 1),
            signature_path("linked/a", &digest, 1),
            signature_path("a/b", &digest, 2),
            signature_path("%2e%2e/outside", &digest, 1),
            extension_path("a/b/c", &digest),
            extension_path("..", &digest),
            extension_path("a/../../outside", &digest),
        ];
        let name = "0123456789abcdef0123456789abcdef";
        let bodies = vec![
            Vec::new(),
            blob.clone(),
            maker.sign(&digest, "registry.local/a:2"),
            maker.sign(&digest, "registry.local/a:3"),
            document(&digest, name, &blob).into_bytes(),
            document(&digest, "../../../../../../../outside/abc", &blob).into_bytes(),
            document(&digest, name, b"x").into_bytes(),
        ];
        Self { paths, bodies, authorization: authorization() }
    }

    fn request(&self, dice: &mut Dice) -> Vec<u8> {
        let method =
            dice.pick(&["GET", "GET", "HEAD", "PUT", "PUT", "PUT", "POST", "DELETE", "OPTIONS", "TRACE", "get", "X"]);
        let path = &self.paths[dice.roll(self.paths.len())];
        let path = if dice.roll(3) == 0 { path.clone().into_bytes() } else { dice.bend(path.as_bytes()) };
        // Line ends and blanks would only make another request of it, most of the time.
        let path: Vec<u8> = path.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | b' ')).collect();
        let body = &self.bodies[dice.roll(self.bodies.len())];
        let body = if dice.roll(2) == 0 { body.clone() } else { dice.bend(body) };
        let mut request = [method.as_bytes(), b" ", &path, b" HTTP/1.1\r\nhost: x\r\n"].concat();
        if dice.roll(4) != 0 {
            request.extend(format!("authorization: {}\r\n", self.authorization).bytes());
        }
        for _ in 0..dice.roll(3) {
            request.extend(dice.pick(&[
                &b"if-none-match: *\r\n"[..],
                b"range: bytes=0-5\r\n",
                b"range: bytes=99999999999999999999-\r\n",
                b"range: bytes=-\r\n",
                b"if-modified-since: x\r\n",
                b"authorization: Basic !!\r\n",
                b"expect: 100-continue\r\n",
                b"x-forwarded-for: ../../x\r\n",
            ]));
        }
        match dice.roll(20) {
            0 => request.extend(b"content-length: x\r\n\r\n"),
            1 => request.extend(b"transfer-encoding: chunked\r\n\r\nzz\r\n"),
            2 => request.extend([b"\r\n".to_vec(), dice.bend(&body)].concat()),
            _ => {
                request.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
                request.extend(&body);
            }
        }
        request
    }
}

/// Sends a request and reads the answer; false when the connection is of no use any more.
fn exchange(stream: &mut BufReader<TcpStream>, request: &[u8], statuses: &mut BTreeMap<u16, usize>) -> bool {
    if stream.get_mut().write_all(request).is_err() {
        return false;
    }
    let (mut length, mut status, mut close) = (0, 0, false);
    loop {
        let mut line = String::new();
        if !matches!(stream.read_line(&mut line), Ok(1..)) {
            return false;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.") {
            status = rest.split(' ').nth(1).unwrap().parse().unwrap();
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        close |= line == "connection: close";
        match (line.is_empty(), status) {
            (true, 100) => {}
            (true, _) => break,
            _ => {}
        }
    }
    *statuses.entry(status).or_default() += 1;
    let bodyless = request.starts_with(b"HEAD") || matches!(status, 204 | 304);
    let mut body = vec![0; if bodyless { 0 } else { length }];
    if stream.read_exact(&mut body).is_err() {
        return false;
    }
    let text = String::from_utf8_lossy(&body);
    assert!(!text.contains("canary") && !text.contains("PRIVATE KEY"), "what is not to be read: {text}");
    // A link in a folder's place is the administrator's to put right; it is not followed.
    let linked = String::from_utf8_lossy(request).contains("linked/");
    assert!(status != 500 || linked, "{}\n{text}", String::from_utf8_lossy(request));
    !close
}

/// Every file below a folder, without what is below `but`, with its content and time.
fn tree(folder: &Path, but: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if path == but {
            continue;
        }
        if metadata.is_dir() {
            found.extend(tree(&path, but));
        }
        let content = if metadata.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        found.insert(path, (content, metadata.modified().unwrap()));
    }
    found
}

fn check_kept(folder: &Path) -> usize {
    let mut signatures = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if std::fs::symlink_metadata(&path).unwrap().is_dir() {
            signatures += check_kept(&path);
        } else if name.starts_with("signature-") {
            podseal::signature::openpgp::inspect(&std::fs::read(&path).unwrap()).unwrap();
            signatures += 1;
        } else {
            assert!(name.starts_with(".name-") || name == "linked", "{}", path.display());
        }
    }
    signatures
}

fn a_hundred_thousand_fuzzed_requests_panic_nothing_and_write_nothing_outside() {
    const REQUESTS: usize = 100_000;
    const CLIENTS: usize = 8;
    let around = scratch::folder("canary");
    let dir = around.join("sigstore-dir");
    for folder in ["sigstore-dir/keys", "sigstore-dir/sigstore", "outside", "outside/a"] {
        std::fs::create_dir_all(around.join(folder)).unwrap();
    }
    let maker = Maker::new("maker@example.org");
    for (file, content) in [
        ("canary", &b"canary"[..]),
        ("outside/canary", b"canary"),
        ("sigstore-dir/imagemakers.json", b"canary"),
        ("sigstore-dir/keys/secret.pgp", &maker.secret()),
        ("sigstore-dir/keys/public.pgp", &maker.public()),
    ] {
        std::fs::write(around.join(file), content).unwrap();
    }
    std::os::unix::fs::symlink(around.join("outside"), dir.join("sigstore/linked")).unwrap();
    let before = tree(&around, &dir.join("sigstore"));
    let users = users();
    let store = Store::over(&dir, &["--htpasswd", users.to_str().unwrap()]);
    let address = store.url.trim_start_matches("http://");
    let (parts, sent) = (Parts::new(), AtomicUsize::new(0));
    let statuses = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (parts, sent, statuses) = (&parts, &sent, &statuses);
            scope.spawn(move || {
                let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ (client as u64 + 1));
                let mut own = BTreeMap::new();
                let mut stream = None;
                while sent.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                    let mut connected = stream.take().unwrap_or_else(|| {
                        let stream = TcpStream::connect(address).expect("the store is there");
                        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                        BufReader::new(stream)
                    });
                    if exchange(&mut connected, &parts.request(&mut dice), &mut own) {
                        stream = Some(connected);
                    }
                }
                for (status, count) in own {
                    *statuses.lock().unwrap().entry(status).or_insert(0) += count;
                }
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    assert!(store.process.ended().is_none() && !store.log().contains("panicked"), "{}", store.log());
    assert_eq!(before, tree(&around, &dir.join("sigstore")));
    let kept = check_kept(&dir.join("sigstore"));
    // It was no use if nothing got through.
    for status in [200, 201, 206, 400, 401, 404, 405, 412, 416, 422, 428] {
        assert!(statuses.get(&status).is_some_and(|count| *count > 0), "{status}: {statuses:?}");
    }
    assert!(kept > 0 && statuses.values().sum::<usize>() > REQUESTS / 2, "{kept} {statuses:?}");
}

crate::tests! {
    needs [];
    a_thousand_uploads_through_kills_lose_nothing_that_was_acknowledged,
    a_hundred_thousand_fuzzed_requests_panic_nothing_and_write_nothing_outside,
}
