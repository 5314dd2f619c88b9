//! What the command line says to people in a hurry: which object, which field, which way out, and which exit status.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::support::podseal::podseal_with;
use crate::support::scratch;
use crate::support::tools::Ran;

crate::tests! {
    needs [];
    check_says_what_is_wrong_with_its_input,
    check_takes_a_text_whole_or_not_at_all,
    check_takes_all_pods_of_a_cluster,
    check_never_shows_the_text_around_a_mistake,
    check_never_takes_nothing_for_an_allowance,
    check_says_what_it_does_not_use,
    check_names_the_object_that_it_cannot_read,
    serve_says_which_file_it_cannot_use,
    store_says_which_file_it_cannot_use,
    signing_says_what_is_wrong_before_anything_is_done,
    a_time_of_nothing_is_refused,
    demo_refuses_a_folder_with_something_in_it,
    convert_says_what_is_missing_and_leaves_nothing_half_made,
}

const POLICY: &str = "deploy/samples/unchecked-registry.yaml";
const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: IMAGE}]}}\n";

fn pod(image: &str) -> String {
    POD.replace("IMAGE", image)
}

fn check(arguments: &[&str], input: &[u8]) -> Ran {
    podseal_with(&[&["check", "--policy", POLICY], arguments].concat(), &[], input)
}

fn file(text: &str) -> PathBuf {
    let file = scratch::folder("usage").join("file.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

#[track_caller]
fn assert_ended(ran: &Ran, code: i32, said: &str) {
    assert_eq!(ran.code, Some(code), "{ran}");
    assert!(ran.stderr.contains(said) || ran.stdout.contains(said), "{said:?} is not in what it said: {ran}");
    assert!(!ran.stderr.contains("panicked"), "{ran}");
}

fn check_says_what_is_wrong_with_its_input() {
    let deep = format!("a: {}", "[".repeat(100_000));
    let allowed = pod("registry.k8s.io/pause:3.10");
    let cases: &[(&[u8], i32, &str)] = &[
        (b"a: [1\n", 64, "standard input: unclosed bracket '[' at line 1, column 4"),
        (b"", 64, "no Pod and no Pod template"),
        (b"---\n---\n", 64, "no Pod and no Pod template"),
        (b"\xff\xfe\x00\x01", 64, "standard input: neither YAML nor JSON: not text in UTF-8"),
        (b"[1]", 64, "document 1: not a Kubernetes object: it has no kind"),
        (b"kind: Pod", 64, "document 1: apiVersion is missing"),
        (b"{apiVersion: v1, kind: List}", 64, "document 1: the List has no items"),
        (b"{apiVersion: v1, kind: List, items: []}", 64, "no Pod and no Pod template"),
        (b"{apiVersion: v1, kind: Pod}", 64, "document 1: spec is missing"),
        (b"{apiVersion: v1, kind: Pod, spec: {containers: nginx}}", 64, "document 1: spec.containers: invalid type"),
        (
            b"{apiVersion: v1, kind: Pod, spec: {containers: [{image: 1}]}}",
            64,
            "spec.containers[0].image: invalid type",
        ),
        (
            b"{apiVersion: v1, kind: Pod, spec: {containers: [{name: c}]}}",
            1,
            "the image is empty (spec.containers[0].image)",
        ),
        (b"\xef\xbb\xbf{apiVersion: v1, kind: Pod, spec: {containers: [{image: nginx}]}}", 1, "NoMatchingPolicy"),
        (allowed.as_bytes(), 0, "Unchecked"),
        (deep.as_bytes(), 64, "recursion limit"),
    ];
    for (input, code, said) in cases {
        assert_ended(&check(&["-f", "-"], input), *code, said);
    }
    assert_ended(&check(&["-f", "no-such-file"], b""), 64, "no-such-file: No such file");
    assert_ended(&check(&["--image", "nginx", "-n", ""], b""), 64, "--namespace <NAME>");
    assert_ended(&check(&["--image", "nginx", "--own-namespace", ""], b""), 64, "--own-namespace <NAME>");
    assert_ended(&check(&["--image", "nginx", "--per-namespace", "0"], b""), 64, "expected a number from 1");
    assert_ended(
        &check(&["--image", "nginx", "--ca-file", POLICY], b""),
        64,
        &format!("--ca-file {POLICY}: the CA is not PEM"),
    );
    assert_ended(
        &check(&["--image", "nginx", "--docker-config", POLICY], b""),
        64,
        &format!("--docker-config {POLICY}: "),
    );
}

fn check_takes_a_text_whole_or_not_at_all() {
    let mut text = pod("registry.k8s.io/pause:3.10").into_bytes();
    text.extend(b"---\n");
    text.extend(std::iter::repeat_n(b"# nothing\n", 7 << 20).flatten());
    text.extend(b"---\n");
    text.extend(pod("nginx").into_bytes());
    assert_ended(&check(&["-f", "-"], &text), 64, "standard input: larger than 64 MiB");
    // A device that never ends states no length.
    assert_ended(&check(&["-f", "/dev/zero"], b""), 64, "/dev/zero: larger than 64 MiB");
}

fn check_takes_all_pods_of_a_cluster() {
    let mut text = "apiVersion: v1\nkind: List\nitems:\n".to_owned();
    let labels = (0..40).map(|i| format!("label-{i}: value")).collect::<Vec<_>>().join(", ");
    let one = pod("registry.k8s.io/pause:3.10").replace("{name: a}", &format!("{{name: a, labels: {{{labels}}}}}"));
    text.extend((0..4000).map(|_| format!("- {one}")));
    let ran = check(&["-f", "-"], text.as_bytes());
    assert_ended(&ran, 0, "Unchecked");
    assert_eq!(ran.stdout.lines().count(), 1 + 4000, "{}", ran.stderr);
    let documents = pod("registry.k8s.io/pause:3.10") + "---\n";
    assert_ended(&check(&["-f", "-"], documents.repeat(1500).as_bytes()), 0, "Unchecked");
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let nine = vec![format!("*{from}"); 9].join(",");
        let _ = writeln!(bomb, "{to}: &{to} [{nine}]");
    }
    assert_ended(&check(&["-f", "-"], bomb.as_bytes()), 64, "budget breached");
}

fn check_never_shows_the_text_around_a_mistake() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {password: hunter2\n";
    let ran = check(&["--image", "nginx", "--policy", file(secret).to_str().unwrap()], b"");
    assert_ended(&ran, 64, "file.yaml: ");
    assert!(!ran.stderr.contains("hunter2"), "{ran}");
}

fn check_never_takes_nothing_for_an_allowance() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: a}}\n";
    for text in [service, &pod("nginx").replace("Pod", "pod"), &pod("nginx").replace("v1", "example.com/v1")] {
        let ran = check(&["-f", "-"], text.as_bytes());
        assert_ended(&ran, 64, "document 1: a ");
        assert_ended(&ran, 64, "no Pod and no Pod template");
    }
    let both = format!("{service}---\n{}", pod("registry.k8s.io/pause:3.10"));
    assert_ended(&check(&["-f", "-"], both.as_bytes()), 0, "a Service holds no Pod and was left out");
    assert_ended(&check(&["--image", "nginx", "-n", "kube-system"], b""), 0, "the namespace kube-system is exempt");
}

