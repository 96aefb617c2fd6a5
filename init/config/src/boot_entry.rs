//! systemd-boot's entries on the EFI system partition (UAPI.1 Boot Loader Specification, type 1): what they are called, what stands in them,
//! and which comes first. The image tool writes the first one; stage 1 and init change them when another slot is to start.
//!
//! Of the entries whose tries are not used up systemd-boot starts that with the highest `version`, where the key is the same (Automatic Boot
//! Assessment, "Boot Counting"). So the version is a rank: whichever slot is to start next has the highest. There is never a `default` in
//! loader.conf: it would pin an entry that turned out bad.

use crate::boot_files::{BootFile, Role};
use crate::slot::SlotName;
use std::fmt;

/// Of the entries, on the EFI system partition.
pub const FOLDER: &str = "loader/entries";
/// Bytes of an entry that are read.
pub const LONGEST: u64 = 8 << 10;
/// Of the first system on a disk.
pub const FIRST_RANK: u64 = 1;
const KEY: &str = "kedge";

/// Folder of a slot's files on the EFI system partition.
pub fn slot_folder(slot: SlotName) -> String {
    format!("kedge/{slot}")
}

/// An entry's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pub slot: SlotName,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The slot record decides which system is booted by it.
    Plain,
    /// systemd-boot counts: before each start it takes one off `left`. With none left it starts what else there is.
    Counted { left: u32, done: u32 },
    /// A person's: it comes last, and boots its slot whatever is noted of it.
    Forced,
}

impl Name {
    pub fn parse(file: &str) -> Option<Self> {
        let rest = file.strip_prefix("kedge-")?.strip_suffix(".conf")?;
        let slot = SlotName::ALL.into_iter().find(|slot| rest.starts_with(&slot.to_string()))?;
        let kind = match rest.get(1..)? {
            "" => Kind::Plain,
            "-force" => Kind::Forced,
            counted => {
                let counted = counted.strip_prefix('+')?;
                let (left, done) = counted.split_once('-').unwrap_or((counted, "0"));
                Kind::Counted { left: left.parse().ok()?, done: done.parse().ok()? }
            }
        };
        Some(Self { slot, kind })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, kind } = self;
        match kind {
            Kind::Plain => write!(out, "kedge-{slot}.conf"),
            Kind::Counted { left, done: 0 } => write!(out, "kedge-{slot}+{left}.conf"),
            Kind::Counted { left, done } => write!(out, "kedge-{slot}+{left}-{done}.conf"),
            Kind::Forced => write!(out, "kedge-{slot}-force.conf"),
        }
    }
}

/// What an entry says.
pub struct Entry<'e> {
    pub slot: SlotName,
    /// Of the system.
    pub version: &'e str,
    pub rank: u64,
    pub files: &'e [BootFile],
    /// What the file of [`Role::CommandLine`] says.
    pub command_line: &'e str,
}

impl Entry<'_> {
    /// `None` where a person has no say: the command line of a unified program is signed with it.
    pub fn text(&self, forced: bool) -> Option<String> {
        let Self { slot, version, rank, command_line, .. } = self;
        let path = |role: Role| {
            let file = self.files.iter().find(|file| file.role == role)?;
            Some(format!("/{}/{}", slot_folder(*slot), file.path))
        };
        let (note, key) = if forced { (", whatever is noted of it", "-force") } else { ("", "") };
        let head = format!("title Kedge {version} (slot {slot}{note})\nsort-key {KEY}{key}\nversion {rank}\n");
        if let Some(program) = path(Role::Unified) {
            return (!forced).then(|| format!("{head}efi {program}\n"));
        }
        let words = if forced { format!(" {}{slot}", SlotName::FORCED) } else { String::new() };
        let (kernel, initramfs) = (path(Role::Kernel)?, path(Role::Initramfs)?);
        Some(format!("{head}linux {kernel}\ninitrd {initramfs}\noptions {}{words}\n", command_line.trim()))
    }
}

/// That of an entry's text; the lowest where none can be read.
pub fn rank(text: &str) -> u64 {
    let version = text.lines().find_map(|line| line.strip_prefix("version "));
    version.and_then(|version| version.trim().parse().ok()).unwrap_or(0)
}

/// The same entry with another rank.
pub fn with_rank(text: &str, rank: u64) -> String {
    let line = |line: &str| {
        if line.starts_with("version ") { format!("version {rank}\n") } else { format!("{line}\n") }
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_files::tests::{file, sample};

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_not_ours() {
        let kinds = [
            (Kind::Plain, ""),
            (Kind::Counted { left: 3, done: 0 }, "+3"),
            (Kind::Counted { left: 0, done: 12 }, "+0-12"),
            (Kind::Forced, "-force"),
        ];
        for slot in SlotName::ALL {
            for (kind, text) in kinds {
                let name = Name { slot, kind };
                assert_eq!(name.to_string(), format!("kedge-{slot}{text}.conf"));
                assert_eq!(Name::parse(&name.to_string()), Some(name));
            }
        }
        for other in
            ["kedge-a.new", "kedge-c.conf", "debian.conf", "kedge-a+.conf", "kedge-a+1-x.conf", "kedge-ab.conf"]
        {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_text_is_as_the_specification_has_it() {
        let files = sample();
        let entry = Entry { slot: SlotName::B, version: "0.2.0", rank: 7, files: &files, command_line: "quiet a=b\n" };
        let text = entry.text(false).unwrap();
        assert_eq!(
            text,
            "title Kedge 0.2.0 (slot b)\nsort-key kedge\nversion 7\nlinux /kedge/b/linux\ninitrd /kedge/b/initramfs\noptions quiet a=b\n"
        );
        assert_eq!((rank(&text), rank("nothing")), (7, 0));
        let other = Entry { rank: 12, ..entry };
        assert_eq!(Some(with_rank(&text, 12)), other.text(false));
        let forced = other.text(true).unwrap();
        assert!(
            forced.ends_with("options quiet a=b kedge.force-slot=b\n") && forced.contains("\nsort-key kedge-force\n")
        );
        let files = [file(Role::Unified, "kedge.efi", 1)];
        let unified = Entry { files: &files, ..other };
        assert!(unified.text(false).unwrap().ends_with("version 12\nefi /kedge/b/kedge.efi\n"));
        assert_eq!(unified.text(true), None);
    }
}
