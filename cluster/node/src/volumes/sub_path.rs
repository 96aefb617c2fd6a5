//! Paths below a volume that a container mounts instead of the whole: made when missing, never outside.

use std::fs;

use super::{Error, doing};
use crate::translate::mounts::SubPath;

/// Makes the path a directory if nothing is there. A symbolic link that leads out of the volume is refused.
pub fn make(sub: &SubPath) -> Result<(), Error> {
    let volume = fs::canonicalize(&sub.volume).map_err(doing("find", &sub.volume))?;
    let full = volume.join(&sub.path);
    // What exists of it must lie inside before anything is made below.
    let mut existing = full.as_path();
    let real = loop {
        match fs::canonicalize(existing) {
            Ok(real) => break real,
            Err(_) => existing = existing.parent().ok_or_else(|| Error::Escape { path: sub.path.clone() })?,
        }
    };
    if !real.starts_with(&volume) {
        return Err(Error::Escape { path: sub.path.clone() });
    }
    if existing != full {
        fs::create_dir_all(&full).map_err(doing("make", &full))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_volume_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("v");
        fs::create_dir_all(volume.join("in")).unwrap();
        std::os::unix::fs::symlink("/", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("in", volume.join("link")).unwrap();
        fs::write(volume.join("file"), "").unwrap();
        for (path, fine) in
            [("a/b", true), ("in", true), ("link/x", true), ("file", true), ("out", false), ("out/tmp/x", false)]
        {
            let sub = SubPath { volume: volume.clone(), path: path.into() };
            assert_eq!(make(&sub).is_ok(), fine, "{path}");
            assert!(!fine || volume.join(path).exists(), "{path}");
        }
        assert!(volume.join("in/x").is_dir());
    }
}
