//! Writes an image onto a disk or a card, and reads it back.
//!
//! ```text
//! target::look ──▶ target::refusal ──▶ the person says yes ──▶ write::copy ──▶ write::verify ──▶ blockdev --rereadpt
//!   what the kernel knows   pure                                 only what the block map holds
//! ```
//! The disk is opened exclusively: from then on the kernel itself lets nobody mount it, whatever was seen before.

pub mod source;
pub mod target;
pub mod write;

use crate::disk::blockmap::{BlockMap, BlockMapError};
use crate::progress::Progress;
use crate::show;
use serde::Serialize;
use source::Source;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use target::{Host, Number, Refusal, Target};

#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Map(#[from] BlockMapError),
    #[error("{path} may not be written by this user ({source}): run it with sudo")]
    Permission { path: String, source: io::Error },
    #[error("{path} is in use: something opened it for itself alone; close what uses it and try again")]
    Taken { path: String },
    #[error("{path} is another disk than it was a moment ago: look which one is meant and try again")]
    Changed { path: String },
    #[error("the block map is for an image of {map} bytes, {image} has {size}: take the map that was made with it")]
    OtherImage { image: String, map: u64, size: u64 },
    #[error(
        "{image} is damaged: bytes {start} to {end} have SHA-256 {found}, the block map says {expected}; get it anew"
    )]
    Damaged { image: String, start: u64, end: u64, found: String, expected: String },
    #[error("{image} ends at byte {at}, expected {expected}: it is cut off; get it anew")]
    Truncated { image: String, at: u64, expected: u64 },
    #[error(
        "{disk} does not hold what was written: bytes {start} to {end} read back differently; the card or its reader is broken, try another"
    )]
    Mismatch { disk: String, start: u64, end: u64 },
    #[error("nothing was written: nobody said yes (say --yes where no terminal is)")]
    Declined,
}

pub struct Options {
    /// `.img` or `.img.zst`.
    pub image: PathBuf,
    pub device: PathBuf,
    /// Without one the map beside the image is taken, if there is one; else every block is written.
    pub map: Option<PathBuf>,
}

/// What was done.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Flashed {
    pub image: PathBuf,
    pub device: PathBuf,
    pub model: Option<String>,
    pub serial: Option<String>,
    /// Bytes of the image, and how many of them were written and read back.
    pub size: u64,
    pub written: u64,
    pub block_map: Option<PathBuf>,
}

/// `ask` shows a person what is about to be erased and says whether to go on.
pub fn flash(
    options: &Options,
    ask: &mut dyn FnMut(&Target) -> bool,
    progress: Progress,
) -> Result<Flashed, FlashError> {
    let disk = options.device.display().to_string();
    let (map_path, map) = block_map(options)?;
    let mut image = Source::open(&options.image)?;
    let size = match (image.size(), &map) {
        (Some(size), Some(map)) if size != map.size => {
            let image = options.image.display().to_string();
            return Err(FlashError::OtherImage { image, map: map.size, size });
        }
        (size, map) => size.or(map.as_ref().map(|map| map.size)),
    };
    let number = number(&options.device)?;
    let target = target::look(&Host::default(), &options.device, number).map_err(failed(&options.device))?;
    match target::refusal(&target, size.unwrap_or(0)) {
        Some(refusal) => return Err(refusal.into()),
        None if !ask(&target) => return Err(FlashError::Declined),
        None => {}
    }
    let file = open_alone(&options.device)?;
    if Number::of(file.metadata().map_err(failed(&options.device))?.rdev()) != number {
        return Err(FlashError::Changed { path: disk });
    }
    let pieces = write::pieces(map.as_ref(), size);
    let total: u64 = pieces.iter().map(|piece| piece.bytes.end - piece.bytes.start).sum();
    let step = progress.bytes(format!("writing {disk}"), total);
    let written = write::copy(&mut image, &file, &options.device, &pieces, &|bytes| step.advance(bytes))?;
    let bytes: u64 = written.iter().map(|extent| extent.bytes.end - extent.bytes.start).sum();
    step.done(&show::size(bytes));
    let step = progress.bytes(format!("reading {disk} back"), bytes);
    write::verify(&file, &options.device, &written, &|bytes| step.advance(bytes))?;
    step.done("all as written");
    // The kernel refuses to look again while the disk is open like this.
    drop(file);
    if let Err(said) = reread(&options.device) {
        progress.note(&format!(
            "  note: the kernel still has the old partition table ({said}): take the disk out and put it in again"
        ));
    }
    Ok(Flashed {
        image: options.image.clone(),
        device: options.device.clone(),
        model: target.model,
        serial: target.serial,
        size: size.unwrap_or(bytes),
        written: bytes,
        block_map: map_path,
    })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> FlashError + use<> {
    let path = path.display().to_string();
    move |source| FlashError::Io { path: path.clone(), source }
}

fn block_map(options: &Options) -> Result<(Option<PathBuf>, Option<BlockMap>), FlashError> {
    let found = options.map.clone().or_else(|| beside(&options.image));
    let Some(path) = found else { return Ok((None, None)) };
    let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
    let map = BlockMap::parse(&path.display().to_string(), &text)?;
    Ok((Some(path), Some(map)))
}

/// As bmaptool looks for it: `.bmap` behind the name, and behind the name less one ending after the other.
fn beside(image: &Path) -> Option<PathBuf> {
    let mut name = image.to_owned();
    loop {
        let mut candidate = name.clone().into_os_string();
        candidate.push(".bmap");
        if Path::new(&candidate).is_file() {
            return Some(candidate.into());
        }
        name.extension()?;
        name.set_extension("");
    }
}

fn number(device: &Path) -> Result<Number, FlashError> {
    use std::os::unix::fs::FileTypeExt;
    let metadata = std::fs::metadata(device).map_err(failed(device))?;
    if !metadata.file_type().is_block_device() {
        return Err(Refusal::NoDisk { path: device.display().to_string() }.into());
    }
    Ok(Number::of(metadata.rdev()))
}

/// O_EXCL on a block device means: fail if a file system or another holder has it, and keep them off from now on (open(2)).
fn open_alone(device: &Path) -> Result<File, FlashError> {
    let alone = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or(0);
    File::options().read(true).write(true).custom_flags(alone).open(device).map_err(|source| {
        let path = device.display().to_string();
        match source.kind() {
            io::ErrorKind::PermissionDenied => FlashError::Permission { path, source },
            io::ErrorKind::ResourceBusy => FlashError::Taken { path },
            _ => FlashError::Io { path, source },
        }
    })
}

fn reread(device: &Path) -> Result<(), String> {
    let program = ["/usr/sbin/blockdev", "/sbin/blockdev"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.unwrap_or("blockdev"));
    let output =
        command.env("LC_ALL", "C").arg("--rereadpt").arg(device).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

#[cfg(test)]
mod tests;
