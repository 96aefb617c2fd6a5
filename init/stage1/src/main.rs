//! `/init` of the initramfs. The flow is drawn in `lib.rs`.
#![forbid(unsafe_code)]

use kedge_config::names;
use kedge_config::signing::Key;
use kedge_config::slot::{Choice, Firmware, Kernel, Record, SlotName, Verdict, Way};
use kedge_config::slot_manifest::SlotManifest;
use kedge_stage1::disk::{self, Disk};
use kedge_stage1::meta::Meta;
use kedge_stage1::report::{self, Report};
use kedge_stage1::say::{Level, say, shout};
use kedge_stage1::transport::{self, Kind, Transport};
use kedge_stage1::trust::{self, Running};
use kedge_stage1::verity::{Verity, VerityError};
use kedge_stage1::watchdog::{self, Watchdog};
use kedge_stage1::{modules, mounts, recovery, root};
use std::fs;
use std::path::Path;

/// Boots in a row without confirmation after which the system is read as a whole: a corrupt block may have been why.
const SUSPICIOUS: u8 = 1;

fn main() {
    let mut report = Report::default();
    report.stamp("stage1-start");
    if let Err(error) = mounts::early() {
        recovery::enter(&[error.to_string()], Some(30), None);
    }
    report.stamp("stage1-mounts");
    shout(&format!("kedge: stage 1, version {}\n", kedge_config::VERSION));
    load_modules();
    report.stamp("stage1-modules");
    let mut watchdog = watchdog();
    let disk = match disk::wait() {
        Ok(disk) => disk,
        Err(error) => recovery::enter(&[error.to_string()], Some(30), watchdog),
    };
    report.fact("disk", &disk.name);
    report.stamp("stage1-disk");
    feed(&mut watchdog);
    boot(&disk, report, watchdog)
}

/// Armed where the board has one. A system that cannot be guarded is better than none: what goes wrong is told.
fn watchdog() -> Option<Watchdog> {
    let text = fs::read_to_string(names::STAGE1_WATCHDOG).ok()?;
    let Some((path, seconds)) = watchdog::parse(&text) else {
        say(
            Level::Error,
            &format!("{}: \"{}\", expected a device and seconds", names::STAGE1_WATCHDOG, text.trim_end()),
        );
        return None;
    };
    match Watchdog::arm(&path, seconds) {
        Ok(armed) => {
            say(Level::Info, &format!("{} is armed: it resets after {} s", path.display(), armed.seconds));
            Some(armed)
        }
        Err(error) => {
            say(Level::Warning, &format!("{} is not armed before the system begins: {error}", path.display()));
            None
        }
    }
}

fn feed(watchdog: &mut Option<Watchdog>) {
    if let Some(Err(error)) = watchdog.as_mut().map(Watchdog::feed) {
        say(Level::Warning, &format!("the watchdog takes no sign of life: {error}"));
    }
}

fn load_modules() {
    match modules::load_list(Path::new(names::STAGE1_MODULES), Path::new("/")) {
        Ok(outcome) => outcome.failed.iter().for_each(|error| say(Level::Warning, &error.to_string())),
        // A kernel that has all built in needs no list.
        Err(error) => say(Level::Info, &format!("{}: {error}", names::STAGE1_MODULES)),
    }
}

/// The slot record with the partition it is kept on, if there is one to keep it on.
struct Book {
    record: Record,
    meta: Option<Meta>,
}

impl Book {
    fn open(disk: &Disk) -> Self {
        let opened = match disk.device(names::META.name) {
            Some(device) => Meta::open(device).map_err(|error| error.to_string()),
            None => Err(format!("disk {} has no partition {}", disk.name, names::META.name)),
        };
        match opened.map(|meta| (meta.read(), meta)) {
            Ok((Ok(record), meta)) => Self { record, meta: Some(meta) },
            Ok((Err(error), meta)) => {
                say(Level::Error, &format!("{error}; trying slot a, then slot b"));
                Self { record: Record::unknown(), meta: Some(meta) }
            }
            Err(error) => {
                say(Level::Error, &format!("{error}; trying slot a, then slot b"));
                Self { record: Record::unknown(), meta: None }
            }
        }
    }

