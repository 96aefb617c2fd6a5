//! Snapshots: whole databases as of one revision, each a file of its own, to be kept elsewhere and returned to.
//!
//! ```text
//! Writer ── VACUUM INTO ─▶ NAME.partial ── checked, synced, renamed ─▶ NAME          (copy, finish)
//! NAME ── copied, its revisions raised ─▶ DATABASE.partial ── the old one linked aside ── renamed ─▶ DATABASE          (restore)
//! ```
//! A database that was returned to goes on far above every revision that its successor may have handed out: no watcher sees one twice.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kedge_api::Revision;
use rusqlite::params;

use super::check::{Depth, Summary};
use super::database::{Database, own};
use crate::Error;

/// By how much revisions rise at a restore: more than are handed out between two snapshots, as etcd's `--bump-revision` is advised.
const BUMP: u64 = 1_000_000_000;
/// What SQLite keeps beside a database.
const BESIDE: [&str; 2] = ["-wal", "-journal"];

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull => Error::Full { path: path.to_owned() },
        _ => Error::Database { path: path.to_owned(), what: error.to_string() },
    }
}

impl Database {
    /// Writes everything to `to`, a new file; neither checked nor on the medium yet, which is for [`finish`], elsewhere.
    pub(super) fn copy(&self, to: &Path) -> Result<(), Error> {
        // SQLite takes an empty file for a new one; so its mode is ours to say.
        let _old = fs::remove_file(to);
        drop(own(to)?);
        let what = || "the path is not valid UTF-8".to_owned();
        let path = to.to_str().ok_or_else(|| Error::Open { path: to.to_owned(), what: what() })?;
        let written = self.connection().execute("VACUUM INTO ?1", params![path]);
        written.map(drop).map_err(|error| match self.explain(&error) {
            Error::Full { .. } => Error::Full { path: to.to_owned() },
            other => other,
        })
    }
}

/// The name of a snapshot while it is made.
pub(super) fn partial(to: &Path) -> PathBuf {
    beside(to, ".partial")
}

/// Makes a copy a snapshot: sound, on the medium, and only then under its name.
pub(super) fn finish(to: &Path) -> Result<Summary, Error> {
    let partial = partial(to);
    let finished = inspect(&partial).and_then(|summary| sync_and_rename(&partial, to).map(|()| summary));
    if finished.is_err() {
        let _gone = fs::remove_file(&partial);
    }
    finished
}

/// What a snapshot holds, if it is sound: all of it is read.
pub fn inspect(snapshot: &Path) -> Result<Summary, Error> {
    Database::look(snapshot)?.check(Depth::Whole)
}

/// Puts `snapshot` in the place of `database`, which nobody may have open. What was there is set aside and named in the answer.
pub fn restore(snapshot: &Path, database: &Path) -> Result<Option<PathBuf>, Error> {
    let reserved = match fs::exists(database) {
        Ok(true) => hold(database)?,
        Ok(false) | Err(_) => Revision(0),
    };
    replace(snapshot, database, reserved, "replaced")
}

/// The highest revision that `database` may have handed out, 0 if it is too damaged to tell. Refused while another process has it open.
fn hold(database: &Path) -> Result<Revision, Error> {
    match Database::open(database.to_owned(), None).and_then(|database| database.reserved()) {
        Err(error @ (Error::Open { .. } | Error::Full { .. })) => Err(error),
        Ok(revision) => Ok(revision),
        Err(_) => Ok(Revision(0)),
    }
}

/// As [`restore`], of a database that no one holds; `reserved` is the highest revision known to have been handed out.
pub(super) fn replace(
    snapshot: &Path,
    database: &Path,
    reserved: Revision,
    why: &str,
) -> Result<Option<PathBuf>, Error> {
    inspect(snapshot)?;
    let partial = partial(database);
    let _old = fs::remove_file(&partial);
    let mut copy = own(&partial)?;
    io::copy(&mut File::open(snapshot).map_err(failed(snapshot))?, &mut copy).map_err(failed(&partial))?;
    drop(copy);
    raise(&partial, reserved, BUMP)?;
    let aside = set_aside(database, why)?;
    sync_and_rename(&partial, database)?;
    Ok(aside)
}

/// An empty database in the place of what is at `database`, with revisions above `reserved`.
pub(super) fn anew(database: &Path, reserved: Revision) -> Result<Option<PathBuf>, Error> {
    let partial = empty(database, reserved, BUMP)?;
    let aside = set_aside(database, "damaged")?;
    sync_and_rename(&partial, database)?;
    Ok(aside)
}

/// The first database: there is no moment in which it is half there.
pub(super) fn create(database: &Path) -> Result<(), Error> {
    let partial = empty(database, Revision(1), 0)?;
    sync_and_rename(&partial, database)
}

fn empty(database: &Path, reserved: Revision, by: u64) -> Result<PathBuf, Error> {
    let partial = partial(database);
    let _old = fs::remove_file(&partial);
    drop(own(&partial)?);
    raise(&partial, reserved, by)?;
    Ok(partial)
}

/// Makes the database at `path` one of its own: its revisions go on by `by` above its own and `reserved`.
fn raise(path: &Path, reserved: Revision, by: u64) -> Result<(), Error> {
    let raised = Database::create(path.to_owned(), None)?;
    raised.reserve(Revision(raised.reserved()?.max(reserved).0 + by))?;
    let renewed = raised.connection().execute("UPDATE about SET identity = randomblob(16)", []);
    renewed.map_err(|e| raised.explain(&e))?;
    // Back to one file.
    raised.connection().pragma_update(None, "journal_mode", "DELETE").map_err(|e| raised.explain(&e))
}

/// Gives what is at `path` another name beside it. `path` itself stays until it is replaced: there is no moment without a database.
fn set_aside(path: &Path, why: &str) -> Result<Option<PathBuf>, Error> {
    if !fs::exists(path).map_err(failed(path))? {
        return Ok(None);
    }
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let free = |aside: &PathBuf| fs::symlink_metadata(aside).is_err();
    let names = (0_u32..).map(|n| if n == 0 { String::new() } else { format!(".{n}") });
    let aside = names.map(|n| beside(path, &format!(".{why}-{time}{n}"))).find(free).unwrap_or_default();
    // What is beside goes first: it must never be taken for the successor's.
    for suffix in BESIDE {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    // A file system without links loses the moment, not the file.
    fs::hard_link(path, &aside).or_else(|_| fs::rename(path, &aside)).map_err(failed(&aside))?;
    Ok(Some(aside))
}

fn sync_and_rename(from: &Path, to: &Path) -> Result<(), Error> {
    File::open(from).and_then(|file| file.sync_all()).map_err(failed(from))?;
    fs::rename(from, to).map_err(failed(to))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))
}
