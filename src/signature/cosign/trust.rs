//! One cosign signature or attestation against everything that a check trusts: keys, or certificates with their evidence.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bundle::{self, Material, Signed};
use super::dsse::Envelope;
use super::key::PublicKey;
use super::{MAX_SIGNED, PublicKeys, decode_signature, json, legacy, statement};
use crate::domain::digest::Digest;
use crate::domain::keyless::Certified;
use crate::signature::SignatureError;
use crate::signature::json::malformed;
use crate::signature::keyless::{Binding, Content, Evidence, LegacyEvidence, TrustRoot};

/// Bytes of a statement when attestations are asked for.
const MAX_ATTESTED: usize = 1 << 20;

/// Whom a check trusts, and with what evidence.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Keys; may be empty.
    pub keys: &'a PublicKeys,
    /// What logs and certificates are verified with. Without it nothing counts that needs one.
    pub root: Option<&'a TrustRoot>,
    /// Whether signatures by keys need proof of a log entry.
    pub log_for_keys: bool,
    /// Whether certificates count, and with what evidence.
    pub keyless: Option<Evidence>,
    /// Whether attestations are read. Otherwise they are refused by their type.
    pub attestations: bool,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// A configured key: SHA-256 of its `SubjectPublicKeyInfo`, lower-case hexadecimal.
    Key(String),
    /// The one whom a verified certificate names. Whether he may sign is for the caller to say.
    Certificate(Certified),
}

/// What was signed, for the image in question.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// A signature.
    Signature {
        /// Signed annotations: the payload's `optional` strings, or the statement's subject annotations.
        annotations: BTreeMap<String, String>,
        /// The name it was made for; only legacy signatures carry one.
        reference: Option<String>,
    },
    /// Another in-toto statement.
    Attestation {
        /// Its type.
        predicate_type: String,
        /// What it says.
        predicate: Value,
        /// What it is about.
        subject: Value,
    },
}

/// What a verified signature says.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Who made it.
    pub signer: Signer,
    /// What he said.
    pub statement: Statement,
}

/// A layer of a `.sig` or `.att` manifest.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Its blob.
    pub content: &'a [u8],
    /// The annotation with the signature in base64; attestations have theirs inside.
    pub signature: &'a str,
    /// Certificate, log entry and timestamp of its annotations.
    pub beside: LegacyEvidence<'a>,
}

impl<'a> Trust<'a> {
    /// Keys alone, without any evidence.
    pub fn of_keys(keys: &'a PublicKeys) -> Self {
        Self { keys, root: None, log_for_keys: false, keyless: None, attestations: false }
    }

    /// Verifies a bundle (`application/vnd.dev.sigstore.bundle.v0.3+json` and older).
    ///
    /// The envelope must carry an in-toto statement with `image` among its subjects, of cosign's signature type unless
    /// attestations are asked for.
    pub fn bundle(&self, text: &[u8], image: &Digest) -> Result<Claim, SignatureError> {
        self.anybody()?;
        let bundle = bundle::read(text, self.limit())?;
        let Signed::Envelope(envelope) = &bundle.signed else {
            // It covers bytes that are not in the bundle. cosign makes it for blobs; for images it would have no
            // predicate type to tell a signature from anything else.
            let text = "a signature over a blob is not an image signature";
            return Err(SignatureError::Mismatch(text.to_owned()));
        };
        let signer = match &bundle.material {
            Material::Key { hint } => {
                let prove = |root: &TrustRoot, binding: Binding<'_>| root.prove_bundle(text, binding);
                self.envelope_key(envelope, prove)?.ok_or_else(|| self.untrusted(hint.clone()))?
            }
            Material::Certificate => {
                let (root, evidence) = self.certificates()?;
                let bytes = unhex(image.hex());
                let content =
                    Content::Envelope { payload: &envelope.payload, subject: (image.algorithm_name(), &bytes) };
                let certified = root.verify_bundle(text, content, evidence);
                Signer::Certificate(certified.map_err(|error| self.tell(error, envelope, image))?)
            }
        };
        self.statement(signer, envelope, image)
    }

