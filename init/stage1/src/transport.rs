//! How the board's firmware is told which slot's kernel to start. The slot record says which slot is wanted, and has the last word; this only
//! sees to it that the kernel that belongs to it is started. Stage 1 and init use it alike.
//!
//! ```text
//! stage ─▶ boot files written, read back ─▶ finish ─▶ try_next ─▶ (record: on trial) ─▶ restart ─▶ came_up ─▶ commit
//!   └ the slot is not started any more                    └ a kernel that never comes up is left after some tries, where firmware can
//! ```
//! What is to be written is decided purely ([`Step`]s, by [`systemd_boot`] and [`raspberry_pi`]); power may fail between any two steps, and the
//! firmware still finds what it started last, or what it was asked to.
//!
//! | board | how |
//! | --- | --- |
//! | systemd-boot | entries on the EFI system partition: the slot's has the highest rank, and a counter while it is tried |
//! | Raspberry Pi | `autoboot.txt`; with a kernel that passes "tryboot" on, the other slot once, else for good, and stage 1 sets it back |
//! | a kernel that was started directly (QEMU) | nothing: no bundle with other boot files is taken |

pub mod raspberry_pi;
mod stage;
mod step;
pub mod systemd_boot;

use crate::disk::Disk;
use crate::sys;
use kedge_config::autoboot;
use kedge_config::boot_files::Role;
use kedge_config::names;
use kedge_config::slot::SlotName;
use kedge_config::slot_manifest::SlotManifest;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub use stage::Staged;
pub use step::Step;

