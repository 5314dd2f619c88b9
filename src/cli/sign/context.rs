//! What the arguments say, checked, before anything is done: the key opened, the destination found, the way set up.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sequoia_openpgp::crypto::mem::Protected;

use crate::cli::args::sign::{CosignFormat, DestinationArguments, KeyArguments, RegistryArguments};
use crate::cli::imagemaker::Failure;
use crate::cli::imagemaker::prompt::Terminal;
use crate::cli::logins;
use crate::cli::output::complain;
use crate::cli::sign::{Failed, certificate};
use crate::domain::image::{ImageRef, Repository};
use crate::domain::printable::printable;
use crate::signing::cosign::{CosignKey, Form, MAX_KEY_FILE};
use crate::signing::deposit::{Depot, Destination, Line};
use crate::signing::gnupg::{Gnupg, GnupgError, Passphrase, Secret};
use crate::signing::makers::{Maker, Makers};
use crate::signing::secret_file::SecretFile;
use crate::signing::signer::{Keys, Signer, is_address};
use crate::source::SourceConfig;
use crate::source::access::Transport;
use crate::source::certificate::{ClientCertificate, Presented};
use crate::source::lookaside::StoreWriter;
use crate::source::registries_d::RegistriesD;
use crate::source::registry::Upstream;
use crate::store::disk::{DirLimits, SignatureDir};

/// Bytes of a file with credentials, certificates or a token.
const MAX_FILE: u64 = 4 << 20;

/// The way to registry and store.
pub(in crate::cli) fn line(arguments: &RegistryArguments) -> Result<Line, String> {
    let extra_ca = arguments.ca.as_deref().map(|path| read("--ca", path)).transpose()?;
    let upstream = Upstream::new(SourceConfig {
        token_realms: arguments.token_realm.clone(),
        extra_ca,
        request_timeout: arguments.timeout,
        ..SourceConfig::default()
    })
    .map_err(|why| match &arguments.ca {
        Some(path) => format!("--ca {}: {why}", path.display()),
        None => why,
    })?;
    let transport = Transport { insecure: arguments.insecure, ..Transport::default() };
    let keychain = Arc::new(logins::keychain("--authfile", arguments.authfile.as_deref())?);
    Ok(Line { upstream: Arc::new(upstream), transport, keychain, timeout: arguments.timeout })
}

/// The keys that sign. Those for simple signatures and cosign's may be wanted together.
pub(in crate::cli) struct SigningKeys {
    pub(in crate::cli) simple: Option<Arc<Signer>>,
    pub(in crate::cli) cosign: Option<(CosignKey, Form)>,
}

impl SigningKeys {
    /// Opens them now, so that a wrong passphrase stops everything before anything is done.
    pub(in crate::cli) fn open(arguments: &KeyArguments) -> Result<Self, String> {
        Ok(Self { simple: signer(arguments)?, cosign: cosign_key(arguments)? })
    }
}

fn cosign_key(arguments: &KeyArguments) -> Result<Option<(CosignKey, Form)>, String> {
    let Some(path) = &arguments.cosign_key else { return Ok(None) };
    let file = SecretFile::read(path, MAX_KEY_FILE).map_err(|why| format!("--cosign-key {}: {why}", path.display()))?;
    let key = CosignKey::read(&file, || cosign_password(arguments)).map_err(|error| error.to_string())?;
    let form = match arguments.cosign_format {
        CosignFormat::Bundle => Form::Bundle,
        CosignFormat::Legacy => Form::Legacy,
    };
    Ok(Some((key, form)))
}

/// From its file, or as cosign itself takes it, from the environment.
fn cosign_password(arguments: &KeyArguments) -> Result<Protected, String> {
    if let Some(path) = &arguments.cosign_password_file {
        return Secret::read(path).map(|secret| secret.bytes()).map_err(|error| error.to_string());
    }
    let set = std::env::var_os("COSIGN_PASSWORD").map(|text| Protected::from(text.into_encoded_bytes()));
    match set {
        Some(password) => Ok(password),
        None => asked("Password", "--cosign-password-file, or in COSIGN_PASSWORD").map(|secret| secret.bytes()),
    }
}

/// What somebody at a terminal types; without one, the way out.
fn asked(what: &str, how: &str) -> Result<Secret, String> {
    match Terminal::open() {
        Some(mut terminal) => terminal.secret(what).map_err(Failure::text),
        None => Err(format!("it has a passphrase, and there is no terminal to ask for it: give it with {how}")),
    }
}

fn signer(arguments: &KeyArguments) -> Result<Option<Arc<Signer>>, String> {
    let Some(name) = &arguments.sign_by else { return Ok(None) };
    let passphrase = arguments.passphrase_file.clone().map_or(Passphrase::Agent, Passphrase::File);
    let mut ask = |what: &str| asked(what, "--passphrase-file").map_err(GnupgError::Passphrase);
    let makers = makers(&arguments.dir, name)?;
    let gnupg = Gnupg::new(arguments.gnupg_home.clone());
    let keys = Keys { gnupg, passphrase, makers: &makers, ask: &mut ask };
    let signer = Signer::open(name, keys, SystemTime::now()).map_err(|error| format!("--sign-by {name}: {error}"))?;
    for note in signer.notes() {
        complain(&printable(&format!("--sign-by {name}: {note}")));
    }
    Ok(Some(Arc::new(signer)))
}

