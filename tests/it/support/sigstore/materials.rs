//! Keys, certificates and configuration files, made anew for every world.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData as _,
};
use serde_json::json;

use crate::support::scratch;
use crate::support::tools;

/// The password of encrypted keys.
pub const PASSWORD: &str = "tests";
/// What the GitHub-like issuer puts before the names of repositories.
pub const FORGE: &str = "https://forge.example.test";

/// All that the services are given, in a folder of its own.
#[derive(Debug)]
pub struct Materials {
    folder: PathBuf,
    /// Signs certificates of signers; below a root of its own.
    pub fulcio: Ca,
    /// The root above it.
    pub fulcio_root: Ca,
    /// Stamps.
    pub tsa: Ca,
    /// The root above it.
    pub tsa_root: Ca,
    /// Key of the certificate log.
    pub ct: KeyPair,
    /// Key of the first version's transparency log.
    pub rekor1: KeyPair,
    /// Key of the second version's.
    pub rekor2: KeyPair,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Ca {
    /// How it was made.
    pub params: CertificateParams,
    /// Its key.
    pub key: KeyPair,
    /// PEM.
    pub pem: String,
}

impl Ca {
    /// A root by itself.
    pub fn root(name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    /// A certificate below this one with a new key.
    pub fn issue(&self, params: CertificateParams) -> Self {
        self.certify(params, KeyPair::generate().unwrap())
    }

    /// A certificate below this one for a key.
    pub fn certify(&self, params: CertificateParams, key: KeyPair) -> Self {
        let pem = self.certificate(&params, &key).pem();
        Self { params, key, pem }
    }

    /// The certificate alone.
    pub fn certificate(&self, params: &CertificateParams, key: &KeyPair) -> rcgen::Certificate {
        params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).unwrap()
    }
}

/// What a certificate authority has; it was valid before the run began.
pub fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What an authority has that signs certificates of signers.
pub fn intermediate() -> CertificateParams {
    let mut params = authority("intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::CodeSigning);
    params
}

/// What a timestamp authority has; without its purpose when that is said.
pub fn stamping(purpose: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "timestamps");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    if purpose {
        // id-kp-timeStamping alone and critical, as RFC 3161 wants it.
        let der = vec![0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
        let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 37], der);
        usage.set_criticality(true);
        params.custom_extensions.push(usage);
    }
    params
}

impl Materials {
    /// New ones, in files.
    pub fn new() -> Self {
        let (fulcio_root, tsa_root) = (Ca::root("signers"), Ca::root("timestamp root"));
        let key = || KeyPair::generate().unwrap();
        let materials = Self {
            folder: scratch::folder("sigstore"),
            fulcio: fulcio_root.issue(intermediate()),
            tsa: tsa_root.issue(stamping(true)),
            fulcio_root,
            tsa_root,
            ct: key(),
            rekor1: key(),
            rekor2: KeyPair::generate_for(&PKCS_ED25519).unwrap(),
        };
        materials.write();
        materials
    }

    /// A file of theirs.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder of the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file of theirs.
    pub fn put(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    fn write(&self) {
        for (name, key) in [("ct", &self.ct), ("rekor1", &self.rekor1), ("rekor2", &self.rekor2)] {
            self.put(&format!("{name}.pem"), &key.serialize_pem());
            self.put(&format!("{name}.pub"), &key.public_key_pem());
        }
        self.put("fulcio.pem", &self.fulcio.key.serialize_pem());
        self.put("fulcio-chain.pem", &format!("{}{}", self.fulcio.pem, self.fulcio_root.pem));
        self.put("fulcio-root.pem", &self.fulcio_root.pem);
        self.put("tsa.pem", &self.tsa.key.serialize_pem());
        self.put("tsa-chain.pem", &format!("{}{}", self.tsa.pem, self.tsa_root.pem));
        let encrypt = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout"];
        let mut openssl = tools::command("openssl");
        openssl.args(encrypt).arg(format!("pass:{PASSWORD}"));
        openssl.arg("-in").arg(self.file("fulcio.pem")).arg("-out").arg(self.file("fulcio.enc"));
        tools::run(&mut openssl).succeeded();
    }

    /// The certificate log's configuration for a tree.
    pub fn write_ct_config(&self, tree: &str) {
        let roots = self.file("fulcio-root.pem");
        let (public, private) = (escaped(&self.ct.subject_public_key_info()), escaped(&self.ct.serialize_der()));
        self.put(
            "ct.cfg",
            &format!(
                "config {{ log_id: {tree} prefix: \"test\" roots_pem_file: \"{}\" max_merge_delay_sec: 86400 \
                 ext_key_usages: \"CodeSigning\" public_key: {{ der: \"{public}\" }} \
                 private_key: {{ [type.googleapis.com/keyspb.PrivateKey] {{ der: \"{private}\" }} }} }}\n",
                roots.display(),
            ),
        );
    }

    /// Whose tokens become what kind of certificate. `issuers` is the address of the identity provider.
    pub fn write_fulcio_config(&self, issuers: &str) {
        let issuer = |name: &str, rest: serde_json::Value| {
            let url = format!("{issuers}/{name}");
            let mut issuer = json!({"issuer-url": url, "client-id": "sigstore"});
            issuer.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            (url, issuer)
        };
        let forge = json!({"type": "ci-provider", "ci-provider": "forge"});
        let issuers: serde_json::Map<_, _> = [
            issuer("mail", json!({"type": "email"})),
            issuer("post", json!({"type": "email"})),
            issuer("forge", forge),
            issuer("accounts", json!({"type": "username", "subject-domain": "127.0.0.1"})),
            issuer("pages", json!({"type": "uri", "subject-domain": "http://127.0.0.1"})),
        ]
        .into_iter()
        .collect();
        let templates = json!({
            "github-workflow-trigger": "event_name",
            "github-workflow-sha": "sha",
            "github-workflow-name": "workflow",
            "github-workflow-repository": "repository",
            "github-workflow-ref": "ref",
            "source-repository-uri": "{{ .url }}/{{ .repository }}",
            "source-repository-ref": "ref",
            "build-trigger": "event_name",
        });
        let metadata = json!({"forge": {
            "default-template-values": {"url": FORGE},
            "subject-alternative-name-template": "{{ .url }}/{{ .workflow_ref }}",
            "extension-templates": templates,
        }});
        // JSON is YAML; the first line keeps it from being read as JSON, in which the names are others.
        let config = json!({"oidc-issuers": issuers, "ci-issuer-metadata": metadata});
        self.put("fulcio.yaml", &format!("---\n{config}\n"));
    }
}

/// Bytes as the text form of protocol buffers has them.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "\\x{byte:02x}").unwrap();
        text
    })
}
