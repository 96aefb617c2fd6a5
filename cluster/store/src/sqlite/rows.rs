//! Rows, as they are read: each one against its sum, and most of them into objects.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kedge_api::{GroupResource, Key, Object};
use rusqlite::params;

use super::database::Database;
use super::layout::sum;
use crate::{Error, Range, decode};

impl Database {
    pub(super) fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, Error> {
        let range = Range::Namespace(key.resource.clone(), key.namespace.clone());
        let found = self.select(&range, Some(&key.name))?;
        Ok(found.into_iter().next())
    }

    pub(super) fn list(&self, range: &Range) -> Result<Vec<Arc<Object>>, Error> {
        self.select(range, None)
    }

    fn select(&self, range: &Range, name: Option<&str>) -> Result<Vec<Arc<Object>>, Error> {
        let mut names = Names::default();
        let mut objects = Vec::new();
        self.rows(range, name, |row| {
            let key = Key {
                resource: names.resource(row.resource),
                namespace: names.namespace(row.namespace),
                name: row.name.into(),
            };
            let object = decode(key, self.revision(row.revision)?, Bytes::copy_from_slice(row.value))
                .map_err(|e| self.corrupt(e.to_string()))?;
            objects.push(Arc::new(object));
            Ok(())
        })?;
        Ok(objects)
    }

    /// Shows each row in `range` whose sum is right; one that is wrong ends it.
    pub(super) fn rows(
        &self,
        range: &Range,
        name: Option<&str>,
        mut see: impl FnMut(Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (resource, namespace) = match range {
            Range::All => (None, None),
            Range::Resource(resource) => (Some(resource.to_string()), None),
            Range::Namespace(resource, namespace) => (Some(resource.to_string()), Some(&**namespace)),
        };
        let sql = "SELECT resource, namespace, name, revision, value, sum FROM objects
                   WHERE (?1 IS NULL OR resource = ?1) AND (?2 IS NULL OR namespace = ?2) AND (?3 IS NULL OR name = ?3)
                   ORDER BY resource, namespace, name";
        let failed = |e: rusqlite::Error| self.explain(&e);
        let mut statement = self.connection().prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params![resource, namespace, name]).map_err(failed)?;
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

/// The same name is held once, however many objects bear it.
#[derive(Default)]
pub(super) struct Names {
    resources: HashMap<String, GroupResource>,
    namespaces: HashMap<String, Arc<str>>,
}

impl Names {
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