    /// Verifies a bundle over any artifact, given as its bytes: a signature over them, or an in-toto statement of whatever
    /// type with their SHA-256 among its subjects. It says nothing about images; evidence is verified as for them.
    pub fn artifact(&self, text: &[u8], artifact: &[u8]) -> Result<Signer, SignatureError> {
        self.anybody()?;
        let bundle = bundle::read(text, self.limit())?;
        let digest = Digest::sha256(artifact);
        let (envelope, signature) = match &bundle.signed {
            Signed::Envelope(envelope) => (Some(envelope), Vec::new()),
            Signed::Message(signature) => (None, signature.clone()),
        };
        let signer = match (&bundle.material, envelope) {
            (Material::Certificate, envelope) => {
                let (root, evidence) = self.certificates()?;
                let bytes = unhex(digest.hex());
                let content = envelope.map_or(Content::Message(artifact), |envelope| Content::Envelope {
                    payload: &envelope.payload,
                    subject: (digest.algorithm_name(), &bytes),
                });
                Signer::Certificate(root.verify_bundle(text, content, evidence)?)
            }
            (Material::Key { hint }, Some(envelope)) => {
                let prove = |root: &TrustRoot, binding: Binding<'_>| root.prove_bundle(text, binding);
                self.envelope_key(envelope, prove)?.ok_or_else(|| self.untrusted(hint.clone()))?
            }
            (Material::Key { hint }, None) => {
                let key = self.keys.signer(artifact, &signature);
                let key = key.ok_or_else(|| self.untrusted(hint.clone()))?;
                let binding = Binding { message: artifact, payload: None, signature: &signature, key: &key.spki };
                self.logged(|root| root.prove_bundle(text, binding))?;
                Signer::Key(key.fingerprint.clone())
            }
        };
        if let Some(envelope) = envelope {
            statement::read(&envelope.payload, &digest, true, self.limit())?;
        }
        Ok(signer)
    }

    /// Verifies a layer of a `.sig` manifest: a payload of type `cosign container image signature` for exactly `image`.
    pub fn legacy(&self, layer: Layer<'_>, image: &Digest) -> Result<Claim, SignatureError> {
        self.anybody()?;
        if layer.content.len() > MAX_SIGNED {
            return Err(malformed(format!("the payload has more than {MAX_SIGNED} bytes")));
        }
        let signature = decode_signature(layer.signature)?;
        let signer = if let Some(key) = self.keys.signer(layer.content, &signature) {
            let binding = Binding { message: layer.content, payload: None, signature: &signature, key: &key.spki };
            self.logged(|root| root.prove_legacy(layer.beside.bundle, binding))?;
            Signer::Key(key.fingerprint.clone())
        } else if self.keyless.is_some() && !layer.beside.certificate.is_empty() {
            let (root, evidence) = self.certificates()?;
            Signer::Certificate(root.verify_legacy(layer.content, &signature, layer.beside, evidence)?)
        } else {
            return Err(self.untrusted(None));
        };
        let (annotations, reference) = legacy::read(layer.content, image)?;
        Ok(Claim { signer, statement: Statement::Signature { annotations, reference } })
    }

    /// Verifies a layer of an `.att` manifest: an envelope with a statement about `image`.
    pub fn legacy_attestation(&self, layer: Layer<'_>, image: &Digest) -> Result<Claim, SignatureError> {
        self.anybody()?;
        let text = json::parse(layer.content, 2 * MAX_ATTESTED, "the envelope")?;
        let envelope = &Envelope::read(text.object("the envelope")?, self.limit())?;
        let prove = |root: &TrustRoot, binding: Binding<'_>| root.prove_legacy(layer.beside.bundle, binding);
        let signer = match self.envelope_key(envelope, prove)? {
            Some(signer) => signer,
            None if self.keyless.is_some() && !layer.beside.certificate.is_empty() => {
                let (root, evidence) = self.certificates()?;
                let bytes = unhex(image.hex());
                let content =
                    Content::Envelope { payload: &envelope.payload, subject: (image.algorithm_name(), &bytes) };
                let certified = root.verify_legacy_envelope(layer.content, content, layer.beside, evidence);
                Signer::Certificate(certified.map_err(|error| self.tell(error, envelope, image))?)
            }
            None => return Err(self.untrusted(None)),
        };
        self.statement(signer, envelope, image)
    }

