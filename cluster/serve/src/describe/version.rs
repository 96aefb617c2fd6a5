//! `/version`: which Kubernetes this is.

use serde_json::{Value, json};

pub const MAJOR: &str = "1";
pub const MINOR: &str = "36";

/// `v1.36.0+kedge-0.1.0`: the API's version, and ours as build metadata.
pub const GIT_VERSION: &str = concat!("v1.36.0+kedge-", env!("CARGO_PKG_VERSION"));

pub fn version() -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{architecture}", std::env::consts::OS),
    })
}
