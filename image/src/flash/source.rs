//! An image as a stream with gaps: a plain file, or a zstd frame that is unpacked on the way.

use super::{FlashError, failed};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

enum Reader {
    Plain(File),
    Zstd(zstd::Decoder<'static, BufReader<File>>),
}

pub struct Source {
    path: PathBuf,
    reader: Reader,
    size: Option<u64>,
    at: u64,
}

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// As long as a zstd frame's header may be (RFC 8878, 3.1.1.1).
const HEADER: u64 = 18;

impl Source {
    pub fn open(path: &Path) -> Result<Self, FlashError> {
        let (reader, size) = reader(path).map_err(failed(path))?;
        Ok(Self { path: path.to_owned(), reader, size, at: 0 })
    }

    /// For messages.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Bytes of the image, where they are known before the end.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Goes on at `to`, which is not behind.
    pub fn skip_to(&mut self, to: u64) -> Result<(), FlashError> {
        let gap = to.saturating_sub(self.at);
        let skipped = match &mut self.reader {
            Reader::Plain(file) => file.seek(SeekFrom::Start(to)).map(drop),
            Reader::Zstd(decoder) => io::copy(&mut decoder.take(gap), &mut io::sink()).map(drop),
        };
        self.at = to;
        skipped.map_err(|source| self.failed(source))
    }

    /// Fills `buffer` as far as the image goes.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, FlashError> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let read = match &mut self.reader {
                Reader::Plain(file) => file.read(rest),
                Reader::Zstd(decoder) => decoder.read(rest),
            };
            match read.map_err(|source| self.failed(source))? {
                0 => break,
                count => done += count,
            }
        }
        self.at += done as u64;
        Ok(done)
    }

    fn failed(&self, source: io::Error) -> FlashError {
        match source.kind() {
            // The frame has not come to its end.
            io::ErrorKind::UnexpectedEof => {
                FlashError::Truncated { image: self.path(), at: self.at, expected: self.size.unwrap_or(self.at) }
            }
            _ => FlashError::Io { path: self.path(), source },
        }
    }
}

/// What reads the file, and how long the image in it is, where the file says so.
fn reader(path: &Path) -> io::Result<(Reader, Option<u64>)> {
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    (&mut file).take(HEADER).read_to_end(&mut head)?;
    file.rewind()?;
    if !head.starts_with(&ZSTD) {
        let size = file.metadata()?.len();
        return Ok((Reader::Plain(file), Some(size)));
    }
    let size = zstd::zstd_safe::get_frame_content_size(&head).ok().flatten();
    Ok((Reader::Zstd(zstd::Decoder::new(file)?), size))
}
