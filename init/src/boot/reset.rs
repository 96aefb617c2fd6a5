//! The way back to a machine as it came from the factory: STATE is emptied at the next start, before anything is read from it.
//!
//! ```text
//! asked ─▶ STATE/reset, synced ─▶ reboot ─▶ all but identity (where it is kept) ─▶ STATE/reset itself
//! ```
//! The note goes last: a power cut in the middle is a reset that the next start goes on with.

use anyhow::Context;
use kedge_config::names::STATE_DIR;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Below STATE.
const NOTE: &str = "reset";
/// What makes the machine this one to its fleet.
const IDENTITY: &str = "identity";
/// ext4's own.
const LOST: &str = "lost+found";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    Kept,
    /// The machine is nobody until it is provisioned anew.
    Forgotten,
}

/// Notes on `state` that it is to be emptied. When this returns `Ok` the next start does it.
pub fn ask(state: &Path, identity: Identity) -> anyhow::Result<()> {
    let path = state.join(NOTE);
    let word = match identity {
        Identity::Kept => "keep-identity\n",
        Identity::Forgotten => "all\n",
    };
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(word.as_bytes())?;
        file.sync_all()?;
        File::open(state)?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

pub fn run(_: &super::Boot) -> anyhow::Result<()> {
    if obey(Path::new(STATE_DIR))? {
        tracing::warn!("STATE was emptied, as was asked for");
        crate::console::say("\nkedge: STATE was emptied, as was asked for\n");
    }
    Ok(())
}

/// Gives whether there was anything to do.
fn obey(state: &Path) -> anyhow::Result<bool> {
    let note = state.join(NOTE);
    let word = match fs::read_to_string(&note) {
        Ok(word) => word,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("read {}", note.display())),
    };
    // A note that was cut off keeps what cannot be had again.
    let forgets = word == "all\n";
    for entry in fs::read_dir(state).with_context(|| format!("list {}", state.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if name == NOTE || name == LOST || (name == IDENTITY && !forgets) {
            continue;
        }
        let path = entry.path();
        let gone = if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.with_context(|| format!("remove {}", path.display()))?;
    }
    let last = || {
        let folder = File::open(state)?;
        folder.sync_all()?;
        fs::remove_file(&note)?;
        folder.sync_all()
    };
    last().with_context(|| format!("remove {}", note.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        for (path, text) in
            [("identity/device.key", "k"), ("server/db/state.db", "d"), ("config/kept.json", "c"), ("clock", "1")]
        {
            let path = state.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir(state.path().join(LOST)).unwrap();
        state
    }

    fn there(state: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_asked_for_goes_and_the_rest_stays() {
        let state = world();
        assert!(!obey(state.path()).unwrap());
        ask(state.path(), Identity::Kept).unwrap();
        assert!(obey(state.path()).unwrap());
        assert_eq!(there(state.path()), ["identity", "lost+found"]);
        assert!(!obey(state.path()).unwrap());
        let state = world();
        ask(state.path(), Identity::Forgotten).unwrap();
        assert!(obey(state.path()).unwrap());
        assert_eq!(there(state.path()), ["lost+found"]);
    }

    /// Power fails in the middle, or while the note is written.
    #[test]
    fn one_that_was_cut_off_goes_on() {
        let state = world();
        ask(state.path(), Identity::Forgotten).unwrap();
        fs::remove_dir_all(state.path().join("server")).unwrap();
        assert!(obey(state.path()).unwrap());
        assert_eq!(there(state.path()), ["lost+found"]);
        let state = world();
        fs::write(state.path().join(NOTE), "al").unwrap();
        assert!(obey(state.path()).unwrap());
        assert_eq!(there(state.path()), ["identity", "lost+found"]);
    }
}
