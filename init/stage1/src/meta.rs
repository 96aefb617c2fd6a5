//! Reading and writing the slot record on the META partition. What it means is decided in `kedge_config::slot`.

use kedge_config::slot::{COPY_BYTES, COPY_OFFSETS, Record, SlotError};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    #[error("slot record on {device}: {operation}: {source}")]
    Device { device: PathBuf, operation: &'static str, source: io::Error },
    #[error("slot record on {device}: {source}")]
    Record { device: PathBuf, source: SlotError },
}

/// An open META partition. Writes go through to the medium.
#[derive(Debug)]
pub struct Meta {
    device: PathBuf,
    file: File,
}

impl Meta {
    pub fn open(device: &Path) -> Result<Self, MetaError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::SYNC;
        let file = rustix::fs::open(device, flags, Mode::empty()).map_err(|errno| MetaError::Device {
            device: device.into(),
            operation: "open",
            source: errno.into(),
        })?;
        Ok(Self { device: device.into(), file: File::from(file) })
    }

    pub fn read(&self) -> Result<Record, MetaError> {
        let [mut first, mut second] = [[0; COPY_BYTES]; 2];
        for (copy, offset) in [&mut first, &mut second].into_iter().zip(COPY_OFFSETS) {
            match self.file.read_exact_at(copy, offset) {
                // A copy that cannot be read is as good as a damaged one, which the checksum of zeroes tells.
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof && error.raw_os_error() != Some(EIO) => {
                    return Err(self.failed("read", error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Record::decode(&first, &second).map_err(|source| MetaError::Record { device: self.device.clone(), source })
    }

    /// Writes the record's next generation. When this returns `Ok` a power cut does not undo it.
    pub fn write(&self, record: &mut Record) -> Result<(), MetaError> {
        let (offset, copy) = record.next_write();
        self.file.write_all_at(&copy, offset).map_err(|error| self.failed("write", error))
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> MetaError {
        MetaError::Device { device: self.device.clone(), operation, source }
    }
}

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::slot::{Choice, SlotName};

    fn meta(record: &Record) -> (tempfile::NamedTempFile, Meta) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        for (offset, copy) in record.initial_writes() {
            file.as_file().write_all_at(&copy, offset).unwrap();
        }
        let meta = Meta::open(file.path()).unwrap();
        (file, meta)
    }

    #[test]
    fn what_is_written_is_there_for_the_next_boot() {
        let (file, meta) = meta(&Record::fresh());
        let mut record = meta.read().unwrap();
        for _ in 0..5 {
            record.count_try(SlotName::A);
            meta.write(&mut record).unwrap();
        }
        record.condemn(SlotName::A, "corrupt");
        meta.write(&mut record).unwrap();
        let again = Meta::open(file.path()).unwrap().read().unwrap();
        assert_eq!(again, record);
        assert_eq!(again.a.unconfirmed, 5);
        assert!(matches!(again.choose(None, &[]), Choice::Recover { .. }));
    }

    #[test]
    fn a_blank_or_short_partition_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Meta::open(file.path()).unwrap().read().unwrap_err().to_string();
        assert!(error.contains("no copy of the slot record is whole"), "{error}");
        let error = Meta::open(Path::new("/does/not/exist")).unwrap_err().to_string();
        assert!(error.starts_with("slot record on /does/not/exist: open: "), "{error}");
    }
}