fn check_says_what_it_does_not_use() {
    let ran = podseal_with(&["check", "--image", "nginx"], &[], b"");
    assert_ended(&ran, 0, "no policy was given, and without one images are allowed");
    let whitelist =
        file("{apiVersion: v1, kind: ConfigMap, metadata: {name: image-validation-webhook-whitelist}, data: {}}");
    let ran = check(&["--image", "nginx", "--policy", whitelist.to_str().unwrap()], b"");
    assert_ended(&ran, 1, "counts in the namespace registry-system, and this one is of default");
}

fn check_names_the_object_that_it_cannot_read() {
    let secret = |member: &str| {
        file(&format!("{{apiVersion: v1, kind: Secret, metadata: {{name: key, namespace: team}}, {member}}}\n"))
    };
    for (member, said) in [
        ("data: [1]", "Secret team/key: data is not an object with texts as values"),
        ("data: text", "Secret team/key: data is not an object with texts as values"),
        ("data: {cosign.pub: 1}", "Secret team/key: data.cosign.pub is not a text"),
        ("data: {cosign.pub: [a]}", "Secret team/key: data.cosign.pub is not a text"),
        ("data: {cosign.pub: '*'}", "Secret team/key: data.cosign.pub is not base64"),
        ("stringData: {cosign.pub: true}", "Secret team/key: stringData.cosign.pub is not a text"),
    ] {
        let ran = check(&["--image", "registry.k8s.io/pause", "--policy", secret(member).to_str().unwrap()], b"");
        assert_ended(&ran, 64, said);
    }
    for member in ["data: null", "data: {}", "data: {a: YQ==}", "stringData: {a: null}", "type: Opaque"] {
        let ran = check(&["--image", "registry.k8s.io/pause", "--policy", secret(member).to_str().unwrap()], b"");
        assert_ended(&ran, 0, "Unchecked");
    }
}

