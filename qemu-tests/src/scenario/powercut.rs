//! The plug is pulled at random moments while clients write; the next boot must hold every write that was acknowledged.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::{BOOT, boot};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::kubectl::Kubectl;
use crate::report::step;

/// Clients that write at once: a group commit holds several writes.
const WRITERS: usize = 4;

pub fn run(setup: &Setup, times: u32) -> Result<()> {
    run_in(setup, &setup.out.join("tests/powercut"), times)
}

pub fn run_in(setup: &Setup, dir: &Path, times: u32) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    eprintln!("  {times} power cuts, seed {seed}");
    let mut random = seed | 1;
    let mut acknowledged = BTreeSet::new();
    for cut in 0..=times {
        let mut guest = Guest::boot(setup, &disk, dir, "")?;
        let kubectl = guest.kubectl(BOOT).with_context(|| format!("boot after cut {cut}"))?;
        check(&kubectl, &acknowledged).with_context(|| format!("after cut {cut}"))?;
        if cut == times {
            return step("the node is Ready in the end", || boot::ready(&kubectl));
        }
        // xorshift: any moment within six seconds of writing.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_millis(200 + random % 6000);
        let written = write_until_cut(&mut guest, &kubectl, cut, moment)?;
        eprintln!(
            "  cut {} after {:.1} s of writing, {} writes acknowledged",
            cut + 1,
            moment.as_secs_f64(),
            written.len()
        );
        acknowledged.extend(written);
    }
    Ok(())
}

/// Creates ConfigMaps from several clients until QEMU is killed; the names that were acknowledged.
fn write_until_cut(guest: &mut Guest, kubectl: &Kubectl, cut: u32, moment: Duration) -> Result<BTreeSet<String>> {
    let done = AtomicBool::new(false);
    let written = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| -> Result<()> {
        for writer in 0..WRITERS {
            let (done, written) = (&done, &written);
            scope.spawn(move || {
                for n in 0.. {
                    let name = format!("cut-{cut}-{writer}-{n}");
                    let mut create =
                        kubectl.command(&["create", "configmap", &name, "--from-literal", &format!("name={name}")]);
                    let acknowledged =
                        create.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
                    if done.load(Ordering::SeqCst) && !acknowledged {
                        return;
                    }
                    if acknowledged {
                        // A poisoned lock means that another writer panicked: the scope reports it.
                        written.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name);
                    }
                }
            });
        }
        std::thread::sleep(moment);
        let killed = guest.kill();
        done.store(true, Ordering::SeqCst);
        killed
    })?;
    Ok(written.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn check(kubectl: &Kubectl, acknowledged: &BTreeSet<String>) -> Result<()> {
    let path = "jsonpath={range .items[*]}{.metadata.name}={.data.name}{\"\\n\"}{end}";
    let listed = kubectl.until(BOOT, &["get", "configmaps", "-o", path], |_| true)?;
    let there: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, data)| name == data)
        .map(|(name, _)| name)
        .collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !there.contains(name.as_str())).collect();
    ensure!(lost.is_empty(), "{} of {} acknowledged writes are gone: {lost:?}", lost.len(), acknowledged.len());
    Ok(())
}
