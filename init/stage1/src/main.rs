//! `/init` of the initramfs. The flow is drawn in `lib.rs`.
#![forbid(unsafe_code)]

use kedge_config::names;
use kedge_config::slot::{Choice, Record, SlotName};
use kedge_stage1::disk::{self, Disk};
use kedge_stage1::meta::Meta;
use kedge_stage1::report::Report;
use kedge_stage1::say::{Level, say, shout};
use kedge_stage1::{modules, mounts, recovery, root};
use std::fs;
use std::path::Path;

/// Boots in a row without confirmation after which the system's init is read as a whole before it is trusted.
const SUSPICIOUS: u8 = 3;

fn main() {
    let mut report = Report::default();
    report.stamp("stage1-start");
    if let Err(error) = mounts::early() {
        recovery::enter(&[error.to_string()], Some(30));
    }
    report.stamp("stage1-mounts");
    shout(&format!("kedge: stage 1, version {}\n", kedge_config::VERSION));
    load_modules();
    report.stamp("stage1-modules");
    let disk = match disk::wait() {
        Ok(disk) => disk,
        Err(error) => recovery::enter(&[error.to_string()], Some(30)),
    };
    report.fact("disk", &disk.name);
    report.stamp("stage1-disk");
    boot(&disk, report)
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

fn boot(disk: &Disk, mut report: Report) -> ! {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let forced = SlotName::from_command_line(&command_line);
    let mut book = Book::open(disk);
    report.stamp("stage1-record");
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
                recovery::enter(&reasons, reboot_after)
            }
        };
        let thorough = book.record.slot(name).unconfirmed >= SUSPICIOUS;
        book.record.count_try(name);
        book.keep();
        report.stamp("stage1-counted");
        match mount(disk, name, thorough) {
            Ok(()) => hand_over(name, &mut report, &reasons),
            Err(reason) => {
                say(Level::Error, &format!("slot {name}: {reason}"));
                book.record.condemn(name, &reason);
                book.keep();
                reasons.push(format!("slot {name}: {reason}"));
                failed.push(name);
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

fn mount(disk: &Disk, name: SlotName, thorough: bool) -> Result<(), String> {
    let partition = name.partition();
    let device = disk.device(partition).ok_or_else(|| format!("disk {} has no partition {partition}", disk.name))?;
    root::mount_system(device, thorough).map_err(|error| format!("partition {partition}: {error}"))
}

/// Becomes the system's init. If that fails the root is gone, and a new boot is the only way on: the try was counted.
fn hand_over(name: SlotName, report: &mut Report, reasons: &[String]) -> ! {
    report.fact("slot", &name.to_string());
    reasons.iter().for_each(|reason| report.fact("failed", reason));
    report.stamp("stage1-end");
    if let Err(error) = report.write() {
        say(Level::Warning, &format!("{}: {error}", names::STAGE1_REPORT));
    }
    let error = root::switch(std::env::args_os().skip(1));
    recovery::enter(&[format!("slot {name}: {error}")], Some(30))
}
