//! Whether a slot may be booted at all: who signed it, and that it is no step back behind what has proved itself here; and whether it may be by
//! the kernel that runs.

use kedge_config::names;
use kedge_config::signing::Key;
use kedge_config::slot::{Kernel, Record};
use kedge_config::slot_manifest::{self, AREA_BYTES, Digest, ManifestError, Sealed, SlotManifest};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{device}: {operation}: {source}")]
    Io { device: PathBuf, operation: &'static str, source: io::Error },
    #[error("{device}: {source}")]
    Manifest { device: PathBuf, source: ManifestError },
    #[error(
        "{device}: its rollback index is {found}; a system with {least} has proved itself here, and none below is taken"
    )]
    Rollback { device: PathBuf, found: u64, least: u64 },
}

impl TrustError {
    /// Whether it says something of the system itself, and not only of this boot.
    pub fn condemns(&self) -> bool {
        match self {
            Self::Manifest { .. } | Self::Rollback { .. } => true,
            // What cannot be read today may be tomorrow.
            Self::Io { .. } => false,
        }
    }
}

/// The keys that the initramfs holds. Without any, no system is taken.
pub fn keys() -> Result<Vec<Key>, String> {
    let text = fs::read_to_string(names::STAGE1_KEYS).map_err(|error| format!("{}: {error}", names::STAGE1_KEYS))?;
    Key::list(&text).map_err(|error| format!("{}: {error}", names::STAGE1_KEYS))
}

/// The kernel that runs, with the initramfs.
#[derive(Debug)]
pub struct Running {
    /// As `uname -r` tells it.
    release: String,
    /// That of the system that the initramfs belongs to; none where it does not say so.
    id: Option<Digest>,
}

impl Running {
    pub fn look() -> Self {
        let id = fs::read_to_string(names::STAGE1_BOOT_ID).ok();
        let id = id.and_then(|text| kedge_config::hex::decode(text.trim_end())).map(Digest);
        Self { release: rustix::system::uname().release().to_string_lossy().into_owned(), id }
    }

    /// What it is to the system of `manifest`.
    pub fn fits(&self, manifest: &SlotManifest) -> Kernel {
        match (manifest.kernel_release == self.release, self.id) {
            (true, Some(id)) if id == manifest.boot_id => Kernel::Own,
            // Nothing more is known of either.
            (true, None) => Kernel::Own,
            (true, Some(_)) => Kernel::Fits,
            (false, _) => Kernel::Other,
        }
    }

    /// Why it does not start the system of `manifest`.
    pub fn told(&self, manifest: &SlotManifest) -> String {
        format!("its modules are for kernel {}, and this is kernel {}", manifest.kernel_release, self.release)
    }
}

/// Leaves the keys where the system finds them: whom stage 1 does not believe, it need not fetch from.
pub fn hand_on() -> Result<(), String> {
    fs::copy(names::STAGE1_KEYS, names::RUN_KEYS).map(drop).map_err(|error| format!("{}: {error}", names::RUN_KEYS))
}

/// The manifest of the slot on `device`, if everything speaks for it.
pub fn manifest(device: &Path, keys: &[Key], record: &Record) -> Result<SlotManifest, TrustError> {
    let io = |operation, source| TrustError::Io { device: device.into(), operation, source };
    let wrong = |source| TrustError::Manifest { device: device.into(), source };
    let mut file = File::open(device).map_err(|error| io("open", error))?;
    let size = file.seek(SeekFrom::End(0)).map_err(|error| io("size", error))?;
    let mut area = vec![0; AREA_BYTES as usize];
    let at = slot_manifest::area_offset(size).unwrap_or(0);
    file.read_exact_at(&mut area, at).map_err(|error| io("read slot manifest", error))?;
    let manifest = Sealed::read(&area).and_then(|sealed| sealed.open(keys)).map_err(wrong)?;
    manifest.fits(size).map_err(wrong)?;
    admit(&manifest, record, device)?;
    Ok(manifest)
}

fn admit(manifest: &SlotManifest, record: &Record, device: &Path) -> Result<(), TrustError> {
    let (found, least) = (manifest.rollback_index, record.rollback_index);
    if found < least {
        return Err(TrustError::Rollback { device: device.into(), found, least });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::boot_files::{BootFile, Role};
    use kedge_config::signing::KeyId;
    use kedge_config::slot_manifest::Blob;
    use std::io::Write;

    fn made(rollback_index: u64) -> SlotManifest {
        let digest = Digest([1; 32]);
        SlotManifest {
            board: "test".into(),
            version: "1".into(),
            kernel_release: "6.12".into(),
            rollback_index,
            boot_id: digest,
            boot: vec![BootFile {
                role: Role::Unified,
                path: "kedge.efi".into(),
                blob: Blob { bytes: 1, sha256: digest },
            }],
            system_bytes: 4096,
            tree_offset: 8192,
            root_hash: digest,
            salt: digest,
            epoch: 0,
        }
    }

    #[test]
    fn a_step_back_is_refused_for_ever() {
        let record = Record { rollback_index: 5, ..Record::fresh() };
        let told = |index| admit(&made(index), &record, Path::new("/dev/x"));
        assert!(told(5).is_ok() && told(6).is_ok());
        let older = told(4).unwrap_err();
        assert!(older.condemns() && older.to_string().contains("its rollback index is 4; a system with 5"), "{older}");
    }

    #[test]
    fn a_kernel_knows_its_system_by_the_boot_id_and_else_by_its_release() {
        let manifest = made(0);
        let running = |release: &str, id: Option<u8>| {
            let running = Running { release: release.into(), id: id.map(|byte| Digest([byte; 32])) };
            running.fits(&manifest)
        };
        assert_eq!(running("6.12", Some(1)), Kernel::Own);
        assert_eq!(running("6.12", None), Kernel::Own);
        assert_eq!(running("6.12", Some(2)), Kernel::Fits);
        // What stands in the initramfs says nothing of the kernel beside it.
        assert_eq!((running("6.13", Some(1)), running("6.13", None)), (Kernel::Other, Kernel::Other));
    }

    #[test]
    fn a_slot_without_a_manifest_or_with_anothers_is_told() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![0; 1 << 20]).unwrap();
        let told = |file: &tempfile::NamedTempFile| {
            manifest(file.path(), &[Key::new([7; 32])], &Record::fresh()).unwrap_err().to_string()
        };
        assert!(told(&file).contains("no slot manifest"), "{}", told(&file));
        let id = KeyId::parse("0123456789abcdef").unwrap();
        let text = Sealed::new(&made(0), id, [0; 64]).unwrap().to_text();
        file.as_file().write_all_at(text.as_bytes(), (1 << 20) - AREA_BYTES).unwrap();
        assert!(told(&file).contains("signed by key 0123456789abcdef, which is not trusted here"), "{}", told(&file));
        file.as_file().set_len(100).unwrap();
        assert!(told(&file).contains("read slot manifest"), "{}", told(&file));
    }
}
