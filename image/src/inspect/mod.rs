//! Looks at a disk image: partition table, boot files, slots and what is in them. What it finds wrong it names; a damaged image
//! gives a message, never a panic.

pub mod region;
pub mod report;
pub mod seal;
pub mod system;

use crate::disk::boot;
use crate::disk::layout::{SECTOR, Table};
use crate::raspberry_pi;
use crate::secureboot::{self, pe};
use gptman::GPT;
use kedge_config::mbr::{self, MbrError};
use kedge_config::names;
use kedge_config::signing::Key;
use kedge_config::slot::{COPY_BYTES, COPY_OFFSETS, Record, SlotName, Verdict};
use region::Region;
use report::{FileLine, PartitionLine, Report, SlotLine, State};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} is no disk image: {source}")]
    NoTable { path: String, source: gptman::Error },
    #[error("{path}: {source}")]
    Mbr { path: String, source: MbrError },
    #[error("{path} is cut off: its partition table is for {expected} bytes, the file has {found}")]
    Truncated { path: String, expected: u64, found: u64 },
    #[error("{path}: partition {name} lies outside of the disk")]
    Outside { path: String, name: String },
    #[error("{path}: there is no partition {name}")]
    NoPartition { path: String, name: &'static str },
    #[error("{path}, {partition}: {source}")]
    Fat { path: String, partition: String, source: io::Error },
}

/// An open image whose partition table was found right.
pub struct Disk {
    path: String,
    file: File,
    size: u64,
    table: Table,
    id: String,
    partitions: Vec<PartitionLine>,
}

/// Folders of a FAT deeper than this are not looked into.
const FAT_DEPTH: usize = 6;
/// The partitions with boot files.
const BOOT: [&str; 3] = [names::ESP.name, names::BOOT_A.name, names::BOOT_B.name];

impl Disk {
    pub fn open(path: &Path) -> Result<Self, InspectError> {
        let name = path.display().to_string();
        let io = |source| InspectError::Io { path: name.clone(), source };
        let mut file = File::open(path).map_err(io)?;
        // A disk's size is where it ends; its metadata tell none.
        let size = file.seek(SeekFrom::End(0)).map_err(io)?;
        if let Some(first) = sector(&file, 0).ok().filter(mbr::is_ours) {
            return Self::open_mbr(name, file, size, &first);
        }
        let gpt =
            GPT::read_from(&mut file, SECTOR).map_err(|source| InspectError::NoTable { path: name.clone(), source })?;
        let expected = gpt.header.last_usable_lba.max(gpt.header.backup_lba).saturating_add(1).saturating_mul(SECTOR);
        if size < expected {
            return Err(InspectError::Truncated { path: name, expected, found: size });
        }
        let mut partitions = Vec::new();
        for (number, entry) in gpt.iter().filter(|(_, entry)| entry.is_used()) {
            let label = entry.partition_name.as_str().to_owned();
            let sectors = entry.ending_lba.checked_sub(entry.starting_lba).and_then(|sectors| sectors.checked_add(1));
            let bytes = sectors
                .and_then(|sectors| Some((entry.starting_lba.checked_mul(SECTOR)?, sectors.checked_mul(SECTOR)?)));
            let Some((start, length)) =
                bytes.filter(|(start, length)| start.checked_add(*length).is_some_and(|end| end <= size))
            else {
                return Err(InspectError::Outside { path: name, name: label });
            };
            let guid = uuid::Uuid::from_bytes_le(entry.unique_partition_guid).to_string();
            let kind = uuid::Uuid::from_bytes_le(entry.partition_type_guid).to_string();
            partitions.push(PartitionLine { number, name: label, start, size: length, kind, guid });
        }
        let id = uuid::Uuid::from_bytes_le(gpt.header.disk_guid).to_string();
        Ok(Self { path: name, file, size, table: Table::Gpt, id, partitions })
    }

