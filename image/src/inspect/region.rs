//! A part of a file as if it were a file of its own. For reading; what would write is refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

#[derive(Debug, Clone, Copy)]
pub struct Region<'f> {
    file: &'f File,
    start: u64,
    length: u64,
    position: u64,
}

impl<'f> Region<'f> {
    pub fn new(file: &'f File, start: u64, length: u64) -> Self {
        Self { file, start, length, position: 0 }
    }

    pub fn len(&self) -> u64 {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A second reader of the same region, at `offset`.
    pub fn at(&self, offset: u64) -> io::Result<Self> {
        let mut other = *self;
        other.seek(SeekFrom::Start(offset))?;
        Ok(other)
    }
}

impl Read for Region<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let place = buffer.get_mut(..wanted).unwrap_or_default();
        let count = self.file.read_at(place, self.start + self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Region<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.position)
    }
}

impl Write for Region<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_seen() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut region = Region::new(&file, 3, 4);
        let mut text = String::new();
        region.read_to_string(&mut text).unwrap();
        assert_eq!(text, "3456");
        assert_eq!(region.seek(SeekFrom::End(-1)).unwrap(), 3);
        text.clear();
        region.read_to_string(&mut text).unwrap();
        assert_eq!(text, "6");
        assert!(region.seek(SeekFrom::Current(-9)).is_err());
        assert!(region.write(b"x").is_err());
        text.clear();
        region.at(100).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
    }
}
