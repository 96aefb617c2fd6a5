//! dm-verity over a slot, set up by the device mapper's own calls (Linux, `include/uapi/linux/dm-ioctl.h` and
//! `Documentation/admin-guide/device-mapper/verity.rst`).
//!
//! A block that is not what the tree says is, while stage 1 looks, an error that it can name. Once the system has taken over nobody could say
//! it any more, for the next to read might be PID 1 itself: then the kernel restarts the machine. The try was counted, and as nobody confirmed
//! it, the next stage 1 reads the whole slot, finds the block, condemns the slot and takes the other one.

use crate::sys::{self, DM_BUFFER_BYTES, DM_HEADER_BYTES, DmBuffer, DmCommand};
use kedge_config::slot_manifest::{BLOCK, SlotManifest};
use rustix::fs::{major, minor};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const CONTROL: &str = "/dev/mapper/control";
/// The interface's version that the kernel must understand: any 4.
const VERSION: [u32; 3] = [4, 0, 0];
const READ_ONLY: u32 = 1;
/// What to do with I/O that is under way when a table is replaced: nothing is lost by waiting for none, and there is no file system to freeze.
const SKIP_LOCKFS: u32 = 1 << 10;
const NO_FLUSH: u32 = 1 << 11;
const TARGET: &str = "verity";
const SECTOR: u64 = 512;
/// Of what is read at once while a whole slot is checked.
const PIECE: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    #[error("{CONTROL}: {0} (is the module dm_verity in the initramfs?)")]
    Control(#[source] io::Error),
    #[error("dm-verity over {device}: {operation}: {source}")]
    Mapper { device: PathBuf, operation: &'static str, source: io::Error },
    #[error("{device}: {source}")]
    Io { device: PathBuf, source: io::Error },
    #[error("{device} is corrupt: the block at byte {at} is not what was signed ({source})")]
    Corrupt { device: PathBuf, at: u64, source: io::Error },
}

impl VerityError {
    /// Whether it says something of the system itself, and not only of this boot.
    pub fn condemns(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Control(_) | Self::Mapper { .. } | Self::Io { .. } => false,
        }
    }
}

/// What the kernel does with a block that is not what the tree says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Corruption {
    Error,
    Restart,
}

/// A verified view of a slot's squashfs.
#[derive(Debug)]
pub struct Verity {
    control: File,
    name: String,
    /// Of the partition.
    device: PathBuf,
    /// Of the view, such as `/dev/dm-0`.
    pub path: PathBuf,
    table: [Vec<u8>; 2],
}

impl Verity {
    /// Over the partition `device`, whose end holds `manifest`.
    pub fn open(name: &str, device: &Path, manifest: &SlotManifest) -> Result<Self, VerityError> {
        let control = File::options().read(true).write(true).open(CONTROL).map_err(VerityError::Control)?;
        let number = fs::metadata(device).map_err(|source| VerityError::Io { device: device.into(), source })?.rdev();
        let number = format!("{}:{}", major(number), minor(number));
        let table = [Corruption::Error, Corruption::Restart].map(|mode| target(&number, manifest, mode));
        let mut verity =
            Self { control, name: name.to_owned(), device: device.to_owned(), path: PathBuf::new(), table };
        let made = verity.ask(DmCommand::Create, 0, &[])?;
        verity.path = format!("/dev/dm-{}", dm_minor(&made)).into();
        verity.activate(Corruption::Error).inspect_err(|_| verity.remove())?;
        Ok(verity)
    }

    fn activate(&self, mode: Corruption) -> Result<(), VerityError> {
        let [error, restart] = &self.table;
        let target = match mode {
            Corruption::Error => error,
            Corruption::Restart => restart,
        };
        self.ask(DmCommand::Load, READ_ONLY, target)?;
        // Without its flag "suspend" this resumes, with the table that was loaded.
        self.ask(DmCommand::Suspend, SKIP_LOCKFS | NO_FLUSH, &[]).map(drop)
    }

    fn ask(&self, command: DmCommand, flags: u32, target: &[u8]) -> Result<DmBuffer, VerityError> {
        let mut buffer = request(&self.name, flags, target);
        let operation = match command {
            DmCommand::Create => "create",
            DmCommand::Remove => "remove",
            DmCommand::Suspend => "resume",
            DmCommand::Load => "load table",
        };
        let failed =
            |errno: Errno| VerityError::Mapper { device: self.device.clone(), operation, source: errno.into() };
        sys::device_mapper(&self.control, command, &mut buffer).map_err(failed)?;
        Ok(buffer)
    }

