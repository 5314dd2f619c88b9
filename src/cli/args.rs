//! Arguments as typed.

pub(super) mod imagemaker;
pub(super) mod load_sign;
pub(super) mod sign;
mod store;
mod verify;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::admission::{Enforcement, Templates};
use crate::controller::keys::KeyUrl;
use crate::domain::platform::Platform;

pub(super) use self::store::StoreCommand;
pub(super) use self::verify::{ConnectionArguments, ExplainCommand, VerifyCommand};
use self::verify::{EXPLAIN_HELP, VERIFY_HELP};

/// Lets only images with a trusted signature run.
#[derive(Debug, Parser)]
#[command(name = "podseal", version, max_term_width = 120, propagate_version = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Say more on standard error; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the admission webhook, and the controller that keeps its installation in order
    Serve(Box<ServeCommand>),
    /// Decide about Pods from files or about those of a cluster, as the webhook would
    #[command(after_help = "Exit status: 0 allowed, 1 denied, 2 could not decide, 64 wrong usage.")]
    Check(Box<CheckCommand>),
    /// Show on this machine what podseal does, with nothing installed
    #[command(after_help = "Exit status: 0 every answer was as it must be, 1 otherwise, 64 wrong usage.")]
    Demo(DemoCommand),
    /// Show the key files of a directory and the Secrets that are kept for them, or withdraw a key
    #[command(
        after_help = "Exit status: 0 nothing is amiss, 1 something is, 2 it could not be found out, 64 wrong usage."
    )]
    Keys(KeysCommand),
    /// Make policies of a containers-policy.json, or the nodes' configuration of policies
    #[command(after_help = CONVERT_HELP)]
    Convert(ConvertCommand),
    /// Verify the signatures of an image by hand, and record the outcome in the cluster if asked to
    #[command(after_help = VERIFY_HELP)]
    Verify(Box<VerifyCommand>),
    /// Explain the decision about an image: which policies govern, which keys count, what was found
    #[command(after_help = EXPLAIN_HELP)]
    Explain(Box<ExplainCommand>),
    /// Sign images in a registry, so that nodes and podseal accept them
    #[command(after_help = sign::SIGN_HELP)]
    Sign(Box<sign::SignCommand>),
    /// Push the images of an archive into a registry, and sign each
    #[command(after_help = load_sign::LOAD_SIGN_HELP)]
    LoadSign(Box<load_sign::LoadSignCommand>),
    /// Serve public keys and signatures of images, and take in signatures
    #[command(after_help = store::HELP)]
    Store(Box<StoreCommand>),
    /// Make the keys of those who sign images, and the policies that ask for them; renew and revoke them
    Imagemaker(imagemaker::ImagemakerCommand),
    /// Print the custom resource definitions
    Crds(CrdsCommand),
    /// Ask the API server, without leaving a trace, whether it has podseal judge the Pods of a namespace
    #[command(after_help = "Exit status: 0 they are judged, 1 they are not, 2 could not find out, 64 wrong usage.")]
    Probe(ProbeCommand),
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct KeysCommand {
    #[command(subcommand)]
    pub(super) action: Option<KeysAction>,
    #[command(flatten)]
    pub(super) list: KeysList,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeysAction {
    /// Show what a directory and the cluster hold, and how they stand to each other (the default)
    #[command(after_help = KEY_STATES)]
    List(KeysList),
    /// Delete the Secret that is kept for a key file
    ///
    /// The key counts no longer from then on. It comes back as soon as the controller finds the file (in its directory or
    /// at its address), so take the file away first; this is for the last key of a directory, and for files that went while
    /// nobody looked. Only a Secret of podseal's own is deleted, and only in the state that was looked at.
    Remove(KeysRemove),
}

/// Behind `podseal keys list --help`.
const KEY_STATES: &str = "\
States:
  in-sync       the Secret holds what the file does
  missing       there is no Secret yet; made by the controller, within a second or two
  differs       the Secret holds something else; put right by the controller
  orphan        a Secret whose file is not there; its keys still count: podseal keys remove
  foreign       a Secret of that name that is not podseal's, and is left alone
  unreadable    it cannot be told what the file holds; the Secret stays as it is
  no-key        the file holds no public key, and its Secret is emptied
  secret-key    the file holds secret key material, and its Secret is emptied
  refused       the file's name fits no Secret, or another file has its Secret
  not-compared  without --dir, or with --no-cluster

Exit status: 0 nothing is amiss, 1 something is, 2 it could not be found out, 64 wrong usage.";

#[derive(Debug, Args)]
pub(super) struct ClusterArguments {
    #[command(flatten)]
    pub(super) connection: ConnectionArguments,
    /// podseal's own namespace
    #[arg(long, value_name = "NAME", default_value = "registry-system", env = "PODSEAL_NAMESPACE", value_parser = name())]
    pub(super) own_namespace: String,
}

#[derive(Debug, Args)]
pub(super) struct KeysList {
    /// Key directory to compare with
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Look at the directory alone
    #[arg(long, requires = "dir")]
    pub(super) no_cluster: bool,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
}

#[derive(Debug, Args)]
pub(super) struct KeysRemove {
    /// The key file (group1.pgp), its name without extension (group1), or the Secret (sigstore-key-group1)
    #[arg(value_name = "NAME", value_parser = name())]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
}

#[derive(Debug, Args)]
pub(super) struct CrdsCommand {
    /// One kind, by its name, plural or short name; all without it
    #[arg(value_name = "KIND")]
    pub(super) kind: Option<String>,
}

/// Behind `podseal convert --help`.
const CONVERT_HELP: &str = "\
Examples:
  podseal convert --policy /etc/containers/policy.json --registries-d /etc/containers/registries.d > policies.yaml
  podseal convert --to containers -f policies.yaml --out nodes/
  podseal convert --to containers --cluster --out nodes/

What has no equivalent is never made looser, and named in notes.
Exit status: 0 converted, 1 it could not be converted, 64 wrong usage.";

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Target {
    /// Cluster policy, Secrets and ConfigMaps, as YAML on standard output
    Policies,
    /// A policy.json, registries.d and key files, for CRI-O, podman and skopeo
    Containers,
}

#[derive(Debug, Args)]
pub(super) struct ConvertCommand {
    /// What to make
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Target::Policies)]
    pub(super) to: Target,
    /// The containers-policy.json(5) to make policies of
    #[arg(long, value_name = "FILE", required_if_eq("to", "policies"), conflicts_with_all = ["filename", "cluster", "out"])]
    pub(super) policy: Option<PathBuf>,
    /// The registries.d directory beside it
    #[arg(long, value_name = "DIR", requires = "policy")]
    pub(super) registries_d: Option<PathBuf>,
    /// Name of the policy that is made, and beginning of the names of its Secrets
    #[arg(long, value_name = "NAME", default_value = "containers-policy", value_parser = object_name)]
    pub(super) name: String,
    /// Files or directories of policies, and the Secrets and ConfigMaps that they name
    #[arg(short, long, value_name = "FILE_OR_DIR", num_args = 1..)]
    pub(super) filename: Vec<PathBuf>,
    /// Take the policies of a cluster
    #[arg(long, conflicts_with = "filename")]
    pub(super) cluster: bool,
    /// New or empty directory for the nodes' files
    #[arg(long, value_name = "DIR", required_if_eq("to", "containers"))]
    pub(super) out: Option<PathBuf>,
    /// Where the key files will lie on the nodes
    #[arg(long, value_name = "DIR", default_value = "/etc/containers/podseal")]
    pub(super) node_keys: PathBuf,
    #[command(flatten)]
    pub(super) access: ClusterArguments,
}

