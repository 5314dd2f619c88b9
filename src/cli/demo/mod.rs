//! `podseal demo`: the whole story on one machine, with nothing installed and nothing asked of the network.
//!
//! ```text
//! keys, images, signatures ─► registry (HTTPS) and signature store (HTTP), both in memory ◄─┐
//! policies, whitelist, keys as YAML ─► the real webhook (HTTPS) ◄── AdmissionReviews        │
//!                                              └────────────────────────────────────────────┘
//! ```
//! Everything listens on free ports of 127.0.0.1 and ends with the process. Every answer is compared with the one that is
//! due, so that the demo is a test, too.

mod config;
mod files;
mod registry;
mod scenes;
mod services;
mod sign;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod webhook;
mod world;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};

use self::config::{Places, Texts};
use self::files::Directory;
use self::scenes::{Scene, scenes};
use self::services::{Authority, Servers};
use self::table::Row;
use self::webhook::Webhook;
use super::args::{DemoCommand, LogFormat};
use super::output::{complain, print};
use super::{USAGE, runtime};

/// Ended by the user before the end, as shells count it.
const INTERRUPTED: u8 = 130;
const LOOPBACK: &str = "127.0.0.1";
/// Variables that spare hosts from proxies, in the two ways in which programs read them.
const NO_PROXIES: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Variables that send requests to a proxy.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// An error for the user from one of a step's own.
fn failed<E: Display>(step: &str) -> impl Fn(E) -> String + '_ {
    move |error| format!("cannot {step}: {error}")
}

pub(super) fn run(command: &DemoCommand, verbose: u8) -> ExitCode {
    if let Err(error) = spare_loopback() {
        return ended(&error, ExitCode::FAILURE);
    }
    // First, so that a bad --dir is said at once, and as what it is: wrong usage.
    let directory = match command.keep.then(|| Directory::create(command.dir.as_deref())).transpose() {
        Ok(directory) => directory,
        Err(error) if command.dir.is_some() => return ended(&error, ExitCode::from(USAGE)),
        Err(error) => return ended(&error, ExitCode::FAILURE),
    };
    let told = || {
        let _logs = super::serve::logs(LogFormat::Text, verbose, "off")?;
        runtime()?.block_on(tell(directory))
    };
    told().unwrap_or_else(|error| ended(&error, ExitCode::FAILURE))
}

fn ended(error: &str, code: ExitCode) -> ExitCode {
    complain(error);
    code
}

/// Whether requests may go to a proxy.
fn has_proxy() -> bool {
    PROXIES.iter().any(|name| std::env::var_os(name).is_some())
}

/// Starts over with loopback spared from proxies, if there are any: the webhook would ask them for the demo's registry.
fn spare_loopback() -> Result<(), String> {
    use std::os::unix::process::CommandExt as _;
    let told = NO_PROXIES.map(|name| (name, std::env::var(name).unwrap_or_default()));
    if !has_proxy() || told.iter().all(|(_, hosts)| spares_loopback(hosts)) {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(failed("find this program"))?;
    let mut again = std::process::Command::new(program);
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    again.args(arguments);
    for (name, hosts) in told {
        again.env(name, format!("{hosts},{LOOPBACK}"));
    }
    // Returns only when it failed.
    Err(failed("start again with NO_PROXY for this machine")(again.exec()))
}

fn spares_loopback(hosts: &str) -> bool {
    hosts.split(',').any(|host| host.trim() == LOOPBACK)
}

/// Waits for Ctrl-C or a request to end.
async fn interrupted() {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        }
        // The signals end the process by themselves, then.
        _ => std::future::pending().await,
    }
}

/// Everything that runs.
struct Demo {
    places: Places,
    texts: Texts,
    authority: Authority,
    webhook: Webhook,
    scenes: Vec<Scene>,
    _servers: Servers,
    _closed: TcpSocket,
}

