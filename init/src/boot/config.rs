//! Reading the board config and the machine config with all its sources.

use super::Boot;
use crate::trial::{Start, Trials};
use anyhow::Context;
use kedge_config::{BoardConfig, MachineConfig, Source, names};
use kedge_stage1::disk;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Longer than any document that is read: what is longer is told, not read.
const MOST: u64 = kedge_config::document::MAX_BYTES as u64 + 1;

pub fn board(boot: &Boot) -> anyhow::Result<()> {
    let source = read(names::BOARD_FILE, Path::new(names::BOARD_FILE))?
        .with_context(|| format!("{} is missing", names::BOARD_FILE))?;
    let board = BoardConfig::parse(&source.name, &source.text)?;
    boot.board.get_or_init(|| Arc::new(board));
    Ok(())
}

/// What came through the API and was kept or is on trial; else what the sources say.
pub fn machine(boot: &Boot) -> anyhow::Result<()> {
    let config = match of_the_api(boot)? {
        Some(config) => config,
        None => of_sources(boot)?,
    };
    boot.machine.get_or_init(|| Arc::new(config));
    Ok(())
}

fn of_the_api(boot: &Boot) -> anyhow::Result<Option<MachineConfig>> {
    if boot.state.get().is_none() {
        return Ok(None);
    }
    let trials = Trials::at(Path::new(names::STATE_DIR));
    loop {
        match trials.begin()? {
            Start::Sources => return Ok(None),
            Start::Kept(text) => {
                tracing::info!("machine config as it was last kept");
                return Ok(Some(MachineConfig::parse("STATE/config/kept.json", &text)?));
            }
            Start::Trying(trial) => match MachineConfig::parse("STATE/config/trial.json", &trial.config) {
                Ok(config) => {
                    tracing::info!(generation = trial.edit.generation, "machine config on trial");
                    boot.trial.get_or_init(|| trial);
                    return Ok(Some(config));
                }
                Err(error) => trials.refuse(&trial, &error.message)?,
            },
        }
    }
}

/// Lowest first: baked in, the FAT partition, seed disks, the kernel command line, QEMU's fw_cfg, STATE.
fn of_sources(boot: &Boot) -> anyhow::Result<MachineConfig> {
    let mut sources: Vec<Source> = Vec::new();
    sources.extend(read(names::MACHINE_FILE, Path::new(names::MACHINE_FILE))?);
    for seed in seeds(boot) {
        let name = format!("{}/{}", seed.name(), names::SEED_MACHINE);
        match seed.mounted(MountFlags::RDONLY, |folder| read(&name, &folder.join(names::SEED_MACHINE))) {
            Ok(found) => sources.extend(found),
            // A card reader that fails on the FAT partition is no reason to be another machine: only what is there counts.
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
    sources.extend(Source::from_command_line(&command_line())?);
    sources.extend(read(
        "QEMU fw_cfg",
        &Path::new("/sys/firmware/qemu_fw_cfg/by_name").join(names::FW_CFG_MACHINE).join("raw"),
    )?);
    sources.extend(read("STATE/kedge.yaml", &Path::new(names::STATE_DIR).join("kedge.yaml"))?);
    let config = MachineConfig::merge(&sources)?;
    tracing::info!(
        sources = sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", "),
        "machine config"
    );
    Ok(config)
}

pub fn command_line() -> String {
    fs::read_to_string("/proc/cmdline").unwrap_or_default()
}

/// A FAT partition on which a person or the factory leaves things for this device.
pub struct Seed {
    partition: &'static str,
    device: PathBuf,
}

/// The boot disk's ESP, then seed partitions of any disk.
pub fn seeds(boot: &Boot) -> Vec<Seed> {
    let seed = |partition: &'static str, device: &Path| Seed { partition, device: device.to_owned() };
    let esp = boot.disk.get().and_then(|disk| disk.device(names::ESP.name)).map(|device| seed(names::ESP.name, device));
    let disks = disk::scan(Path::new(disk::SYS_CLASS_BLOCK), Path::new(disk::DEV)).unwrap_or_default();
    let others =
        disks.iter().filter_map(|disk| disk.device(names::SEED.name)).map(|device| seed(names::SEED.name, device));
    esp.into_iter().chain(others).collect()
}

impl Seed {
    /// What messages call it.
    pub fn name(&self) -> &'static str {
        self.partition
    }

    /// Has `work` look into it. It is mounted for that only: what is not mounted cannot be torn. One phase at a time: two mounts of a FAT
    /// do not know of each other.
    pub fn mounted<T>(&self, flags: MountFlags, work: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let target = Path::new(names::RUN_DIR).join("seed");
        fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
        let flags = flags | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(&self.device, &target, "vfat", flags, c"")
            .with_context(|| format!("mount {} ({})", self.partition, self.device.display()))?;
        let found = work(&target);
        unmount(&target, UnmountFlags::DETACH).with_context(|| format!("unmount {}", target.display()))?;
        found
    }
}

/// `None` if there is no such file.
fn read(name: &str, path: &Path) -> anyhow::Result<Option<Source>> {
    let mut text = String::new();
    match fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(Source::new(name, text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {name}")),
    }
}
