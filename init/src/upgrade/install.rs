//! A bundle is fetched into the slot that does not run. Blocking: it runs in a thread of its own.

use super::book::{Book, Books, Installed};
use super::wish::Wish;
use crate::machine::Machine;
use crate::slot;
use anyhow::Context;
use kedge_bundle::files::Files;
use kedge_bundle::install::{self, Far, Running};
use kedge_bundle::open::{Bundle, InstallError, Source};
use kedge_config::names;
use kedge_config::signing::Key;
use kedge_config::slot::{Record, SlotName};
use kedge_config::slot_manifest::{AREA_BYTES, Sealed, SlotManifest, area_offset};
use kedge_fetch::{FetchError, File as Remote, Resolve};
use kedge_stage1::disk::Disk;
use kedge_stage1::transport::{Transport, TransportError};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// A range is asked for so often before the whole is put off.
const TRIES: u32 = 4;
/// The least that is asked for at once where it is held back, in bytes.
const LEAST_STEP: u64 = 4096;
/// The longest that one is held back without a look at whether it is still wanted.
const NAP: Duration = Duration::from_millis(250);

/// This machine, as an installer sees it.
#[derive(Clone)]
pub struct Place {
    pub own: SlotName,
    pub disk: Disk,
    board: String,
    keys: Vec<Key>,
}

/// How far one is; and whether it is still wanted.
#[derive(Clone)]
pub struct Pace {
    pub progress: Arc<watch::Sender<Far>>,
    pub unwanted: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// It lies in the other slot.
    Installed(Installed),
    /// It is what runs.
    Runs {
        digest: String,
        version: String,
    },
    /// It will not get better.
    Refused {
        digest: Option<String>,
        version: Option<String>,
        why: String,
    },
    /// Something failed that may go well later.
    Later(String),
    Unwanted,
}

impl Place {
    pub fn of(machine: &Machine) -> anyhow::Result<Self> {
        let own = slot::booted().context("this system was not started from a slot: it cannot be upgraded in place")?;
        let disk = machine.disk.clone().context("no disk of this system's was found")?;
        let board = machine.board.as_ref().context("the board is not known")?.name.clone();
        let keys = fs::read_to_string(names::RUN_KEYS).with_context(|| format!("read {}", names::RUN_KEYS))?;
        Ok(Self { own, disk, board, keys: Key::list(&keys)? })
    }

    pub fn idle(&self) -> SlotName {
        self.own.other()
    }

    pub fn record(&self) -> anyhow::Result<Record> {
        slot::record(Some(&self.disk))
    }

    pub fn change(&self, decide: impl FnOnce(&mut Record)) -> anyhow::Result<()> {
        slot::change_record(Some(&self.disk), decide)
    }

    /// A boot loader that cannot be told costs a restart: stage 1 tells it then.
    pub fn tell(&self, what: &str, tell: impl FnOnce(&Transport) -> Result<(), TransportError>) {
        if let Err(error) = tell(&Transport::of(&self.disk)) {
            tracing::warn!("telling the boot loader that {what}: {error}");
        }
    }

    fn device(&self, slot: SlotName) -> anyhow::Result<PathBuf> {
        let name = slot.partition();
        self.disk.device(name).map(PathBuf::from).with_context(|| format!("no partition {name} on {}", self.disk.name))
    }

    /// The manifest in the slot that does not run.
    pub fn ready(&self) -> anyhow::Result<SlotManifest> {
        self.sealed(self.idle()).map(|(.., manifest)| manifest)
    }

    /// What runs, and the manifest that stage 1 believed.
    fn running(&self) -> anyhow::Result<(File, Sealed, SlotManifest)> {
        self.sealed(self.own)
    }