#[derive(Debug, Args)]
pub(super) struct ProbeCommand {
    #[command(flatten)]
    pub(super) connection: ConnectionArguments,
    /// A namespace whose Pods are to be judged, and in which the caller may create Pods
    #[arg(short, long, value_name = "NAME", default_value = "default", value_parser = name())]
    pub(super) namespace: String,
    /// How long to go on asking
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct DemoCommand {
    /// Leave everything running until Ctrl-C, with files and commands to try it
    #[arg(long)]
    pub(super) keep: bool,
    /// New or empty directory for the files; without it a temporary one, removed at the end
    #[arg(long, value_name = "DIR", requires = "keep")]
    pub(super) dir: Option<PathBuf>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// What both `serve` and `check` need to verify.
#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    /// Directory of registries.d files that say where signatures of a registry are stored
    #[arg(long, value_name = "DIR")]
    pub(super) registries_d: Option<PathBuf>,
    /// Registry credentials of the administrator, in the form of ~/.docker/config.json
    #[arg(long, value_name = "FILE", visible_alias = "authfile")]
    pub(super) docker_config: Option<PathBuf>,
    /// PEM certificates trusted for every registry and signature store, besides the system's
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Sigstore trust root of this installation, as cosign trusted-root makes it, instead of the public one built in
    #[arg(long, value_name = "FILE")]
    pub(super) sigstore_trusted_root: Option<PathBuf>,
    /// Bring the public Sigstore's trust root up to date by TUF; what is built in serves until then
    #[arg(long, conflicts_with = "sigstore_trusted_root")]
    pub(super) sigstore_tuf: bool,
    /// Token service that may receive credentials of a registry on another host
    #[arg(long, value_name = "REGISTRY=HOST", value_parser = pair)]
    pub(super) token_realm: Vec<(String, String)>,
    /// Address that namespaced policies may lead to although it is loopback, link-local or an API server
    #[arg(long, value_name = "CIDR")]
    pub(super) allow_address: Vec<IpNet>,
    /// The longest one request to a registry or store may take, within the review's time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = some_time)]
    pub(super) request_timeout: Duration,
    /// Platform whose manifest must be signed in an image index that is not signed itself; without it every one must be
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(super) platform: Vec<Platform>,
    /// Requests in flight per registry or store
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count)]
    pub(super) per_upstream: usize,
    /// Verifications under way per namespace
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count)]
    pub(super) per_namespace: usize,
}