impl Demo {
    async fn start() -> Result<Self, String> {
        let (registry, store) = (services::listen().await?, services::listen().await?);
        let (closed, nobody) = services::closed_port()?;
        let places = Places {
            registry: services::address(&registry)?.to_string(),
            store: services::address(&store)?.to_string(),
            nobody: nobody.to_string(),
        };
        let (keys, authority) = (world::Keys::new()?, Authority::new()?);
        let (images, signatures) = world::furnish(&places.registry, &keys)?;
        let mut servers = Servers::default();
        servers.tls(registry, &authority, images.router())?;
        servers.plain(store, signatures.router());
        let texts = Texts::write(&places, &keys, &authority.pem())?;
        let webhook = Webhook::start(texts.read()?, &authority).await?;
        let scenes = scenes(&places.registry);
        Ok(Self { places, texts, authority, webhook, scenes, _servers: servers, _closed: closed })
    }

    /// Asks about one object, twice: the second time the webhook may remember.
    async fn play<'a>(&self, scene: &'a Scene) -> Result<Row<'a>, String> {
        let review = scene.review()?;
        let (answer, first) = self.webhook.ask(&review).await?;
        let (second, again) = self.webhook.ask(&review).await?;
        if answer != second {
            return Err(format!("{}: the second answer differs from the first: {second:?}", scene.name));
        }
        Ok(Row { scene, answer, first, again })
    }
}

/// The difference between what was answered and what was due, if there is one.
fn difference(row: &Row<'_>) -> Option<String> {
    let (scene, answer) = (row.scene, &row.answer);
    let got = table::verdict(answer);
    if got != scene.expected {
        return Some(format!("{}: expected {}, got {}", scene.name, scene.expected.label(), got.label()));
    }
    let words = format!("{}\n{}", answer.words, answer.warnings.join("\n"));
    let right = words.contains(scene.because);
    (!right).then(|| format!("{}: expected {:?} in podseal's words, got: {words}", scene.name, scene.because))
}

/// Plays everything; with a directory, leaves it running there until somebody ends it.
async fn tell(directory: Option<Directory>) -> Result<ExitCode, String> {
    let played = async {
        let demo = Demo::start().await?;
        let differences = play_all(&demo).await?;
        Ok::<_, String>((demo, differences))
    };
    let (demo, differences) = tokio::select! {
        played = played => played?,
        () = interrupted() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    for difference in &differences {
        complain(&format!("wrong answer for {difference}"));
    }
    if !differences.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    match directory {
        Some(directory) => {
            directory.write(&demo)?;
            print(&files::what_runs(&demo, &directory, &files::program()));
            interrupted().await;
            print("\n");
        }
        None => print(&files::what_next(&files::program())),
    }
    demo.webhook.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Prints the story; gives the answers that were not as they must be.
async fn play_all(demo: &Demo) -> Result<Vec<String>, String> {
    print(&introduction(demo));
    let (mut differences, width) = (Vec::new(), table::width());
    let mut took = Duration::ZERO;
    print(&table::head(width));
    for (i, scene) in demo.scenes.iter().enumerate() {
        let row = demo.play(scene).await?;
        differences.extend(difference(&row));
        took += row.first + row.again;
        print(&table::row(i + 1, &row, width));
    }
    let count = demo.scenes.len();
    print(&match differences.len() {
        0 => format!("\nAll {count} answers are as they must be ({:.1} s).\n", took.as_secs_f64()),
        wrong => format!("\n{wrong} of {count} answers are NOT as they must be.\n"),
    });
    Ok(differences)
}

fn introduction(demo: &Demo) -> String {
    let host = &demo.places.registry;
    format!(
        "\
podseal lets only Pods run whose images carry a signature that your policy trusts.
This demo started

  a registry         {registry:23}  with some images in it
  a signature store  {store:23}  with the image maker's OpenPGP signatures
  the webhook        {webhook:23}  asked by the Kubernetes API server about each Pod

and gives the webhook this policy:

  {policies}

and a whitelist of images that need no signature: {host}/tools/*

Now somebody tries to run these Pods. The webhook is asked about each one twice, over HTTPS: the
first time it fetches and verifies signatures, the second time it may use what it found before.
Below each Pod is what podseal says about it, with digests cut short.

  allowed    the Pod may run
  DENIED     it may not, for the reason that its owner reads
  UNDECIDED  it may not run now: something needed for a verdict failed; this is never kept
  warned     the object is stored, but its Pods would be denied

",
        registry = format!("https://{host}"),
        store = format!("http://{}", demo.places.store),
        webhook = format!("https://{}", demo.webhook.address),
        policies = demo.texts.policies.trim_end().replace('\n', "\n  "),
    )
}
