//! What is remembered of upgrades, on STATE: it is read by the system that began one, by the one that is tried, and by the one that is
//! left when that did not go well. So fields are only ever added.

use super::wish::{Gate, Named};
use crate::kept::Folder;
use kedge_config::slot::{Record, SlotName, Verdict};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Below STATE.
const FOLDER: &str = "upgrade";
const BOOK: &str = "book.json";
/// Upgrades that are remembered: the digests that failed here are among them.
const MOST: usize = 32;

/// Where in the machine's life something is: a boot of its kernel.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// Lies whole in the slot that does not run.
    #[serde(default)]
    pub installed: Option<Installed>,
    #[serde(default)]
    pub trial: Option<Trial>,
    /// The oldest first.
    #[serde(default)]
    pub ended: Vec<Ended>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    pub wish: Named,
    /// Of its slot manifest.
    pub digest: String,
    pub version: String,
    pub slot: Slot,
    /// RFC 3339.
    pub started: String,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub system: Installed,
    pub gate: Gate,
    /// The boot in which it was decided.
    pub boot_id: String,
    /// Starts that it has come through.
    #[serde(default)]
    pub passed: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub wish: Named,
    /// `None` where it was never known what it is.
    pub digest: Option<String>,
    pub version: Option<String>,
    pub outcome: Outcome,
    /// It was started: what became of it is the system's own doing, and not that of a server or of a file that was cut off.
    #[serde(default)]
    pub tried: bool,
    pub why: String,
    pub started: String,
    pub finished: String,
    #[serde(default)]
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Committed,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    A,
    B,
}

impl From<SlotName> for Slot {
    fn from(name: SlotName) -> Self {
        match name {
            SlotName::A => Self::A,
            SlotName::B => Self::B,
        }
    }
}

impl From<Slot> for SlotName {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::A => Self::A,
            Slot::B => Self::B,
        }
    }
}

/// The folder on STATE.
pub struct Books(Folder);

impl Books {
    pub fn at(state: &Path) -> Self {
        Self(Folder::new(state.join(FOLDER)))
    }

    /// One that cannot be read is as one that is lost: what lies in the slots is known without it.
    pub fn read(&self) -> Book {
        self.0
            .read(BOOK)
            .unwrap_or_else(|error| {
                tracing::error!("what was remembered of upgrades is lost: {error:#}");
                None
            })
            .unwrap_or_default()
    }

    pub fn write(&self, book: &Book) -> anyhow::Result<()> {
        self.0.write(BOOK, book)
    }
}

/// What a trial has come to, as this start of the machine finds it.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Nothing,
    /// This system is the one that is tried.
    OnTrial,
    /// It was decided in this boot, and the machine has not gone down yet.
    Leaving,
    /// Power failed before the slot record was told: as if it had not been decided.
    NotBegun,
    Over(Outcome, String),
}

impl Book {
    /// `own` is this system's slot, `refused` what stage 1 said of the other.
    pub fn found(&self, record: &Record, own: SlotName, boot_id: &str, refused: &str) -> Found {
        let Some(trial) = &self.trial else { return Found::Nothing };
        let name = SlotName::from(trial.system.slot);
        let slot = record.slot(name);
        match slot.verdict {
            Verdict::Good if name == own => Found::Over(Outcome::Committed, String::new()),
            Verdict::Trial if name == own => Found::OnTrial,
            Verdict::Trial if boot_id == trial.boot_id => Found::Leaving,
            Verdict::Empty => Found::NotBegun,
            Verdict::Bad if !slot.note.is_empty() => Found::Over(Outcome::Failed, slot.note.clone()),
            Verdict::Trial if slot.tries > 0 && !refused.is_empty() => Found::Over(Outcome::Failed, refused.to_owned()),
            Verdict::Trial if slot.tries > 0 => {
                Found::Over(Outcome::Failed, "the machine was started with the old system instead".into())
            }
            Verdict::Trial | Verdict::Bad => Found::Over(
                Outcome::Failed,
                "it was started and did not come to the end of its trial: it hung, crashed, or power failed".into(),
            ),
            Verdict::Good => Found::Over(Outcome::Failed, "the machine went back to the old system".into()),
        }
    }

    /// The trial is over; nothing lies ready any more.
    pub fn end(&mut self, outcome: Outcome, why: &str, now: &str) {
        self.installed = None;
        if let Some(Trial { system, .. }) = self.trial.take() {
            self.note(Ended {
                wish: system.wish,
                digest: Some(system.digest),
                version: Some(system.version),
                outcome,
                tried: true,
                why: why.to_owned(),
                started: system.started,
                finished: now.to_owned(),
                bytes: system.bytes,
            });
        }
    }

