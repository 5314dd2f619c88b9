//! Platforms of the nodes, and which manifests of an image index such a node could run.
//!
//! A manifest is left aside only when it is certain that no listed node would choose it. Container runtimes bring what an
//! index says into a normal form before they compare (`x86_64` is `amd64`), take older variants when there is no newer
//! one, and look into manifests that say nothing. Whatever is unknown here therefore counts as one that could run.
//! Names: OCI image specification, `platform` of an image index; Go's GOOS and GOARCH.

use std::fmt;
use std::str::FromStr;

/// What a node may be, in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    /// The number in it.
    variant: Option<u32>,
}

const SYSTEMS: [&str; 14] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "solaris",
    "wasip1",
    "windows",
];
const ARCHITECTURES: [&str; 15] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "sparc64", "wasm",
];

/// Not a platform that can be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected OS/ARCH or OS/ARCH/VARIANT, such as linux/amd64 or linux/arm64/v8")]
pub struct PlatformError;

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<_> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] if !variant.is_empty() => (os, architecture, variant),
            _ => return Err(PlatformError),
        };
        let normal = normal(os, architecture, variant).ok_or(PlatformError)?;
        // A variant that says nothing would narrow nothing.
        if !variant.is_empty() && normal.variant.is_none() { Err(PlatformError) } else { Ok(normal) }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.map_or(Ok(()), |variant| write!(f, "/v{variant}"))
    }
}

impl Platform {
    /// Whether a node of this platform could run a manifest that says this of itself; empty texts say nothing.
    pub fn could_run(&self, os: &str, architecture: &str, variant: &str) -> bool {
        if os == "unknown" && architecture == "unknown" {
            return false;
        }
        let Some(other) = normal(os, architecture, variant) else { return true };
        let newer = matches!((self.variant, other.variant), (Some(own), Some(other)) if other > own);
        self.os == other.os && self.architecture == other.architecture && !newer
    }
}

/// The normal form; `None` for what nobody can say anything about.
fn normal(os: &str, architecture: &str, variant: &str) -> Option<Platform> {
    let (os, architecture, variant) =
        (os.to_ascii_lowercase(), architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let os = if os == "macos" { "darwin" } else { os.as_str() };
    let (architecture, implied) = match architecture.as_str() {
        "x86_64" | "x86-64" => ("amd64", None),
        "i386" => ("386", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some(7)),
        "armel" => ("arm", Some(6)),
        other => (other, None),
    };
    if !SYSTEMS.contains(&os) || !ARCHITECTURES.contains(&architecture) {
        return None;
    }
    let number = variant.strip_prefix('v').unwrap_or(&variant);
    // Of `v8.1` the first part.
    let number = number.split('.').next().and_then(|number| number.parse().ok());
    Some(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: implied.or(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect("a platform")
    }

    #[test]
    fn only_platforms_that_exist_can_be_listed() {
        for (text, normal) in
            [("linux/amd64", "linux/amd64"), ("Linux/x86_64", "linux/amd64"), ("linux/arm64/v8", "linux/arm64/v8")]
        {
            assert_eq!(platform(text).to_string(), normal);
        }
        for bad in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/amd46",
            "linux/arm64/",
            "linux/arm64/new",
            "a/b/c/d",
            "unknown/unknown",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn d6_what_no_listed_node_would_choose_is_left_aside_and_nothing_else() {
        let (amd, arm, v3) = (platform("linux/amd64"), platform("linux/arm64/v8"), platform("linux/amd64/v3"));
        for (os, architecture, variant) in [
            ("linux", "amd64", ""),
            ("linux", "amd64", "v9"),
            ("linux", "x86_64", ""),
            ("Linux", "AMD64", ""),
            // Nobody can say what a runtime makes of these.
            ("", "", ""),
            ("linux", "", ""),
            ("", "amd64", ""),
            ("linux", "amd64p32", ""),
            ("plan10", "amd64", ""),
        ] {
            assert!(amd.could_run(os, architecture, variant), "{os}/{architecture}/{variant}");
        }
        for (os, architecture, variant) in
            [("linux", "arm64", ""), ("windows", "amd64", ""), ("linux", "386", ""), ("unknown", "unknown", "")]
        {
            assert!(!amd.could_run(os, architecture, variant), "{os}/{architecture}/{variant}");
        }
        // Older variants are chosen where there is no newer one.
        assert!(arm.could_run("linux", "arm64", "") && arm.could_run("linux", "aarch64", "v8"));
        assert!(v3.could_run("linux", "amd64", "v2") && v3.could_run("linux", "amd64", ""));
        assert!(!v3.could_run("linux", "amd64", "v4") && !arm.could_run("linux", "arm64", "v9.1"));
    }
}
