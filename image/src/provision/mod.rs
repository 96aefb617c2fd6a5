//! The factory: from one template, an identity, a machine config and a seed for each of a thousand devices.
//!
//! ```text
//! order (CSV or count) ──▶ not yet in the journal ──▶ batch: authority | token, seed | card, in parallel ──▶ journal ──▶ ledger, labels
//!    pure                     who was issued stays            every processor, into ".part" files            synced     written anew
//! ```
//! A device's identity is issued once. Its files are first written under another name, then the journal tells of them and is synced,
//! then they get their name: whatever stops a run, the next one finds out how far it came, and hands nothing out twice.

pub mod authority;
pub mod card;
pub mod labels;
pub mod ledger;
pub mod order;
pub mod seed;
pub mod token;

use crate::digest;
use crate::progress::Progress;
use authority::{Authority, AuthorityError, KeyKind};
use card::{Card, CardError};
use ledger::{Issued, Ledger, LedgerError};
use order::{Device, OrderError};
use seed::SeedError;
use serde::Serialize;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Seed(#[from] SeedError),
    #[error(transparent)]
    Card(#[from] CardError),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{0} is used by another run of kedge-image provision: wait for it")]
    Busy(String),
    #[error(
        "{name} was issued with another machine config: leave its row as it was, or revoke it (kedge-image provision revoke) and give the device a new name"
    )]
    Changed { name: String },
    #[error("{name} was issued, and its file {file} is gone: find it, or revoke {name} and give the device a new name")]
    Lost { name: String, file: String },
    #[error("there is no device {name} in {ledger}")]
    Unknown { name: String, ledger: String },
    #[error("{folder} has no fleet authority: nothing was provisioned there with certificates")]
    NoAuthority { folder: String },
}

/// What is written for each device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// NAME.tar, to be unpacked onto a card's FAT partition.
    Archive,
    /// NAME.seed.img, and its block map: a disk with one FAT partition, for a USB stick, a second disk or a seed partition.
    Disk,
    /// NAME.img, and its block map: the image with the seed in it.
    Card { image: PathBuf },
}

/// How a device proves who it is when it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A key of its own and a certificate of the fleet's authority.
    Certificate,
    /// A bootstrap token of its own.
    Token,
}

#[derive(Debug, Clone)]
pub struct Options {
    /// Machine config that all devices have in common.
    pub template: Option<PathBuf>,
    pub wanted: order::Wanted,
    pub out: PathBuf,
    pub form: Form,
    pub proof: Proof,
    pub key: KeyKind,
    /// Certificate and key; without them the folder has one of its own.
    pub authority: Option<(PathBuf, PathBuf)>,
    /// For how long certificates are valid.
    pub days: u32,
    /// For how long join tokens are valid.
    pub token_days: u32,
}

/// What a run did.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    pub folder: PathBuf,
    pub devices: usize,
    pub issued: usize,
    /// Issued by an earlier run.
    pub known: usize,
    pub revoked: usize,
    pub ledger: PathBuf,
    pub labels: PathBuf,
}

/// So many devices are written before the journal is synced once for all.
const BATCH: usize = 64;

pub fn provision(options: &Options, progress: Progress) -> Result<Done, ProvisionError> {
    let out = &options.out;
    let devices = order::devices(options.template.as_deref(), &options.wanted)?;
    let _lock = lock(out)?;
    let mut ledger = Ledger::open(out)?;
    let (mut fresh, mut known) = (Vec::new(), 0);
    for device in &devices {
        match ledger.find(&device.name) {
            Some(issued) => {
                recover(out, issued, device)?;
                known += 1;
            }
            None => fresh.push(device),
        }
    }
    let line = Line::new(options)?;
    let step = progress.bytes(format!("provisioning {} devices", fresh.len()), fresh.len() as u64);
    for batch in fresh.chunks(BATCH) {
        let made = in_parallel(batch, &|device| line.make(device))?;
        ledger.issue(&made)?;
        for issued in &made {
            for file in issued.files() {
                settle(out, &file)?;
            }
        }
        step.advance(batch.len() as u64);
    }
    step.done(&format!("{known} were there already"));
    match &line.prover {
        Prover::Authority(authority) => finish(out, &ledger, Some(authority))?,
        Prover::Tokens => finish(out, &ledger, Authority::of_folder(out)?.as_ref())?,
    }
    Ok(Done {
        folder: out.clone(),
        devices: devices.len(),
        issued: fresh.len(),
        known,
        revoked: ledger.revoked().count(),
        ledger: out.join(ledger::JSON),
        labels: out.join(labels::FILE),
    })
}

/// Puts devices on the fleet's revocation list.
pub fn revoke(out: &Path, names: &[String], reason: &str) -> Result<Done, ProvisionError> {
    let _lock = lock(out)?;
    let mut ledger = Ledger::open(out)?;
    for name in names {
        let found = ledger.find(name).or_else(|| ledger.by_serial(name)).map(|issued| issued.name.clone());
        let ledger_path = || out.join(ledger::JSON).display().to_string();
        let found = found.ok_or_else(|| ProvisionError::Unknown { name: name.clone(), ledger: ledger_path() })?;
        ledger.revoke(&found, reason)?;
    }
    let authority = Authority::of_folder(out)?;
    if authority.is_none() && ledger.revoked().any(|(issued, _)| issued.serial.is_some()) {
        return Err(ProvisionError::NoAuthority { folder: out.display().to_string() });
    }
    finish(out, &ledger, authority.as_ref())?;
    let devices = ledger.devices().count();
    Ok(Done {
        folder: out.to_owned(),
        devices,
        issued: 0,
        known: devices,
        revoked: ledger.revoked().count(),
        ledger: out.join(ledger::JSON),
        labels: out.join(labels::FILE),
    })
}

