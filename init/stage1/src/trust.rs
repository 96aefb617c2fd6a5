//! Whether a slot may be booted at all: who signed it, and that it is no step back behind what has proved itself here.

use kedge_config::names;
use kedge_config::signing::Key;
use kedge_config::slot::Record;
use kedge_config::slot_manifest::{self, AREA_BYTES, ManifestError, Sealed, SlotManifest};
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
    #[error("{device}: its modules are for kernel {wanted}, and this is kernel {running}")]
    Kernel { device: PathBuf, wanted: String, running: String },
}

impl TrustError {
    /// Whether it says something of the system itself, and not only of this boot.
    pub fn condemns(&self) -> bool {
        match self {
            Self::Manifest { .. } | Self::Rollback { .. } => true,
            // What cannot be read today may be tomorrow.
            Self::Io { .. } | Self::Kernel { .. } => false,
        }
    }
}

/// The keys that the initramfs holds. Without any, no system is taken.
pub fn keys() -> Result<Vec<Key>, String> {
    let text = fs::read_to_string(names::STAGE1_KEYS).map_err(|error| format!("{}: {error}", names::STAGE1_KEYS))?;
    Key::list(&text).map_err(|error| format!("{}: {error}", names::STAGE1_KEYS))
}

/// The manifest of the slot on `device`, if everything speaks for it.
pub fn manifest(device: &Path, keys: &[Key], record: &Record, running: &str) -> Result<SlotManifest, TrustError> {
    let io = |operation, source| TrustError::Io { device: device.into(), operation, source };
    let wrong = |source| TrustError::Manifest { device: device.into(), source };
    let mut file = File::open(device).map_err(|error| io("open", error))?;
    let size = file.seek(SeekFrom::End(0)).map_err(|error| io("size", error))?;
    let mut area = vec![0; AREA_BYTES as usize];
    let at = slot_manifest::area_offset(size).unwrap_or(0);
    file.read_exact_at(&mut area, at).map_err(|error| io("read slot manifest", error))?;
    let manifest = Sealed::read(&area).and_then(|sealed| sealed.open(keys)).map_err(wrong)?;
    manifest.fits(size).map_err(wrong)?;
    admit(&manifest, record, running, device)?;
    Ok(manifest)
}

fn admit(manifest: &SlotManifest, record: &Record, running: &str, device: &Path) -> Result<(), TrustError> {
    let (found, least) = (manifest.rollback_index, record.rollback_index);
    if found < least {
        return Err(TrustError::Rollback { device: device.into(), found, least });
    }
    if manifest.kernel_release != running {
        let (wanted, running) = (manifest.kernel_release.clone(), running.to_owned());
        return Err(TrustError::Kernel { device: device.into(), wanted, running });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::boot_files::{BootFile, Role};
    use kedge_config::signing::KeyId;
    use kedge_config::slot_manifest::{Blob, Digest};
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
    fn a_step_back_is_refused_for_ever_and_another_kernel_for_now() {
        let record = Record { rollback_index: 5, ..Record::fresh() };
        let told = |index, kernel: &str| admit(&made(index), &record, kernel, Path::new("/dev/x"));
        assert!(told(5, "6.12").is_ok() && told(6, "6.12").is_ok());
        let older = told(4, "6.12").unwrap_err();
        assert!(older.condemns() && older.to_string().contains("its rollback index is 4; a system with 5"), "{older}");
        let kernel = told(5, "6.13").unwrap_err();
        assert!(!kernel.condemns() && kernel.to_string().ends_with("for kernel 6.12, and this is kernel 6.13"));
    }

    #[test]
    fn a_slot_without_a_manifest_or_with_anothers_is_told() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![0; 1 << 20]).unwrap();
        let told = |file: &tempfile::NamedTempFile| {
            manifest(file.path(), &[Key::new([7; 32])], &Record::fresh(), "6.12").unwrap_err().to_string()
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
