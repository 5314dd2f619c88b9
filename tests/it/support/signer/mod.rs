//! Those who sign: gpg with skopeo, and cosign.

mod cosign;
mod gpg;
mod skopeo;

pub use cosign::{CosignKey, Format, KeyKind};
pub use gpg::{Gpg, GpgKey, KeySpec, Reason, SignSpec};
pub use skopeo::{Payload, Skopeo};
