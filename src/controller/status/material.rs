//! What a Secret holds for an entry: keys and the names of their holders, or certificates.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::future::Cache;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;

use crate::cluster::SecretData;
use crate::signature::cosign::PublicKeys;
use crate::signature::keyless::TrustRoot;
use crate::signature::openpgp::{KeyInfo, Keyring};
use crate::verify::{COSIGN_PUB, TRUSTED_ROOT};

/// Bytes of the Secrets whose description is kept.
const CAPACITY: u64 = 8 << 20;
const OVERHEAD: usize = 1024;
const IDLE: Duration = Duration::from_secs(2 * 3600);
/// After so long, validity is judged anew even if nothing expires: a key may become valid, or a clock may be set.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
/// Past the end of a key, so that it has really ended when it is looked at.
const AFTER: Duration = Duration::from_secs(1);
/// Names and remarks of one Secret, at most.
const MAX_TEXTS: usize = 100;

/// What a Secret is named for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Purpose {
    Cosign,
    Gpg,
    Certificates,
    TrustRoot,
}

impl Purpose {
    pub(super) const ALL: [Self; 4] = [Self::Cosign, Self::Gpg, Self::Certificates, Self::TrustRoot];

    /// The field of an entry that names it.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Cosign => "cosignKeyRef",
            Self::Gpg => "gpgKeyRef",
            Self::Certificates => "caRef",
            Self::TrustRoot => "cosign.trustRootRef",
        }
    }

    /// The key of what may be a `ConfigMap` as well as a Secret.
    pub(super) fn object_key(self) -> Option<&'static str> {
        match self {
            Self::Cosign | Self::Gpg => None,
            Self::Certificates => Some("ca.crt"),
            Self::TrustRoot => Some(TRUSTED_ROOT),
        }
    }
}

/// One public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) fingerprint: String,
    /// The key in the Secret's data.
    pub(super) file: String,
    pub(super) expires: Option<SystemTime>,
    /// Why it verifies nothing now, and whether expiry is all that is wrong with it.
    pub(super) unusable: Option<(String, bool)>,
}

/// What a Secret was found to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Material {
    pub(super) keys: Vec<Key>,
    /// Names of holders beside their fingerprints.
    pub(super) signers: Vec<String>,
    /// Addresses that name nobody, because different key files carry them.
    pub(super) ambiguous: Vec<String>,
    /// What was left out and why. It names what else lies in the Secret.
    pub(super) problems: Vec<String>,
    /// Certificates in `ca.crt`.
    pub(super) certificates: usize,
    /// Why `trusted_root.json` cannot be used.
    pub(super) bad_root: Option<String>,
    /// When it has to be looked at again.
    pub(super) until: Option<SystemTime>,
}

impl Material {
    /// Reads a Secret. Takes time on a processor.
    pub(super) fn read(purpose: Purpose, secret: &SecretData, now: SystemTime) -> Self {
        let mut material = match purpose {
            Purpose::Gpg => Self::gpg(secret, now),
            Purpose::Cosign => Self::cosign(secret),
            Purpose::Certificates => Self::certificates(secret),
            Purpose::TrustRoot => Self::trust_root(secret),
        };
        material.problems.truncate(MAX_TEXTS);
        material.signers.truncate(MAX_TEXTS);
        material.ambiguous.truncate(MAX_TEXTS);
        let ends = material.keys.iter().filter_map(|key| key.expires).filter(|end| *end >= now).map(|end| end + AFTER);
        material.until = ends.chain([now + LONGEST]).min();
        material
    }

    fn gpg(secret: &SecretData, now: SystemTime) -> Self {
        let files = secret.data.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref()));
        let (keyring, problems) = Keyring::from_files(files);
        let infos = keyring.keys(now);
        let mut signers: Vec<String> = infos.iter().flat_map(|info| info.addresses.iter().cloned()).collect();
        signers.extend(infos.iter().map(|info| info.file.clone()));
        signers.sort();
        signers.dedup();
        let ambiguous = keyring.ambiguous_addresses();
        let keys = infos.into_iter().map(key).collect();
        Self { keys, signers, ambiguous, problems, ..Self::default() }
    }

    fn cosign(secret: &SecretData) -> Self {
        let pem = secret.data.get(COSIGN_PUB).map_or(&b""[..], |bytes| bytes.as_ref());
        let (keys, problems) = PublicKeys::from_pem(pem);
        let key = |fingerprint: String| Key {
            fingerprint: format!("sha256:{fingerprint}"),
            file: COSIGN_PUB.to_owned(),
            expires: None,
            unusable: None,
        };
        let problems = problems.into_iter().map(|problem| format!("{COSIGN_PUB}: {problem}")).collect();
        Self { keys: keys.fingerprints().into_iter().map(key).collect(), problems, ..Self::default() }
    }

    fn certificates(object: &SecretData) -> Self {
        let pem = object.data.get("ca.crt").map_or(&b""[..], |bytes| bytes.as_ref());
        let certificates = CertificateDer::pem_slice_iter(pem).take(1000).flatten().count();
        Self { certificates, ..Self::default() }
    }

    fn trust_root(object: &SecretData) -> Self {
        let json = object.data.get(TRUSTED_ROOT).map_or(&b""[..], |bytes| bytes.as_ref());
        Self { bad_root: TrustRoot::parse(json).err(), ..Self::default() }
    }
}

fn key(info: KeyInfo) -> Key {
    // A revoked key may have expired besides; what its owner said of it counts for more, and is what is reported.
    let unusable = info.unusable.map(|why| {
        let only_expired = why.split("; ").all(|reason| reason.contains(" expired on "));
        (why, only_expired)
    });
    Key { fingerprint: info.fingerprint, file: info.file, expires: info.expires, unusable }
}

/// Descriptions by the hash of what they describe: many policies name the same few Secrets.
#[derive(Debug)]
pub(super) struct Materials {
    known: Cache<(Purpose, [u8; 32]), (Arc<Material>, u32)>,
    /// Places for Secrets of the administrator and for those of namespaces: the latter may be made to cost time.
    places: [Semaphore; 2],
}

impl Materials {
    pub(super) fn new() -> Self {
        let weigh = |_: &(Purpose, [u8; 32]), (_, bytes): &(Arc<Material>, u32)| *bytes;
        Self {
            known: Cache::builder().max_capacity(CAPACITY).weigher(weigh).time_to_idle(IDLE).build(),
            places: [Semaphore::new(1), Semaphore::new(1)],
        }
    }

    /// What the Secret holds, as of now. `None` after a panic of the reader.
    pub(super) async fn of(&self, purpose: Purpose, secret: &Arc<SecretData>, tenant: bool) -> Option<Arc<Material>> {
        let key = (purpose, secret.hash);
        if let Some((material, _)) = self.known.get(&key).await {
            if material.until.is_some_and(|until| until > SystemTime::now()) {
                return Some(material);
            }
            self.known.invalidate(&key).await;
        }
        let reading = async {
            let place = if tenant { &self.places[1] } else { &self.places[0] };
            let _place = place.acquire().await;
            let secret = secret.clone();
            let bytes = secret.data.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() + OVERHEAD;
            let read = move || Material::read(purpose, &secret, SystemTime::now());
            let material = tokio::task::spawn_blocking(read).await.map_err(|_| ())?;
            Ok::<_, ()>((Arc::new(material), u32::try_from(bytes).unwrap_or(u32::MAX)))
        };
        self.known.try_get_with(key, reading).await.ok().map(|(material, _)| material)
    }
}
