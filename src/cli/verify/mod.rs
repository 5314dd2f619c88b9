//! `podseal verify`: the signatures of one image by hand, and the outcome as a record in the cluster.

mod keyring;
pub(super) mod report;
mod save;
mod sources;

use std::process::ExitCode;
use std::time::SystemTime;

use kube::{Client, ResourceExt as _};

use self::report::Row;
use self::sources::{Question, Sources, unknown};
use super::args::{Format, LogFormat, VerifyCommand};
use super::output::{complain, print};
use super::{USAGE, runtime};
use crate::api::image_signature::ImageSignature;
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::FaultKind;
use crate::records::cluster::Records;
use crate::records::collect::{Collected, Found};
use crate::records::examine::{self, Examined};
use crate::records::hold;
use crate::records::object;
use crate::records::plan::{Judged, plan};
use crate::signature::openpgp::Keyring;

const NOT_VERIFIED: u8 = 1;
const UNKNOWN: u8 = 2;

/// Why there is no verdict.
enum Trouble {
    /// It was asked wrongly.
    Usage(String),
    /// It could not be found out.
    Unknown(String),
}

/// `plugin`: as `kubectl podseal`, so that records of the cluster are looked at without --save, too.
pub(super) fn run(command: &VerifyCommand, plugin: bool, verbose: u8) -> ExitCode {
    let _logs = super::serve::logs(LogFormat::Text, verbose, "error");
    let done = runtime().map_err(Trouble::Unknown).and_then(|runtime| runtime.block_on(verify(command, plugin)));
    let (message, code) = match done {
        Ok(code) => return code,
        Err(Trouble::Usage(message)) => (message, USAGE),
        Err(Trouble::Unknown(message)) => (message, UNKNOWN),
    };
    complain(&message);
    ExitCode::from(code)
}

/// The cluster's records of the image, if they are looked at.
struct Cluster {
    client: Client,
    records: Records,
    /// Of the digest, of whatever repository; read after the store, whose signatures say which are expected.
    known: Vec<ImageSignature>,
}

impl Cluster {
    /// Reads the records of a digest, above all those of these signatures.
    async fn read(&mut self, digest: &Digest, repository: &Repository, found: &[Found]) -> Result<(), String> {
        let expected = found.iter().filter_map(|one| object::name(digest, repository, one.blob.as_deref().ok()?));
        let recorded = self.records.of(digest, &expected.collect()).await?;
        if recorded.more {
            complain(&format!("there are more imagesignatures of {digest} than are looked at: delete some"));
        }
        self.known = recorded.records;
        Ok(())
    }
}

async fn verify(command: &VerifyCommand, plugin: bool) -> Result<ExitCode, Trouble> {
    let question = Question::of(command)?;
    let sources = Sources::of(command, &question.image)?;
    let keyring = keys(command).await?;
    let digest = sources.digest(&question.image).await?;
    question.agrees(&digest)?;
    let mut cluster = cluster(command, plugin, &digest).await?;
    let Collected { found, more } = collect(command, &sources, &question, &digest, &mut cluster).await?;
    let asked = examine::Question::new(&keyring, &digest, &question.image, &question.identity, SystemTime::now());
    let (rows, judged): (Vec<Row>, Vec<Judged>) = found.into_iter().map(|one| judge(&asked, one)).unzip();
    let verified = rows.iter().any(Row::verified);
    if more && !verified {
        print_rows(command, &digest, &rows, None);
        let message =
            "there are more signatures than are looked at, and none of the first verified: nothing is recorded";
        return Err(Trouble::Unknown(message.to_owned()));
    }
    let changes = match cluster.filter(|_| command.save) {
        Some(Cluster { client, records, known }) => {
            let steps = plan(&digest, question.image.repository(), &judged, &known);
            Some(save::carry_out(&client, &records, &steps, command.dry_run).await)
        }
        None => None,
    };
    print_rows(command, &digest, &rows, changes.as_deref());
    let failed = changes.iter().flatten().any(save::Change::failed);
    Ok(match (failed, verified) {
        (true, _) => ExitCode::from(UNKNOWN),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(NOT_VERIFIED),
    })
}