fn a_time_of_nothing_is_refused() {
    for flag in ["--request-timeout", "--timeout"] {
        let ran = check(&["--image", "registry.k8s.io/pause", flag, "0s"], b"");
        assert_ended(&ran, 64, "expected a time above 0");
        assert_ended(&check(&["--image", "registry.k8s.io/pause", flag, "1ms"], b""), 0, "Unchecked");
    }
    assert_ended(&podseal_with(&["serve", "--request-timeout", "0s"], &[], b""), 64, "expected a time above 0");
}

fn demo_refuses_a_folder_with_something_in_it() {
    let occupied = file("something");
    let (file, folder) = (occupied.to_str().unwrap(), occupied.parent().unwrap().to_str().unwrap());
    let demo = |path: &str| podseal_with(&["demo", "--keep", "--dir", path], &[], b"");
    assert_ended(&demo(folder), 64, "the directory is not empty; name an empty or a new one");
    assert_ended(&demo(file), 64, "not a directory");
}

fn convert_says_what_is_missing_and_leaves_nothing_half_made() {
    let parent = scratch::folder("convert");
    let out = parent.join("nodes");
    let out = out.to_str().unwrap();
    let convert = |arguments: &[&str]| podseal_with(&[&["convert"], arguments].concat(), &[], b"");
    for (arguments, code, said) in [
        (&[][..], 64, "give the policy.json with --policy"),
        (&["--policy", POLICY, "--name", "Not_A_Name"], 64, "--name"),
        (&["--registries-d", "."], 64, "--policy <FILE>"),
        (&["--policy", POLICY, "--out", out], 64, "cannot be used with"),
        (&["--to", "containers", "-f", POLICY], 64, "--out <DIR>"),
        (&["--to", "containers", "--out", out], 64, "give the policies with -f, or --cluster"),
        (&["--to", "containers", "--out", out, "--cluster", "-f", POLICY], 64, "cannot be used with"),
        (&["--to", "containers", "--out", out, "-f", "no-such-file"], 1, "no-such-file: "),
        (&["--to", "containers", "--out", out, "--cluster", "--kubeconfig", "no-such-file"], 1, "no-such-file: "),
        (&["--policy", "no-such-file"], 1, "no-such-file: "),
        (&["--policy", POLICY], 1, &format!("{POLICY}: ")),
    ] {
        let ran = convert(arguments);
        assert_ended(&ran, code, said);
        assert!(ran.stdout.is_empty() && std::fs::read_dir(&parent).unwrap().next().is_none(), "{ran}");
    }
    // The twin: with what it needs it does its work, and does not do it over something that is there.
    assert_ended(&convert(&["--to", "containers", "--out", out, "-f", POLICY]), 0, "");
    let made = std::fs::read(parent.join("nodes/policy.json")).unwrap();
    assert_ended(&convert(&["--to", "containers", "--out", out, "-f", POLICY]), 1, "not empty: give a new directory");
    assert_eq!(std::fs::read(parent.join("nodes/policy.json")).unwrap(), made);
}

fn store_says_which_file_it_cannot_use() {
    let dir = scratch::folder("store-usage");
    let dir = dir.to_str().unwrap();
    let store = |arguments: &[&str]| {
        podseal_with(&[&["store", "--dir", dir, "--metrics-listen", "127.0.0.1:0"], arguments].concat(), &[], b"")
    };
    assert_ended(&store(&["--htpasswd", "no-such-file"]), 1, "--htpasswd no-such-file: ");
    let tls = ["--tls-cert", "no-such-cert", "--tls-key", "no-such-key"];
    assert_ended(&store(&tls), 1, "cannot read no-such-cert: No such file");
    assert_ended(&store(&["--listen", "81"]), 64, "expected a port such as :81");
    assert_ended(&store(&["--max-signatures", "1000"]), 64, "expected a number from 1 to 128");
    assert_ended(&store(&["--kubernetes-auth", "--kubeconfig", "no-such-file"]), 1, "--kubeconfig no-such-file: ");
}

