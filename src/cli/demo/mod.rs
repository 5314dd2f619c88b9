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
use super::runtime;

/// Ended by the user before the end, as shells count it.
const INTERRUPTED: u8 = 130;
/// Variables that would send requests for 127.0.0.1 to a proxy.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// An error for the user from one of a step's own.
fn failed<E: Display>(step: &str) -> impl Fn(E) -> String + '_ {
    move |error| format!("cannot {step}: {error}")
}

pub(super) fn run(command: &DemoCommand, verbose: u8) -> ExitCode {
    let told = leave_proxies().and_then(|()| {
        let _logs = super::serve::logs(LogFormat::Text, verbose, "off")?;
        runtime()?.block_on(async {
            tokio::select! {
                told = tell(command) => told,
                () = interrupted() => Ok(ExitCode::from(INTERRUPTED)),
            }
        })
    });
    told.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

/// Starts over without proxies: the demo talks to this machine alone, and the webhook would ask the proxy for it.
fn leave_proxies() -> Result<(), String> {
    use std::os::unix::process::CommandExt as _;
    if PROXIES.iter().all(|name| std::env::var_os(name).is_none()) {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(failed("find this program"))?;
    let mut again = std::process::Command::new(program);
    again.args(std::env::args_os().skip(1));
    for name in PROXIES {
        again.env_remove(name);
    }
    // Returns only when it failed.
    Err(failed("start again without proxies")(again.exec()))
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

async fn tell(command: &DemoCommand) -> Result<ExitCode, String> {
    // First, so that a bad --dir is said at once.
    let directory = if command.keep { Some(Directory::create(command.dir.as_deref())?) } else { None };
    let demo = Demo::start().await?;
    print(&introduction(&demo));
    let (mut differences, width) = (Vec::new(), table::width());
    let mut took = Duration::ZERO;
    print(&table::head(width));
    for (i, scene) in demo.scenes.iter().enumerate() {
        let row = demo.play(scene).await?;
        differences.extend(difference(&row));
        took += row.first + row.again;
        print(&table::row(i + 1, &row, width));
    }
    let outcome = if differences.is_empty() {
        print(&format!("\nAll {} answers are as they must be ({:.1} s).\n", demo.scenes.len(), took.as_secs_f64()));
        match directory {
            Some(directory) => keep(&demo, directory).await?,
            None => print(&files::what_next(&files::program())),
        }
        ExitCode::SUCCESS
    } else {
        for difference in &differences {
            complain(&format!("wrong answer for {difference}"));
        }
        ExitCode::FAILURE
    };
    demo.webhook.stop().await;
    Ok(outcome)
}

/// Leaves everything running, with files and commands to try it, until Ctrl-C.
async fn keep(demo: &Demo, directory: Directory) -> Result<(), String> {
    directory.write(demo)?;
    print(&files::what_runs(demo, &directory, &files::program()));
    interrupted().await;
    print("\n");
    Ok(())
}

fn introduction(demo: &Demo) -> String {
    let host = &demo.places.registry;
    format!(
        "\
podseal lets only Pods run whose images carry a signature that your policy trusts. This demo started

  a registry         {registry:24}  with some images in it
  a signature store  {store:24}  with the image maker's OpenPGP signatures
  the webhook        {webhook:24}  which a Kubernetes API server asks before it stores a Pod

and gives the webhook this policy:

{policies}
and a whitelist of images that need no signature: {host}/tools/*

Now somebody tries to run these Pods. The webhook is asked about each one twice, over HTTPS. The first time it
fetches and verifies signatures, the second time it may use what it found before. Below each Pod is what podseal
says about it, with digests cut short.

  allowed    the Pod may run
  DENIED     it may not, and the reason is what is written to its owner
  UNDECIDED  it may not run now, because something needed for a verdict failed; such answers are never kept
  warned     the object is stored, but its Pods would be denied

",
        registry = format!("https://{host}"),
        store = format!("http://{}", demo.places.store),
        webhook = format!("https://{}", demo.webhook.address),
        policies = demo.texts.policies.lines().map(|line| format!("  {line}\n")).collect::<String>(),
    )
}