    /// Reads all of it: an error is a block that is not what was signed. `alive` is called every few megabytes.
    pub fn read_whole(&self, alive: &mut dyn FnMut()) -> Result<(), VerityError> {
        let io = |source| VerityError::Io { device: self.path.clone(), source };
        let mut file = File::open(&self.path).map_err(io)?;
        let mut piece = vec![0; PIECE];
        let mut at: u64 = 0;
        loop {
            if at.is_multiple_of(16 * PIECE as u64) {
                alive();
            }
            match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => at += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(VerityError::Corrupt { device: self.device.clone(), at, source }),
            }
        }
    }

    /// From now on a corrupt block restarts the machine.
    pub fn enforce(&self) -> Result<(), VerityError> {
        self.activate(Corruption::Restart)
    }

    /// Nothing may be mounted from it any more. A view that stays costs some memory and harms nothing.
    pub fn remove(&self) {
        let _ = self.ask(DmCommand::Remove, 0, &[]);
    }
}

/// `struct dm_ioctl` for the device called `name`, with one target behind it where there is one.
fn request(name: &str, flags: u32, target: &[u8]) -> DmBuffer {
    let mut bytes = Vec::with_capacity(DM_BUFFER_BYTES);
    VERSION.iter().for_each(|part| bytes.extend(part.to_ne_bytes()));
    let targets = u32::from(!target.is_empty());
    // data_size, data_start, target_count, open_count, flags, event_nr, padding; then the device's number.
    for field in [DM_BUFFER_BYTES as u32, DM_HEADER_BYTES as u32, targets, 0, flags, 0, 0] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes.extend(0_u64.to_ne_bytes());
    bytes.extend(name.bytes().take(127));
    bytes.resize(DM_HEADER_BYTES, 0);
    bytes.extend(target);
    bytes.resize(DM_BUFFER_BYTES, 0);
    let mut buffer = [0; DM_BUFFER_BYTES];
    buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    buffer
}

/// `struct dm_target_spec` and the target's parameters.
fn target(device: &str, manifest: &SlotManifest, mode: Corruption) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0_u64.to_ne_bytes());
    bytes.extend((manifest.data_blocks() * (BLOCK / SECTOR)).to_ne_bytes());
    // status, next
    bytes.extend([0; 8]);
    bytes.extend(TARGET.bytes().chain(std::iter::repeat(0)).take(16));
    bytes.extend(parameters(device, manifest, mode).bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn parameters(device: &str, manifest: &SlotManifest, mode: Corruption) -> String {
    let SlotManifest { root_hash, salt, tree_offset, .. } = manifest;
    let (blocks, tree) = (manifest.data_blocks(), tree_offset / BLOCK);
    let on_corruption = match mode {
        Corruption::Error => "",
        Corruption::Restart => " 1 restart_on_corruption",
    };
    format!("1 {device} {device} {BLOCK} {BLOCK} {blocks} {tree} sha256 {root_hash} {salt}{on_corruption}")
}

/// The field `dev` of an answer, as the kernel codes a device's number (`huge_encode_dev`).
fn dm_minor(answer: &DmBuffer) -> u64 {
    let number = answer.get(40..48).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes);
    number & 0xff | (number >> 12) & 0xfff00
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::boot_files::{BootFile, Role};
    use kedge_config::slot_manifest::{Blob, Digest};

    fn manifest() -> SlotManifest {
        let digest = Digest([0xab; 32]);
        SlotManifest {
            board: "test".into(),
            version: "1".into(),
            kernel_release: "6.12".into(),
            rollback_index: 0,
            boot_id: digest,
            boot: vec![BootFile {
                role: Role::Unified,
                path: "kedge.efi".into(),
                blob: Blob { bytes: 1, sha256: digest },
            }],
            system_bytes: 8191,
            tree_offset: 12288,
            root_hash: digest,
            salt: digest,
            epoch: 0,
        }
    }

    #[test]
    fn the_table_is_as_the_kernel_documents_it() {
        let hash = "ab".repeat(32);
        assert_eq!(
            parameters("254:2", &manifest(), Corruption::Error),
            format!("1 254:2 254:2 4096 4096 2 3 sha256 {hash} {hash}")
        );
        assert!(
            parameters("254:2", &manifest(), Corruption::Restart).ends_with(&format!("{hash} 1 restart_on_corruption"))
        );
    }

    #[test]
    fn a_request_is_laid_out_as_the_header_says() {
        let target = target("254:2", &manifest(), Corruption::Error);
        let request = request("kedge-a", READ_ONLY, &target);
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert_eq!([word(0), word(12), word(16), word(20), word(28)], [4, 4096, 312, 1, 1]);
        assert_eq!(&request[48..56], b"kedge-a\0");
        let spec = &request[312..];
        assert_eq!(u64::from_ne_bytes(spec[8..16].try_into().unwrap()), 16, "sectors");
        assert!(spec[24..].starts_with(b"verity\0") && spec[40..].starts_with(b"1 254:2 254:2 4096 "));
    }

    #[test]
    fn the_minor_number_is_taken_out_of_an_answer() {
        let mut answer = [0; DM_BUFFER_BYTES];
        // Major 254, minor 0x123.
        answer[40..48].copy_from_slice(&(0x23_u64 | 254 << 8 | 0x100 << 12).to_ne_bytes());
        assert_eq!(dm_minor(&answer), 0x123);
    }
}
