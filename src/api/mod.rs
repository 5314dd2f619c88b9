//! The custom resources of `tmax.io/v1` as they are on the wire, and their one reading into the domain.
//!
//! ```text
//!   policy, status ── derive ──► crd ──► crds/*.yaml          what the API server accepts
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
mod policy;
mod read;
mod sigstore;
mod status;

pub use crd::{CrdError, GROUP, PolicyKind, SCHEMA_VERSION, SCHEMA_VERSION_ANNOTATION, VERSION, crds, crds_yaml};
pub use policy::{
    ActionSpec, ClusterRegistrySecurityPolicy, ClusterRegistrySecurityPolicySpec, IdentityType, RegistryEntry,
    RegistrySecurityPolicy, RegistrySecurityPolicySpec, SignedIdentitySpec,
};
pub use read::read_policy;
pub use sigstore::{AttestationSpec, CosignIdentitySpec, CosignSpec, GithubWorkflowSpec, RequirementSpec};
pub use status::{KeyStatus, PolicyStatus, RegistryStatus};
