//! Looks at a disk image: partition table, boot files, slots and what is in them. What it finds wrong it names; a damaged image
//! gives a message, never a panic.

pub mod region;
pub mod report;
pub mod seal;
pub mod system;

use crate::disk::boot;
use crate::disk::layout::SECTOR;
use gptman::GPT;
use kedge_config::names;
use kedge_config::signing::Key;
use kedge_config::slot::{COPY_BYTES, COPY_OFFSETS, Record, SlotName, Verdict};
use region::Region;
use report::{FileLine, PartitionLine, Report, SlotLine, State};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} is no disk image: {source}")]
    NoTable { path: String, source: gptman::Error },
    #[error("{path} is cut off: its partition table is for {expected} bytes, the file has {found}")]
    Truncated { path: String, expected: u64, found: u64 },
    #[error("{path}: partition {name} lies outside of the disk")]
    Outside { path: String, name: String },
    #[error("{path}: there is no partition {name}")]
    NoPartition { path: String, name: &'static str },
    #[error("{path}, ESP: {source}")]
    Esp { path: String, source: io::Error },
}

/// An open image whose partition table was found right.
pub struct Disk {
    path: String,
    file: File,
    size: u64,
    guid: [u8; 16],
    partitions: Vec<PartitionLine>,
}

/// Folders of an ESP deeper than this are not looked into.
const ESP_DEPTH: usize = 6;

impl Disk {
    pub fn open(path: &Path) -> Result<Self, InspectError> {
        let name = path.display().to_string();
        let io = |source| InspectError::Io { path: name.clone(), source };
        let mut file = File::open(path).map_err(io)?;
        // A disk's size is where it ends; its metadata tell none.
        let size = file.seek(SeekFrom::End(0)).map_err(io)?;
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
        Ok(Self { path: name, file, size, guid: gpt.header.disk_guid, partitions })
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

    pub fn esp(&self) -> Result<fatfs::FileSystem<Region<'_>>, InspectError> {
        let esp = |source| InspectError::Esp { path: self.path.clone(), source };
        let options = fatfs::FsOptions::new().update_accessed_date(false);
        fatfs::FileSystem::new(self.region(names::ESP.name)?, options).map_err(esp)
    }

    /// A file of the ESP, whole.
    pub fn esp_file(&self, path: &str) -> Result<Vec<u8>, InspectError> {
        let fail = |source: io::Error| InspectError::Esp {
            path: self.path.clone(),
            source: io::Error::new(source.kind(), format!("\"{path}\": {source}")),
        };
        let files = self.esp()?;
        let mut file = files.root_dir().open_file(path).map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    /// Everything worth telling, as a device with this image would see it: the keys that it trusts are those in the slot's own initramfs.
    pub fn report(&self) -> Result<Report, InspectError> {
        self.report_by(None)
    }

    /// The same where systems must be signed by one of `keys`. What is wrong with a part is told as a problem and does not hide the rest.
    pub fn report_by(&self, keys: Option<&[Key]>) -> Result<Report, InspectError> {
        let mut problems = Vec::new();
        let mut files = Vec::new();
        let listed = self.esp().and_then(|esp| {
            list(&esp.root_dir(), "", ESP_DEPTH, &mut files)
                .map_err(|source| InspectError::Esp { path: self.path.clone(), source })
        });
        problems.extend(listed.err().map(|error| error.to_string()));
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
        let disk_guid = uuid::Uuid::from_bytes_le(self.guid).to_string();
        let (path, size, partitions) = (self.path.clone(), self.size, self.partitions.clone());
        Ok(Report { path, size, disk_guid, partitions, boot_files: files, slots, state, problems })
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
            let boot = |name: &str| self.esp_file(&format!("{}/{name}", boot::folder(slot))).ok();
            seal::look(region, keys, &boot, &mut wrong)
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

fn list(folder: &fatfs::Dir<'_, Region<'_>>, path: &str, depth: usize, into: &mut Vec<FileLine>) -> io::Result<()> {
    for entry in folder.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        let path = format!("{path}/{name}");
        if !entry.is_dir() {
            into.push(FileLine { path, size: entry.len() });
        } else if depth > 0 {
            list(&entry.to_dir(), &path, depth - 1, into)?;
        }
    }
    Ok(())
}
