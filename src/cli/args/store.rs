//! Arguments of `podseal store`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{LogFormat, count, duration};

/// Behind `podseal store --help`.
pub(in crate::cli) const HELP: &str = "\
Examples:
  podseal store --dir /var/sigstore --listen :81
  podseal store --listen :443 --tls-cert tls.crt --tls-key tls.key --htpasswd users
  podseal store --listen :8080 --kubernetes-auth

Everybody may read. Who may write proves who they are by a client certificate (--client-ca), a user and password
(--htpasswd), or a token of the cluster of somebody who may create imagesignatures.podseal.io (--kubernetes-auth);
without any of these the store is read-only.
Exit status: 0 stopped in order, 1 it could not start, 64 wrong usage.";

#[derive(Debug, Args)]
pub(in crate::cli) struct StoreCommand {
    /// Folder with keys/ and sigstore/, which is made if it is missing
    #[arg(long, value_name = "DIR", default_value = "/var/sigstore")]
    pub(in crate::cli) dir: PathBuf,
    /// Address to listen on; :81 is port 81 of every IPv4 address, [::]:81 of every address
    #[arg(long, value_name = "ADDRESS", default_value = ":81", value_parser = address)]
    pub(in crate::cli) listen: SocketAddr,
    /// Address for probes and metrics over plain HTTP
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(in crate::cli) metrics_listen: Option<SocketAddr>,
    /// Serving certificate chain (PEM), read again when it changes; without it the store speaks plain HTTP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(in crate::cli) tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(in crate::cli) tls_key: Option<PathBuf>,
    /// Whoever has a client certificate of this CA (PEM) may write
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(in crate::cli) client_ca: Option<PathBuf>,
    /// Users of this file, made with htpasswd -B, may write; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) htpasswd: Option<PathBuf>,
    /// Whoever may create imagesignatures.podseal.io in the cluster may write, with their token
    #[arg(long)]
    pub(in crate::cli) kubernetes_auth: bool,
    /// Kubeconfig file for --kubernetes-auth; without it $KUBECONFIG, ~/.kube/config, or the Pod's service account
    #[arg(long, value_name = "FILE", requires = "kubernetes_auth")]
    pub(in crate::cli) kubeconfig: Option<PathBuf>,
    /// Take signatures alone that an OpenPGP key in keys/ verifies
    #[arg(long)]
    pub(in crate::cli) known_keys_only: bool,
    /// Signatures kept of one image; readers look at no more than 128
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = up_to::<128>)]
    pub(in crate::cli) max_signatures: usize,
    /// Bytes of one signature; readers take 4194304
    #[arg(long, value_name = "BYTES", default_value_t = 65536, value_parser = up_to::<4_194_304>)]
    pub(in crate::cli) max_size: usize,
    /// Signatures kept in all
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = count)]
    pub(in crate::cli) max_total: usize,
    /// Time between "not ready" and the end of accepting connections when stopping
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(in crate::cli) drain_delay: Duration,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(in crate::cli) log_format: LogFormat,
}

/// `:81`, or an address with a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| "expected a port such as :81, or an address such as 127.0.0.1:81 or [::]:81".to_owned())
}

fn up_to<const MAX: usize>(text: &str) -> Result<usize, String> {
    count(text).ok().filter(|number| *number <= MAX).ok_or_else(|| format!("expected a number from 1 to {MAX}"))
}
