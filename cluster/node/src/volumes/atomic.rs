//! Directories whose files change all at once, as every reader of mounted ConfigMaps expects:
//!
//! ```text
//! VOLUME/..1700000000_5/a.conf     the files of one moment
//! VOLUME/..data ─▶ ..1700000000_5  replaced by rename
//! VOLUME/a.conf ─▶ ..data/a.conf
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::payload::File;
use super::{Error, doing};

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes the directory hold exactly `files`. Nothing is written if it already does.
pub fn write(dir: &Path, files: &BTreeMap<PathBuf, File>, group: Option<u32>, now: Timestamp) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(doing("make", dir))?;
    let current = fs::read_link(dir.join(DATA)).ok();
    if current.as_ref().is_some_and(|c| holds(&dir.join(c), files)) {
        return Ok(());
    }
    let stamp = PathBuf::from(format!("..{}_{}", now.as_second(), now.subsec_nanosecond()));
    let fresh = dir.join(&stamp);
    fs::create_dir(&fresh).map_err(doing("make", &fresh))?;
    for (path, file) in files {
        put(&fresh, path, file, group)?;
    }
    own_directory(&fresh, group)?;
    let (next, data) = (dir.join(NEXT), dir.join(DATA));
    remove(&next)?;
    symlink(&stamp, &next).map_err(doing("link", &next))?;
    fs::rename(&next, &data).map_err(doing("rename", &next))?;
    links(dir, files)?;
    if let Some(old) = current {
        let old = dir.join(old);
        fs::remove_dir_all(&old).map_err(doing("remove", &old))?;
    }
    Ok(())
}

fn holds(dir: &Path, files: &BTreeMap<PathBuf, File>) -> bool {
    let mut found = 0;
    let all = files.iter().all(|(path, file)| {
        let path = dir.join(path);
        let same_mode = fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o777 == file.mode);
        same_mode && fs::read(&path).is_ok_and(|data| data == file.data)
    });
    count(dir, &mut found);
    all && found == files.len()
}

fn count(dir: &Path, found: &mut usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) { count(&entry.path(), found) } else { *found += 1 }
    }
}

fn put(dir: &Path, path: &Path, file: &File, group: Option<u32>) -> Result<(), Error> {
    let full = dir.join(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent).map_err(doing("make", parent))?;
    }
    let mut options = fs::OpenOptions::new();
    let mut open = options.write(true).create_new(true).mode(0o600).open(&full).map_err(doing("create", &full))?;
    io::Write::write_all(&mut open, &file.data).map_err(doing("write", &full))?;
    // A group that owns the volume may read what the owner may.
    let mode = if group.is_some() { file.mode | ((file.mode & 0o600) >> 3) } else { file.mode };
    open.set_permissions(fs::Permissions::from_mode(mode)).map_err(doing("set the mode of", &full))?;
    if group.is_some() {
        std::os::unix::fs::chown(&full, None, group).map_err(doing("set the group of", &full))?;
    }
    Ok(())
}

/// Lets a group own a directory, so that what is made below it belongs to the group, too.
pub fn own_directory(dir: &Path, group: Option<u32>) -> Result<(), Error> {
    let mode = match group {
        Some(_) => 0o2775,
        None if dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with("..")) => 0o755,
        None => 0o777,
    };
    if group.is_some() {
        std::os::unix::fs::chown(dir, None, group).map_err(doing("set the group of", dir))?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(doing("set the mode of", dir))
}

/// Makes the visible names those of the files, and no others.
fn links(dir: &Path, files: &BTreeMap<PathBuf, File>) -> Result<(), Error> {
    let tops: BTreeSet<OsString> = files.keys().filter_map(|p| p.iter().next()).map(OsString::from).collect();
    for entry in fs::read_dir(dir).map_err(doing("read", dir))?.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("..") && !tops.contains(&name) {
            remove(&entry.path())?;
        }
    }
    for top in tops {
        let link = dir.join(&top);
        match symlink(Path::new(DATA).join(&top), &link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(doing("link", &link)(e)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(doing("remove", path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<PathBuf, File> {
        list.iter().map(|(p, d)| (PathBuf::from(p), File { data: d.as_bytes().to_vec(), mode: 0o640 })).collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_change_all_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("v");
        let at = |s| Timestamp::from_second(s).unwrap();
        write(&dir, &files(&[("a", "1"), ("d/b", "2")]), None, at(1)).unwrap();
        assert_eq!(names(&dir), ["..1_0", "..data", "a", "d"]);
        assert_eq!(fs::read_to_string(dir.join("d/b")).unwrap(), "2");
        assert_eq!(fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        write(&dir, &files(&[("a", "1"), ("d/b", "2")]), None, at(2)).unwrap();
        assert_eq!(names(&dir)[0], "..1_0", "unchanged data is not written");
        write(&dir, &files(&[("a", "3"), ("c", "4")]), None, at(3)).unwrap();
        assert_eq!(names(&dir), ["..3_0", "..data", "a", "c"]);
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        write(&dir, &files(&[]), None, at(4)).unwrap();
        assert_eq!(names(&dir), ["..4_0", "..data"]);
    }
}
