//! The custom resources as they are on the wire, and the one reading of policies (`tmax.io/v1`) into the domain.
//!
//! ```text
//!   policy, status, image_signature ── derive ──► crd ──► crds/*.yaml     what the API server accepts
//!   JSON of an object ── read ──► domain::policy::Policy      what podseal makes of it
//! ```
//! The webhook on policies, the running decision and the command line all use [`read_policy`], so that an object that
//! was accepted is never read differently later.

mod cosign;
mod crd;
mod entry;
mod fields;
mod fingerprint;
mod identity;
pub mod image_signature;
mod notary;
mod policy;
mod read;
mod sigstore;
mod status;

pub use crd::{
    CrdError, GROUP, Kind, PolicyKind, RECORD_GROUP, SCHEMA_VERSION, SCHEMA_VERSION_ANNOTATION, VERSION, crds,
    crds_yaml,
};
pub use entry::check_lookaside;
pub use policy::{
    ActionSpec, ClusterRegistrySecurityPolicy, ClusterRegistrySecurityPolicySpec, IdentityType, NotaryTrustSpec,
    RegistryEntry, RegistrySecurityPolicy, RegistrySecurityPolicySpec, SignedIdentitySpec,
};
pub use read::read_policy;
pub use sigstore::{AttestationSpec, CosignIdentitySpec, CosignSpec, GithubWorkflowSpec, RequirementSpec};
pub use status::{KeyStatus, PolicyStatus, RegistryStatus};
