//! The file: its tables, its settings, and what SQLite's errors mean.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kedge_api::{GroupResource, Key, Object, Revision};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};

use crate::{Draft, Error, Expect, Range, Write, decode};

/// Kept in the file's header; a file of a later layout is refused instead of misread.
const LAYOUT: i64 = 1;
const PAGE: u64 = 4096;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS objects (
        resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, json BLOB NOT NULL,
        PRIMARY KEY (resource, namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS reserved (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL);";

pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

/// Secrets lie in it: a new file is its owner's alone, and SQLite gives its log the same mode. An old one stays as it is.
fn own(path: &Path) -> Result<(), Error> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::Open { path: path.to_owned(), what: error.to_string() })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Database {
    pub(super) fn open(path: PathBuf, max_bytes: Option<u64>) -> Result<Self, Error> {
        let open = |e: rusqlite::Error| match explain(&path, &e) {
            Error::Database { path, what } => Error::Open { path, what },
            other => other,
        };
        own(&path)?;
        let connection = Connection::open(&path).map_err(open)?;
        // EXCLUSIVE: a second process is refused, and WAL needs no shared-memory file. FULL: a commit is on disk when it returns.
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 PRAGMA cache_size = -256; PRAGMA temp_store = MEMORY;",
            )
            .map_err(open)?;
        let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open)?;
        if layout > LAYOUT {
            let what = format!("its layout is version {layout}, but this program knows none after {LAYOUT}");
            return Err(Error::Open { path, what });
        }
        connection.execute_batch(TABLES).map_err(open)?;
        if layout < LAYOUT {
            connection.pragma_update(None, "user_version", LAYOUT).map_err(open)?;
        }
        if let Some(bytes) = max_bytes {
            let pages = i64::try_from(bytes / PAGE).unwrap_or(i64::MAX);
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(open)?;
        }
        Ok(Self { connection, path })
    }

    fn explain(&self, error: &rusqlite::Error) -> Error {
        explain(&self.path, error)
    }

    /// No revision above this was ever handed out.
    pub(super) fn reserved(&self) -> Result<Revision, Error> {
        let read = || -> rusqlite::Result<i64> {
            let reserved = self.connection.query_row("SELECT revision FROM reserved", [], |r| r.get(0)).optional()?;
            let newest: Option<i64> =
                self.connection.query_row("SELECT max(revision) FROM objects", [], |r| r.get(0))?;
            Ok(reserved.unwrap_or(1).max(newest.unwrap_or(1)))
        };
        let revision = read().map_err(|e| self.explain(&e))?;
        self.revision(revision)
    }

    fn revision(&self, number: i64) -> Result<Revision, Error> {
        let what = || format!("it holds the revision {number}");
        u64::try_from(number).map(Revision).map_err(|_| Error::Corrupt { path: self.path.clone(), what: what() })
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
        let sql = "INSERT INTO reserved VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET revision = ?1";
        self.connection
            .prepare_cached(sql)
            .and_then(|mut s| s.execute([number(revision)]))
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
        let sql = "INSERT INTO objects VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (resource, namespace, name) DO UPDATE SET revision = ?4, json = ?5";
        let key = &object.key;
        self.connection
            .prepare_cached(sql)
            .and_then(|mut s| {
                let row = params![key.resource.to_string(), key.namespace, key.name, number(revision), &*object.json];
                s.execute(row)
            })
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

    pub(super) fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, Error> {
        let range = Range::Namespace(key.resource.clone(), key.namespace.clone());
        let found = self.select(&range, Some(&key.name))?;
        Ok(found.into_iter().next())
    }

    pub(super) fn list(&self, range: &Range) -> Result<Vec<Arc<Object>>, Error> {
        self.select(range, None)
    }

    fn select(&self, range: &Range, name: Option<&str>) -> Result<Vec<Arc<Object>>, Error> {
        let (resource, namespace) = match range {
            Range::All => (None, None),
            Range::Resource(resource) => (Some(resource.to_string()), None),
            Range::Namespace(resource, namespace) => (Some(resource.to_string()), Some(&**namespace)),
        };
        let sql = "SELECT resource, namespace, name, revision, json FROM objects
                   WHERE (?1 IS NULL OR resource = ?1) AND (?2 IS NULL OR namespace = ?2) AND (?3 IS NULL OR name = ?3)
                   ORDER BY resource, namespace, name";
        let failed = |e: rusqlite::Error| self.explain(&e);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params![resource, namespace, name]).map_err(failed)?;
        let mut names = Names::default();
        let mut objects = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let text = |at| row.get_ref(at).and_then(|v| v.as_str().map_err(rusqlite::Error::from));
            let key = Key {
                resource: names.resource(text(0).map_err(failed)?),
                namespace: names.namespace(text(1).map_err(failed)?),
                name: text(2).map_err(failed)?.into(),
            };
            let revision = self.revision(row.get(3).map_err(failed)?)?;
            let json = row.get_ref(4).and_then(|v| v.as_blob().map_err(rusqlite::Error::from)).map_err(failed)?;
            let object = decode(key, revision, Bytes::copy_from_slice(json))
                .map_err(|e| Error::Corrupt { path: self.path.clone(), what: e.to_string() })?;
            objects.push(Arc::new(object));
        }
        Ok(objects)
    }
}

/// The same name is held once, however many objects bear it.
#[derive(Default)]
struct Names {
    resources: HashMap<String, GroupResource>,
    namespaces: HashMap<String, Arc<str>>,
}

impl Names {
    fn resource(&mut self, text: &str) -> GroupResource {
        if let Some(known) = self.resources.get(text) {
            return known.clone();
        }
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        let made = GroupResource { group: group.into(), resource: resource.into() };
        self.resources.insert(text.to_owned(), made.clone());
        made
    }

    fn namespace(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.namespaces.get(text) {
            return known.clone();
        }
        let made: Arc<str> = text.into();
        self.namespaces.insert(text.to_owned(), made.clone());
        made
    }
}

/// SQLite's integers are signed; 2^63 revisions are not reached.
fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn explain(path: &std::path::Path, error: &rusqlite::Error) -> Error {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt { path, what: error.to_string() },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Open { path, what: format!("another process holds it ({error})") }
        }
        _ => match error {
            // A value of the wrong type can only come from a damaged page.
            rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
                Error::Corrupt { path, what: error.to_string() }
            }
            _ => Error::Database { path, what: error.to_string() },
        },
    }
}
