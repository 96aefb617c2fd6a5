//! A slot's signed manifest: whose word it is, and whether all that it speaks of is as it says.

use super::region::Region;
use super::report::Seal;
use crate::assemble::{cpio, slot};
use crate::digest;
use kedge_config::boot_files::BootFile;
use kedge_config::names;
use kedge_config::signing::Key;
use kedge_config::slot_manifest::{Blob, SlotManifest};

/// Tells what is wrong by `wrong`. `boot` gives a boot file of the slot's. Without `keys` those that the slot's own initramfs holds are
/// trusted, as its stage 1 would.
pub fn look(
    region: Region<'_>,
    keys: Option<&[Key]>,
    initramfs: Option<&[u8]>,
    boot: &dyn Fn(&str) -> Option<Vec<u8>>,
    wrong: &mut dyn FnMut(String),
) -> Option<Seal> {
    let mut faults = Vec::new();
    let sealed = match slot::read(region, region.len()) {
        Ok(Ok(sealed)) => sealed,
        Ok(Err(error)) => {
            wrong(error.to_string());
            return None;
        }
        Err(error) => {
            wrong(format!("the slot manifest: {error}"));
            return None;
        }
    };
    let trusted = keys.map(<[Key]>::to_vec).map_or_else(|| own_keys(initramfs), Ok);
    match trusted.map(|trusted| sealed.open(&trusted)) {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => faults.push(error.to_string()),
        Err(error) => faults.push(error),
    }
    // Said in any case: who looks into an image wants to see what another has written.
    let Ok(manifest) = sealed.unverified() else {
        faults.into_iter().for_each(wrong);
        return None;
    };
    match manifest.fits(region.len()).map(|()| slot::fault(&manifest, region)) {
        Ok(Ok(fault)) => faults.extend(fault),
        Ok(Err(error)) => faults.push(error.to_string()),
        Err(error) => faults.push(error.to_string()),
    }
    let found: Vec<_> = manifest.boot.iter().map(|file| (file, boot(&file.path))).collect();
    // A slot that another one's kernel starts has none of its own: but it has all or none.
    if found.iter().any(|(_, bytes)| bytes.is_some()) {
        faults.extend(found.into_iter().filter_map(|(file, bytes)| other(file, bytes.as_deref())));
    }
    let seal = seal(&manifest, sealed.key.to_string(), faults.is_empty());
    faults.into_iter().for_each(wrong);
    Some(seal)
}

fn own_keys(initramfs: Option<&[u8]>) -> Result<Vec<Key>, String> {
    let archive =
        initramfs.ok_or("its boot files are not on the ESP: with --key FILE.pub its signature can be checked")?;
    let list = cpio::find(archive, names::STAGE1_KEYS.trim_start_matches('/'))
        .ok_or_else(|| format!("its initramfs has no {}", names::STAGE1_KEYS))?;
    Key::list(&String::from_utf8_lossy(list)).map_err(|error| error.to_string())
}

fn other(file: &BootFile, bytes: Option<&[u8]>) -> Option<String> {
    let (name, expected) = (&file.path, file.blob);
    let Some(bytes) = bytes else { return Some(format!("its boot file \"{name}\" is not there")) };
    let found = Blob { bytes: bytes.len() as u64, sha256: digest::of_bytes_raw(bytes) };
    (found != expected).then(|| {
        format!(
            "boot file \"{name}\" is not the slot's: {} bytes with SHA-256 {}, the manifest says {} with {}",
            found.bytes, found.sha256, expected.bytes, expected.sha256
        )
    })
}

fn seal(manifest: &SlotManifest, key: String, verified: bool) -> Seal {
    Seal {
        key,
        board: manifest.board.clone(),
        version: manifest.version.clone(),
        kernel_release: manifest.kernel_release.clone(),
        rollback_index: manifest.rollback_index,
        root_hash: manifest.root_hash.to_string(),
        salt: manifest.salt.to_string(),
        tree: manifest.tree_bytes(),
        verified,
    }
}