    /// A record that cannot be written must not keep the machine from booting: it is told.
    fn keep(&mut self) {
        if let Some(Err(error)) = self.meta.as_ref().map(|meta| meta.write(&mut self.record)) {
            say(Level::Error, &error.to_string());
        }
    }
}

fn boot(disk: &Disk, mut report: Report, mut watchdog: Option<Watchdog>) -> ! {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let forced = SlotName::forced(&command_line);
    let mut book = Book::open(disk);
    report.stamp("stage1-record");
    let keys = trust::keys().unwrap_or_else(|error| {
        say(Level::Error, &format!("{error}; no system can be trusted"));
        Vec::new()
    });
    let (kernel, transport) = (Running::look(), Transport::of(disk));
    let mut failed: Vec<SlotName> = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    loop {
        let name = match book.record.choose(forced, &failed) {
            Choice::Boot(name) => name,
            Choice::Recover { reboot_after } => {
                reasons.extend(
                    SlotName::ALL
                        .into_iter()
                        .filter(|name| !failed.contains(name))
                        .map(|name| told(&book.record, name)),
                );
                book.record.count_recovery();
                book.keep();
                recovery::enter(&reasons, reboot_after, watchdog)
            }
        };
        let thorough = book.record.slot(name).unconfirmed >= SUSPICIOUS;
        let mut alive = || feed(&mut watchdog);
        let admitted = admit(disk, name, &book.record, &keys).and_then(|manifest| {
            own_kernel(&mut book, &transport, &kernel, name, forced == Some(name), &manifest)?;
            book.record.count_try(name);
            book.keep();
            report.stamp("stage1-counted");
            mount(disk, name, &manifest, thorough.then_some(&mut alive)).map(|()| manifest)
        });
        match admitted {
            Ok(manifest) => {
                if book.record.slot(name).verdict == Verdict::Trial {
                    came_up(&transport, name);
                }
                hand_over(name, &manifest, &mut report, &reasons, watchdog)
            }
            Err(refusal) => {
                failed.push(name);
                if refusal.condemns {
                    book.record.condemn(name, &refusal.why);
                    book.keep();
                }
                let next = match book.record.choose(forced, &failed) {
                    Choice::Boot(other) => format!("trying slot {other}"),
                    Choice::Recover { .. } => "no slot is left".to_owned(),
                };
                let reason = format!("slot {name} is refused: {}", refusal.why);
                say(Level::Info, &reason);
                shout(&format!("kedge: {reason}; {next}\n"));
                reasons.push(reason);
            }
        }
    }
}

/// Why a slot that this boot did not try is not worth one.
fn told(record: &Record, name: SlotName) -> String {
    let slot = record.slot(name);
    let note = if slot.note.is_empty() { "no reason noted" } else { &slot.note };
    format!("slot {name}: {:?} ({note})", slot.verdict)
}

/// Why a slot is not booted.
struct Refusal {
    why: String,
    /// It is the system's fault, and will be the same next time.
    condemns: bool,
}

impl Refusal {
    fn new(name: SlotName, why: &dyn std::fmt::Display, condemns: bool) -> Self {
        Self { why: format!("partition {}: {why}", name.partition()), condemns }
    }
}

/// The manifest of a slot that may be booted.
fn admit(disk: &Disk, name: SlotName, record: &Record, keys: &[Key]) -> Result<SlotManifest, Refusal> {
    trust::manifest(device(disk, name)?, keys, record)
        .map_err(|error| Refusal::new(name, &error, error.condemns() && !keys.is_empty()))
}

fn device(disk: &Disk, name: SlotName) -> Result<&Path, Refusal> {
    let missing = || Refusal::new(name, &format_args!("not on disk {}", disk.name), true);
    disk.device(name.partition()).ok_or_else(missing)
}