/// What both `serve` and `check` need to decide.
#[derive(Debug, Args)]
pub(super) struct DecisionArguments {
    /// podseal's own namespace: whitelist ConfigMap, synced keys
    #[arg(long, value_name = "NAME", default_value = "registry-system", env = "PODSEAL_NAMESPACE", value_parser = name())]
    pub(super) own_namespace: String,
    /// Deny images when no policy exists at all
    #[arg(long)]
    pub(super) deny_without_policy: bool,
    /// Let namespaced policies only tighten registries that a cluster policy names
    #[arg(long)]
    pub(super) restrict_namespaces: bool,
    /// Namespace whose Secrets and ConfigMaps every namespaced policy may name
    #[arg(long, value_name = "NAME", value_parser = name())]
    pub(super) shared_namespace: Vec<String>,
    /// Namespace that is never judged, besides podseal's own and kube-system
    #[arg(long, value_name = "NAME", value_parser = name())]
    pub(super) exempt_namespace: Vec<String>,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// Answers admission reviews
    Webhook,
    /// Keeps keys, status, certificates and webhook configurations in order
    Controller,
}

#[derive(Debug, Args)]
pub(super) struct ServeCommand {
    /// What this process does; several may be given, divided by commas
    #[arg(long, value_enum, value_name = "PART", value_delimiter = ',', default_value = "webhook,controller")]
    pub(super) run: Vec<Part>,
    /// Kubeconfig file; without it $KUBECONFIG, ~/.kube/config, or the Pod's service account
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Address of the webhook
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    pub(super) listen: SocketAddr,
    /// Address for probes and metrics over plain HTTP, besides the webhook's own
    #[arg(long, value_name = "ADDRESS")]
    pub(super) metrics_listen: Option<SocketAddr>,
    /// Secret of podseal's namespace with the serving certificate (tls.crt, tls.key), used as soon as it is there or changes
    #[arg(long, value_name = "NAME", conflicts_with_all = ["tls_cert", "tls_key"], value_parser = name())]
    pub(super) tls_secret: Option<String>,
    /// Serving certificate chain (PEM), read again when it changes
    #[arg(long, value_name = "FILE", default_value = "/etc/webhook/certs/tls.crt")]
    pub(super) tls_cert: PathBuf,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", default_value = "/etc/webhook/certs/tls.key")]
    pub(super) tls_key: PathBuf,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// Reviews in flight; more are turned away at once
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = count)]
    pub(super) max_in_flight: usize,
    /// How long a positive verdict is used again
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(super) verdict_ttl: Duration,
    /// How long a definite negative verdict is used again
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) negative_ttl: Duration,
    /// Namespace whose Secrets are watched as podseal's own are; elsewhere they are read one by one
    #[arg(long, value_name = "NAME", value_parser = name())]
    pub(super) watch_secrets: Vec<String>,
    /// Verdicts kept
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(super) verdicts: u64,
    /// Time between "not ready" and the end of accepting connections when stopping
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(super) drain_delay: Duration,
    /// What is done about Pod templates of Deployments, Jobs and the like
    #[arg(long, value_enum, default_value_t = Templates::Warn)]
    pub(super) templates: Templates,
    /// Whether what is denied is kept from running
    #[arg(long, value_enum, default_value_t = Enforcement::Enforce)]
    pub(super) enforcement: Enforcement,
    /// Tell of denials by Events on the owner of the Pod, or on its namespace
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true)]
    pub(super) events: bool,
    /// CA (PEM) of the clients that may ask for reviews; others get the probes alone
    #[arg(long, value_name = "FILE")]
    pub(super) client_ca: Option<PathBuf>,
    /// API server address that namespaced policies may not lead to, besides the one podseal itself uses
    #[arg(long, value_name = "IP")]
    pub(super) api_server_address: Vec<IpAddr>,
    #[command(flatten)]
    pub(super) controller: ControllerArguments,
    #[command(flatten)]
    pub(super) source: SourceArguments,
    #[command(flatten)]
    pub(super) decision: DecisionArguments,
}

