//! The slot that this system was started from, and what init says of it in the slot record. What that means is decided in
//! `kedge_config::slot`.

use anyhow::Context;
use kedge_config::names;
use kedge_config::slot::{Record, SlotName};
use kedge_stage1::disk::Disk;
use kedge_stage1::meta::Meta;
use kedge_stage1::report;
use std::fs;
use std::path::Path;

/// This system works.
pub fn confirm(disk: Option<&Disk>) -> anyhow::Result<()> {
    let index = rollback_index(&report());
    change(disk, "is confirmed", |record, name| {
        let needed = record.needs_confirmation(name, index);
        if needed {
            record.confirm(name, index);
        }
        needed
    })
}

/// The machine ends on somebody's word: the boot does not count against the system.
pub fn excuse(disk: Option<&Disk>) -> anyhow::Result<()> {
    change(disk, "ends on request before it was confirmed, which is not counted", Record::excuse)
}

/// The record as it stands.
pub fn record(disk: Option<&Disk>) -> anyhow::Result<Record> {
    Ok(Meta::open(device(disk)?)?.read()?)
}

/// Writes what `change` makes of it.
pub fn change_record(disk: Option<&Disk>, change: impl FnOnce(&mut Record)) -> anyhow::Result<()> {
    let meta = Meta::open(device(disk)?)?;
    let mut record = meta.read()?;
    change(&mut record);
    Ok(meta.write(&mut record)?)
}

/// The slot that this system was started from, if stage 1 started it.
pub fn booted() -> Option<SlotName> {
    own(&report())
}

/// What the system that was started is called; as its program, where stage 1 does not say.
pub fn version() -> String {
    let report = report();
    let mut said = report::parse(&report).filter(|(fact, _)| *fact == report::VERSION);
    said.next().map_or_else(|| kedge_config::VERSION.to_owned(), |(_, version)| version.to_owned())
}

/// What stage 1 has against the slot, if it tried it in this boot.
pub fn refusal(name: SlotName) -> String {
    let about = format!("slot {name} ");
    let report = report();
    let mut said = report::parse(&report).filter(|(fact, why)| *fact == "failed" && why.starts_with(&about));
    said.next().map(|(_, why)| why.to_owned()).unwrap_or_default()
}

fn report() -> String {
    fs::read_to_string(names::STAGE1_REPORT).unwrap_or_default()
}

fn device(disk: Option<&Disk>) -> anyhow::Result<&Path> {
    disk.and_then(|disk| disk.device(names::META.name)).context("no META partition")
}

fn change(disk: Option<&Disk>, told: &str, decide: impl Fn(&mut Record, SlotName) -> bool) -> anyhow::Result<()> {
    // Without a slot it was not stage 1 that started this system.
    let Some(name) = booted() else { return Ok(()) };
    if rewrite(device(disk)?, name, decide)? {
        tracing::info!(slot = %name, "the slot's system {told}");
    }
    Ok(())
}

/// Writes META only where `decide` changed something: a system that is good and was confirmed costs nothing.
fn rewrite(device: &Path, name: SlotName, decide: impl Fn(&mut Record, SlotName) -> bool) -> anyhow::Result<bool> {
    let meta = Meta::open(device)?;
    let mut record = meta.read()?;
    let changed = decide(&mut record, name);
    if changed {
        meta.write(&mut record)?;
    }
    Ok(changed)
}

/// That of this system, as stage 1 found it in the signed manifest.
fn rollback_index(stage1: &str) -> u64 {
    let fact = report::parse(stage1).find_map(|(name, value)| (name == report::ROLLBACK_INDEX).then_some(value));
    fact.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The slot that stage 1 reported.
fn own(stage1: &str) -> Option<SlotName> {
    let slot = report::parse(stage1).find_map(|(name, value)| (name == "slot").then_some(value))?;
    SlotName::ALL.into_iter().find(|name| name.to_string() == slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_what_stage_1_says() {
        assert_eq!(own("time.stage1-start 5\nslot b\ndisk vda\n"), Some(SlotName::B));
        assert_eq!(own("slot c\n"), None);
        assert_eq!(own(""), None);
        assert_eq!(rollback_index("slot b\nrollback-index 7\n"), 7);
        assert_eq!(rollback_index("slot b\n"), 0);
    }

    #[test]
    fn the_partition_is_written_only_where_something_changes() {
        let partition = tempfile::NamedTempFile::new().unwrap();
        partition.as_file().set_len(1 << 20).unwrap();
        let meta = Meta::open(partition.path()).unwrap();
        let mut record = Record::fresh();
        record.put_on_trial(SlotName::B, 2);
        record.count_try(SlotName::B);
        meta.write(&mut record).unwrap();

        assert!(rewrite(partition.path(), SlotName::B, Record::excuse).unwrap());
        let excused = meta.read().unwrap();
        assert_eq!((excused.b.tries, excused.b.unconfirmed), (2, 0));
        assert_eq!(excused.generation, record.generation + 1);

        assert!(!rewrite(partition.path(), SlotName::B, Record::excuse).unwrap());
        assert_eq!(meta.read().unwrap(), excused);
    }
}
