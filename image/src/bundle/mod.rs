//! Upgrade bundles: the format is [`kedge_bundle`]'s; here it is written, and the differences to earlier versions are found.

pub mod artifact;
mod difference;
mod system;

use crate::digest;
use crate::inspect::InspectError;
use crate::parallel;
use crate::progress::Progress;
use crate::show;
use kedge_bundle::head::Head;
use kedge_bundle::index::{Contents, Index, MOST_BASES, Piece, fits};
use kedge_bundle::plan::{self, Present, Way};
use kedge_bundle::{CHUNK, Part};
use kedge_config::slot_manifest::ManifestError;
use serde::Serialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
pub use system::System;

/// Bundles are made once and fetched by many.
const LEVEL: i32 = 19;

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(transparent)]
    Image(#[from] InspectError),
    #[error("{path}: {source}")]
    Manifest { path: String, source: ManifestError },
    #[error("{path}: {what}")]
    Damaged { path: String, what: String },
    #[error("{path} is for board {found}, the new system is for {expected}")]
    Board { path: String, found: String, expected: String },
    #[error("differences to {0} versions, expected at most {MOST_BASES}")]
    Many(usize),
    #[error("the system is too large for a bundle")]
    Large,
}

impl BundleError {
    fn manifest(path: &Path, source: ManifestError) -> Self {
        Self::Manifest { path: path.display().to_string(), source }
    }
}

/// Names the file that an error is about.
trait Io<T> {
    fn at(self, path: &Path) -> Result<T, BundleError>;
}

impl<T> Io<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, BundleError> {
        self.map_err(|source| BundleError::Io { path: path.display().to_string(), source })
    }
}

/// What was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    pub bundle: PathBuf,
    pub board: String,
    pub version: String,
    pub bytes: u64,
    pub root_hash: String,
    /// SHA-256 of the slot manifest: how a wish names this very bundle.
    pub digest: String,
    /// One an earlier version.
    pub upgrades: Vec<Upgrade>,
}

/// What a device that runs an earlier version fetches.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    pub from: PathBuf,
    pub version: String,
    pub fetched: u64,
    /// Of a device that runs something else with the same blocks in it.
    pub without_differences: u64,
}

impl Written {
    pub fn show(&self) -> String {
        let percent = |bytes: u64| format!("{:.1} %", 100.0 * bytes as f64 / self.bytes.max(1) as f64);
        let mut text = format!(
            "{}: {} for {}, {}\ndigest {}\n",
            self.bundle.display(),
            self.version,
            self.board,
            show::size(self.bytes),
            self.digest
        );
        for upgrade in &self.upgrades {
            text += &format!(
                "from {} ({}): {} to fetch, {}\n",
                upgrade.from.display(),
                upgrade.version,
                show::size(upgrade.fetched),
                percent(upgrade.fetched)
            );
        }
        text
    }
}

/// Writes the bundle of the system in `new` to `out`, with differences to those in `earlier`. Each is a disk image or a bundle.
pub fn write(new: &Path, earlier: &[PathBuf], out: &Path, progress: Progress) -> Result<Written, BundleError> {
    if earlier.len() > MOST_BASES {
        return Err(BundleError::Many(earlier.len()));
    }
    let step = progress.step("reading");
    let system = System::read(new)?;
    let mut olds = Vec::new();
    for path in earlier {
        let old = System::read(path)?;
        if old.manifest.board != system.manifest.board {
            let (found, expected) = (old.manifest.board, system.manifest.board);
            return Err(BundleError::Board { path: path.display().to_string(), found, expected });
        }
        olds.push(old);
    }
    step.done(&format!("{} and {} earlier", system.manifest.version, olds.len()));
    pack(&system, &olds, earlier, out, progress)
}

