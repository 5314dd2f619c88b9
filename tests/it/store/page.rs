//! The page for people, in a real browser.

use std::time::{Duration, Instant};

use super::world::{Maker, Store, image};
use crate::support::{scratch, tools};

/// The document as the browser has it, and a picture of it.
fn look(url: &str, picture: &str) -> String {
    let home = scratch::folder("browser");
    let image = home.join(picture);
    let browse = |more: &[&str]| {
        let mut command = tools::command("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,1500"]);
        command.arg(format!("--user-data-dir={}", home.display())).env("HOME", &home).args(more);
        tools::run(command.arg(url)).succeeded()
    };
    browse(&[&format!("--screenshot={}", image.display())]);
    assert!(std::fs::metadata(&image).unwrap().len() > 5000);
    browse(&["--dump-dom"]).stdout
}

/// A store as it may be after some months.
fn scene() -> (Store, Maker) {
    let dir = scratch::folder("page").join("sigstore");
    std::fs::create_dir_all(dir.join("keys")).unwrap();
    let (known, other) = (Maker::new("Image Maker <immkk8s@registry.local>"), Maker::new("Other <other@example.org>"));
    let odd = Maker::new("<script>alert(1)</script> <odd@example.org>");
    std::fs::write(dir.join("keys/immkk8s.pgp"), known.public()).unwrap();
    std::fs::write(dir.join("keys/odd.pgp"), odd.public()).unwrap();
    let pem = rcgen::KeyPair::generate().unwrap().public_key_pem();
    std::fs::write(dir.join("keys/cosign.pub"), pem).unwrap();
    let put = |path: &str, number: usize, blob: &[u8]| {
        let folder = dir.join(format!("sigstore/{path}@sha256={}", image(path).hex()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("signature-{number}")), blob).unwrap();
    };
    let app = image("k8s-c10f1/app");
    put("k8s-c10f1/app", 1, &known.sign(&app, "registry.local/k8s-c10f1/app:1"));
    put("k8s-c10f1/app", 2, &other.sign(&app, "registry.local/k8s-c10f1/app:1"));
    put("k8s-c10f1/app", 3, &odd.sign(&app, "registry.local/<img src=x onerror=alert(1)>:1"));
    put("k8s-c10f1/app", 4, &known.sign(&image("another"), "registry.local/k8s-c10f1/app:1"));
    put("k8s-c10f1/app", 5, b"<html>not a signature</html>");
    put("alt/alt", 1, &known.sign(&image("alt/alt"), "registry.local/alt/alt:1"));
    put("flat", 1, &known.sign(&image("flat"), "registry.local/flat:1"));
    (Store::over(&dir, &[]), known)
}

fn the_page_shows_keys_repositories_and_who_made_what() {
    let (store, known) = scene();
    let dom = look(&store.url, "overview.png");
    let fingerprint = known.0.fingerprint().to_spaced_hex().replace("  ", " ");
    for text in [
        &*fingerprint,
        "immkk8s.pgp",
        "Image Maker &lt;immkk8s@registry.local&gt;",
        "cosign.pub",
        "k8s-c10f1/app",
        "flat",
    ] {
        assert!(dom.contains(text), "{text}\n{dom}");
    }
    assert!(dom.contains("7 signatures of 3 images"), "{dom}");
    let dom = look(&format!("{}/?repository=k8s-c10f1%2Fapp", store.url), "repository.png");
    for (text, times) in [("\"tag good\">verified", 2), ("\"tag\">no key here", 1), ("\"tag bad\">not valid", 2)] {
        assert_eq!(dom.matches(text).count(), times, "{text}\n{dom}");
    }
    assert!(dom.contains("the signature is for sha256:"), "{dom}");
    // What signers wrote is text, in names and references.
    assert!(!dom.contains("<script") && !dom.contains("<img"), "{dom}");
}

fn the_page_runs_nothing_and_loads_nothing() {
    let (store, _) = scene();
    let asked = tools::run(tools::command("curl").args(["-s", "-i", &store.url])).succeeded().stdout;
    let policy = asked.lines().find(|line| line.to_lowercase().starts_with("content-security-policy:")).unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!asked.contains("<script") && !asked.contains("http://") && !asked.contains("https://"), "{asked}");
    for query in ["?repository=none", "?repository=../..&page=9", "?repository=%3Cscript%3E", "?q=%3Cscript%3E&page=99"]
    {
        let reply = store.get(&format!("/{query}"));
        assert!(matches!(reply.status, 200 | 404) && !reply.text().contains("<script"), "{query}");
    }
}

fn ten_thousand_signatures_do_not_make_the_page_slow() {
    let dir = scratch::folder("many").join("sigstore");
    let maker = Maker::new("maker@example.org");
    let mut blob = Vec::new();
    for n in 0..5000 {
        let path = format!("team-{}/app-{}", n % 50, n % 500);
        let digest = image(&n.to_string());
        if n % 500 == 0 {
            blob = maker.sign(&digest, "registry.local/a:1");
        }
        let folder = dir.join(format!("sigstore/{path}@sha256={}", digest.hex()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("signature-1"), &blob).unwrap();
        std::fs::write(folder.join("signature-2"), &blob[1..]).unwrap();
    }
    let store = Store::over(&dir, &[]);
    for page in ["/", "/?page=10", "/?q=team-4", "/?repository=team-7%2Fapp-7"] {
        let started = Instant::now();
        let reply = store.get(page);
        assert_eq!(reply.status, 200);
        assert!(started.elapsed() < Duration::from_secs(3), "{page}: {:?}", started.elapsed());
        assert!(reply.body.len() < 200_000, "{page}: {}", reply.body.len());
    }
    assert!(store.get("/").text().contains("10000 signatures of 5000 images"));
}

crate::tests! {
    needs [Browser];
    the_page_shows_keys_repositories_and_who_made_what,
    the_page_runs_nothing_and_loads_nothing,
    ten_thousand_signatures_do_not_make_the_page_slow,
}
