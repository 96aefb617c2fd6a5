//! `autoboot.txt` on a Raspberry Pi's first partition, see [`kedge_config::autoboot`].
//!
//! A kernel that hangs before stage 1 is reset by nobody: `kernel_watchdog_timeout` of config.txt would do it, which firmware has known since July
//! 2025, and takes only where the device tree says "early-watchdog" (raspberrypi/firmware#1980); Debian's firmware is older.

use super::Step;
use kedge_config::autoboot;
use kedge_config::slot::SlotName;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Has the firmware start `slot`, and the other one when it is asked to try.
pub fn steps(first: &Path, slot: SlotName) -> io::Result<Vec<Step>> {
    let wanted = autoboot::text(slot);
    let mut found = String::new();
    let path = first.join(autoboot::FILE);
    match File::open(path).and_then(|file| file.take(wanted.len() as u64 + 1).read_to_string(&mut found)) {
        Ok(_) if found == wanted => Ok(Vec::new()),
        // What is no text is written anew as well.
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Err(error),
        Ok(_) | Err(_) => Ok(vec![Step::Write { path: autoboot::FILE.to_owned(), text: wanted }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_what_is_otherwise_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(autoboot::FILE);
        for before in [None, Some(autoboot::text(SlotName::A)), Some("\u{0}".to_owned()), Some("x".repeat(1000))] {
            if let Some(text) = &before {
                fs::write(&path, text).unwrap();
            }
            let steps = steps(folder.path(), SlotName::B).unwrap();
            assert_eq!(steps, [Step::Write { path: "autoboot.txt".into(), text: autoboot::text(SlotName::B) }]);
            // Power fails while it is written: what was there is there.
            for bytes in [0, 10, 1000] {
                steps[0].cut(folder.path(), bytes);
                assert_eq!(fs::read_to_string(&path).ok(), before);
            }
            steps[0].apply(folder.path()).unwrap();
            assert_eq!(super::steps(folder.path(), SlotName::B).unwrap(), []);
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(steps(folder.path(), SlotName::A).unwrap().len(), 1);
    }
}
