//! What the kernel knows of a disk, and whether an image may be written onto it. Looking is one function, deciding another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel tells of disks and mounts; tests have their own.
pub struct Host {
    pub sys: PathBuf,
    pub proc: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into() }
    }
}

/// A block device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    pub major: u32,
    pub minor: u32,
}

impl Number {
    pub fn of(device: u64) -> Self {
        Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device) }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.major, self.minor)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As the person named it.
    pub path: String,
    /// The kernel's name, such as `sdb`.
    pub name: String,
    pub model: Option<String>,
    pub serial: Option<String>,
    /// Bytes.
    pub size: u64,
    pub removable: bool,
    pub read_only: bool,
    /// The whole disk's name where this is a partition of it.
    pub part_of: Option<String>,
    pub uses: Vec<Use>,
}

/// What stands on the disk or on one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    Mounted {
        part: String,
        at: String,
    },
    Swap {
        part: String,
    },
    /// By a device built on it: LVM, RAID, encryption.
    Held {
        part: String,
        by: String,
    },
}

/// Why nothing is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{path} is no disk: name one such as /dev/sdb (\"lsblk\" lists them)")]
    NoDisk { path: String },
    #[error("{path} is a partition, the image is for a whole disk: name /dev/{disk}")]
    Partition { path: String, disk: String },
    #[error("{path} is the disk that this system runs from ({part} is mounted at /)")]
    Root { path: String, part: String },
    #[error("{path} is in use: {part} is mounted at {at}; unmount it (umount {at}) if this is the right disk")]
    Mounted { path: String, part: String, at: String },
    #[error("{path} is in use: {part} is swap; turn that off (swapoff /dev/{part}) if this is the right disk")]
    Swap { path: String, part: String },
    #[error("{path} is in use: {part} is part of {by} (LVM, RAID or encryption); stop that if this is the right disk")]
    Held { path: String, part: String, by: String },
    #[error("{path} has no medium in it: put the card in")]
    Empty { path: String },
    #[error("{path} is write-protected: look for a switch on the card")]
    ReadOnly { path: String },
    #[error("{path} has {} ({size} bytes), the image needs {} ({needed} bytes)", crate::show::size(*size), crate::show::size(*needed))]
    TooSmall { path: String, size: u64, needed: u64 },
}

/// The first reason not to write `needed` bytes onto it. The system's own disk is told before all else.
pub fn refusal(target: &Target, needed: u64) -> Option<Refusal> {
    let path = || target.path.clone();
    if let Some(disk) = target.part_of.clone() {
        return Some(Refusal::Partition { path: path(), disk });
    }
    let root = target.uses.iter().find_map(|one| match one {
        Use::Mounted { part, at } if at == "/" => Some(part.clone()),
        Use::Mounted { .. } | Use::Swap { .. } | Use::Held { .. } => None,
    });
    if let Some(part) = root {
        return Some(Refusal::Root { path: path(), part });
    }
    if let Some(one) = target.uses.first().cloned() {
        return Some(match one {
            Use::Mounted { part, at } => Refusal::Mounted { path: path(), part, at },
            Use::Swap { part } => Refusal::Swap { path: path(), part },
            Use::Held { part, by } => Refusal::Held { path: path(), part, by },
        });
    }
    match target.size {
        0 => Some(Refusal::Empty { path: path() }),
        _ if target.read_only => Some(Refusal::ReadOnly { path: path() }),
        size if size < needed => Some(Refusal::TooSmall { path: path(), size, needed }),
        _ => None,
    }
}

/// Reads what the kernel says of the block device `number`.
pub fn look(host: &Host, path: &Path, number: Number) -> io::Result<Target> {
    let folder = fs::canonicalize(host.sys.join("dev/block").join(number.to_string()))?;
    let text = |name: &str| line(&folder.join(name));
    let is = |name: &str| text(name).is_some_and(|value| value == "1");
    let part_of = folder.join("partition").exists().then(|| folder.parent().map(file_name)).flatten();
    let sectors = text("size").and_then(|sectors| sectors.parse::<u64>().ok()).unwrap_or(0);
    let loop_file = text("loop/backing_file").map(|file| format!("loop device of {file}"));
    let model = ["device/vendor", "device/model", "device/name"].iter().filter_map(|name| text(name));
    let model = model.collect::<Vec<_>>().join(" ");
    Ok(Target {
        path: path.display().to_string(),
        name: file_name(&folder),
        model: loop_file.or((!model.is_empty()).then_some(model)),
        serial: ["device/serial", "serial", "device/wwid", "wwid"].iter().find_map(|name| text(name)),
        // The kernel counts in units of 512 bytes, whatever the disk's sectors are.
        size: sectors.saturating_mul(512),
        removable: is("removable"),
        read_only: is("ro"),
        part_of,
        uses: uses(host, &folder)?,
    })
}

fn uses(host: &Host, folder: &Path) -> io::Result<Vec<Use>> {
    let mut members = vec![folder.to_owned()];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.join("partition").exists() {
            members.push(path);
        }
    }
    members.sort();
    let mounts = fs::read_to_string(host.proc.join("self/mountinfo"))?;
    let swaps = fs::read_to_string(host.proc.join("swaps")).unwrap_or_default();
    let mut found = Vec::new();
    for member in members {
        let (part, number) = (file_name(&member), line(&member.join("dev")).unwrap_or_default());
        let device = format!("/dev/{part}");
        let at = mounts.lines().filter_map(|line| mounted(line, &number, &device));
        found.extend(at.map(|at| Use::Mounted { part: part.clone(), at }));
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&device)) {
            found.push(Use::Swap { part: part.clone() });
        }
        let mut holders: Vec<String> = fs::read_dir(member.join("holders"))
            .map(|entries| entries.filter_map(|entry| Some(file_name(entry.ok()?.path()))).collect())
            .unwrap_or_default();
        holders.sort();
        found.extend(holders.into_iter().map(|by| Use::Held { part: part.clone(), by }));
    }
    Ok(found)
}