fn serve_says_which_file_it_cannot_use() {
    let kubeconfig = file(
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], \
         clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], users: [{name: u, user: {token: t}}]}",
    );
    let serve = |arguments: &[&str]| podseal_with(&[&["serve"], arguments].concat(), &[], b"");
    let kubeconfig = kubeconfig.to_str().unwrap();
    assert_ended(&serve(&["--kubeconfig", "no-such-file"]), 1, "--kubeconfig no-such-file: ");
    let missing = serve(&["--kubeconfig", kubeconfig, "--tls-cert", "no-such-cert", "--tls-key", "no-such-key"]);
    assert_ended(&missing, 1, "cannot read no-such-cert: No such file");
    let wrong = serve(&["--kubeconfig", kubeconfig, "--tls-cert", POLICY, "--tls-key", POLICY]);
    assert_ended(&wrong, 1, &format!("--tls-cert {POLICY}, --tls-key {POLICY}: the certificate is not PEM"));
    assert_ended(&serve(&["--max-in-flight", "0"]), 64, "expected a number from 1");
}

fn signing_says_what_is_wrong_before_anything_is_done() {
    let ran = |arguments: &[&str]| podseal_with(arguments, &[("GNUPGHOME", "/no/such/home")], b"");
    let sign = |more: &[&str]| ran(&[&["sign", "127.0.0.1:1/a:1"], more].concat());
    for (more, said) in [
        (&[][..], "--sign-by <KEY>"),
        (&["--sign-by", POLICY], &format!("the key file {POLICY}: not an OpenPGP key")),
        (&["--sign-by", POLICY, "--ca", POLICY], &format!("--ca {POLICY}: the CA is not PEM")),
        (&["--sign-by", POLICY, "--authfile", "/no/such"], "--authfile /no/such: No such file"),
        (&["--sign-by", POLICY, "--staging", "/no/such"], "--staging: cannot open the folder /no/such"),
        (&["--sign-by", POLICY, "--upload", "file:///x"], "--upload file:///x: expected an http or https URL"),
        (&["--sign-by", POLICY, "--staging", ".", "--extension"], "cannot be used with"),
        (&["--sign-by", POLICY, "--token-file", POLICY], "--upload <URL>"),
        (&["--sign-by", POLICY, "--identity", "a b"], "--identity a b: the repository path is malformed"),
        (&["--sign-by", POLICY, "--timeout", "0s"], "expected a time above 0"),
        (&["--cosign-key", POLICY], "no private key in PEM form"),
        (&["--sign-by", POLICY, "--upload", "https://x", "--client-cert", POLICY], "--client-key <FILE>"),
        (&["--sign-by", POLICY, "--upload", "https://x", "--client-key", POLICY], "--client-cert <FILE>"),
        (
            &["--sign-by", POLICY, "--staging", ".", "--client-cert", POLICY, "--client-key", POLICY],
            "--upload or --extension",
        ),
    ] {
        assert_ended(&sign(more), 64, said);
    }
    // What is quoted makes no line of its own, and steers nothing.
    for hostile in ["--timeout=y\n\u{1b}[2Ksigned y:1", "--y\n\u{1b}[2Ksigned y:1"] {
        let ran = sign(&["--sign-by", POLICY, hostile]);
        assert_ended(&ran, 64, r"y\u000a\u001b[2Ksigned y:1'");
        assert!(!ran.stderr.contains("\nsigned") && !ran.stderr.contains('\u{1b}'), "{ran}");
    }
    let load = |archive: &str, target: &str, arch: &str| {
        let home = scratch::folder("gnupg");
        let arguments = ["load-sign", archive, target, "--arch", arch, "--cosign-key", "no-key", "--scratch"];
        ran(&[&arguments[..], &[home.to_str().unwrap()]].concat())
    };
    assert_ended(&load(POLICY, "registry", "amd64"), 64, "begin with the registry's host");
    assert_ended(&load(POLICY, "registry.local/A", "amd64"), 64, "not a registry with a path");
    assert_ended(&load(POLICY, "registry.local", "amd 64"), 64, "expected an architecture such as amd64");
    assert_ended(&load(POLICY, "registry.local", "amd64"), 64, "--cosign-key no-key: No such file");
}
