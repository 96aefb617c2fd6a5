//! STATE: an empty ext4, made by the host's `mke2fs`, which needs neither root nor a mount for that. It is small; init grows it at
//! first boot to what the disk has.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output};

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{program} cannot be run ({source}): install e2fsprogs")]
    NoProgram { program: &'static str, source: io::Error },
    #[error("{program} failed for STATE: {said}")]
    Failed { program: &'static str, said: String },
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
    let made = run("mke2fs", |command| {
        command
            .env("MKE2FS_CONFIG", &config)
            .env("E2FSPROGS_FAKE_TIME", epoch.to_string())
            .env("SOURCE_DATE_EPOCH", epoch.to_string())
            .args(["-q", "-F", "-t", "ext4", "-L", "STATE", "-J", "size=4", "-U", &uuid.to_string(), "-E", &extended])
            .arg(path)
    });
    std::fs::remove_file(&config).map_err(io)?;
    made.map(drop)
}

/// The bytes of the file system that it has given to something: tables, inodes, journal, files.
pub fn used(path: &Path) -> Result<Vec<Range<u64>>, StateError> {
    let output = run("dumpe2fs", |command| command.arg(path))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let unread = || StateError::Failed { program: "dumpe2fs", said: "it told no blocks".into() };
    used_of(&said).ok_or_else(unread)
}

/// From dumpe2fs' list of free blocks, group by group, the others.
fn used_of(said: &str) -> Option<Vec<Range<u64>>> {
    let field = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
    let (count, size) = (field("Block count:")?, field("Block size:")?);
    let free = said.lines().filter_map(|line| line.strip_prefix("  Free blocks: "));
    let mut used = Vec::new();
    let mut next = 0;
    for range in free.flat_map(|list| list.split(", ")).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
        used.push(next * size..first * size);
        next = last + 1;
    }
    used.push(next * size..count * size);
    used.retain(|range| !range.is_empty());
    Some(used)
}

/// A program of e2fsprogs, which may lie where an ordinary user's shell does not look.
fn run(program: &'static str, set: impl FnOnce(&mut Command) -> &mut Command) -> Result<Output, StateError> {
    let path =
        ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(program)).into_iter().find(|path| path.exists());
    let mut command = Command::new(path.unwrap_or_else(|| program.into()));
    set(command.env("LC_ALL", "C").stdin(std::process::Stdio::null()));
    let output = command.output().map_err(|source| StateError::NoProgram { program, source })?;
    if !output.status.success() {
        return Err(StateError::Failed { program, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
    }
    Ok(output)
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

    #[test]
    fn what_is_not_free_is_used_and_all_else_is_zero() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let id = |name| crate::digest::uuid("test", name);
        make(&path, 16 << 20, id("fs"), id("hash"), 1_700_000_000).unwrap();
        let used = used(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let sum: u64 = used.iter().map(|range| range.end - range.start).sum();
        assert!((4 << 20..12 << 20).contains(&sum), "the journal alone has 4 MiB: {used:?}");
        for range in &used {
            bytes[range.start as usize..range.end as usize].fill(0);
        }
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn free_blocks_are_read_in_every_form() {
        let said = "Block count:              100\nBlock size:               1024\n\
                    Group 0: (Blocks 0-49)\n  Free blocks: 10-19, 25\n  Free inodes: 5\nGroup 1: (Blocks 50-99)\n  Free blocks: \n";
        assert_eq!(used_of(said).unwrap(), [0..10 << 10, 20 << 10..25 << 10, 26 << 10..100 << 10]);
        assert_eq!(used_of("nothing"), None);
    }
}
