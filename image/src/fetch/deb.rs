//! Reading a Debian package (deb(5)): an `ar` archive with a compressed tar of files in it. Nothing is installed and no script is run.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum DebError {
    #[error("{path}: {source}")]
    Open { path: String, source: io::Error },
    #[error("{path} is no Debian package or is damaged: {source}")]
    Archive { path: String, source: io::Error },
    #[error("{path} has no data archive in it")]
    NoData { path: String },
    #[error("{path}: unknown compression of \"{member}\"")]
    Compression { path: String, member: String },
    #[error("{path}, file \"{file}\": {source}")]
    Visit { path: String, file: String, source: io::Error },
}

/// What `each_file` hands out: the path without leading `./`, and the bytes.
pub type Visitor<'v> = &'v mut dyn FnMut(&str, &mut dyn Read) -> io::Result<()>;

/// Calls `visit` for each regular file of the package, in the package's order.
pub fn each_file(deb: &Path, visit: Visitor<'_>) -> Result<(), DebError> {
    let path = || deb.display().to_string();
    let file = File::open(deb).map_err(|source| DebError::Open { path: path(), source })?;
    let mut archive = ar::Archive::new(BufReader::new(file));
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(|source| DebError::Archive { path: path(), source })?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if !name.starts_with("data.tar") {
            continue;
        }
        let open = |source| DebError::Archive { path: path(), source };
        let data: Box<dyn Read + '_> = match name.strip_prefix("data.tar") {
            Some("") => Box::new(member),
            Some(".xz") => Box::new(xz2::read::XzDecoder::new_multi_decoder(member)),
            Some(".zst") => Box::new(zstd::Decoder::new(member).map_err(open)?),
            Some(".gz") => Box::new(flate2::read::GzDecoder::new(member)),
            _ => return Err(DebError::Compression { path: path(), member: name }),
        };
        return each_in_tar(&path(), data, visit);
    }
    Err(DebError::NoData { path: path() })
}

fn each_in_tar(path: &str, data: Box<dyn Read + '_>, visit: Visitor<'_>) -> Result<(), DebError> {
    let damaged = |source| DebError::Archive { path: path.to_owned(), source };
    let mut tar = tar::Archive::new(data);
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        visit(name, &mut entry).map_err(|source| DebError::Visit {
            path: path.to_owned(),
            file: name.to_owned(),
            source,
        })?;
    }
    Ok(())
}

#[cfg(test)]
pub mod made {
    use std::path::Path;

    /// Writes a package with these files.
    pub fn package(path: &Path, files: &[(&str, &[u8])]) {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("./{name}"), *bytes).unwrap();
        }
        let data = zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap();
        let mut archive = ar::Builder::new(std::fs::File::create(path).unwrap());
        for (name, bytes) in [("debian-binary", b"2.0\n".to_vec()), ("data.tar.zst", data)] {
            archive.append(&ar::Header::new(name.into(), bytes.len() as u64), &bytes[..]).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(path: &Path) -> Result<Vec<(String, u64)>, String> {
        let mut found = Vec::new();
        each_file(path, &mut |name, content| {
            found.push((name.to_owned(), std::io::copy(content, &mut std::io::sink())?));
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        Ok(found)
    }

    #[test]
    fn files_are_handed_out_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.deb");
        made::package(&path, &[("boot/vmlinuz-1", b"kernel"), ("usr/lib/x", b"")]);
        assert_eq!(list(&path).unwrap(), [("boot/vmlinuz-1".to_owned(), 6), ("usr/lib/x".to_owned(), 0)]);

        let whole = std::fs::read(&path).unwrap();
        for keep in [0, 4, 70, 140, whole.len() / 2, whole.len() - 40] {
            std::fs::write(&path, &whole[..keep]).unwrap();
            let error = list(&path).unwrap_err();
            assert!(error.contains("a.deb"), "cut at {keep}: {error}");
        }
    }
}