/// The image makers of this host. Only an address can be that of several keys, between which they decide; for others a
/// registry that cannot be read is no reason to sign nothing.
fn makers(dir: &Path, name: &str) -> Result<Vec<Maker>, String> {
    match Makers::read(dir) {
        Ok(makers) => Ok(makers.list().to_vec()),
        Err(why) if is_address(name) => Err(format!("--dir: {why}")),
        Err(why) => {
            complain(&printable(&format!("--dir: {why}; whether the key is retiring or revoked is not looked at")));
            Ok(Vec::new())
        }
    }
}

/// Where signatures of images go, as far as the arguments alone say it.
pub(in crate::cli) struct Destinations {
    line: Line,
    fixed: Option<Destination>,
    registries_d: Option<RegistriesD>,
    /// For the registry, which is the store then.
    certificate: Option<Arc<ClientCertificate>>,
    /// For the store of --upload.
    presented: Option<Presented>,
}

impl Destinations {
    /// Checks the arguments; a folder that is named must be there.
    pub(in crate::cli) fn new(arguments: &DestinationArguments, line: Line) -> Result<Self, String> {
        let (mut fixed, mut registries_d, mut presented) = (None, None, None);
        let mut certificate = certificate::given(arguments)?;
        if let Some(folder) = &arguments.staging {
            let opened = SignatureDir::open(folder, DirLimits::default());
            fixed = Some(Destination::Folder(opened.map_err(|error| format!("--staging: {error}"))?));
        } else if let Some(url) = &arguments.upload {
            let writer = writer(url, arguments.token_file.as_deref(), &line)?;
            let shown = certificate.take().map(|certificate| certificate::for_store(&certificate, writer.store()));
            presented = shown.transpose()?;
            fixed = Some(Destination::Upload(writer));
        } else if arguments.extension {
            fixed = Some(Destination::Registry);
        } else {
            let usual = || usual_registries_d().into_iter().find(|path| path.is_dir());
            let folder = arguments.registries_d.clone().or_else(usual);
            registries_d = folder.as_deref().map(RegistriesD::load).transpose()?;
        }
        Ok(Self { line, fixed, registries_d, certificate, presented })
    }

    /// The way to the registry of a repository.
    pub(in crate::cli) fn line(&self, repository: &Repository) -> Line {
        let mut line = self.line.clone();
        let certificate = self.certificate.as_ref();
        line.transport.certificate = certificate.and_then(|shown| Presented::to_registry(shown, repository));
        line
    }

    /// Where signatures of an image go. `identity` decides in registries.d, as the name that nodes will ask for.
    pub(in crate::cli) async fn of(&self, identity: &ImageRef, repository: &Repository) -> Result<Depot, Failed> {
        let depot = |destination| Depot { line: self.line(repository), destination };
        if let Some(fixed) = &self.fixed {
            let mut depot = depot(fixed.clone());
            if let Destination::Upload(_) = fixed {
                depot.line.transport.certificate.clone_from(&self.presented);
            }
            return Ok(depot);
        }
        let staging = self.registries_d.as_ref().map(|stores| stores.staging(identity)).transpose()?.flatten();
        if let Some(folder) = staging {
            let opened = SignatureDir::create(&folder, DirLimits::default());
            return Ok(depot(Destination::Folder(opened.map_err(|error| format!("lookaside-staging: {error}"))?)));
        }
        if self.line.upstream.offers_signatures(repository, &self.line.access()).await? {
            return Ok(depot(Destination::Registry));
        }
        let nowhere = format!(
            "nothing says where signatures of {identity} go: give --staging FOLDER or --upload URL, or configure \
             lookaside-staging in registries.d"
        );
        Err(nowhere.into())
    }
}

fn writer(url: &str, token_file: Option<&Path>, line: &Line) -> Result<StoreWriter, String> {
    let writer = StoreWriter::new(url).map_err(|why| format!("--upload {url}: {why}"))?;
    let Some(path) = token_file else { return Ok(writer.with_keychain(&line.keychain)) };
    let bytes = read("--token-file", path)?;
    // The kubelet writes tokens that all in a container may read, so that this is no reason to stop.
    if std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.mode() & 0o077 != 0) {
        complain(&format!("--token-file {}: others may read this token: chmod 600", path.display()));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("--token-file {}: not text", path.display()))?;
    writer.with_token(text.trim()).map_err(|why| format!("--token-file {}: {why}", path.display()))
}

/// As containers/image: the user's own directory, where there is one, else the system's.
fn usual_registries_d() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own = home.map(|home| home.join(".config/containers/registries.d"));
    own.into_iter().chain([PathBuf::from("/etc/containers/registries.d")]).collect()
}

/// A small file; the error names the argument.
pub(in crate::cli) fn read(argument: &str, path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let failed = |why: &dyn std::fmt::Display| format!("{argument} {}: {why}", path.display());
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_FILE { Err(failed(&"larger than 4 MiB")) } else { Ok(bytes) }
}
