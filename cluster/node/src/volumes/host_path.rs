//! `hostPath` with its types: what must be there, and what is made when it is not.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::{Error, doing};

pub fn check(path: &Path, kind: &str) -> Result<(), Error> {
    if kind.is_empty() {
        return Ok(());
    }
    if kind == "DirectoryOrCreate" && !path.exists() {
        fs::create_dir_all(path).map_err(doing("make", path))?;
    }
    if kind == "FileOrCreate" {
        match fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(doing("create", path)(e)),
            Ok(_) | Err(_) => {}
        }
    }
    let found = fs::metadata(path).map(|m| m.file_type());
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_ok_and(test);
    let (fine, expected) = match kind {
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        _ => (false, "of a known hostPath type"),
    };
    if fine { Ok(()) } else { Err(Error::HostPath { path: path.to_owned(), expected }) }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn types_are_checked_and_made() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, file) = (temp.path().join("d/e"), temp.path().join("f"));
        for (path, kind, fine) in [
            (&dir, "", true),
            (&dir, "Directory", false),
            (&dir, "DirectoryOrCreate", true),
            (&dir, "Directory", true),
            (&dir, "File", false),
            (&file, "File", false),
            (&file, "FileOrCreate", true),
            (&file, "FileOrCreate", true),
            (&file, "File", true),
            (&file, "DirectoryOrCreate", false),
            (&file, "Socket", false),
            (&file, "Nonsense", false),
            (&"/dev/null".into(), "CharDevice", true),
        ] {
            assert_eq!(check(path, kind).is_ok(), fine, "{kind} {}", path.display());
        }
    }
}