fn pack(
    system: &System,
    olds: &[System],
    earlier: &[PathBuf],
    out: &Path,
    progress: Progress,
) -> Result<Written, BundleError> {
    let mut pieces = Pieces::default();
    let [boot, rest] = Part::ALL.map(|part| {
        let step = progress.step(format!("packing the {}", part.name()));
        let contents = contents(part, system, olds, &mut pieces).at(out)?;
        step.done(&show::size(contents.size));
        Ok::<_, BundleError>(contents)
    });
    let index = Index { boot: boot?, system: rest? };
    let unpacked = index.to_bytes();
    let packed = zstd::bulk::compress(&unpacked, LEVEL).at(out)?;
    if !fits(unpacked.len()) || !fits(packed.len()) {
        return Err(BundleError::Large);
    }
    let head = Head {
        manifest: system.sealed.len() as u64,
        index: packed.len() as u64,
        index_unpacked: unpacked.len() as u64,
    };
    let mut file = BufWriter::new(File::create(out).at(out)?);
    for bytes in [&head.to_bytes(), system.sealed.as_bytes(), &packed, &pieces.0] {
        file.write_all(bytes).at(out)?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all()).at(out)?;

    let upgrades = earlier.iter().zip(olds).map(|(from, old)| Upgrade {
        from: from.clone(),
        version: old.manifest.version.clone(),
        fetched: head.pieces_at() + fetched(&index, system, old, true),
        without_differences: head.pieces_at() + fetched(&index, system, old, false),
    });
    Ok(Written {
        bundle: out.to_owned(),
        board: system.manifest.board.clone(),
        version: system.manifest.version.clone(),
        bytes: head.pieces_at() + pieces.0.len() as u64,
        root_hash: system.manifest.root_hash.to_string(),
        digest: digest::of_bytes(system.sealed.as_bytes()),
        upgrades: upgrades.collect(),
    })
}

/// Bytes of pieces that a device takes which runs `old`.
fn fetched(index: &Index, new: &System, old: &System, differences: bool) -> u64 {
    let of = |part: Part| {
        let contents = index.part(part);
        let hashes = old.hashes(part, &new.manifest.salt);
        let running: HashMap<_, _> = hashes.into_iter().zip(0..).collect();
        let base = contents.base(&part.digest(&old.manifest)).filter(|_| differences);
        let ways = plan::plan(contents, &Present { running, in_place: Vec::new(), base });
        let bytes = |way: &Way| if let Way::Fetch(piece) = way { u64::from(piece.length) } else { 0 };
        ways.iter().map(bytes).sum::<u64>()
    };
    Part::ALL.into_iter().map(of).sum()
}

/// All pieces, one after another.
#[derive(Default)]
struct Pieces(Vec<u8>);

impl Pieces {
    fn put(&mut self, base: Option<u8>, packed: &[u8]) -> Piece {
        let at = self.0.len() as u64;
        self.0.extend_from_slice(packed);
        // A chunk is short.
        Piece { base, at, length: packed.len() as u32 }
    }
}

/// Packs a part: each chunk as it is, and as a difference to each earlier version where that is less.
fn contents(part: Part, new: &System, olds: &[System], pieces: &mut Pieces) -> io::Result<Contents> {
    let bytes = new.part(part);
    let chunks: Vec<&[u8]> = bytes.chunks(CHUNK as usize).collect();
    let whole = parallel::map(&chunks, |chunk| zstd::bulk::compress(chunk, LEVEL))?;
    let mut contents = Contents {
        size: bytes.len() as u64,
        hashes: new.hashes(part, &new.manifest.salt),
        bases: Vec::new(),
        chunks: whole.iter().map(|packed| vec![pieces.put(None, packed)]).collect(),
    };
    for old in olds {
        let digest = part.digest(&old.manifest);
        let same = digest == part.digest(&new.manifest) || contents.bases.contains(&digest);
        if same || old.part(part).len() > difference::LONGEST {
            continue;
        }
        // There are few, see `write`.
        let base = contents.bases.len() as u8;
        contents.bases.push(digest);
        let steps = difference::Old::new(old.part(part)).steps(bytes);
        let work: Vec<_> = difference::chunks(&steps).into_iter().zip(&chunks).collect();
        let packed = parallel::map(&work, |(steps, chunk)| {
            let difference = kedge_bundle::difference::encode(steps, old.part(part), chunk);
            zstd::bulk::compress(&difference, LEVEL)
        })?;
        for ((known, packed), whole) in contents.chunks.iter_mut().zip(&packed).zip(&whole) {
            if packed.len() < whole.len() {
                known.push(pieces.put(Some(base), packed));
            }
        }
    }
    Ok(contents)
}

#[cfg(test)]
mod tests;
