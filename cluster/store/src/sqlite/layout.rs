//! The file's tables: their present layout, and the way of a file of an earlier one to it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

/// Kept in the file's header; a file of a later layout is refused instead of misread.
pub(super) const LAYOUT: i64 = 2;

/// `sum` is of the whole row, in `about` of `reserved`. `about` is one row: no revision above `reserved` was ever handed out, and
/// `identity` is this database's alone.
const TABLES: &str = "
    CREATE TABLE objects (
        resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, value BLOB NOT NULL,
        sum INTEGER NOT NULL, PRIMARY KEY (resource, namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE about (
        one INTEGER PRIMARY KEY CHECK (one = 1), reserved INTEGER NOT NULL, identity BLOB NOT NULL, sum INTEGER NOT NULL
    );";

/// From each layout to the next, beginning with the first. A step is made whole or not at all.
type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;
const STEPS: [Step; LAYOUT as usize - 1] = [sums];

#[derive(Debug)]
pub(super) enum RenewError {
    Sqlite(rusqlite::Error),
    /// Made by a later program.
    Later(String),
}

impl From<rusqlite::Error> for RenewError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Makes a file of no or of an earlier layout one of this.
pub(super) fn renew(connection: &Connection, path: &Path) -> Result<(), RenewError> {
    let mut found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > LAYOUT {
        return Err(RenewError::Later(format!(
            "its layout is version {found}, but this program knows none after {LAYOUT}"
        )));
    }
    // The first program made its tables before it said so.
    if found == 0 && connection.table_exists(None, "objects")? {
        found = 1;
    }
    if found == 0 {
        let transaction = connection.unchecked_transaction()?;
        create(&transaction, 1)?;
        transaction.pragma_update(None, "user_version", LAYOUT)?;
        return Ok(transaction.commit()?);
    }
    for (layout, step) in (1..).zip(STEPS).skip_while(|(layout, _)| *layout < found) {
        let transaction = connection.unchecked_transaction()?;
        step(&transaction)?;
        transaction.pragma_update(None, "user_version", layout + 1)?;
        transaction.commit()?;
        tracing::info!(path = %path.display(), layout = layout + 1, "the database has a new layout");
    }
    Ok(())
}

/// Of a row, so that what the disk changed by itself is noticed.
pub(super) fn sum(resource: &str, namespace: &str, name: &str, revision: i64, value: &[u8]) -> i64 {
    let mut sum = 0;
    for text in [resource, namespace, name] {
        sum = crc32c::crc32c_append(sum, text.as_bytes());
        sum = crc32c::crc32c_append(sum, &[0]);
    }
    sum = crc32c::crc32c_append(sum, &revision.to_le_bytes());
    crc32c::crc32c_append(sum, value).into()
}

/// Of the highest revision handed out.
pub(super) fn sum_of_reserved(revision: i64) -> i64 {
    sum("about", "", "", revision, b"")
}

fn create(transaction: &Transaction<'_>, reserved: i64) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    let sql = "INSERT INTO about VALUES (1, ?1, randomblob(16), ?2)";
    transaction.execute(sql, [reserved, sum_of_reserved(reserved)]).map(drop)
}

/// Layout 1 had neither sums nor an identity.
fn sums(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch("ALTER TABLE objects RENAME TO objects_1;")?;
    let reserved = transaction.query_row("SELECT revision FROM reserved", [], |row| row.get(0)).optional()?;
    create(transaction, reserved.unwrap_or(1))?;
    {
        let mut old = transaction.prepare("SELECT resource, namespace, name, revision, json FROM objects_1")?;
        let mut new = transaction.prepare("INSERT INTO objects VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let mut rows = old.query([])?;
        while let Some(row) = rows.next()? {
            let (resource, namespace, name): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (revision, value): (i64, Vec<u8>) = (row.get(3)?, row.get(4)?);
            let sum = sum(&resource, &namespace, &name, revision, &value);
            new.execute(params![resource, namespace, name, revision, value, sum])?;
        }
    }
    transaction.execute_batch("DROP TABLE objects_1; DROP TABLE reserved;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_first_layout_becomes_one_of_this() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE objects (
                    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, json BLOB NOT NULL,
                    PRIMARY KEY (resource, namespace, name)
                 ) WITHOUT ROWID;
                 CREATE TABLE reserved (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL);
                 INSERT INTO reserved VALUES (1, 16400);
                 INSERT INTO objects VALUES ('secrets', 'n', 'a', 17, x'7b7d'), ('nodes', '', 'b', 18, x'7b207d');
                 PRAGMA user_version = 1;",
            )
            .unwrap();
        renew(&connection, Path::new("x")).unwrap();
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("PRAGMA user_version"), LAYOUT);
        assert_eq!(number("SELECT reserved FROM about"), 16400);
        assert_eq!(number("SELECT sum FROM about"), sum_of_reserved(16400));
        assert_eq!(number("SELECT count(*) FROM objects"), 2);
        assert_eq!(number("SELECT sum FROM objects WHERE name = 'a'"), sum("secrets", "n", "a", 17, b"{}"));
        assert_eq!(number("SELECT count(*) FROM sqlite_master WHERE name IN ('objects_1', 'reserved')"), 0);
        renew(&connection, Path::new("x")).unwrap();
        assert_eq!(number("SELECT count(*) FROM objects"), 2);
    }

    #[test]
    fn a_later_layout_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", LAYOUT + 1).unwrap();
        assert!(
            matches!(renew(&connection, Path::new("x")), Err(RenewError::Later(why)) if why.contains("knows none after"))
        );
    }

    #[test]
    fn a_sum_is_of_every_part_and_of_where_it_ends() {
        let of = |r, ns, n, revision, value| sum(r, ns, n, revision, value);
        let all = [
            of("a", "b", "c", 1, b"v"),
            of("ab", "", "c", 1, b"v"),
            of("a", "bc", "", 1, b"v"),
            of("a", "b", "c", 2, b"v"),
            of("a", "b", "c", 1, b"w"),
        ];
        let distinct: std::collections::BTreeSet<i64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