/// Returns where the running kernel may boot the slot; where another is to, the machine restarts.
fn own_kernel(
    book: &mut Book,
    transport: &Transport,
    kernel: &Running,
    name: SlotName,
    forced: bool,
    manifest: &SlotManifest,
) -> Result<(), Refusal> {
    let fits = kernel.fits(manifest);
    if fits == Kernel::Own {
        return Ok(());
    }
    let firmware = match transport.kind {
        Kind::Direct => Firmware::Fixed,
        Kind::SystemdBoot | Kind::RaspberryPi { .. } => Firmware::Told {
            spent: transport.spent(name).unwrap_or_else(|error| {
                say(Level::Warning, &error.to_string());
                false
            }),
        },
    };
    match book.record.way(name, forced, fits, firmware) {
        Way::Boot => {
            let told = format!("slot {name} is booted by another's kernel, which is of its release");
            say(Level::Warning, &told);
            shout(&format!("kedge: {told}\n"));
        }
        Way::Switch => {
            book.record.count_switch();
            book.keep();
            let told = match book.record.slot(name).verdict {
                Verdict::Trial => transport.try_next(name, manifest),
                Verdict::Good | Verdict::Bad | Verdict::Empty => transport.commit(name),
            };
            told.map_err(|error| Refusal::new(name, &error, false))?;
            shout(&format!("kedge: slot {name} has a kernel of its own: restarting with it\n"));
            let error = transport::restart();
            return Err(Refusal::new(name, &format_args!("restart: {error}"), false));
        }
        Way::Condemn => {
            // Where firmware was told for good, it is told again.
            if let Err(error) = transport.commit(name.other()) {
                say(Level::Warning, &error.to_string());
            }
            return Err(Refusal::new(name, &"its kernel was started, and did not come up", true));
        }
        Way::Pass => return Err(Refusal::new(name, &kernel.told(manifest), false)),
    }
    Ok(())
}

/// A system on trial got as far as here: what firmware has counted says nothing more.
fn came_up(transport: &Transport, name: SlotName) {
    if let Err(error) = transport.came_up(name) {
        say(Level::Warning, &error.to_string());
    }
}

/// Verifies the slot and mounts it. With `thorough`, which is called now and then, all of it is read.
fn mount(
    disk: &Disk,
    name: SlotName,
    manifest: &SlotManifest,
    thorough: Option<&mut dyn FnMut()>,
) -> Result<(), Refusal> {
    let view = |error: VerityError| Refusal::new(name, &error, error.condemns());
    let verity = Verity::open(&format!("kedge-{name}"), device(disk, name)?, manifest).map_err(view)?;
    let read = thorough.map_or(Ok(()), |alive| verity.read_whole(alive).map_err(view));
    read.and_then(|()| root::mount_system(&verity.path).map_err(|error| Refusal::new(name, &error, true)))
        .and_then(|()| verity.enforce().map_err(view))
        .inspect_err(|_| verity.remove())
}

/// Becomes the system's init. If that fails the root is gone, and a new boot is the only way on: the try was counted.
fn hand_over(
    name: SlotName,
    manifest: &SlotManifest,
    report: &mut Report,
    reasons: &[String],
    mut watchdog: Option<Watchdog>,
) -> ! {
    report.fact("slot", &name.to_string());
    report.fact(report::ROLLBACK_INDEX, &manifest.rollback_index.to_string());
    report.fact(report::VERSION, &manifest.version);
    report.fact("root-hash", &manifest.root_hash.to_string());
    reasons.iter().for_each(|reason| report.fact("failed", reason));
    report.stamp("stage1-end");
    if let Err(error) = report.write() {
        say(Level::Warning, &format!("{}: {error}", names::STAGE1_REPORT));
    }
    if let Err(error) = trust::hand_on() {
        say(Level::Warning, &error);
    }
    feed(&mut watchdog);
    let error = root::switch(std::env::args_os().skip(1));
    recovery::enter(&[format!("slot {name}: {error}")], Some(30), watchdog)
}
