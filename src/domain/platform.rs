//! Platforms of the nodes, and which manifests of an image index such a node could run.
//!
//! A manifest is left aside only when it is certain that no listed node would choose it: it is for another operating
//! system, or for another family of architectures, and says so with well-known names. Within a family runtimes choose what
//! suits less well where nothing better is there: containerd on amd64 takes 386, on arm64 every older variant down to
//! 32-bit arm. Which variant is older is not asked: runtimes differ in what they make of one that they do not know. They
//! also bring names into a normal form before they compare (`x86_64` is `amd64`) and look into manifests that say nothing.
//! Whatever is unknown here therefore counts as one that could run.
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
    pub fn could_run(&self, os: &str, architecture: &str) -> bool {
        normal(os, architecture, "").is_none_or(|other| {
            self.os == other.os && (self.architecture == other.architecture || self.family() == other.family())
        })
    }

    /// Architectures of which a node may run another than its own.
    fn family(&self) -> &str {
        match self.architecture.as_str() {
            "386" | "amd64" => "x86",
            "arm" | "arm64" => "arm",
            "mips" | "mips64" | "mips64le" | "mipsle" => "mips",
            "ppc64" | "ppc64le" => "ppc64",
            other => other,
        }
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
    fn d6_what_no_listed_node_would_choose_is_left_aside() {
        let [amd, arm] = ["linux/amd64", "linux/arm64/v8"].map(platform);
        for (os, architecture) in [
            ("linux", "arm64"),
            ("linux", "arm"),
            ("linux", "s390x"),
            ("windows", "amd64"),
            ("Windows", "x86_64"),
            ("wasip1", "wasm"),
        ] {
            assert!(!amd.could_run(os, architecture), "{os}/{architecture}");
        }
        for (os, architecture) in [("linux", "amd64"), ("linux", "386"), ("windows", "arm64"), ("linux", "riscv64")] {
            assert!(!arm.could_run(os, architecture), "{os}/{architecture}");
        }
    }

    #[test]
    fn d6_what_a_runtime_falls_back_on_is_not_left_aside() {
        for (node, architectures) in [
            ("linux/amd64", &["amd64", "x86_64", "X86-64", "386", "i386"][..]),
            ("linux/amd64/v3", &["amd64", "386"]),
            ("linux/arm64", &["arm64", "aarch64", "arm", "armhf", "armel"]),
            ("linux/arm64/v8", &["arm64", "arm"]),
            ("linux/arm/v7", &["arm", "armhf", "armel", "arm64"]),
            ("linux/386", &["386", "amd64"]),
        ] {
            for architecture in architectures {
                assert!(platform(node).could_run("linux", architecture), "{node}: {architecture}");
            }
        }
    }

    #[test]
    fn d6_what_nobody_can_tell_is_not_left_aside() {
        let amd = platform("linux/amd64");
        for (os, architecture) in [
            ("", ""),
            ("linux", ""),
            ("", "amd64"),
            ("", "s390x"),
            ("linux", "amd46"),
            ("linux", "amd64p32"),
            ("linux", "amd64/v1"),
            ("linux", " arm64"),
            ("linux", "i686"),
            ("linux ", "s390x"),
            ("plan10", "arm64"),
            ("Linux", "AMD64"),
            ("unknown", "unknown"),
        ] {
            assert!(amd.could_run(os, architecture), "{os}/{architecture}");
        }
    }
}
