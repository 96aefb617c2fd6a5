//! Rows, as they are read: each one against its sum, and most of them into objects.

use std::collections::HashMap;
use std::sync::Arc;

use kedge_api::{GroupResource, Key, Object};
use kedge_encrypt::ENCRYPTED;
use rusqlite::{Params, params};

use super::database::Database;
use super::layout::sum;
use crate::{Error, Range, Unreadable, decode, place};

/// What rows hold.
#[derive(Default)]
pub(super) struct Found {
    pub(super) objects: Vec<Arc<Object>>,
    pub(super) unreadable: Vec<Unreadable>,
}

impl Found {
    fn add(&mut self, key: Key, row: &Row<'_>, read: Result<Object, String>) {
        match read {
            Ok(object) => self.objects.push(Arc::new(object)),
            Err(why) => self.unreadable.push(Unreadable::new(key, row.value, &why)),
        }
    }
}

impl Database {
    pub(super) fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, Error> {
        let mut found = Found::default();
        self.row(key, |row| {
            found.add(key.clone(), &row, self.read(key, &row)?);
            Ok(())
        })?;
        match found.unreadable.pop() {
            Some(Unreadable { key, why, .. }) => Err(Error::Unreadable { place: place(&key), why }),
            None => Ok(found.objects.pop()),
        }
    }

    pub(super) fn list(&self, range: &Range) -> Result<Found, Error> {
        let (mut names, mut found) = (Names::default(), Found::default());
        self.rows(range, |row| {
            let key = names.key(&row);
            let read = self.read(&key, &row)?;
            found.add(key, &row, read);
            Ok(())
        })?;
        Ok(found)
    }

    /// The object in a row. The inner error is that of what is encrypted: its row's sum is right, but it is not what was put there.
    fn read(&self, key: &Key, row: &Row<'_>) -> Result<Result<Object, String>, Error> {
        let opened = match self.keys().open(&key.resource, &place(key), row.value) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let sealed = row.value.starts_with(ENCRYPTED);
        match decode(key.clone(), self.revision(row.revision)?, opened.plain.into_owned().into()) {
            // Not every cipher binds a value to its place: then its own name and revision do.
            Ok(object) if sealed && !is_at_home(&object) => Ok(Err("it is another object's value".to_owned())),
            Ok(object) => Ok(Ok(object)),
            Err(error) if sealed => Ok(Err(error.to_string())),
            Err(error) => Err(self.corrupt(error.to_string())),
        }
    }

    /// Shows each row in `range` whose sum is right; one that is wrong ends it.
    pub(super) fn rows(&self, range: &Range, see: impl FnMut(Row<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let (resource, namespace) = match range {
            Range::All => (None, None),
            Range::Resource(resource) => (Some(resource.to_string()), None),
            Range::Namespace(resource, namespace) => (Some(resource.to_string()), Some(&**namespace)),
        };
        let sql = "SELECT resource, namespace, name, revision, value, sum FROM objects
                   WHERE (?1 IS NULL OR resource = ?1) AND (?2 IS NULL OR namespace = ?2)
                   ORDER BY resource, namespace, name";
        self.rows_of(sql, params![resource, namespace], see)
    }

    /// The same of one object.
    pub(super) fn row(&self, key: &Key, see: impl FnMut(Row<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let sql = "SELECT resource, namespace, name, revision, value, sum FROM objects
                   WHERE resource = ?1 AND namespace = ?2 AND name = ?3";
        self.rows_of(sql, params![key.resource.to_string(), key.namespace, key.name], see)
    }

    /// The same of any query for a row's columns.
    pub(super) fn rows_of(
        &self,
        sql: &str,
        values: impl Params,
        mut see: impl FnMut(Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |e: rusqlite::Error| self.explain(&e);
        let mut statement = self.connection().prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(values).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let text = |at| row.get_ref(at).and_then(|v| v.as_str().map_err(rusqlite::Error::from)).map_err(failed);
            let value = row.get_ref(4).and_then(|v| v.as_blob().map_err(rusqlite::Error::from)).map_err(failed)?;
            let (resource, namespace, name) = (text(0)?, text(1)?, text(2)?);
            let revision = row.get(3).map_err(failed)?;
            let noted: i64 = row.get(5).map_err(failed)?;
            if noted != sum(resource, namespace, name, revision, value) {
                return Err(self.corrupt(format!("the sum of {resource} {namespace}/{name} is wrong")));
            }
            see(Row { resource, namespace, name, revision, value })?;
        }
        Ok(())
    }
}

/// An object as it lies in the file.
pub(super) struct Row<'a> {
    pub(super) resource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) revision: i64,
    pub(super) value: &'a [u8],
}

