//! Whether a database is sound: its structure by SQLite's own check, its rows by their sums.

use std::sync::mpsc;
use std::time::Duration;

use kedge_api::Revision;
use rusqlite::ErrorCode;

use super::database::Database;
use super::layout::LAYOUT;
use crate::{Error, Range};

/// How thoroughly the structure is looked at. Rows are always all read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// No longer than this, and without indexes: what a start can afford.
    Within(Duration),
    Whole,
}

/// What is in a sound database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Of the newest object.
    pub revision: Revision,
    pub objects: u64,
    /// Objects that lie there encrypted.
    pub encrypted: u64,
    /// Of objects as they are stored.
    pub bytes: u64,
    pub layout: i64,
    /// Whether the structure was looked at to the end.
    pub whole: bool,
}

impl Database {
    pub(super) fn check(&self, depth: Depth) -> Result<Summary, Error> {
        let whole = self.check_structure(depth)?;
        let mut summary = Summary { revision: Revision(0), objects: 0, encrypted: 0, bytes: 0, layout: LAYOUT, whole };
        self.rows(&Range::All, |row| {
            summary.revision = summary.revision.max(self.revision(row.revision)?);
            summary.objects += 1;
            summary.encrypted += u64::from(row.value.starts_with(kedge_encrypt::ENCRYPTED));
            summary.bytes += row.value.len() as u64;
            Ok(())
        })?;
        Ok(summary)
    }

    /// False if the time was over before the end.
    fn check_structure(&self, depth: Depth) -> Result<bool, Error> {
        let (sql, limit) = match depth {
            Depth::Within(limit) => ("PRAGMA quick_check(1)", Some(limit)),
            Depth::Whole => ("PRAGMA integrity_check(1)", None),
        };
        let handle = self.connection().get_interrupt_handle();
        let (done, ended) = mpsc::channel::<()>();
        let found = std::thread::scope(|scope| {
            if let Some(limit) = limit {
                scope.spawn(move || {
                    if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                        handle.interrupt();
                    }
                });
            }
            let found = self.connection().query_row(sql, [], |row| row.get::<_, String>(0));
            drop(done);
            found
        });
        match found {
            Ok(text) if text == "ok" => Ok(true),
            Ok(text) => Err(Error::Corrupt { path: self.path().to_owned(), what: text }),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(false),
            Err(error) => Err(self.explain(&error)),
        }
    }
}