/// Where a line of mountinfo (proc_pid_mountinfo(5)) says the device is mounted. File systems over several devices, such as btrfs, have a
/// number of their own there and name one device as their source.
fn mounted(line: &str, number: &str, device: &str) -> Option<String> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    let (found, at) = (fields.next()?, fields.nth(1)?);
    let source = after.split(' ').nth(1)?;
    (found == number || source == device).then(|| at.replace("\\040", " "))
}

fn file_name(path: impl AsRef<Path>) -> String {
    path.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file's one line; `None` where there is nothing to read.
fn line(path: &Path) -> Option<String> {
    let text = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text).trim_matches(['\0', ' ', '\n', '\t']).to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up machine: `sda` runs it, `sdb` is a card.
    fn host() -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        let (sys, proc) = (folder.path().join("sys"), folder.path().join("proc"));
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (disk, minor) in [("sda", 0), ("sdb", 16)] {
            let base = sys.join("devices").join(disk);
            write(base.join("size"), "62333952\n");
            write(base.join("dev"), &format!("8:{minor}\n"));
            write(base.join("ro"), "0\n");
            write(base.join("removable"), "1\n");
            write(base.join("device/vendor"), "Generic \n");
            write(base.join("device/model"), "SD Reader       \n");
            write(base.join("device/serial"), "X17\n");
            fs::create_dir_all(base.join("holders")).unwrap();
            for part in 1..3 {
                let part_folder = base.join(format!("{disk}{part}"));
                write(part_folder.join("partition"), "1\n");
                write(part_folder.join("dev"), &format!("8:{}\n", minor + part));
                fs::create_dir_all(part_folder.join("holders")).unwrap();
            }
        }
        let numbers = sys.join("dev/block");
        fs::create_dir_all(&numbers).unwrap();
        for (number, to) in [("8:0", "sda"), ("8:16", "sdb"), ("8:17", "sdb/sdb1")] {
            std::os::unix::fs::symlink(sys.join("devices").join(to), numbers.join(number)).unwrap();
        }
        write(proc.join("self/mountinfo"), "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n");
        write(proc.join("swaps"), "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n");
        (folder, Host { sys, proc })
    }

    fn sdb(host: &Host) -> Target {
        look(host, Path::new("/dev/sdb"), Number { major: 8, minor: 16 }).unwrap()
    }

    #[test]
    fn a_card_is_shown_as_what_it_is_and_may_be_written() {
        let (_folder, host) = host();
        let target = sdb(&host);
        assert_eq!((target.name.as_str(), target.size, target.removable), ("sdb", 31_914_983_424, true));
        assert_eq!(target.model.as_deref(), Some("Generic SD Reader"));
        assert_eq!(target.serial.as_deref(), Some("X17"));
        assert_eq!(refusal(&target, 1 << 30), None);
    }

    #[test]
    fn each_use_is_a_reason_not_to() {
        let (_folder, host) = host();
        let told = || refusal(&sdb(&host), 1 << 30).unwrap().to_string();
        let system = look(&host, Path::new("/dev/sda"), Number { major: 8, minor: 0 }).unwrap();
        let expected = "/dev/sda is the disk that this system runs from (sda1 is mounted at /)";
        assert_eq!(refusal(&system, 1).unwrap().to_string(), expected);
        assert!(system.uses.contains(&Use::Swap { part: "sda2".into() }));

        let mounts = host.proc.join("self/mountinfo");
        fs::write(&mounts, "30 25 8:18 / /media/my\\040card rw - vfat /dev/sdb2 rw\n").unwrap();
        assert!(told().contains("sdb2 is mounted at /media/my card; unmount it"), "{}", told());
        fs::write(&mounts, "30 25 0:44 /@ /mnt rw - btrfs /dev/sdb1 rw\n").unwrap();
        assert!(told().contains("sdb1 is mounted at /mnt"), "{}", told());
        fs::write(&mounts, "").unwrap();

        fs::write(host.proc.join("swaps"), "Filename\n/dev/sdb1 partition 1 0 -2\n").unwrap();
        assert!(told().contains("swapoff /dev/sdb1"), "{}", told());
        fs::write(host.proc.join("swaps"), "").unwrap();

        let holder = host.sys.join("devices/sdb/sdb2/holders/dm-0");
        fs::write(&holder, "").unwrap();
        assert!(told().contains("sdb2 is part of dm-0"), "{}", told());
        fs::remove_file(holder).unwrap();

        fs::write(host.sys.join("devices/sdb/ro"), "1\n").unwrap();
        assert!(told().contains("is write-protected"), "{}", told());
        fs::write(host.sys.join("devices/sdb/size"), "0\n").unwrap();
        assert!(told().contains("has no medium"), "{}", told());
    }

    #[test]
    fn a_partition_and_a_small_disk_are_no_place_for_an_image() {
        let (_folder, host) = host();
        let part = look(&host, Path::new("/dev/sdb1"), Number { major: 8, minor: 17 }).unwrap();
        let expected = "/dev/sdb1 is a partition, the image is for a whole disk: name /dev/sdb";
        assert_eq!(refusal(&part, 1).unwrap().to_string(), expected);
        let expected = "/dev/sdb has 29.7 GiB (31914983424 bytes), the image needs 64.0 GiB (68719476736 bytes)";
        assert_eq!(refusal(&sdb(&host), 64 << 30).unwrap().to_string(), expected);
    }
}
