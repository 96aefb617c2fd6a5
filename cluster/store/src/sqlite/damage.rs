//! A database that is damaged is set aside whole, and the newest sound snapshot takes its place; an empty one only where there is none.

use std::path::{Path, PathBuf};

use kedge_api::Revision;

use super::database::Database;
use super::snapshot::{anew, replace};
use super::{Options, Sqlite};
use crate::Error;

/// What was found, and what was done.
#[derive(Clone, Debug)]
pub struct Damage {
    /// What is wrong with it.
    pub what: String,
    /// Where it is now.
    pub aside: PathBuf,
    /// What took its place; without it the cluster begins anew.
    pub snapshot: Option<PathBuf>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, aside, snapshot } = self;
        write!(f, "the cluster's database was damaged ({what}) and is now {}; ", aside.display())?;
        match snapshot {
            Some(snapshot) => write!(f, "the cluster is back at the snapshot {}", snapshot.display()),
            None => f.write_str("there was no snapshot to return to: the cluster begins anew"),
        }
    }
}

impl Sqlite {
    /// As [`Sqlite::open`]. `snapshots`, newest first, are asked for only if the database is damaged.
    pub fn open_or_return(
        path: &Path,
        options: Options,
        snapshots: impl FnOnce() -> Vec<PathBuf>,
    ) -> Result<(Self, Option<Damage>), Error> {
        let what = match Self::open(path, options.clone()) {
            Ok(store) => return Ok((store, None)),
            Err(Error::Corrupt { what, .. }) => what,
            Err(error) => return Err(error),
        };
        // What can still be read of it tells how high revisions were; if nothing can, they rise all the same.
        let reserved = Database::open(path.to_owned(), None).and_then(|database| database.reserved());
        let reserved = reserved.unwrap_or(Revision(0));
        for snapshot in snapshots() {
            match replace(&snapshot, path, reserved, "damaged") {
                Ok(aside) => {
                    let aside = aside.unwrap_or_default();
                    return Ok((Self::open(path, options)?, Some(Damage { what, aside, snapshot: Some(snapshot) })));
                }
                Err(error) => {
                    tracing::warn!(snapshot = %snapshot.display(), %error, "a snapshot cannot be returned to")
                }
            }
        }
        let aside = anew(path, reserved)?.unwrap_or_default();
        Ok((Self::open(path, options)?, Some(Damage { what, aside, snapshot: None })))
    }
}