/// The keys, read off the threads that wait for the network.
async fn keys(command: &VerifyCommand) -> Result<Keyring, Trouble> {
    let files = command.public_key.clone();
    let loading = tokio::task::spawn_blocking(move || keyring::load(&files)).await;
    let (keyring, problems) = loading.map_err(|_| Trouble::Unknown("the keys could not be read".to_owned()))??;
    for problem in &problems {
        complain(problem);
    }
    Ok(keyring)
}

fn judge(asked: &examine::Question<'_>, one: Found) -> (Row, Judged) {
    let examined = match &one.blob {
        Ok(blob) => asked.examine(blob),
        Err(why) => Examined::unreadable(why.clone()),
    };
    let row = Row::new(&one.place, &examined);
    (row, Judged { blob: one.blob.ok().map(|blob| blob.to_vec()), store: one.store, examined })
}

fn print_rows(command: &VerifyCommand, digest: &Digest, rows: &[Row], changes: Option<&[save::Change]>) {
    let (expected, dry_run) = (&command.expected_identity, command.dry_run);
    match command.output {
        Format::Json => print(&report::json(digest, expected, rows, changes, dry_run)),
        Format::Table => print(&report::text(digest, expected, rows, changes, dry_run)),
    }
}

/// Reads the records. With --save they are needed; a plugin says that it could not read them and goes on.
async fn cluster(command: &VerifyCommand, plugin: bool, digest: &Digest) -> Result<Option<Cluster>, Trouble> {
    if !command.save && !plugin {
        return Ok(None);
    }
    match connect(command, digest).await {
        Ok(cluster) => Ok(Some(cluster)),
        Err(why) if command.save => Err(Trouble::Unknown(why)),
        Err(why) => {
            left_out(&why);
            Ok(None)
        }
    }
}

async fn connect(command: &VerifyCommand, digest: &Digest) -> Result<Cluster, String> {
    if object::prefix(digest).is_none() {
        return Err(format!("{digest}: signatures of such digests are not recorded"));
    }
    let config = super::serve::kube_config_of(&command.cluster).await?;
    let client = Client::try_from(config).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
    Ok(Cluster { records: Records::new(client.clone()), client, known: Vec::new() })
}

/// What store or registry have, and after it what only the cluster has for the same repository. Without any place to look
/// at, records alone will do; one that cannot be reached is no empty one.
async fn collect(
    command: &VerifyCommand,
    sources: &Sources,
    question: &Question,
    digest: &Digest,
    cluster: &mut Option<Cluster>,
) -> Result<Collected, Trouble> {
    let asked = sources.signatures(digest).await;
    let nowhere = matches!(&asked, Err(fault) if fault.kind() == FaultKind::Configuration);
    let mut collected = match &asked {
        Ok(collected) => collected.clone(),
        Err(_) if nowhere && cluster.is_some() => Collected::default(),
        Err(fault) => return Err(unknown(fault)),
    };
    let repository = question.image.repository();
    if let Some(reading) = cluster {
        let read = reading.read(digest, repository, &collected.found);
        let read = tokio::time::timeout(command.timeout, read).await;
        match read.unwrap_or_else(|_| Err("the API server does not answer".to_owned())) {
            Ok(()) => {}
            Err(why) if command.save => return Err(Trouble::Unknown(why)),
            Err(why) => {
                left_out(&why);
                *cluster = None;
            }
        }
    }
    let recorded = cluster.iter().flat_map(|cluster| &cluster.known);
    let counts = |record: &&ImageSignature| object::is_of(record, repository) && !hold::is_going(record);
    let recorded: Vec<_> = recorded.filter(counts).collect();
    if let Err(fault) = asked {
        if recorded.is_empty() {
            return Err(unknown(&fault));
        }
        complain(&format!("{fault}; what is recorded in the cluster is looked at"));
    }
    for record in recorded {
        let blob = object::blob(record);
        let is_known = |one: &Found| matches!((&one.blob, &blob), (Ok(known), Ok(blob)) if **known == **blob);
        if !collected.found.iter().any(is_known) {
            let place = format!("recorded as imagesignature {}", record.name_any());
            let store = record.spec.store.clone();
            collected.found.push(Found { blob: blob.map(Into::into), place, store });
        }
    }
    Ok(collected)
}

fn left_out(why: &str) {
    complain(&format!("records of the cluster are left out: {why}"));
}
