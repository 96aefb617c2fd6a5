//! The device's identity, which the factory put on the FAT partition (or on a seed disk): taken over to STATE, then wiped where it lay, so
//! that who takes the card out finds no key on a partition that any computer shows.
//!
//! ```text
//! seed: identity/device.key, .crt, fleet-ca.crt ──▶ STATE/identity.new, synced ──▶ STATE/identity ──▶ the seed's key: zeros, synced, removed
//! ```
//! Power may fail between any two of these: the next boot does the rest. A seed with another key than STATE's is a device that was provisioned
//! anew, and wins.

use super::Boot;
use super::config::seeds;
use anyhow::Context;
use kedge_config::names;
use rustix::mount::MountFlags;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Below [`names::STATE_DIR`].
const FOLDER: &str = "identity";
const NEW: &str = "identity.new";
const OLD: &str = "identity.old";
/// A key and two certificates are a page each.
const MOST: u64 = 64 << 10;

const FILES: [(&str, u32); 3] =
    [(names::SEED_KEY, 0o600), (names::SEED_CERTIFICATE, 0o644), (names::SEED_AUTHORITY, 0o644)];

pub fn claim(boot: &Boot) -> anyhow::Result<()> {
    for seed in seeds(boot) {
        let found = seed.mounted(MountFlags::RDONLY, |folder| Ok(folder.join(names::SEED_KEY).exists()));
        // A card reader that fails is told where the machine config is read.
        if !found.unwrap_or(false) {
            continue;
        }
        seed.mounted(MountFlags::empty(), |folder| take(folder, Path::new(names::STATE_DIR)))
            .with_context(|| format!("take the device's identity over from {}", seed.name()))?;
        tracing::info!(from = seed.name(), "the device's identity was taken over to STATE");
    }
    Ok(())
}

/// Moves the identity from the folder `seed` to the folder `state`.
fn take(seed: &Path, state: &Path) -> anyhow::Result<()> {
    let new = state.join(NEW);
    remove_folder(&new)?;
    fs::create_dir(&new).with_context(|| format!("create {}", new.display()))?;
    for (name, mode) in FILES {
        let from = seed.join(name);
        let mut bytes = Vec::new();
        File::open(&from)
            .and_then(|file| file.take(MOST).read_to_end(&mut bytes))
            .with_context(|| format!("read {}", from.display()))?;
        let to = new.join(from.file_name().unwrap_or_default());
        write(&to, mode, &bytes).with_context(|| format!("write {}", to.display()))?;
    }
    sync(&new)?;
    let (folder, old) = (state.join(FOLDER), state.join(OLD));
    if folder.exists() {
        remove_folder(&old)?;
        fs::rename(&folder, &old).with_context(|| format!("set {} aside", folder.display()))?;
    }
    fs::rename(&new, &folder).with_context(|| format!("name {}", folder.display()))?;
    sync(state)?;
    remove_folder(&old)?;
    let key = seed.join(names::SEED_KEY);
    wipe(&key).with_context(|| format!("wipe {}", key.display()))
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Overwrites in place, then removes. A flash card may keep the old block until it needs it: what can be read through the card is gone.
fn wipe(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(length), &mut file)?;
    file.sync_all()?;
    drop(file);
    fs::remove_file(path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| format!("sync {}", folder.display()))
}

fn remove_folder(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn seed(folder: &Path, key: &str) -> PathBuf {
        let seed = folder.join("seed");
        fs::create_dir_all(seed.join("identity")).unwrap();
        for (name, text) in
            [(names::SEED_KEY, key), (names::SEED_CERTIFICATE, "certificate"), (names::SEED_AUTHORITY, "authority")]
        {
            fs::write(seed.join(name), text).unwrap();
        }
        seed
    }

    fn key(state: &Path) -> String {
        fs::read_to_string(state.join("identity/device.key")).unwrap()
    }

    #[test]
    fn the_key_is_on_state_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let (seed, state) = (seed(folder.path(), "key one"), folder.path().join("state"));
        fs::create_dir(&state).unwrap();
        // Another name of the same file shows what lay in its blocks.
        fs::hard_link(seed.join(names::SEED_KEY), folder.path().join("blocks")).unwrap();
        take(&seed, &state).unwrap();
        assert_eq!(key(&state), "key one");
        assert_eq!(fs::metadata(state.join("identity/device.key")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(state.join("identity/device.crt").exists() && state.join("identity/fleet-ca.crt").exists());
        assert!(!seed.join(names::SEED_KEY).exists());
        assert_eq!(fs::read(folder.path().join("blocks")).unwrap(), [0; 7]);
    }

    #[test]
    fn wherever_power_failed_the_next_boot_does_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let (seed_folder, state) = (seed(folder.path(), "key one"), folder.path().join("state"));
        // While it was copied.
        fs::create_dir_all(state.join(NEW)).unwrap();
        fs::write(state.join(NEW).join("device.key"), "ke").unwrap();
        take(&seed_folder, &state).unwrap();
        assert_eq!(key(&state), "key one");
        // After it was copied and before it was wiped.
        seed(folder.path(), "key one");
        take(&seed_folder, &state).unwrap();
        assert!(key(&state) == "key one" && !seed_folder.join(names::SEED_KEY).exists());
        // Between the old one's going and the new one's coming.
        seed(folder.path(), "key two");
        fs::rename(state.join(FOLDER), state.join(OLD)).unwrap();
        take(&seed_folder, &state).unwrap();
        assert_eq!(key(&state), "key two");
        assert!(!state.join(OLD).exists() && !state.join(NEW).exists());
    }

    #[test]
    fn a_seed_that_lacks_something_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (seed_folder, state) = (seed(folder.path(), "key one"), folder.path().join("state"));
        fs::create_dir(&state).unwrap();
        take(&seed_folder, &state).unwrap();
        seed(folder.path(), "key two");
        fs::remove_file(seed_folder.join(names::SEED_AUTHORITY)).unwrap();
        let error = format!("{:#}", take(&seed_folder, &state).unwrap_err());
        assert!(error.contains("fleet-ca.crt"), "{error}");
        assert_eq!(key(&state), "key one");
        assert!(seed_folder.join(names::SEED_KEY).exists());
    }
}
