//! The files by which a boot loader starts a slot: kernel, initramfs, device trees, or one signed program of all of it. They lie in the slot's
//! folder of the EFI system partition, or on the slot's own FAT partition, and are the same for either slot. What lies on a medium once for
//! both slots is none of them.
//!
//! Law: no two of them are one file to FAT, and none leaves its folder.

use crate::slot_manifest::{BLOCK, Blob, Digest, SlotManifest};
use std::fmt;
use std::ops::Range;

/// Of one slot.
pub const MOST: usize = 256;
/// Bytes of a path.
pub const LONGEST_PATH: usize = 64;
/// Bytes of a file. No boot loader takes larger ones.
const LARGEST: u64 = 1 << 30;

/// What a boot loader does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Kernel,
    Initramfs,
    /// One line, which the kernel is told.
    CommandLine,
    /// All three of them, signed, as one EFI program (UAPI.5 Unified Kernel Image).
    Unified,
    /// It is asked for by its name: a device tree, firmware, settings.
    Other,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Kernel, Self::Initramfs, Self::CommandLine, Self::Unified, Self::Other];

    /// In the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::CommandLine => "command-line",
            Self::Unified => "unified",
            Self::Other => "file",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    pub role: Role,
    /// From the slot's folder on.
    pub path: String,
    pub blob: Blob,
}

impl fmt::Display for BootFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.blob.bytes, self.blob.sha256, self.path)
    }
}

impl BootFile {
    /// Of what [`fmt::Display`] writes. Whether it can be a file, [`check`] says.
    pub(crate) fn parse(role: Role, text: &str) -> Option<Self> {
        let (bytes, rest) = text.split_once(' ')?;
        let (sha256, path) = rest.split_once(' ')?;
        let blob = Blob { bytes: bytes.parse().ok()?, sha256: Digest(crate::hex::decode(sha256)?) };
        Some(Self { role, path: path.to_owned(), blob })
    }
}

/// The law of this module, and that a boot loader can start what is there.
pub(crate) fn check(files: &[BootFile]) -> Result<(), String> {
    if files.len() > MOST {
        return Err(format!("boot files are {}, expected at most {MOST}", files.len()));
    }
    for file in files {
        if !is_path(&file.path) {
            return Err(format!(
                "boot file \"{}\" has a path that is none, expected names of letters, digits, \"-\", \"_\", \"+\" and \".\" \
                 within, {LONGEST_PATH} bytes at most",
                file.path
            ));
        }
        if file.blob.bytes > LARGEST {
            return Err(format!(
                "boot file \"{}\" has {} bytes, expected at most {LARGEST}",
                file.path, file.blob.bytes
            ));
        }
    }
    for (one, next) in files.iter().zip(files.iter().skip(1)) {
        if one.path >= next.path {
            return Err(format!("boot files \"{}\" and \"{}\" are not in order", one.path, next.path));
        }
    }
    // FAT does not tell capitals from small letters, and a name is a file or a folder.
    let folded: Vec<String> = files.iter().map(|file| file.path.to_ascii_lowercase()).collect();
    let within = |one: &str, other: &str| other.strip_prefix(one).is_some_and(|rest| rest.starts_with('/'));
    for path in &folded {
        let same = folded.iter().filter(|other| *other == path || within(path, other)).count();
        if same > 1 {
            return Err(format!("boot file \"{path}\" is there twice for FAT"));
        }
    }
    let count = |role: Role| files.iter().filter(|file| file.role == role).count();
    let found = [Role::Kernel, Role::Initramfs, Role::CommandLine, Role::Unified].map(count);
    match found {
        [1, 1, 1, 0] | [0, 0, 0, 1] => Ok(()),
        [kernel, initramfs, line, unified] => Err(format!(
            "boot files have {kernel} kernels, {initramfs} initramfs, {line} command lines and {unified} unified programs, \
             expected one of each of the first three, or of the last"
        )),
    }
}

/// One that FAT keeps as it is, and that cannot be the short form of another.
fn is_path(path: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte);
    let is_name =
        |name: &str| !name.is_empty() && !name.starts_with('.') && !name.ends_with('.') && name.bytes().all(good);
    path.len() <= LONGEST_PATH && path.split('/').all(is_name)
}