/// Starts of a kernel that firmware counts before it takes the other one: one may be cut off by others. A PC whose new kernel hangs stands there
/// until somebody cuts its power, and so often.
pub const KERNEL_TRIES: u32 = 2;
/// There where the machine was started by UEFI firmware.
const UEFI: &str = "/sys/firmware/efi";
/// There where firmware tells whether it was asked to try (raspberrypi.com, "Device trees", "Firmware parameters"; a Raspberry Pi 4's EEPROM is
/// old where it is not).
const TRIED: &str = "/proc/device-tree/chosen/bootloader/tryboot";
/// There in kernels of Raspberry Pi only, and these pass "tryboot" on (`drivers/firmware/raspberrypi.c`; Debian's have neither).
const VENDOR: &str = "/dev/vcio";

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(
        "its boot files are others than those that run, and this kernel was started directly: start the machine with the new ones, or by its \
         own boot loader"
    )]
    Direct,
    #[error("this machine is started by a signed program, and the bundle holds none: build it with --secure-boot-key")]
    Unsigned,
    #[error("disk {disk} has no partition {partition}")]
    Partition { disk: String, partition: &'static str },
    #[error("{partition}: {operation}: {source}")]
    Io { partition: &'static str, operation: String, source: io::Error },
    #[error("{partition}: slot {slot} has no boot entry")]
    NoEntry { partition: &'static str, slot: SlotName },
    #[error("{partition} is too small: the boot files need {needed} bytes ({source})")]
    Full { partition: &'static str, needed: u64, source: io::Error },
}

impl TransportError {
    /// Whether it says something of bundle and machine, and not only of this moment.
    pub fn lasts(&self) -> bool {
        match self {
            Self::Direct | Self::Unsigned | Self::Partition { .. } => true,
            Self::Io { .. } | Self::NoEntry { .. } | Self::Full { .. } => false,
        }
    }
}

/// What starts kernels on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    SystemdBoot,
    /// `once`: the other slot can be started for one time.
    RaspberryPi {
        once: bool,
    },
    /// Somebody who keeps the kernel outside of the disk.
    Direct,
}

#[derive(Debug, Clone)]
pub struct Transport {
    pub kind: Kind,
    disk: Disk,
}

impl Transport {
    pub fn of(disk: &Disk) -> Self {
        Self::with(disk, |path| Path::new(path).exists())
    }

    fn with(disk: &Disk, there: impl Fn(&str) -> bool) -> Self {
        let has = |partition: names::Partition| disk.device(partition.name).is_some();
        let kind = if has(names::BOOT_A) && has(names::BOOT_B) {
            Kind::RaspberryPi { once: there(TRIED) && there(VENDOR) }
        } else if has(names::ESP) && there(UEFI) {
            Kind::SystemdBoot
        } else {
            Kind::Direct
        };
        Self { kind, disk: disk.clone() }
    }

    /// Whether the system of `new` could be started at all. Asked before anything is written.
    pub fn check(&self, new: &SlotManifest, running: &SlotManifest) -> Result<(), TransportError> {
        let signed = |manifest: &SlotManifest| manifest.boot_file(Role::Unified).is_some();
        match self.kind {
            Kind::Direct if new.boot_id != running.boot_id => Err(TransportError::Direct),
            Kind::SystemdBoot if signed(running) && !signed(new) => Err(TransportError::Unsigned),
            Kind::Direct | Kind::SystemdBoot | Kind::RaspberryPi { .. } => Ok(()),
        }
    }

    /// Makes room for the boot files of `manifest` in `slot`, which nothing starts from now on. `running` is the slot that runs with its
    /// manifest. `None` where there is nowhere to write to.
    pub fn stage(
        &self,
        slot: SlotName,
        manifest: &SlotManifest,
        running: &SlotManifest,
    ) -> Result<Option<Staged>, TransportError> {
        let (own, other) = match self.kind {
            Kind::Direct => return Ok(None),
            Kind::SystemdBoot => (names::ESP, None),
            Kind::RaspberryPi { .. } => (boot_partition(slot), Some(boot_partition(slot.other()))),
        };
        self.forget(slot)?;
        let own = self.mount(own, Access::Write)?;
        let other = other.map(|other| self.mount(other, Access::Read)).transpose()?;
        let folder = |mounted: &Mounted, slot: SlotName| match self.kind {
            Kind::SystemdBoot => mounted.path.join(kedge_config::boot_entry::slot_folder(slot)),
            Kind::RaspberryPi { .. } | Kind::Direct => mounted.path.clone(),
        };
        let files = stage::prepare(&folder(&own, slot), manifest).map_err(|error| own.staging(error))?;
        let running = stage::existing(&folder(other.as_ref().unwrap_or(&own), slot.other()), running);
        Ok(Some(Staged { files, running, own, _other: other }))
    }

    /// `slot`, whose boot files are those of `manifest`, is started next. A kernel of it that does not come up is left for the other slot's, where
    /// firmware can do that. The restart that is to follow is [`restart`].
    pub fn try_next(&self, slot: SlotName, manifest: &SlotManifest) -> Result<(), TransportError> {
        let once = self.kind == Kind::RaspberryPi { once: true };
        let known = if once { ask_once() } else { ask_nothing() };
        known.map_err(|source| io_error("/run", names::RESTART, source))?;
        match self.kind {
            Kind::Direct => Ok(()),
            Kind::SystemdBoot => self.on(names::ESP, |esp| {
                let entries = systemd_boot::read(esp)?;
                let line = systemd_boot::command_line(esp, slot, manifest)?;
                Ok(Ok(systemd_boot::try_next(&entries, slot, manifest, &line, KERNEL_TRIES)))
            }),
            Kind::RaspberryPi { once } => {
                let started = if once { slot.other() } else { slot };
                self.on(names::ESP, |first| raspberry_pi::steps(first, started).map(Ok))
            }
        }
    }

    /// The kernel of `slot`, which is on trial, has come up: from here on the slot record counts, and firmware has nothing against it.
    pub fn came_up(&self, slot: SlotName) -> Result<(), TransportError> {
        match self.kind {
            Kind::Direct | Kind::RaspberryPi { .. } => Ok(()),
            Kind::SystemdBoot => {
                self.on(names::ESP, |esp| Ok(Ok(systemd_boot::came_up(&systemd_boot::read(esp)?, slot, KERNEL_TRIES))))
            }
        }
    }

    /// `slot` is started from now on, until something else is said.
    pub fn commit(&self, slot: SlotName) -> Result<(), TransportError> {
        ask_nothing().map_err(|source| io_error("/run", names::RESTART, source))?;
        let none = TransportError::NoEntry { partition: names::ESP.name, slot };
        match self.kind {
            Kind::Direct => Ok(()),
            Kind::SystemdBoot => {
                self.on(names::ESP, |esp| Ok(systemd_boot::commit(&systemd_boot::read(esp)?, slot).ok_or(none)))
            }
            Kind::RaspberryPi { .. } => self.on(names::ESP, |first| raspberry_pi::steps(first, slot).map(Ok)),
        }
    }

    /// `slot` is not started any more; the other one is.
    pub fn forget(&self, slot: SlotName) -> Result<(), TransportError> {
        self.commit(slot.other())?;
        match self.kind {
            Kind::Direct | Kind::RaspberryPi { .. } => Ok(()),
            Kind::SystemdBoot => {
                self.on(names::ESP, |esp| Ok(Ok(systemd_boot::remove(&systemd_boot::read(esp)?, slot))))
            }
        }
    }

    /// Whether firmware has left `slot`, since its kernel did not come up as often as it was tried.
    pub fn spent(&self, slot: SlotName) -> Result<bool, TransportError> {
        match self.kind {
            Kind::Direct | Kind::RaspberryPi { .. } => Ok(false),
            Kind::SystemdBoot => {
                let esp = self.mount(names::ESP, Access::Read)?;
                let entries = systemd_boot::read(&esp.path).map_err(|source| esp.failed("read entries", source))?;
                Ok(systemd_boot::spent(&entries, slot))
            }
        }
    }

    /// Does what `decide` says of what lies on `partition`.
    fn on(
        &self,
        partition: names::Partition,
        decide: impl FnOnce(&Path) -> io::Result<Result<Vec<Step>, TransportError>>,
    ) -> Result<(), TransportError> {
        let mounted = self.mount(partition, Access::Write)?;
        let steps = decide(&mounted.path).map_err(|source| mounted.failed("read", source))??;
        for step in steps {
            step.apply(&mounted.path).map_err(|source| mounted.failed(&step.to_string(), source))?;
        }
        mounted.close()
    }

    fn mount(&self, partition: names::Partition, access: Access) -> Result<Mounted, TransportError> {
        let name = partition.name;
        let device = self.disk.device(name);
        let device =
            device.ok_or_else(|| TransportError::Partition { disk: self.disk.name.clone(), partition: name })?;
        let path = Path::new(names::RUN_DIR).join("boot").join(name.to_lowercase());
        let failed = |operation: &str, source| io_error(name, operation, source);
        if access == Access::Write && WRITING.swap(true, Ordering::SeqCst) {
            return Err(failed("mount", io::ErrorKind::ResourceBusy.into()));
        }
        // From here on the flag is taken back when this goes.
        let mut mounted = Mounted { partition: name, path, access, there: false };
        let path = &mounted.path;
        fs::create_dir_all(path).map_err(|source| failed("create mount point", source))?;
        let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let flags = match access {
            Access::Write => quiet,
            Access::Read => quiet | MountFlags::RDONLY,
        };
        mount(device, path, "vfat", flags, c"").map_err(|errno| failed("mount", errno.into()))?;
        mounted.there = true;
        Ok(mounted)
    }
}

fn boot_partition(slot: SlotName) -> names::Partition {
    match slot {
        SlotName::A => names::BOOT_A,
        SlotName::B => names::BOOT_B,
    }
}

fn io_error(partition: &'static str, operation: &str, source: io::Error) -> TransportError {
    TransportError::Io { partition, operation: operation.to_owned(), source }
}

/// Somebody writes to boot files: two who do would not know of each other.
static WRITING: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// A FAT partition, as long as it is needed: what is not mounted cannot be torn.
#[derive(Debug)]
struct Mounted {
    partition: &'static str,
    path: PathBuf,
    access: Access,
    there: bool,
}

impl Mounted {
    fn failed(&self, operation: &str, source: io::Error) -> TransportError {
        io_error(self.partition, operation, source)
    }

    fn staging(&self, error: stage::StageError) -> TransportError {
        match error {
            stage::StageError::Full { needed, source } => {
                TransportError::Full { partition: self.partition, needed, source }
            }
            stage::StageError::Io { path, source } => self.failed(&path, source),
        }
    }

    /// When this returns `Ok` a power cut does not undo what was written.
    fn close(self) -> Result<(), TransportError> {
        if self.access == Access::Write {
            let root = fs::File::open(&self.path).map_err(|source| self.failed("sync", source))?;
            rustix::fs::syncfs(root).map_err(|errno| self.failed("sync", errno.into()))?;
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.there {
            // What cannot be unmounted now is, as soon as nobody has a file open there.
            let _ = unmount(&self.path, UnmountFlags::DETACH);
        }
        if self.access == Access::Write {
            WRITING.store(false, Ordering::SeqCst);
        }
    }
}

fn ask_once() -> io::Result<()> {
    fs::create_dir_all(names::RUN_DIR)?;
    fs::write(names::RESTART, autoboot::TRY)
}

fn ask_nothing() -> io::Result<()> {
    match fs::remove_file(names::RESTART) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Restarts the machine, with the word to its firmware that [`Transport::try_next`] has left. Returns only on failure; nothing is synced.
pub fn restart() -> io::Error {
    let word = fs::read_to_string(names::RESTART).ok().and_then(|word| CString::new(word).ok());
    let result = match word {
        Some(word) => sys::restart(&word),
        None => rustix::system::reboot(rustix::system::RebootCommand::Restart),
    };
    match result {
        Ok(()) => io::Error::other("the kernel did not restart"),
        Err(errno) => errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Node;
    use kedge_config::boot_files::BootFile;
    use kedge_config::slot_manifest::{Blob, Digest};

    pub fn manifest(role: Role, id: u8) -> SlotManifest {
        let digest = Digest([id; 32]);
        SlotManifest {
            board: "test".into(),
            version: format!("0.{id}.0"),
            kernel_release: "6.12".into(),
            rollback_index: 0,
            boot_id: digest,
            boot: vec![BootFile { role, path: "kedge.efi".into(), blob: Blob { bytes: 1, sha256: digest } }],
            system_bytes: 4096,
            tree_offset: 8192,
            root_hash: digest,
            salt: digest,
            epoch: 0,
        }
    }

    fn kind(partitions: &[names::Partition], there: &[&str]) -> Transport {
        let node = |number| Node { device: format!("/dev/vda{number}").into(), number };
        let named = partitions.iter().zip(1..).map(|(partition, number)| (partition.name.to_owned(), node(number)));
        let disk = Disk { name: "vda".into(), partitions: named.collect() };
        Transport::with(&disk, |path| there.contains(&path))
    }

    #[test]
    fn what_starts_kernels_is_seen_by_the_disk_and_the_firmware() {
        let (gpt, mbr) = (&names::PARTITIONS, &[names::ESP, names::BOOT_A, names::BOOT_B]);
        assert_eq!(kind(gpt, &[UEFI]).kind, Kind::SystemdBoot);
        assert_eq!(kind(gpt, &[]).kind, Kind::Direct);
        assert_eq!(kind(mbr, &[TRIED, VENDOR]).kind, Kind::RaspberryPi { once: true });
        for lacking in [&[TRIED][..], &[VENDOR], &[]] {
            assert_eq!(kind(mbr, lacking).kind, Kind::RaspberryPi { once: false });
        }
    }

    #[test]
    fn what_could_not_be_started_is_refused() {
        let (running, same, other) = (manifest(Role::Kernel, 1), manifest(Role::Kernel, 1), manifest(Role::Kernel, 2));
        let direct = kind(&names::PARTITIONS, &[]);
        direct.check(&same, &running).unwrap();
        let error = direct.check(&other, &running).unwrap_err().to_string();
        assert!(error.contains("this kernel was started directly"), "{error}");
        assert!(direct.stage(SlotName::B, &same, &running).unwrap().is_none());
        let firmware = kind(&names::PARTITIONS, &[UEFI]);
        firmware.check(&other, &running).unwrap();
        let signed = manifest(Role::Unified, 3);
        firmware.check(&signed, &running).unwrap();
        firmware.check(&manifest(Role::Unified, 4), &signed).unwrap();
        let error = firmware.check(&other, &signed).unwrap_err().to_string();
        assert!(error.contains("the bundle holds none"), "{error}");
    }
}