    pub fn note(&mut self, ended: Ended) {
        // What is told of a wish is what became of it last.
        self.ended.retain(|old| old.wish != ended.wish || old.digest != ended.digest);
        self.ended.push(ended);
        let surplus = self.ended.len().saturating_sub(MOST);
        self.ended.drain(..surplus);
    }

    pub fn of(&self, wish: &Named) -> Option<&Ended> {
        self.ended.iter().rev().find(|ended| ended.wish == *wish)
    }

    /// Why what has this digest is not tried again, unless it is asked for by a new attempt.
    pub fn failed(&self, digest: &str, attempt: u32) -> Option<&Ended> {
        let newest = self.ended.iter().rev().find(|ended| ended.tried && ended.digest.as_deref() == Some(digest))?;
        (newest.outcome == Outcome::Failed && attempt <= newest.wish.attempt).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(attempt: u32) -> Named {
        Named { source: "https://a/b".into(), digest: None, attempt }
    }

    fn trial() -> Trial {
        let system = Installed {
            wish: named(0),
            digest: "d".into(),
            version: "2".into(),
            slot: Slot::B,
            started: "s".into(),
            bytes: 7,
        };
        Trial { system, gate: Gate::default(), boot_id: "old".into(), passed: 0 }
    }

    fn book() -> Book {
        Book { trial: Some(trial()), ..Book::default() }
    }

    /// Each state of the slot record that a trial may leave behind, and what it means.
    #[test]
    fn what_became_of_a_trial_is_seen_at_the_next_start() {
        let mut record = Record::fresh();
        let found = |record: &Record, own, boot_id, refused| book().found(record, own, boot_id, refused);
        assert_eq!(Book::default().found(&record, SlotName::A, "new", ""), Found::Nothing);
        assert_eq!(found(&record, SlotName::A, "new", ""), Found::NotBegun);
        record.put_on_trial(SlotName::B, 1);
        assert_eq!(found(&record, SlotName::A, "old", ""), Found::Leaving);
        let Found::Over(Outcome::Failed, why) = found(&record, SlotName::A, "new", "slot b: another kernel") else {
            panic!()
        };
        assert_eq!(why, "slot b: another kernel");
        record.count_try(SlotName::B);
        assert_eq!(found(&record, SlotName::B, "new", ""), Found::OnTrial);
        // It hung: the old system finds this.
        let Found::Over(Outcome::Failed, why) = found(&record, SlotName::A, "newer", "") else { panic!() };
        assert!(why.contains("did not come to the end"), "{why}");
        let mut bad = record.clone();
        bad.condemn(SlotName::B, "the node is not Ready");
        assert_eq!(
            found(&bad, SlotName::A, "newer", "x"),
            Found::Over(Outcome::Failed, "the node is not Ready".into())
        );
        record.confirm(SlotName::B, 0);
        assert_eq!(found(&record, SlotName::B, "new", ""), Found::Over(Outcome::Committed, String::new()));
        assert!(matches!(found(&record, SlotName::A, "new", ""), Found::Over(Outcome::Failed, _)));
    }

    #[test]
    fn what_failed_is_remembered_until_somebody_asks_again() {
        let mut book = book();
        book.end(Outcome::Failed, "why", "now");
        assert_eq!((book.trial.is_none(), book.of(&named(0)).unwrap().why.as_str()), (true, "why"));
        assert!(book.failed("d", 0).is_some() && book.failed("e", 0).is_none() && book.failed("d", 1).is_none());
        // A file that is damaged says nothing of the system that it should have been.
        let damaged = Ended { tried: false, digest: Some("e".into()), ..book.ended[0].clone() };
        book.note(damaged);
        assert!(book.failed("e", 0).is_none() && book.failed("d", 0).is_some());
        book.trial = Some(Trial { system: Installed { wish: named(1), ..trial().system }, ..trial() });
        book.end(Outcome::Committed, "", "later");
        assert!(book.failed("d", 0).is_none());
        assert_eq!(book.of(&named(1)).unwrap().outcome, Outcome::Committed);
    }

    #[test]
    fn a_book_is_bounded_and_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let books = Books::at(folder.path());
        assert_eq!(books.read(), Book::default());
        let mut book = book();
        for n in 0..100 {
            book.trial = Some(Trial {
                system: Installed { wish: named(n), digest: n.to_string(), ..trial().system },
                ..trial()
            });
            book.end(Outcome::Failed, "w", "n");
        }
        book.trial = Some(trial());
        assert_eq!((book.ended.len(), book.ended[0].wish.attempt), (MOST, 68));
        books.write(&book).unwrap();
        assert_eq!(books.read(), book);
        std::fs::write(folder.path().join(FOLDER).join(BOOK), "{").unwrap();
        assert_eq!(books.read(), Book::default());
    }
}
