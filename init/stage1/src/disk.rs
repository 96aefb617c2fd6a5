//! Finding the disk this system lives on, by the partition names of its table; an MBR has none, there the numbers tell.

use kedge_config::{mbr, names};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const SYS_CLASS_BLOCK: &str = "/sys/class/block";
pub const DEV: &str = "/dev";
/// USB and SD readers may need seconds after their module was loaded.
pub const WAIT: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A disk that has this system's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, such as `vda`.
    pub name: String,
    /// Device nodes by partition name.
    pub partitions: BTreeMap<String, Node>,
}

/// A partition's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Such as `/dev/vda2`.
    pub device: PathBuf,
    /// Its number in the partition table, from 1.
    pub number: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("no disk with a partition named {}, {} or {} within {}s; block devices seen: {seen}",
        names::SYSTEM_A.name, names::SYSTEM_B.name, names::META.name, WAIT.as_secs())]
    NotFound { seen: String },
    #[error("cannot list {SYS_CLASS_BLOCK}: {0}")]
    List(#[source] io::Error),
}

impl Disk {
    fn new(name: String) -> Self {
        Self { name, partitions: BTreeMap::new() }
    }

    pub fn device(&self, partition: &str) -> Option<&Path> {
        self.partitions.get(partition).map(|node| node.device.as_path())
    }

    fn is_ours(&self) -> bool {
        self.partitions.contains_key(names::META.name)
            || (self.partitions.contains_key(names::SYSTEM_A.name)
                && self.partitions.contains_key(names::SYSTEM_B.name))
    }
}