/// What the controller keeps in order.
#[derive(Debug, Args)]
pub(super) struct ControllerArguments {
    /// Directory of key files, each kept as a Secret of podseal's namespace; without it no keys are synced
    #[arg(long, value_name = "DIR")]
    pub(super) keys_dir: Option<PathBuf>,
    /// URL of a key file, kept as if it lay in the key directory
    #[arg(long, value_name = "URL")]
    pub(super) keys_url: Vec<KeyUrl>,
    /// Make a CA and a serving certificate and keep them in this Secret, the CA's key in NAME-ca; without it none are made
    #[arg(long, value_name = "NAME", value_parser = name())]
    pub(super) certificate_secret: Option<String>,
    /// Secret whose ca.crt goes into the webhook configurations; without it the one of --certificate-secret
    #[arg(long, value_name = "NAME", value_parser = name())]
    pub(super) ca_secret: Option<String>,
    /// Service of the webhook: names in its certificate, and whether anybody answers
    #[arg(long, value_name = "NAME", default_value = "podseal", value_parser = name())]
    pub(super) webhook_service: String,
    /// Webhook configurations (YAML) to put into the existing ones once the webhook is ready; without it none are touched
    #[arg(long, value_name = "FILE")]
    pub(super) webhooks_file: Option<PathBuf>,
    /// Replace custom resource definitions that are older than this version
    #[arg(long)]
    pub(super) manage_crds: bool,
    /// Make unverified records of the signatures that configured stores have for images in use
    #[arg(long)]
    pub(super) import_signatures: bool,
    /// Between two rounds of it
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = some_time, hide = true)]
    pub(super) import_interval: Duration,
    /// How long an imported signature stays after its image was last in use
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration, hide = true)]
    pub(super) import_keep: Duration,
    /// Lease by which one of several controllers leads
    #[arg(long, value_name = "NAME", default_value = "podseal-controller", value_parser = name())]
    pub(super) lease: String,
    /// Lifetime of a CA that is made; it is replaced after two thirds
    #[arg(long, value_name = "TIME", default_value = "87600h", value_parser = duration, hide = true)]
    pub(super) ca_lifetime: Duration,
    /// Lifetime of a serving certificate that is made; it is replaced after two thirds
    #[arg(long, value_name = "TIME", default_value = "2160h", value_parser = duration, hide = true)]
    pub(super) certificate_lifetime: Duration,
    /// How long a change of trust is given to reach every API server
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration, hide = true)]
    pub(super) propagation: Duration,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
}

