//! Values that lie otherwise than they would be written today: after a key was rotated, or encryption was turned on or off.
//!
//! ```text
//! Store::reseal ─▶ reseal(after) ─▶ reseal(after) ─▶ … ─▶ scrub: the file and its log hold nothing of what was
//! ```
//! Objects stay as they are, revisions included: nobody who watches them has anything to see. Whatever is replaced in an old form, here or
//! by a client, is owed a scrub; that is written in the same transaction, so that no end of the process forgets it.

use kedge_api::Key;
use rusqlite::params;

use super::database::Database;
use super::layout::sum;
use super::rows::Names;
use crate::{Error, Unreadable, place};

/// Rows in one transaction at most: what others wait for.
const ROWS: i64 = 256;

/// The last row that was looked at: resource, namespace, name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct After(String, String, String);

#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) rewritten: u64,
    pub(super) unreadable: Vec<Unreadable>,
    /// Where to go on; `None` at the end.
    pub(super) next: Option<After>,
}

impl Database {
    /// Writes the next rows after `after` anew, where they are to lie otherwise.
    pub(super) fn reseal(&self, after: &After) -> Result<Step, Error> {
        self.begin()?;
        let done = self.reseal_some(after).and_then(|step| self.finish().map(|()| step));
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    fn reseal_some(&self, After(resource, namespace, name): &After) -> Result<Step, Error> {
        let sql = "SELECT resource, namespace, name, revision, value, sum FROM objects
                   WHERE (resource, namespace, name) > (?1, ?2, ?3) ORDER BY resource, namespace, name LIMIT ?4";
        let (mut names, mut step) = (Names::default(), Step::default());
        let (mut seen, mut stale) = (0, Vec::new());
        self.rows_of(sql, params![resource, namespace, name, ROWS], |row| {
            seen += 1;
            step.next = Some(After(row.resource.to_owned(), row.namespace.to_owned(), row.name.to_owned()));
            let key = names.key(&row);
            match self.keys().open(&key.resource, &place(&key), row.value) {
                Ok(opened) if opened.stale => stale.push(key),
                Ok(_) => {}
                Err(error) => step.unreadable.push(Unreadable::new(key, row.value, &error)),
            }
            Ok(())
        })?;
        step.rewritten = stale.len() as u64;
        for key in stale {
            self.rewrite(&key)?;
        }
        step.next = step.next.filter(|_| seen == ROWS);
        Ok(step)
    }

    fn rewrite(&self, key: &Key) -> Result<(), Error> {
        let (resource, place) = (key.resource.to_string(), place(key));
        let unsealed = |error: kedge_encrypt::Error| Error::Seal { place: place.clone(), why: error.to_string() };
        let mut anew = None;
        self.row(key, |row| {
            let opened = self.keys().open(&key.resource, &place, row.value).map_err(unsealed)?;
            let value = self.keys().seal(&key.resource, &place, &opened.plain).map_err(unsealed)?.into_owned();
            anew = Some((sum(row.resource, row.namespace, row.name, row.revision, &value), value));
            Ok(())
        })?;
        let Some((sum, value)) = anew else { return Ok(()) };
        self.owe_scrub()?;
        let sql = "UPDATE objects SET value = ?4, sum = ?5 WHERE resource = ?1 AND namespace = ?2 AND name = ?3";
        self.connection()
            .prepare_cached(sql)
            .and_then(|mut s| s.execute(params![resource, key.namespace, key.name, value, sum]))
            .map(drop)
            .map_err(|e| self.explain(&e))
    }

    /// Before an object is replaced or deleted: whether how it lay is to leave no trace.
    pub(super) fn owe_for(&self, key: &Key) -> Result<(), Error> {
        if !self.keys().concern(&key.resource) {
            return Ok(());
        }
        let mut stale = false;
        self.row(key, |row| {
            stale = self.keys().open(&key.resource, &place(key), row.value).is_ok_and(|opened| opened.stale);
            Ok(())
        })?;
        if stale { self.owe_scrub() } else { Ok(()) }
    }

    fn owe_scrub(&self) -> Result<(), Error> {
        let noted = self.connection().execute_batch("CREATE TABLE IF NOT EXISTS unscrubbed (yes)");
        noted.map_err(|e| self.explain(&e))
    }

    /// SQLite leaves what was replaced in free pages and in the log until it needs their room: now it does, if that is owed. The log goes in
    /// any case: a process that was killed leaves in it what it had begun to write, and no note of that.
    pub(super) fn scrub(&self) -> Result<(), Error> {
        let scrubbed = self.connection().table_exists(None, "unscrubbed").and_then(|owed| {
            const LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE);";
            const ALL: &str = "VACUUM; PRAGMA wal_checkpoint(TRUNCATE); DROP TABLE unscrubbed;";
            self.connection().execute_batch(if owed { ALL } else { LOG })
        });
        scrubbed.map_err(|e| self.explain(&e))
    }
}