/// Held by who issues in a folder.
struct Lock(File);

impl Drop for Lock {
    /// Closing alone would not do: a child that another thread is just about to start has the file open as well until it runs its program.
    fn drop(&mut self) {
        let _as_good_as_closed = self.0.unlock();
    }
}

/// One at a time in a folder: two would issue the same name twice.
fn lock(out: &Path) -> Result<Lock, ProvisionError> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let io = |source| ProvisionError::Io { path: out.display().to_string(), source };
    // Secrets lie in it.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(out).map_err(io)?;
    let file =
        File::options().write(true).create(true).truncate(false).mode(0o600).open(out.join(".lock")).map_err(io)?;
    file.try_lock().map_err(|_| ProvisionError::Busy(out.display().to_string()))?;
    Ok(Lock(file))
}

/// What all devices of a run share.
struct Line<'o> {
    options: &'o Options,
    prover: Prover,
    maker: Maker,
}

enum Prover {
    Authority(Box<Authority>),
    Tokens,
}

enum Maker {
    Archive,
    Disk,
    Card(Card),
}

impl<'o> Line<'o> {
    fn new(options: &'o Options) -> Result<Self, ProvisionError> {
        let prover = match options.proof {
            Proof::Certificate => {
                let authority = Authority::get(&options.out, options.authority.as_ref(), options.key)?;
                Prover::Authority(Box::new(authority))
            }
            Proof::Token => Prover::Tokens,
        };
        let maker = match &options.form {
            Form::Card { image } => Maker::Card(Card::open(image)?),
            Form::Archive => Maker::Archive,
            Form::Disk => Maker::Disk,
        };
        Ok(Self { options, prover, maker })
    }

    /// Makes one device's identity and files, the latter still under another name.
    fn make(&self, device: &Device) -> Result<Issued, ProvisionError> {
        let mut issued = Issued::new(device);
        let files = match &self.prover {
            Prover::Authority(authority) => {
                let identity = authority.issue(&device.name, self.options.key, self.options.days)?;
                issued.take_identity(&identity, self.options.key);
                seed::files(&device.config, Some(&identity))?
            }
            Prover::Tokens => {
                let token = token::Token::new(self.options.token_days)?;
                issued.take_token(&token);
                seed::files(&order::with_token(&device.name, &device.config, &token.text())?, None)?
            }
        };
        let name = &device.name;
        let place = |file: &str| part(&self.options.out, file);
        match &self.maker {
            Maker::Archive => {
                issued.file = format!("{name}.tar");
                seed::archive(&files, &place(&issued.file))?;
            }
            Maker::Disk => {
                issued.file = format!("{name}.seed.img");
                issued.block_map = true;
                seed::disk(&files, name, &place(&issued.file), &place(&format!("{name}.seed.img.bmap")))?;
            }
            Maker::Card(card) => {
                issued.file = format!("{name}.img");
                issued.block_map = true;
                card.write(&files, &place(&issued.file), &place(&format!("{name}.img.bmap")))?;
            }
        }
        let path = place(&issued.digest_of());
        let digest = digest::of_file(&path);
        issued.sha256 = digest.map_err(|source| ProvisionError::Io { path: path.display().to_string(), source })?;
        Ok(issued)
    }
}

/// A file that the journal does not tell of yet.
fn part(out: &Path, file: &str) -> PathBuf {
    out.join(format!(".{file}.part"))
}

/// Gives a file that the journal tells of its name.
fn settle(out: &Path, file: &str) -> Result<(), ProvisionError> {
    let path = part(out, file);
    std::fs::rename(&path, out.join(file))
        .map_err(|source| ProvisionError::Io { path: path.display().to_string(), source })
}

/// A device that an earlier run issued: its files are there, or were about to be.
fn recover(out: &Path, issued: &Issued, device: &Device) -> Result<(), ProvisionError> {
    if issued.config_sha256 != device.digest() {
        return Err(ProvisionError::Changed { name: device.name.clone() });
    }
    for file in issued.files() {
        if !out.join(&file).exists() {
            if !part(out, &file).exists() {
                return Err(ProvisionError::Lost { name: device.name.clone(), file });
            }
            settle(out, &file)?;
        }
    }
    Ok(())
}

/// All that is made from the journal: ledger, labels, tokens, revocation list.
fn finish(out: &Path, ledger: &Ledger, authority: Option<&Authority>) -> Result<(), ProvisionError> {
    ledger.write()?;
    let write = |name: &str, bytes: &[u8]| {
        let (temporary, path) = (part(out, name), out.join(name));
        let io = |source| ProvisionError::Io { path: path.display().to_string(), source };
        std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &path)).map_err(io)
    };
    write(labels::FILE, &labels::sheet(ledger))?;
    if let Some(authority) = authority {
        write(authority::REVOCATION_LIST, authority.revocation_list(ledger)?.as_bytes())?;
    }
    match token::manifest(ledger) {
        Some(manifest) => write(token::FILE, manifest.as_bytes()),
        None => Ok(()),
    }
}

/// Does `work` for each item on every processor; the results in the items' order, or the first failure.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: &(dyn Fn(&T) -> Result<R, ProvisionError> + Sync),
) -> Result<Vec<R>, ProvisionError> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let take = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(done) };
            done.push((at, work(item)?));
        }
    };
    let results: Vec<Result<Vec<(usize, R)>, ProvisionError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(take)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut done = Vec::new();
    for result in results {
        done.extend(result?);
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests;