#[derive(Debug, Args)]
pub(super) struct CheckCommand {
    /// File of Pods, Lists or objects with Pod templates, YAML or JSON; - is standard input
    #[arg(short, long, value_name = "FILE", num_args = 1.., required_unless_present_any = ["image", "cluster"])]
    pub(super) filename: Vec<PathBuf>,
    /// File or directory of policies, the whitelist ConfigMap, and the Secrets they name
    #[arg(long, value_name = "FILE_OR_DIR", num_args = 1..)]
    pub(super) policy: Vec<PathBuf>,
    /// Decide about the Pods that run in a cluster, by its own policies, whitelist and Secrets; --policy replaces policies
    #[arg(long, conflicts_with_all = ["filename", "image"])]
    pub(super) cluster: bool,
    /// Kubeconfig file of the cluster; without it $KUBECONFIG, ~/.kube/config, or the Pod's service account
    #[arg(long, value_name = "FILE", conflicts_with_all = ["filename", "image"])]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without it the current one
    #[arg(long, value_name = "NAME", value_parser = name(), conflicts_with_all = ["filename", "image"])]
    pub(super) context: Option<String>,
    /// Look at the Pods of all namespaces, which is what happens without --namespace; with kubectl podseal only so
    #[arg(short = 'A', long, requires = "cluster", conflicts_with = "namespace")]
    pub(super) all_namespaces: bool,
    /// Print the allowed images of a cluster, too; JSON has them always
    #[arg(long, conflicts_with_all = ["filename", "image"])]
    pub(super) all: bool,
    /// Namespace of objects that name none, "default" without it; with --cluster the only one that is looked at
    #[arg(short, long, value_name = "NAME", value_parser = name())]
    pub(super) namespace: Option<String>,
    /// Decide by a containers-policy.json(5) as nodes do, with --registries-d, in place of policies and whitelist
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "cluster", "kubeconfig", "context", "all"])]
    pub(super) containers_policy: Option<PathBuf>,
    /// Registry that may speak plain HTTP or have a TLS certificate that cannot be verified
    #[arg(long, value_name = "HOST[:PORT]", requires = "containers_policy")]
    pub(super) insecure_registry: Vec<String>,
    /// Image to decide about, as if a Pod named it
    #[arg(long, value_name = "REF", num_args = 1..)]
    pub(super) image: Vec<String>,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
    /// Time for the decision about one image
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) source: SourceArguments,
    #[command(flatten)]
    pub(super) decision: DecisionArguments,
}

/// A name: of a namespace, for example.
fn name() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

/// A name of objects, to which endings are put: an RFC 1123 subdomain with room for them.
fn object_name(text: &str) -> Result<String, String> {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        part.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
            && !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= 200 && text.split('.').all(part) {
        return Ok(text.to_owned());
    }
    Err("expected a name of Kubernetes objects: at most 200 lower-case letters, digits, - and .".to_owned())
}

/// A number of things of which there must be one at least, for anything to happen at all.
fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number from 1".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((registry, host)) if !registry.is_empty() && !host.is_empty() => {
            Ok((registry.to_owned(), host.to_owned()))
        }
        _ => Err("expected REGISTRY=HOST".to_owned()),
    }
}

/// A time within which something is to be done: with none, nothing ever is.
fn some_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() { Err("expected a time above 0".to_owned()) } else { Ok(time) }
}

/// `500ms`, `5s`, `1m30s`, as Go and Kubernetes write durations.
fn duration(text: &str) -> Result<Duration, String> {
    crate::webhook::parse_go_duration(text).ok_or_else(|| "expected a time such as 500ms, 5s or 1m30s".to_owned())
}