/// Looks until there is such a disk. Where several are (a flashed card in a reader), the first by the kernel's name is taken.
pub fn wait() -> Result<Disk, DiskError> {
    let mut pause = FIRST_PAUSE;
    let mut waited = Duration::ZERO;
    loop {
        let disks = scan(Path::new(SYS_CLASS_BLOCK), Path::new(DEV)).map_err(DiskError::List)?;
        let seen = disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(disk) = disks.into_iter().find(Disk::is_ours) {
            return Ok(disk);
        }
        if waited >= WAIT {
            return Err(DiskError::NotFound { seen: if seen.is_empty() { "none".into() } else { seen } });
        }
        std::thread::sleep(pause);
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// All disks that the kernel shows below `class` with their nodes in `dev`, each with its named partitions.
pub fn scan(class: &Path, dev: &Path) -> io::Result<Vec<Disk>> {
    let mut disks: BTreeMap<String, Disk> = BTreeMap::new();
    let mut nameless: Vec<(String, Node)> = Vec::new();
    for entry in fs::read_dir(class)? {
        let entry = entry?;
        // A device may go while we look: it is skipped.
        let Ok(uevent) = fs::read_to_string(entry.path().join("uevent")) else { continue };
        let Ok(place) = fs::canonicalize(entry.path()) else { continue };
        let Some(found) = Uevent::parse(&uevent) else { continue };
        let name = |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        match found {
            Uevent::Disk { device } => {
                disks.entry(device.clone()).or_insert_with(|| Disk::new(device));
            }
            // A partition's directory lies in its disk's.
            Uevent::Partition { device, name: label, number } => {
                let Some(parent) = name(place.parent()) else { continue };
                let node = Node { device: dev.join(device), number };
                let disk = disks.entry(parent.clone()).or_insert_with(|| Disk::new(parent.clone()));
                match label {
                    Some(label) => drop(disk.partitions.insert(label, node)),
                    None => nameless.push((parent, node)),
                }
            }
        }
    }
    for disk in disks.values_mut() {
        let mut own = nameless.iter().filter(|(parent, _)| *parent == disk.name).map(|(_, node)| node).peekable();
        // Only a disk that may be ours is read, and one that cannot be read is none of ours.
        if own.peek().is_some() && first_sector(&dev.join(&disk.name)).is_ok_and(|first| mbr::is_ours(&first)) {
            let meant =
                own.filter_map(|node| Some((mbr::partition(node.number)?.partition.name.to_owned(), node.clone())));
            disk.partitions.extend(meant);
        }
    }
    Ok(disks.into_values().collect())
}

fn first_sector(disk: &Path) -> io::Result<mbr::Sector> {
    let mut first = [0; mbr::SECTOR_BYTES];
    File::open(disk)?.read_exact(&mut first)?;
    Ok(first)
}

/// What a block device's `uevent` file says (Documentation/ABI/stable/sysfs-block).
#[derive(Debug, PartialEq, Eq)]
enum Uevent {
    Disk {
        device: String,
    },
    /// Without a name where the table has none.
    Partition {
        device: String,
        name: Option<String>,
        number: u32,
    },
}

impl Uevent {
    fn parse(text: &str) -> Option<Self> {
        let field = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let device = field("DEVNAME")?;
        match field("DEVTYPE")?.as_str() {
            "disk" => Some(Self::Disk { device }),
            "partition" => {
                Some(Self::Partition { device, name: field("PARTNAME"), number: field("PARTN")?.parse().ok()? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn device(root: &Path, place: &str, uevent: &str) {
        let folder = root.join("devices").join(place);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("uevent"), uevent).unwrap();
        fs::create_dir_all(root.join("class")).unwrap();
        symlink(&folder, root.join("class").join(folder.file_name().unwrap())).unwrap();
    }

    #[test]
    fn partitions_are_found_by_name_on_one_disk() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        device(root, "sda", "MAJOR=8\nDEVNAME=sda\nDEVTYPE=disk\n");
        device(root, "sda/sda1", "DEVNAME=sda1\nDEVTYPE=partition\nPARTN=1\nPARTNAME=data\n");
        device(root, "vda", "DEVNAME=vda\nDEVTYPE=disk\n");
        for (number, name) in [(1, "ESP"), (2, "SYSTEM-A"), (3, "SYSTEM-B"), (4, "META"), (5, "STATE")] {
            let uevent = format!(
                "MAJOR=254\nDEVNAME=vda{number}\nDEVTYPE=partition\nDISKSEQ=9\nPARTN={number}\nPARTNAME={name}\n"
            );
            device(root, &format!("vda/vda{number}"), &uevent);
        }
        device(root, "vda/vda6", "DEVNAME=vda6\nDEVTYPE=partition\nPARTN=6\n");
        let disks = scan(&root.join("class"), Path::new("/dev")).unwrap();
        let ours: Vec<&Disk> = disks.iter().filter(|disk| disk.is_ours()).collect();
        assert_eq!(disks.len(), 2);
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0].name, "vda");
        assert_eq!(ours[0].device("SYSTEM-B"), Some(Path::new("/dev/vda3")));
        assert_eq!(ours[0].partitions["STATE"], Node { device: "/dev/vda5".into(), number: 5 });
        assert_eq!(ours[0].partitions.len(), 5);
    }

    #[test]
    fn partitions_of_an_mbr_are_found_by_number_where_the_mark_is() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let dev = root.join("dev");
        fs::create_dir(&dev).unwrap();
        let entries = [(1, 2048), (2, 4096), (5, 8192), (6, 12288)];
        let entries = entries.map(|(number, start)| mbr::Entry { number, kind: 0x83, start, sectors: 2048 });
        let mut first = mbr::Table { id: 7, entries: entries.to_vec() }.sectors()[0].1;
        for disk in ["mmcblk0", "sda"] {
            device(root, disk, &format!("DEVNAME={disk}\nDEVTYPE=disk\n"));
            for number in [1, 2, 4, 5, 6] {
                let name = format!("{disk}p{number}");
                let uevent = format!("DEVNAME={name}\nDEVTYPE=partition\nPARTN={number}\n");
                device(root, &format!("{disk}/{name}"), &uevent);
            }
            fs::write(dev.join(disk), first).unwrap();
            // The other one is somebody else's.
            first[2] = b'X';
        }
        let disks = scan(&root.join("class"), &dev).unwrap();
        let found: Vec<_> = disks.iter().map(|disk| (disk.is_ours(), disk.partitions.len())).collect();
        assert_eq!(found, [(true, 4), (false, 0)]);
        assert_eq!(disks[0].partitions["BOOT-A"], Node { device: dev.join("mmcblk0p2"), number: 2 });
        assert_eq!(disks[0].partitions["SYSTEM-B"], Node { device: dev.join("mmcblk0p6"), number: 6 });
    }

    #[test]
    fn odd_uevents_are_skipped() {
        assert_eq!(Uevent::parse(""), None);
        assert_eq!(Uevent::parse("DEVNAME=x\nDEVTYPE=partition\nPARTN=many\nPARTNAME=META\n"), None);
        assert_eq!(Uevent::parse("DEVNAMES=x\nDEVTYPE=disk\n"), None);
    }
}
