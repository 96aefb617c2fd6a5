//! Upgrades: a bundle comes over the network into the other slot and is tried; what is well stays, what is not gives way to the old system.

mod by_firmware;
mod cuts;
mod fails;
mod kernel;
mod odd;
mod refused;
mod succeeds;

pub use by_firmware::run as by_firmware;
pub use cuts::run as cuts;
pub use fails::run as fails;
pub use kernel::{run as kernel, signed as signed_kernel};
pub use odd::run as odd;
pub use refused::run as refused;
pub use succeeds::run as succeeds;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kedge_config::slot::Record;
use kedge_image::inspect::Disk;
use kedge_image::signing;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bake;
use crate::guest::{Guest, Setup};
use crate::kubectl::Kubectl;

/// Fetching, a start and a trial.
const UPGRADED: Duration = Duration::from_secs(400);

/// Bakes a further system of this setup's, signed by the same key; gives its bundle, with differences to what tests boot.
fn bundle(setup: &Setup, name: &str, options: &[&str]) -> Result<PathBuf> {
    bundle_of(setup, name, &setup.programs, options)
}

/// The same with other programs: `kedge` and `kedge-stage1` of a folder.
fn bundle_of(setup: &Setup, name: &str, programs: &Path, options: &[&str]) -> Result<PathBuf> {
    let out = setup.out.join("systems").join(name);
    std::fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    let key = setup.out.join(signing::DEVELOPMENT);
    let key = key.to_str().context("the output folder's name is not UTF-8")?;
    let own = Setup { out: out.clone(), programs: programs.to_owned(), ..setup.clone() };
    let mut all = vec!["--system-version", name];
    if !options.contains(&"--sign-key") {
        all.extend(["--sign-key", key]);
    }
    all.extend(options);
    bake::bake_with(&own, &all)?;
    let file = out.join("upgrade.kedge");
    pack(setup, &out.join(format!("{}.img", setup.board)), &file)?;
    Ok(file)
}

/// A folder with the device's programs, of which the one called `broken` ends at once: as init, it takes the kernel along.
fn broken(setup: &Setup, dir: &Path, broken: &str) -> Result<PathBuf> {
    let folder = dir.join(format!("broken-{broken}"));
    std::fs::create_dir_all(&folder)?;
    for name in ["kedge", "kedge-stage1"] {
        let from = if name == broken { setup.bin.join("kedge-image") } else { setup.programs.join(name) };
        std::fs::copy(from, folder.join(name))?;
    }
    Ok(folder)
}

fn pack(setup: &Setup, image: &Path, bundle: &Path) -> Result<()> {
    let old = setup.out.join(format!("{}.img", setup.board));
    let mut command = std::process::Command::new(setup.bin.join("kedge-image"));
    command.arg("bundle").arg(image).arg("--from").arg(old).arg("--out").arg(bundle).arg("--oci").arg(layout(bundle));
    let status = command.status().context("kedge-image bundle")?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Where the same bundle lies for registries.
fn layout(bundle: &Path) -> PathBuf {
    bundle.with_extension("oci")
}

/// `status` of a machine's object, as far as it is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    version: String,
    upgrade: Option<Told>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Told {
    source: String,
    phase: String,
    version: String,
    message: String,
    fetched_bytes: u64,
    total_bytes: u64,
}

/// The machine's object, as a person works with it.
struct Wisher<'k> {
    kubectl: &'k Kubectl,
    node: String,
}

impl<'k> Wisher<'k> {
    fn new(kubectl: &'k Kubectl) -> Result<Self> {
        let path = "jsonpath={.items[0].metadata.name}";
        let node = kubectl.until(super::BOOT, &["get", "machines", "-o", path], |text| !text.is_empty())?;
        Ok(Self { kubectl, node })
    }

    fn wish(&self, upgrade: &Value) -> Result<()> {
        let patch = json!({"spec": {"upgrade": null}}).to_string();
        self.kubectl.run(&["patch", "machine", &self.node, "--type=merge", "-p", &patch])?;
        let patch = json!({"spec": {"upgrade": upgrade}}).to_string();
        self.kubectl.run(&["patch", "machine", &self.node, "--type=merge", "-p", &patch]).map(drop)
    }

    fn status(&self) -> Result<Status> {
        let mut object = self.kubectl.json(&["get", "machine", &self.node, "-o", "json"])?;
        let status = object.get_mut("status").map(Value::take).unwrap_or_else(|| json!({}));
        Ok(serde_json::from_value(status)?)
    }

    /// Waits until the upgrade from `source` is in this phase, through starts of the machine; gives its status.
    fn until(&self, guest: &Guest, source: &str, phase: &str, limit: Duration) -> Result<Told> {
        let start = Instant::now();
        let mut last = Told::default();
        loop {
            // While the machine is down nobody answers.
            if let Ok(status) = self.status() {
                last = status.upgrade.unwrap_or_default();
                if last.source == source && last.phase == phase {
                    return Ok(last);
                }
                if last.source == source && last.phase == "Failed" {
                    bail!("the upgrade failed: {last:?}; {}", guest.tail());
                }
            }
            if start.elapsed() > limit {
                bail!("the upgrade did not come to {phase} within {limit:?}: {last:?}; {}", guest.tail());
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

fn record(disk: &Path) -> Result<Record> {
    Ok(Disk::open(disk)?.record()??)
}