    fn sealed(&self, slot: SlotName) -> anyhow::Result<(File, Sealed, SlotManifest)> {
        let path = self.device(slot)?;
        let at = || format!("read the slot manifest on {}", path.display());
        let file = File::open(&path).with_context(at)?;
        let size = (&file).seek(SeekFrom::End(0)).with_context(at)?;
        let mut area = vec![0; AREA_BYTES as usize];
        file.read_exact_at(&mut area, area_offset(size).unwrap_or(0)).with_context(at)?;
        let sealed = Sealed::read(&area).with_context(at)?;
        let manifest = sealed.open(&self.keys).with_context(at)?;
        Ok((file, sealed, manifest))
    }
}

/// By which a manifest is called.
pub fn digest(sealed: &Sealed) -> String {
    Sha256::digest(sealed.to_text()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn run(place: &Place, wish: &Wish, books: &Books, pace: &Pace, resolve: Resolve, now: &str) -> Done {
    let mut known = (None, None);
    match try_to(place, wish, books, pace, resolve, now, &mut known) {
        Ok(done) => done,
        Err(_) if pace.unwanted.load(Ordering::Relaxed) => Done::Unwanted,
        Err(error) if may_pass(&error) => Done::Later(format!("{error:#}")),
        Err(error) => {
            let (digest, version) = known;
            Done::Refused { digest, version, why: format!("{error:#}") }
        }
    }
}

/// Whether another try may find it better: servers and disks have bad hours, a bundle has not.
fn may_pass(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<InstallError>() {
        Some(InstallError::Fetch(source)) => source
            .get_ref()
            .and_then(|source| source.downcast_ref::<FetchError>())
            .is_none_or(|error| error.may_pass() || matches!(error, FetchError::Changed { .. })),
        Some(InstallError::Running(_) | InstallError::Slot(_) | InstallError::Stopped(_)) => true,
        Some(
            InstallError::Bundle(_)
            | InstallError::BootFile(_)
            | InstallError::Manifest(_)
            | InstallError::Board { .. }
            | InstallError::NotKept { .. },
        ) => false,
        None if error.downcast_ref::<TransportError>().is_some_and(TransportError::lasts) => false,
        None => !error.is::<Refusal>() && error.downcast_ref::<FetchError>().is_none_or(FetchError::may_pass),
    }
}

/// What this machine has against a bundle that is whole.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it failed here before ({0}); ask for another attempt if it shall be tried again")]
    Failed(String),
    #[error("it is {found}, and {wanted} is asked for")]
    Another { found: String, wanted: String },
    #[error("its rollback index is {found}; a system with {least} has proved itself here, and none below is taken")]
    Rollback { found: u64, least: u64 },
}

fn try_to(
    place: &Place,
    wish: &Wish,
    books: &Books,
    pace: &Pace,
    resolve: Resolve,
    now: &str,
    known: &mut (Option<String>, Option<String>),
) -> anyhow::Result<Done> {
    let tls = kedge_fetch::trusting(&[wish.certificate_authorities.as_deref().unwrap_or_default().as_bytes()])?;
    let handle = Handle::current();
    let remote = handle.block_on(Remote::open(&wish.source_for(&place.board), tls, resolve))?;
    let mut source = Ranges { handle, remote, pace, wish };
    let bundle = Bundle::open(&mut source, &place.keys, &place.board)?;
    let (digest, version) = (digest(&bundle.sealed), bundle.manifest.version.clone());
    *known = (Some(digest.clone()), Some(version.clone()));
    if let Some(wanted) = wish.digest.as_ref().filter(|wanted| **wanted != digest) {
        return Err(Refusal::Another { found: digest, wanted: wanted.clone() }.into());
    }
    let (running, sealed, manifest) = place.running()?;
    if digest == self::digest(&sealed) {
        return Ok(Done::Runs { digest, version });
    }
    let mut book = books.read();
    if let Some(before) = book.failed(&digest, wish.attempt) {
        return Err(Refusal::Failed(before.why.clone()).into());
    }
    let (found, least) = (bundle.manifest.rollback_index, place.record()?.rollback_index);
    if found < least {
        return Err(Refusal::Rollback { found, least }.into());
    }
    let transport = Transport::of(&place.disk);
    transport.check(&bundle.manifest, &manifest)?;
    // What lies there now is given up before its first block goes.
    if book.installed.take().is_some() {
        books.write(&book)?;
    }
    place.change(|record| record.empty(place.idle()))?;
    let path = place.device(place.idle())?;
    let target =
        File::options().read(true).write(true).open(&path).with_context(|| format!("open {}", path.display()))?;
    let mut bytes = 0;
    if let Some(staged) = transport.stage(place.idle(), &bundle.manifest, &manifest)? {
        let old = staged.running.as_ref().map(|files| Files::new(&manifest, files));
        let old = old.as_ref().map(|files| Running { bytes: files, manifest: &manifest });
        let mut ask = |far: &Far| pace.take(far, wish);
        bytes = install::boot(&bundle, &mut source, &staged.files, old.as_ref(), &mut ask)?;
        staged.finish()?;
    }
    let old = Running { bytes: &running, manifest: &manifest };
    let before = bytes;
    let mut ask = |far: &Far| {
        let whole = Far { fetched: before + far.fetched, to_fetch: before + far.to_fetch, next: far.next };
        pace.take(&whole, wish)
    };
    bytes += install::system(&bundle, &mut source, &target, Some(&old), &mut ask)?;
    let system =
        Installed { wish: wish.named(), digest, version, slot: place.idle().into(), started: now.to_owned(), bytes };
    let book = Book { installed: Some(system.clone()), ..books.read() };
    books.write(&book)?;
    Ok(Done::Installed(system))
}

impl Pace {
    /// Before each request: tells how far it is.
    fn take(&self, far: &Far, wish: &Wish) -> Result<(), String> {
        self.progress.send_replace(*far);
        self.wanted(wish)
    }

    fn wanted(&self, wish: &Wish) -> Result<(), String> {
        if self.unwanted.load(Ordering::Relaxed) {
            return Err("it is not wanted any more".into());
        }
        if wish.open_at(super::clock()).is_err() {
            return Err("its window has closed; what is fetched stays".into());
        }
        Ok(())
    }

    /// The time that so many bytes are to take, as long as they are wanted.
    fn hold(&self, bytes: u64, wish: &Wish) -> Result<(), String> {
        let seconds = wish.bytes_per_second.map_or(0.0, |rate| bytes as f64 / rate as f64);
        let mut left = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        while !left.is_zero() {
            self.wanted(wish)?;
            let nap = left.min(NAP);
            std::thread::sleep(nap);
            left -= nap;
        }
        Ok(())
    }
}

/// A remote file, with patience, at the pace that is asked for.
struct Ranges<'r> {
    handle: Handle,
    remote: Remote,
    pace: &'r Pace,
    wish: &'r Wish,
}

impl Source for Ranges<'_> {
    fn read(&mut self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        // What is held back comes in parts of a second each.
        let step = self.wish.bytes_per_second.map_or(length, |rate| rate.max(LEAST_STEP)).max(1);
        let mut bytes = Vec::new();
        for from in (0..length).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            let part = step.min(length - from);
            self.pace.hold(part, self.wish).map_err(io::Error::other)?;
            bytes.extend(self.range(at + from, part)?);
        }
        Ok(bytes)
    }
}

impl Ranges<'_> {
    fn range(&mut self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut tried = 1;
        loop {
            match self.handle.block_on(self.remote.read(at, length)) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if !error.may_pass() || tried == TRIES || self.pace.unwanted.load(Ordering::Relaxed) => {
                    return Err(io::Error::other(error));
                }
                Err(error) => {
                    tracing::debug!(%error, tried, "a range of the bundle is asked for again");
                    std::thread::sleep(Duration::from_secs(1 << tried));
                    tried += 1;
                }
            }
        }
    }
}