    fn anybody(&self) -> Result<(), SignatureError> {
        if self.keyless.is_some() { Ok(()) } else { self.keys.not_empty() }
    }

    /// Of a signature without certificate that no configured key made.
    fn untrusted(&self, hint: Option<String>) -> SignatureError {
        if self.keys.is_empty() && self.keyless.is_some() {
            let text = "signed with a key, while this check asks for a certificate (keyless)";
            return SignatureError::Mismatch(text.to_owned());
        }
        self.keys.unverified(hint)
    }

    fn limit(&self) -> usize {
        if self.attestations { MAX_ATTESTED } else { MAX_SIGNED }
    }

    fn certificates(&self) -> Result<(&'a TrustRoot, Evidence), SignatureError> {
        let Some(evidence) = self.keyless else {
            let text = "signed with a certificate (keyless), while this check asks for a configured public key";
            return Err(SignatureError::Mismatch(text.to_owned()));
        };
        Ok((self.trust_root()?, evidence))
    }

    fn trust_root(&self) -> Result<&'a TrustRoot, SignatureError> {
        self.root.ok_or_else(|| SignatureError::Key("there is no usable trust root".to_owned()))
    }

    /// Fulfils the demand for a log entry, if there is one.
    fn logged(&self, prove: impl FnOnce(&TrustRoot) -> Result<(), SignatureError>) -> Result<(), SignatureError> {
        if self.log_for_keys { prove(self.trust_root()?) } else { Ok(()) }
    }

    /// The configured key that signed an envelope, its log entry proved if need be; `None` when none did.
    fn envelope_key(
        &self,
        envelope: &Envelope,
        prove: impl Fn(&TrustRoot, Binding<'_>) -> Result<(), SignatureError>,
    ) -> Result<Option<Signer>, SignatureError> {
        let message = envelope.pre_authentication_encoding();
        let signed_by = |signature: &'_ Vec<u8>| -> Option<&'a PublicKey> { self.keys.signer(&message, signature) };
        let found = envelope.signatures.iter().find_map(|signature| Some((signed_by(signature)?, signature)));
        let Some((key, signature)) = found else { return Ok(None) };
        let binding = Binding { message: &message, payload: Some(&envelope.payload), signature, key: &key.spki };
        self.logged(|root| prove(root, binding))?;
        Ok(Some(Signer::Key(key.fingerprint.clone())))
    }

    fn statement(&self, signer: Signer, envelope: &Envelope, image: &Digest) -> Result<Claim, SignatureError> {
        let statement = statement::read(&envelope.payload, image, self.attestations, self.limit())?;
        Ok(Claim { signer, statement })
    }

    /// "Another digest" is only said when it is so: the crate says it of log entries, too.
    fn tell(&self, error: SignatureError, envelope: &Envelope, image: &Digest) -> SignatureError {
        if !matches!(error, SignatureError::OtherDigest(_)) {
            return error;
        }
        match statement::read(&envelope.payload, image, self.attestations, self.limit()) {
            Err(other @ SignatureError::OtherDigest(_)) => other,
            _ => SignatureError::NotValid("the log entry is about another signature".to_owned()),
        }
    }
}

/// A digest's bytes. Its text was validated when it was read.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or_default();
    text.as_bytes().chunks(2).map(|pair| pair.iter().map(digit).fold(0, |byte, digit| byte << 4 | digit)).collect()
}
