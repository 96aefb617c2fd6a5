//! The file: how it is opened, how rows are written, and what SQLite's errors mean.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kedge_api::{Key, Object, Revision};
use kedge_encrypt::Keys;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use super::layout::{self, sum, sum_of_reserved};
use crate::{Draft, Error, Expect, Write, place};

const PAGE: u64 = 4096;
/// That SQLite knows.
const SMALLEST_PAGE: u64 = 512;

pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    /// By which values are written and read.
    keys: Arc<Keys>,
}

/// An empty file for its owner alone, since Secrets are to lie in it; SQLite gives its log the same mode.
pub(super) fn own(path: &Path) -> Result<File, Error> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| Error::Open { path: path.to_owned(), what: error.to_string() })
}

impl Database {
    /// Opens what is there; checks nothing but that it is a database of a layout that is known, and makes an older one the newest.
    pub(super) fn open(path: PathBuf, max_bytes: Option<u64>) -> Result<Self, Error> {
        // SQLite would take a file without a page for a new database; ours come to be whole.
        if std::fs::metadata(&path).is_ok_and(|found| found.len() < SMALLEST_PAGE) {
            return Err(Error::Corrupt { path, what: "the file is cut off within its first page".to_owned() });
        }
        Self::create(path, max_bytes)
    }

    /// The same, where an empty file may become one.
    pub(super) fn create(path: PathBuf, max_bytes: Option<u64>) -> Result<Self, Error> {
        let open = |e: rusqlite::Error| match explain(&path, &e) {
            Error::Database { path, what } => Error::Open { path, what },
            other => other,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(open)?;
        // EXCLUSIVE: a second process is refused, and WAL needs no shared-memory file. FULL: a commit is on disk when it returns.
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 PRAGMA cache_size = -256; PRAGMA temp_store = MEMORY;",
            )
            .map_err(open)?;
        layout::renew(&connection, &path).map_err(|error| match error {
            layout::RenewError::Sqlite(error) => open(error),
            layout::RenewError::Later(what) => Error::Open { path: path.clone(), what },
        })?;
        if let Some(bytes) = max_bytes {
            let pages = i64::try_from(bytes / PAGE).unwrap_or(i64::MAX);
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(open)?;
        }
        Ok(Self { connection, path, keys: Arc::default() })
    }

    pub(super) fn with_keys(self, keys: Arc<Keys>) -> Self {
        Self { keys, ..self }
    }

