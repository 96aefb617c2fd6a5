//! STATE: an empty ext4, made by the host's `mke2fs`, which needs neither root nor a mount for that. It is small; init grows it at
//! first boot to what the disk has.

use std::io;
use std::path::Path;
use std::process::Command;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("mke2fs cannot be run ({0}): install e2fsprogs")]
    NoProgram(io::Error),
    #[error("mke2fs failed for STATE: {0}")]
    Failed(String),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

/// The host's own defaults differ from release to release; these are every one that matters here.
/// `resize_inode`, with room for tables up to 512 GiB, lets the kernel grow it while mounted; beyond, the kernel changes the scheme.
const CONFIG: &str = "\
[defaults]
blocksize = 4096
inode_size = 256
inode_ratio = 16384
reserved_ratio = 1.0
base_features = none
default_mntopts = acl,user_xattr
enable_periodic_fsck = 0
[fs_types]
ext4 = {
  features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr,has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
}
";

/// Makes the file system in a new file of `size` bytes.
pub fn make(path: &Path, size: u64, uuid: uuid::Uuid, hash_seed: uuid::Uuid, epoch: u32) -> Result<(), StateError> {
    let io = |source| StateError::Io { path: path.display().to_string(), source };
    let file = std::fs::File::create(path).map_err(io)?;
    file.set_len(size).map_err(io)?;
    drop(file);
    let config = path.with_extension("conf");
    std::fs::write(&config, CONFIG).map_err(io)?;
    let extended = format!(
        "hash_seed={hash_seed},root_owner=0:0,resize=134217728,lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    );
    let program =
        ["/usr/sbin/mke2fs", "/sbin/mke2fs"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("mke2fs");
    let output = Command::new(program)
        .env("MKE2FS_CONFIG", &config)
        .env("E2FSPROGS_FAKE_TIME", epoch.to_string())
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env("LC_ALL", "C")
        .args(["-q", "-F", "-t", "ext4", "-L", "STATE", "-J", "size=4", "-U", &uuid.to_string(), "-E", &extended])
        .arg(path)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(StateError::NoProgram)?;
    std::fs::remove_file(&config).map_err(io)?;
    if !output.status.success() {
        return Err(StateError::Failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_file_system_twice() {
        let folder = tempfile::tempdir().unwrap();
        let made = ["a", "b"].map(|name| {
            let path = folder.path().join(name);
            let id = |name| crate::digest::uuid("test", name);
            make(&path, 16 << 20, id("fs"), id("hash"), 1_700_000_000).unwrap();
            std::fs::read(&path).unwrap()
        });
        assert!(made[0] == made[1]);
        // The magic number of ext's superblock.
        assert_eq!(made[0][1024 + 56..1024 + 58], [0x53, 0xef]);
    }
}
