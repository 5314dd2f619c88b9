//! What the integration tests are made of.
//!
//! ```text
//!   harness     trials: skipped without servers, logs with a failure        tools     where the programs are
//!   scratch     the folder of the run, and its end in every case            process   a server: ready, log, killed
//!   pki, http   certificates, an HTTP client that trusts them                ports     free ones
//!   cluster     etcd + kube-apiserver, kubectl, policies, webhook objects    podseal   the binary under test
//!   registry    referrers-registry, Debian's registry, tiny images           store     nginx with a lookaside tree
//!   signer      gpg homes, skopeo, cosign                                  review    AdmissionReviews without kubectl
//!   node        a control plane of its own, containerd, kubelet: Pods run, helm  image     built by the Dockerfile
//!   notary      notary-server and the notary client       proxy     somebody on the way to a server, who lies
//!   sigstore    Fulcio, Rekor, certificate log, timestamps, identities: cosign signs without keys
//!   front       nginx before a registry and a podseal store: a registry that keeps signatures
//!   artifacts   blobs and manifests of any content                         opinions  podseal's answers beside others'
//! ```

// No single set of tests uses all of it.
#![allow(dead_code)]

pub mod artifacts;
pub mod cluster;
pub mod front;
pub mod harness;
pub mod http;
pub mod image;
pub mod node;
pub mod notary;
pub mod opinions;
pub mod pki;
pub mod podseal;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod review;
pub mod scratch;
pub mod signer;
pub mod sigstore;
pub mod store;
pub mod text;
pub mod tools;