    /// Opens a file that nobody uses, to look at it.
    pub(super) fn look(path: &Path) -> Result<Self, Error> {
        let failed = |e: rusqlite::Error| explain(path, &e);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if layout != layout::LAYOUT {
            let what = format!("its layout is version {layout}, this program's is {}", layout::LAYOUT);
            return Err(Error::Open { path: path.to_owned(), what });
        }
        Ok(Self { connection, path: path.to_owned(), keys: Arc::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn explain(&self, error: &rusqlite::Error) -> Error {
        explain(&self.path, error)
    }

    /// No revision above this was ever handed out.
    pub(super) fn reserved(&self) -> Result<Revision, Error> {
        let about = "SELECT reserved, sum FROM about";
        let read = || -> rusqlite::Result<(i64, i64, Option<i64>)> {
            let (reserved, noted) = self.connection.query_row(about, [], |r| Ok((r.get(0)?, r.get(1)?)))?;
            let newest = self.connection.query_row("SELECT max(revision) FROM objects", [], |r| r.get(0))?;
            Ok((reserved, noted, newest))
        };
        let (reserved, noted, newest) = read().map_err(|e| self.explain(&e))?;
        if noted != sum_of_reserved(reserved) {
            return Err(self.corrupt("the sum of its highest revision is wrong".to_owned()));
        }
        self.revision(reserved.max(newest.unwrap_or(1)))
    }

    /// What tells this database from any other, and from itself before a restore.
    pub(super) fn identity(&self) -> Result<String, Error> {
        let sql = "SELECT hex(identity) FROM about";
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(|e| self.explain(&e))
    }

    pub(super) fn revision(&self, number: i64) -> Result<Revision, Error> {
        let what = || format!("it holds the revision {number}");
        u64::try_from(number).map(Revision).map_err(|_| self.corrupt(what()))
    }

    pub(super) fn begin(&self) -> Result<(), Error> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| self.explain(&e))
    }

    pub(super) fn finish(&self) -> Result<(), Error> {
        self.connection.execute_batch("COMMIT").map_err(|e| self.explain(&e))
    }

    /// Safe to call whether or not SQLite already rolled back by itself.
    pub(super) fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(path = %self.path.display(), %error, "rolling back");
        }
    }

    pub(super) fn reserve(&self, revision: Revision) -> Result<(), Error> {
        let sql = "UPDATE about SET reserved = ?1, sum = ?2";
        let revision = number(revision);
        self.connection
            .prepare_cached(sql)
            .and_then(|mut s| s.execute([revision, sum_of_reserved(revision)]))
            .map(drop)
            .map_err(|e| self.explain(&e))
    }

    /// The outer error is the database's and ends the transaction; the inner one is the writer's own.
    pub(super) fn apply(
        &self,
        expect: Expect,
        write: &Write,
        revision: Revision,
    ) -> Result<Result<Option<Arc<Object>>, Error>, Error> {
        let key = write.key();
        let found = self.revision_of(key)?;
        if !expect.holds(found) {
            return Ok(Err(Error::Conflict { key: key.clone(), expect, found }));
        }
        if found.is_some() {
            self.owe_for(key)?;
        }
        match write {
            Write::Put(draft) => self.put(draft, revision).map(Some),
            Write::Delete(key) => self.delete(key).map(|()| None),
        }
        .map(Ok)
    }

    fn revision_of(&self, key: &Key) -> Result<Option<Revision>, Error> {
        let sql = "SELECT revision FROM objects WHERE resource = ?1 AND namespace = ?2 AND name = ?3";
        let read = || -> rusqlite::Result<Option<i64>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row(params![key.resource.to_string(), key.namespace, key.name], |r| r.get(0)).optional()
        };
        let found = read().map_err(|e| self.explain(&e))?;
        found.map(|n| self.revision(n)).transpose()
    }

    fn put(&self, draft: &Draft, revision: Revision) -> Result<Arc<Object>, Error> {
        let object = draft.stamp(revision);
        let sql = "INSERT INTO objects VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT (resource, namespace, name) DO UPDATE SET revision = ?4, value = ?5, sum = ?6";
        let key = &object.key;
        let (resource, revision) = (key.resource.to_string(), number(revision));
        let place = place(key);
        let value = self.keys.seal(&key.resource, &place, &object.json);
        let value = value.map_err(|error| Error::Seal { place, why: error.to_string() })?;
        let sum = sum(&resource, &key.namespace, &key.name, revision, &value);
        self.connection
            .prepare_cached(sql)
            .and_then(|mut s| s.execute(params![resource, key.namespace, key.name, revision, &*value, sum]))
            .map_err(|e| self.explain(&e))?;
        Ok(object)
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        let sql = "DELETE FROM objects WHERE resource = ?1 AND namespace = ?2 AND name = ?3";
        self.connection
            .prepare_cached(sql)
            .and_then(|mut s| s.execute(params![key.resource.to_string(), key.namespace, key.name]))
            .map(drop)
            .map_err(|e| self.explain(&e))
    }

    pub(super) fn corrupt(&self, what: String) -> Error {
        Error::Corrupt { path: self.path.clone(), what }
    }
}

/// SQLite's integers are signed; 2^63 revisions are not reached.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full { path },
        // Our SQL is always the same: what SQLite does not understand of it (`Unknown`) is the file's doing.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
            Error::Corrupt { path, what: error.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Open { path, what: format!("another process holds it ({error})") }
        }
        _ => match error {
            // A value of the wrong type, or a row that is not there, can only come from a damaged page.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::QueryReturnedNoRows => Error::Corrupt { path, what: error.to_string() },
            _ => Error::Database { path, what: error.to_string() },
        },
    }
}
