//! Tells the hardware that this machine is alive: that this process runs, and that its disk answers. When either is not so for long enough, the
//! hardware resets the machine, and the slot record counts it. Stage 1 has armed it; until this service begins nobody feeds it.

use crate::machine::Machine;
use crate::supervisor::Handle;
use anyhow::Context;
use kedge_config::names;
use kedge_stage1::watchdog::Watchdog;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Signs of life in each time limit: two may be late.
const SIGNS: u32 = 3;

pub async fn run(machine: Arc<Machine>, handle: Handle) -> anyhow::Result<()> {
    let Some(watchdog) = machine.board.as_ref().and_then(|board| board.watchdog.as_ref()) else {
        handle.ready();
        handle.note("this board has no watchdog");
        handle.stopped().await;
        return Ok(());
    };
    let path = &watchdog.device;
    // Closed it goes on counting: through the end of this process, and through the one that replaces it.
    let asked = watchdog.timeout_seconds.max(SIGNS);
    let mut device = Watchdog::arm(Path::new(path), asked).with_context(|| format!("arm {path} with {asked} s"))?;
    let limit = Duration::from_secs(device.seconds.into());
    let disk = machine.disk.as_ref().and_then(|disk| disk.device(names::META.name)).map(Path::to_owned);
    handle.note(match &disk {
        Some(disk) => {
            format!("resets after {} s without a sign of life or an answer of {}", device.seconds, disk.display())
        }
        None => format!("resets after {} s without a sign of life", device.seconds),
    });
    handle.ready();
    let mut probe = disk.map(Probe::new);
    let mut sign = tokio::time::interval(limit / SIGNS);
    let mut hungry = false;
    loop {
        tokio::select! {
            () = handle.stopped() => return Ok(()),
            _ = sign.tick() => {}
        }
        let silent = match &mut probe {
            Some(probe) => probe.silent().await,
            None => None,
        };
        match verdict(silent, limit) {
            Ok(()) => {
                hungry = false;
                device.feed().with_context(|| format!("write to {path}"))?;
            }
            Err(why) if !hungry => {
                hungry = true;
                tracing::error!("the watchdog is not fed any more and resets in {} s: {why}", device.seconds);
            }
            Err(_) => {}
        }
    }
}

/// Whether a disk that was silent for so long, with the reason where it gave one, still lets a sign of life through.
fn verdict(silent: Option<(Duration, &str)>, limit: Duration) -> Result<(), String> {
    match silent {
        Some((time, why)) if time > limit => {
            Err(format!("the disk has not answered well for {} s ({why})", time.as_secs()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Asks the disk for a block, past every cache of the kernel. One that hangs holds one thread and no more.
struct Probe {
    disk: PathBuf,
    turn: u64,
    asked: Option<JoinHandle<io::Result<()>>>,
    last: Instant,
    /// What came instead of the last answer.
    why: String,
}

/// A block is waited for so long within a turn; what comes later is seen in the next.
const PATIENCE: Duration = Duration::from_secs(1);

impl Probe {
    fn new(disk: PathBuf) -> Self {
        Self { disk, turn: 0, asked: None, last: Instant::now(), why: String::new() }
    }

    /// For how long the disk has not answered well; `None` where it just did.
    async fn silent(&mut self) -> Option<(Duration, &str)> {
        let asked = self.asked.get_or_insert_with(|| {
            let (disk, turn) = (self.disk.clone(), self.turn);
            tokio::task::spawn_blocking(move || read(&disk, turn))
        });
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        if answer.is_ok() {
            (self.asked, self.turn) = (None, self.turn.wrapping_add(1));
        }
        self.why = match answer {
            Ok(Ok(Ok(()))) => {
                self.last = Instant::now();
                return None;
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it hangs".to_owned(),
        };
        Some((self.last.elapsed(), &self.why))
    }
}

/// The blocks that are read in turn: a disk that answers out of its own memory shall not always do so.
const BLOCKS: u64 = 64;
const BLOCK: usize = 4096;

/// Direct reads want memory that lies as blocks do.
#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

fn read(disk: &Path, turn: u64) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(disk, flags, Mode::empty())?);
    let mut block = Aligned([0; BLOCK]);
    file.read_exact_at(&mut block.0, turn % BLOCKS * BLOCK as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_does_not_answer_for_long_enough_ends_the_feeding() {
        let limit = Duration::from_secs(60);
        let told = |seconds| verdict(Some((Duration::from_secs(seconds), "it hangs")), limit);
        assert_eq!(verdict(None, limit), Ok(()));
        assert_eq!(told(60), Ok(()));
        assert_eq!(told(61), Err("the disk has not answered well for 61 s (it hangs)".into()));
    }

    #[tokio::test]
    async fn a_disk_that_is_gone_is_told_and_one_that_comes_back_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut probe = Probe::new(path.clone());
        let (_, why) = probe.silent().await.unwrap();
        assert!(why.contains("No such file"), "{why}");
        std::fs::write(&path, vec![0; BLOCK * BLOCKS as usize]).unwrap();
        // Where temporary files lie in memory there is nothing to be read past the cache.
        match probe.silent().await {
            None => {}
            Some((_, why)) => assert!(why.contains("Invalid argument"), "{why}"),
        }
    }
}