    fn open_mbr(path: String, file: File, size: u64, first: &mbr::Sector) -> Result<Self, InspectError> {
        let table = mbr::Table::read(&mut |at| if at == 0 { Ok(*first) } else { sector(&file, at) })
            .map_err(|source| InspectError::Mbr { path: path.clone(), source })?;
        let id = format!("{:08x}", table.id);
        let mut partitions = Vec::new();
        let mut end = 0;
        for mbr::Entry { number, kind, start, sectors } in table.entries {
            let name = mbr::partition(number).map_or("", |row| row.partition.name).to_owned();
            // As Linux names it, where a GPT has a GUID.
            let guid = format!("{id}-{number:02x}");
            let (start, length) = (start * SECTOR, sectors * SECTOR);
            end = end.max(start + length);
            partitions.push(PartitionLine { number, name, start, size: length, kind: format!("{kind:02x}"), guid });
        }
        if size < end {
            return Err(InspectError::Truncated { path, expected: end, found: size });
        }
        Ok(Self { path, file, size, table: Table::Mbr, id, partitions })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the partition called `name` lies.
    pub fn place(&self, name: &'static str) -> Result<Range<u64>, InspectError> {
        let found = self.partitions.iter().find(|partition| partition.name == name);
        let partition = found.ok_or_else(|| InspectError::NoPartition { path: self.path.clone(), name })?;
        Ok(partition.start..partition.start + partition.size)
    }

    /// The bytes of the partition called `name`.
    pub fn region(&self, name: &'static str) -> Result<Region<'_>, InspectError> {
        let place = self.place(name)?;
        Ok(Region::new(&self.file, place.start, place.end - place.start))
    }

    /// The slot record; the inner error is one that stage 1 would meet as well.
    pub fn record(&self) -> Result<Result<Record, kedge_config::slot::SlotError>, InspectError> {
        let io = |source| InspectError::Io { path: self.path.clone(), source };
        let meta = self.region(names::META.name)?;
        let mut copies = [[0; COPY_BYTES]; 2];
        for (copy, offset) in copies.iter_mut().zip(COPY_OFFSETS) {
            meta.at(offset).map_err(io)?.read_exact(copy).map_err(io)?;
        }
        let [first, second] = copies;
        Ok(Record::decode(&first, &second))
    }

    pub fn table(&self) -> Table {
        self.table
    }

    /// Number, type and place of each partition.
    pub fn partitions(&self) -> &[PartitionLine] {
        &self.partitions
    }

    pub fn esp(&self) -> Result<fatfs::FileSystem<Region<'_>>, InspectError> {
        self.fat(names::ESP.name)
    }

    pub fn fat(&self, partition: &'static str) -> Result<fatfs::FileSystem<Region<'_>>, InspectError> {
        let options = fatfs::FsOptions::new().update_accessed_date(false);
        fatfs::FileSystem::new(self.region(partition)?, options).map_err(|source| self.fat_error(partition, source))
    }

    fn fat_error(&self, partition: &str, source: io::Error) -> InspectError {
        InspectError::Fat { path: self.path.clone(), partition: partition.to_owned(), source }
    }

    /// A file of the ESP, whole.
    pub fn esp_file(&self, path: &str) -> Result<Vec<u8>, InspectError> {
        self.fat_file(names::ESP.name, path)
    }

    /// A file of a FAT partition, whole.
    pub fn fat_file(&self, partition: &'static str, path: &str) -> Result<Vec<u8>, InspectError> {
        let fail = |source: io::Error| {
            self.fat_error(partition, io::Error::new(source.kind(), format!("\"{path}\": {source}")))
        };
        let files = self.fat(partition)?;
        let mut file = files.root_dir().open_file(path).map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    /// One of the files by which a slot is started.
    pub fn slot_file(&self, slot: SlotName, path: &str) -> Result<Vec<u8>, InspectError> {
        let (partition, path) = boot::slot_file(self.table, slot, path);
        self.fat_file(partition, &path)
    }

    /// A slot's kernel, initramfs or command line ([`boot::KERNEL`] and so on): a file, or a part of the unified kernel image.
    pub fn boot_file(&self, slot: SlotName, name: &str) -> Result<Vec<u8>, InspectError> {
        let sections = [(boot::KERNEL, ".linux"), (boot::INITRAMFS, ".initrd"), (boot::COMMAND_LINE, ".cmdline")];
        let section = sections.into_iter().find(|(known, _)| *known == name).map(|(_, section)| section);
        let unified = match self.table {
            Table::Gpt => self.slot_file(slot, secureboot::UNIFIED).ok(),
            Table::Mbr => None,
        };
        match unified.as_deref().zip(section).and_then(|(program, section)| pe::section(program, section)) {
            Some(part) => Ok(part.to_vec()),
            None => self.slot_file(slot, name),
        }
    }

    /// Everything worth telling, as a device with this image would see it: the keys that it trusts are those in the slot's own initramfs.
    pub fn report(&self) -> Result<Report, InspectError> {
        self.report_by(None)
    }

    /// The same where systems must be signed by one of `keys`. What is wrong with a part is told as a problem and does not hide the rest.
    pub fn report_by(&self, keys: Option<&[Key]>) -> Result<Report, InspectError> {
        let mut problems = Vec::new();
        let mut files = Vec::new();
        let there = |name: &&str| self.partitions.iter().any(|partition| partition.name == **name);
        for partition in BOOT.into_iter().filter(there) {
            let listed = self.fat(partition).and_then(|fat| {
                list(&fat.root_dir(), partition, "", FAT_DEPTH, &mut files)
                    .map_err(|source| self.fat_error(partition, source))
            });
            problems.extend(listed.err().map(|error| error.to_string()));
        }
        if self.table == Table::Mbr {
            problems.extend(raspberry_pi::check(self).into_iter().map(|problem| format!("{}: {problem}", self.path)));
        }
        let record = match self.record()? {
            Ok(record) => Some(record),
            Err(error) => {
                problems.push(format!("{}, META: {error}", self.path));
                None
            }
        };
        let mut slots = Vec::new();
        for slot in SlotName::ALL {
            slots.push(self.slot(slot, record.as_ref(), keys, &mut problems)?);
        }
        let state = self.state().unwrap_or_else(|error| {
            problems.push(error.to_string());
            None
        });
        let (path, size, partitions) = (self.path.clone(), self.size, self.partitions.clone());
        Ok(Report { path, size, disk_guid: self.id.clone(), partitions, boot_files: files, slots, state, problems })
    }

    fn slot(
        &self,
        slot: SlotName,
        record: Option<&Record>,
        keys: Option<&[Key]>,
        problems: &mut Vec<String>,
    ) -> Result<SlotLine, InspectError> {
        let known = record.map(|record| record.slot(slot));
        let region = self.region(slot.partition())?;
        let blank = system::is_blank(&region).map_err(|source| InspectError::Io { path: self.path.clone(), source })?;
        let empty = known.is_none_or(|known| known.verdict == Verdict::Empty);
        let system = if blank && empty { None } else { Some(system::look(region)) };
        let mut wrong =
            |what: String| problems.push(format!("{}, slot {slot} ({}): {what}", self.path, slot.partition()));
        let seal = system.is_some().then(|| {
            let initramfs = self.boot_file(slot, boot::INITRAMFS).ok();
            let boot = |path: &str| self.slot_file(slot, path).ok();
            seal::look(region, keys, initramfs.as_deref(), &boot, &mut wrong)
        });
        let system = system.and_then(|system| system.map_err(|error| wrong(error.to_string())).ok());
        Ok(SlotLine {
            slot: slot.to_string(),
            partition: slot.partition(),
            verdict: known.map(|known| format!("{:?}", known.verdict).to_lowercase()),
            priority: known.map(|known| known.priority),
            tries: known.map(|known| known.tries),
            note: known.map(|known| known.note.clone()).filter(|note| !note.is_empty()),
            seal: seal.flatten(),
            system,
        })
    }

    /// What ext4's superblock says (Linux, `Documentation/filesystems/ext4/super.rst`).
    fn state(&self) -> Result<Option<State>, InspectError> {
        let io = |source| InspectError::Io { path: self.path.clone(), source };
        let mut block = [0; 1024];
        self.region(names::STATE.name)?.at(1024).map_err(io)?.read_exact(&mut block).map_err(io)?;
        let half = |at: usize| {
            block.get(at..at + 2).map_or(0, |bytes| bytes.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b)))
        };
        let word = |at: usize| half(at) | half(at + 2) << 16;
        if half(0x38) != 0xef53 {
            let fault = io::Error::new(io::ErrorKind::InvalidData, "STATE holds no ext4 file system");
            return Err(io(fault));
        }
        let label = block.get(0x78..0x88).unwrap_or_default();
        let label = String::from_utf8_lossy(label).trim_end_matches('\0').to_owned();
        let scale = 1024_u64.checked_shl(word(0x18) as u32).unwrap_or(0);
        let (size, free) = (word(4).saturating_mul(scale), word(0xc).saturating_mul(scale));
        let uuid = block.get(0x68..0x78).and_then(|bytes| uuid::Uuid::from_slice(bytes).ok()).unwrap_or_default();
        Ok(Some(State { label, uuid: uuid.to_string(), size, free }))
    }
}

fn sector(file: &File, at: u64) -> io::Result<mbr::Sector> {
    let mut bytes = [0; mbr::SECTOR_BYTES];
    file.read_exact_at(&mut bytes, at * SECTOR)?;
    Ok(bytes)
}

fn list(
    folder: &fatfs::Dir<'_, Region<'_>>,
    partition: &'static str,
    path: &str,
    depth: usize,
    into: &mut Vec<FileLine>,
) -> io::Result<()> {
    for entry in folder.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        let path = format!("{path}/{name}");
        if !entry.is_dir() {
            into.push(FileLine { partition, path, size: entry.len() });
        } else if depth > 0 {
            list(&entry.to_dir(), partition, &path, depth - 1, into)?;
        }
    }
    Ok(())
}
