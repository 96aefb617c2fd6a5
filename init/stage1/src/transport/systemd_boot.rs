//! systemd-boot's entries, see [`kedge_config::boot_entry`]: which files are written, renamed and removed so that a slot is started.
//!
//! Law, tested below for a power cut between any two steps: systemd-boot starts what it would have started before, or what it is asked to.

use super::Step;
use kedge_config::boot_entry::{self, Entry, FOLDER, Kind, LONGEST, Name};
use kedge_config::boot_files::Role;
use kedge_config::slot::SlotName;
use kedge_config::slot_manifest::SlotManifest;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// An entry of ours on the EFI system partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub name: Name,
    /// As it is called there: numbers may have zeros before them.
    file: String,
    text: String,
}

impl Found {
    fn rank(&self) -> u64 {
        boot_entry::rank(&self.text)
    }

    fn path(&self) -> String {
        format!("{FOLDER}/{}", self.file)
    }

    fn remove(&self) -> Step {
        Step::Remove { path: self.path() }
    }

    /// One by which firmware starts the slot of its own accord.
    fn starts(&self, slot: SlotName) -> bool {
        self.name.slot == slot && self.name.kind != Kind::Forced
    }
}

/// All of ours; what others have put there stays unread.
pub fn read(esp: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let folder = match fs::read_dir(esp.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        other => other?,
    };
    for entry in folder {
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let Some(name) = Name::parse(&file) else { continue };
        let mut bytes = Vec::new();
        File::open(entry.path())?.take(LONGEST).read_to_end(&mut bytes)?;
        found.push(Found { name, file, text: String::from_utf8_lossy(&bytes).into_owned() });
    }
    // So that the same is done each time.
    found.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(found)
}

/// What the kernel of `slot` is told, as its boot files have it.
pub fn command_line(esp: &Path, slot: SlotName, manifest: &SlotManifest) -> io::Result<String> {
    let Some(file) = manifest.boot_file(Role::CommandLine) else { return Ok(String::new()) };
    let path = esp.join(boot_entry::slot_folder(slot)).join(&file.path);
    let mut line = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut line)?;
    Ok(line)
}

/// `slot` comes first, `tries` times at most.
pub fn try_next(found: &[Found], slot: SlotName, manifest: &SlotManifest, line: &str, tries: u32) -> Vec<Step> {
    let entry = Entry {
        slot,
        version: &manifest.version,
        rank: above(found, slot.other()),
        files: &manifest.boot,
        command_line: line,
    };
    let name = |kind| Name { slot, kind };
    let write = |name: Name, text| Step::Write { path: path(name), text };
    let (own, forced) = (name(Kind::Counted { left: tries, done: 0 }), name(Kind::Forced));
    let texts = [(forced, entry.text(true)), (own, entry.text(false))];
    let written: Vec<String> =
        texts.iter().filter(|(_, text)| text.is_some()).map(|(name, _)| name.to_string()).collect();
    let writes = texts.into_iter().filter_map(|(name, text)| Some(write(name, text?)));
    let stale = found.iter().filter(|found| found.name.slot == slot && !written.contains(&found.file));
    writes.chain(stale.map(Found::remove)).collect()
}

/// The tries of an entry that is counted are all there again.
pub fn came_up(found: &[Found], slot: SlotName, tries: u32) -> Vec<Step> {
    let full = Name { slot, kind: Kind::Counted { left: tries, done: 0 } };
    let counted = |found: &&Found| found.name.slot == slot && matches!(found.name.kind, Kind::Counted { .. });
    let counted: Vec<&Found> = found.iter().filter(counted).collect();
    match counted.as_slice() {
        [one] if one.name != full => vec![Step::Rename { from: one.path(), to: path(full) }],
        _ => Vec::new(),
    }
}

/// `slot` comes first, and nothing is counted. `None` where it has no entry.
pub fn commit(found: &[Found], slot: SlotName) -> Option<Vec<Step>> {
    let plain = Name { slot, kind: Kind::Plain };
    let rank = above(found, slot.other());
    let best =
        found.iter().filter(|found| found.starts(slot)).max_by_key(|found| (found.rank(), found.name == plain))?;
    let first = if best.rank() < rank {
        Some(Step::Write { path: path(plain), text: boot_entry::with_rank(&best.text, rank) })
    } else {
        (best.name != plain).then(|| Step::Rename { from: best.path(), to: path(plain) })
    };
    let renamed = matches!(first, Some(Step::Rename { .. }));
    let gone = |found: &Found| found.name == plain || (renamed && found.file == best.file);
    let stale = found.iter().filter(|found| found.starts(slot) && !gone(found)).map(Found::remove);
    Some(first.into_iter().chain(stale).collect())
}

/// `slot` has no entry any more.
pub fn remove(found: &[Found], slot: SlotName) -> Vec<Step> {
    found.iter().filter(|found| found.name.slot == slot).map(Found::remove).collect()
}

/// Whether all entries that start `slot` have used up their tries.
pub fn spent(found: &[Found], slot: SlotName) -> bool {
    let mut own = found.iter().filter(|found| found.starts(slot)).peekable();
    own.peek().is_some() && own.all(|found| matches!(found.name.kind, Kind::Counted { left: 0, .. }))
}

/// The rank that comes before all of `slot`.
fn above(found: &[Found], slot: SlotName) -> u64 {
    let ranks = found.iter().filter(|found| found.starts(slot)).map(Found::rank);
    ranks.max().unwrap_or(0).saturating_add(1)
}

fn path(name: Name) -> String {
    format!("{FOLDER}/{name}")
}

#[cfg(test)]
mod tests;