fn is_at_home(object: &Object) -> bool {
    let Object { key, revision, meta, .. } = object;
    meta.name.as_deref() == Some(&*key.name)
        && meta.namespace.as_deref().unwrap_or_default() == &*key.namespace
        && meta.resource_version.as_deref() == Some(revision.to_string().as_str())
}

/// The same name is held once, however many objects bear it.
#[derive(Default)]
pub(super) struct Names {
    resources: HashMap<String, GroupResource>,
    namespaces: HashMap<String, Arc<str>>,
}

impl Names {
    pub(super) fn key(&mut self, row: &Row<'_>) -> Key {
        Key { resource: self.resource(row.resource), namespace: self.namespace(row.namespace), name: row.name.into() }
    }

    pub(super) fn resource(&mut self, text: &str) -> GroupResource {
        if let Some(known) = self.resources.get(text) {
            return known.clone();
        }
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        let made = GroupResource { group: group.into(), resource: resource.into() };
        self.resources.insert(text.to_owned(), made.clone());
        made
    }

    pub(super) fn namespace(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.namespaces.get(text) {
            return known.clone();
        }
        let made: Arc<str> = text.into();
        self.namespaces.insert(text.to_owned(), made.clone());
        made
    }
}

#[cfg(test)]
mod tests {
    use kedge_api::Revision;
    use kedge_api::resource::known::SECRETS;
    use kedge_encrypt::{Cipher, Keyring, Keys, NamedKey, Pattern, Provider};
    use serde_json::json;

    use super::*;
    use crate::{Draft, Expect, Write};

    fn key(name: &str) -> Key {
        Key::new(SECRETS, "n", name)
    }

    /// Holds the secrets `a` and `b`.
    fn database(dir: &tempfile::TempDir, cipher: Cipher) -> Database {
        let keys = vec![NamedKey::new(cipher, "k", &[7; 32]).unwrap()];
        let rule = (Pattern::parse("secrets"), vec![Arc::new(Provider::Keys(cipher, keys))]);
        let keys = Arc::new(Keys::new(Arc::new(Keyring::new([rule]).unwrap())));
        let path = dir.path().join(cipher.name());
        std::fs::write(&path, "").unwrap();
        let database = Database::create(path, None).unwrap().with_keys(keys);
        for (name, revision) in [("a", 5), ("b", 6)] {
            let value = json!({"metadata": {"name": name, "namespace": "n"}, "data": "hush"});
            let write = Write::Put(Draft::encode(key(name), &value).unwrap());
            database.apply(Expect::Absent, &write, Revision(revision)).unwrap().unwrap();
        }
        database
    }

    fn lies(database: &Database, name: &str) -> Vec<u8> {
        let mut value = Vec::new();
        let see = |row: Row<'_>| {
            value = row.value.to_vec();
            Ok(())
        };
        database.row(&key(name), see).unwrap();
        value
    }

    /// By someone who can reckon a sum.
    fn tamper(database: &Database, name: &str, revision: i64, value: &[u8]) {
        let sum = sum("secrets", "n", name, revision, value);
        let sql = "UPDATE objects SET value = ?2, sum = ?3 WHERE name = ?1";
        assert_eq!(database.connection().execute(sql, params![name, value, sum]).unwrap(), 1);
    }

    #[test]
    fn what_was_tampered_with_is_unreadable_and_takes_nothing_along() {
        let dir = tempfile::tempdir().unwrap();
        for cipher in [Cipher::AesGcm, Cipher::AesCbc, Cipher::Secretbox] {
            let database = database(&dir, cipher);
            let sound = lies(&database, "a");
            assert!(sound.starts_with(format!("k8s:enc:{}:v1:k:", cipher.name()).as_bytes()));
            for at in 0..sound.len() {
                let mut changed = sound.clone();
                changed[at] ^= 0x55;
                tamper(&database, "a", 5, &changed);
                let found = database.list(&Range::All).unwrap();
                assert_eq!(found.objects.last().unwrap().key, key("b"));
                // CBC cannot tell what is still JSON and bears the same name.
                let noticed = found.unreadable.len() == 1 && database.get(&key("a")).is_err();
                assert!(noticed || cipher == Cipher::AesCbc, "{cipher:?} {at}");
            }
            for cut in 0..sound.len() {
                tamper(&database, "a", 5, &sound[..cut]);
                let found = database.list(&Range::All).unwrap();
                assert_eq!((found.objects.len(), found.unreadable.len()), (1, 1), "{cipher:?} {cut}");
            }
            tamper(&database, "a", 5, &lies(&database, "b"));
            let told = database.get(&key("a")).unwrap_err().to_string();
            let bound = cipher == Cipher::AesGcm;
            let why = if bound { "cipher: message authentication failed" } else { "it is another object's value" };
            assert_eq!(told, format!("unable to transform key \"/registry/secrets/n/a\": {why}"));
        }
    }
}