impl SlotManifest {
    /// Where each boot file lies if all of them are one after another, each at a whole block; and how long that is.
    pub fn boot_layout(&self) -> (Vec<Range<u64>>, u64) {
        let mut at = 0;
        let mut layout = Vec::with_capacity(self.boot.len());
        for file in &self.boot {
            let end = at + file.blob.bytes;
            layout.push(at..end);
            at = end.next_multiple_of(BLOCK);
        }
        (layout, at)
    }

    /// By which bundles call the boot files as a whole.
    pub fn boot_digest(&self) -> Digest {
        let text: String = self.boot.iter().map(|file| format!("{} {file}\n", file.role.name())).collect();
        Digest::of_bytes(text.as_bytes())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn file(role: Role, path: &str, bytes: u64) -> BootFile {
        BootFile { role, path: path.into(), blob: Blob { bytes, sha256: Digest([bytes as u8; 32]) } }
    }

    pub fn sample() -> Vec<BootFile> {
        vec![
            file(Role::CommandLine, "cmdline.txt", 33),
            file(Role::Initramfs, "initramfs", 22),
            file(Role::Kernel, "linux", 11),
        ]
    }

    fn told(change: impl FnOnce(&mut Vec<BootFile>)) -> String {
        let mut files = sample();
        change(&mut files);
        files.sort_by(|one, other| one.path.cmp(&other.path));
        check(&files).err().unwrap_or_default()
    }

    #[test]
    fn paths_stay_where_they_are() {
        let with = |path: &str| told(|files| files.push(file(Role::Other, path, 1)));
        for good in ["overlays/disable-bt.dtbo", "bcm2711-rpi-4-b.dtb", "a/b/c", "x+y_z"] {
            assert_eq!(with(good), "", "{good}");
        }
        let long = "x".repeat(LONGEST_PATH + 1);
        for bad in [
            "",
            "/x",
            "x/",
            "a//b",
            "..",
            "a/../b",
            ".",
            "a/./b",
            ".x",
            "x.",
            "CONFIG~1.TXT",
            "a b",
            "a\\b",
            "é",
            &long,
        ] {
            assert!(with(bad).contains("has a path that is none"), "{bad}: {}", with(bad));
        }
    }

    #[test]
    fn no_two_are_one_file_to_fat() {
        for (one, other) in [("a.dtb", "A.DTB"), ("Folder", "folder/x"), ("linux/x", "y")] {
            let error = told(|files| files.extend([file(Role::Other, one, 1), file(Role::Other, other, 1)]));
            assert!(error.ends_with("is there twice for FAT"), "{one} and {other}: {error}");
        }
        assert!(told(|files| files.push(file(Role::Other, "linux", 1))).contains("are not in order"));
        let mut files = sample();
        files.swap(0, 1);
        assert!(check(&files).unwrap_err().contains("are not in order"));
    }

    #[test]
    fn there_is_what_a_boot_loader_can_start() {
        assert_eq!(told(|_| ()), "");
        assert_eq!(told(|files| *files = vec![file(Role::Unified, "kedge.efi", 9)]), "");
        assert!(told(|files| drop(files.pop())).starts_with("boot files have 0 kernels, 1 initramfs, 1 command lines"));
        assert!(told(|files| files.push(file(Role::Unified, "kedge.efi", 9))).contains("and 1 unified programs"));
        assert!(told(|files| files.push(file(Role::Kernel, "other", 9))).starts_with("boot files have 2 kernels"));
        assert!(told(Vec::clear).starts_with("boot files have 0 kernels"));
        let many =
            |files: &mut Vec<BootFile>| files.extend((0..MOST).map(|n| file(Role::Other, &format!("x{n:03}"), 1)));
        assert_eq!(told(many), "boot files are 259, expected at most 256");
        let large = told(|files| files.push(file(Role::Other, "x", LARGEST + 1)));
        assert!(large.starts_with("boot file \"x\" has 1073741825 bytes"), "{large}");
    }
}
