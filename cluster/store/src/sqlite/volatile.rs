//! What never goes to disk: held in memory, and noted in a file that lies in memory as well. So it outlives the process, not the machine.
//!
//! ```text
//! swap ─▶ objects, a line ─▶ note: one write(2) for all ─▶ acknowledged          open: the lines ─▶ objects ─▶ only what is left of them
//! ```
//! A line is resource, namespace, name, revision and the object, or nothing where it was deleted; of one key the last holds. Before them
//! stands the identity of the database that the revisions are of: another's notes are forgotten. What a kill cut off was acknowledged to
//! nobody. Notes that cannot be written are given up: they were a courtesy.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kedge_api::{Key, Object, Revision};

use super::database::own;
use super::rows::Names;
use super::snapshot::beside;
use crate::memory::swap;
use crate::{Error, Event, Expect, Range, Write, decode};

/// Notes of what is no more, in bytes, beyond which the file is written anew even if little is left.
const SLACK: u64 = 256 << 10;

pub(super) struct Volatile {
    objects: BTreeMap<Key, Arc<Object>>,
    notes: Option<Notes>,
}

struct Notes {
    path: PathBuf,
    identity: String,
    file: File,
    /// Lines that are not in the file yet.
    waiting: Vec<u8>,
    written: u64,
    /// What it was when it was written anew.
    began: u64,
}

impl Volatile {
    /// Takes up what was noted at `path` for the database of this `identity`; without a path nothing is noted.
    pub(super) fn open(path: Option<PathBuf>, identity: String) -> Self {
        let Some(path) = path else { return Self { objects: BTreeMap::new(), notes: None } };
        let objects = fs::read(&path).map(|text| read(&text, &identity)).unwrap_or_default();
        let notes = Notes::begin(path, identity, &objects);
        Self { objects, notes }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.objects.get(key).cloned()
    }

    pub(super) fn within<'a>(&'a self, range: &'a Range) -> impl Iterator<Item = Arc<Object>> + 'a {
        self.objects.values().filter(|object| range.contains(&object.key)).cloned()
    }

    /// Noted with the next [`Volatile::note`].
    pub(super) fn swap(&mut self, revision: Revision, expect: Expect, write: &Write) -> Result<Event, Error> {
        let event = swap(&mut self.objects, revision, expect, write)?;
        if let Some(notes) = &mut self.notes {
            line(&mut notes.waiting, &event.key, revision, event.after.as_deref());
        }
        Ok(event)
    }

    pub(super) fn note(&mut self) {
        let Some(mut notes) = self.notes.take() else { return };
        self.notes = match notes.put() {
            Ok(()) if notes.written <= 2 * notes.began + SLACK => Some(notes),
            Ok(()) => Notes::begin(notes.path, notes.identity, &self.objects),
            Err(error) => notes.give_up(&error),
        };
    }
}

impl Notes {
    /// A file of what there is now.
    fn begin(path: PathBuf, identity: String, objects: &BTreeMap<Key, Arc<Object>>) -> Option<Self> {
        let mut text = format!("{identity}\n").into_bytes();
        for object in objects.values() {
            line(&mut text, &object.key, object.revision, Some(object));
        }
        let began = text.len() as u64;
        let new = beside(&path, ".new");
        let begun = || -> Result<File, Error> {
            let failed = |error: io::Error| Error::Open { path: new.clone(), what: error.to_string() };
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
            let _old = fs::remove_file(&new);
            let mut file = own(&new)?;
            file.write_all(&text).and_then(|()| fs::rename(&new, &path)).map_err(failed)?;
            Ok(file)
        };
        match begun() {
            Ok(file) => Some(Self { path, identity, file, waiting: Vec::new(), written: began, began }),
            Err(error) => {
                tracing::warn!(%error, "leases and events will not outlive this process");
                let _gone = (fs::remove_file(&new), fs::remove_file(&path));
                None
            }
        }
    }

    fn put(&mut self) -> io::Result<()> {
        self.file.write_all(&self.waiting)?;
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    fn give_up(self, error: &io::Error) -> Option<Self> {
        tracing::warn!(path = %self.path.display(), %error, "leases and events will not outlive this process");
        // Half of the truth is none.
        let _gone = fs::remove_file(&self.path);
        None
    }
}

/// Names have neither tabs nor line ends, and encoded objects write them otherwise.
fn line(text: &mut Vec<u8>, key: &Key, revision: Revision, object: Option<&Object>) {
    text.extend_from_slice(format!("{}\t{}\t{}\t{revision}\t", key.resource, key.namespace, key.name).as_bytes());
    text.extend_from_slice(object.map_or(&[], |object| &object.json));
    text.push(b'\n');
}

fn read(text: &[u8], identity: &str) -> BTreeMap<Key, Arc<Object>> {
    let mut objects = BTreeMap::new();
    let mut names = Names::default();
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    if lines.next() != Some(identity.as_bytes()) {
        return objects;
    }
    for line in lines {
        let Some((key, object)) = one(line, &mut names) else {
            tracing::warn!(line = %String::from_utf8_lossy(line), "a note of a lease or an event is not understood");
            continue;
        };
        match object {
            Some(object) => drop(objects.insert(key, object)),
            None => drop(objects.remove(&key)),
        }
    }
    objects
}

fn one(line: &[u8], names: &mut Names) -> Option<(Key, Option<Arc<Object>>)> {
    let mut fields = std::str::from_utf8(line).ok()?.splitn(5, '\t');
    let mut next = || fields.next();
    let (resource, namespace, name, revision, json) = (next()?, next()?, next()?, next()?, next()?);
    let key = Key { resource: names.resource(resource), namespace: names.namespace(namespace), name: name.into() };
    if json.is_empty() {
        return Some((key, None));
    }
    let revision = Revision(revision.parse().ok()?);
    let object = decode(key.clone(), revision, Bytes::copy_from_slice(json.as_bytes())).ok()?;
    Some((key, Some(Arc::new(object))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kedge_api::resource::known;
    use serde_json::json;

    use super::*;
    use crate::Draft;

    fn put(name: &str, text: &str) -> Write {
        let key = Key::new(known::LEASES, "n", name);
        let value = json!({"metadata": {"name": name, "annotations": {"text": text}}});
        Write::Put(Draft::encode(key, &value).unwrap())
    }

    fn open(path: &Path, identity: &str) -> Volatile {
        Volatile::open(Some(path.to_owned()), identity.to_owned())
    }

    fn all(volatile: &Volatile) -> Vec<(String, Revision, Bytes)> {
        volatile.objects.values().map(|o| (o.key.name.to_string(), o.revision, o.json.clone())).collect()
    }

    #[test]
    fn what_was_noted_is_taken_up_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/volatile");
        let mut first = open(&path, "one");
        first.swap(Revision(7), Expect::Absent, &put("a", "tab\tline\n")).unwrap();
        first.swap(Revision(8), Expect::Absent, &put("b", "")).unwrap();
        first.note();
        first.swap(Revision(9), Expect::Revision(Revision(7)), &put("a", "new")).unwrap();
        first
            .swap(Revision(10), Expect::Revision(Revision(8)), &Write::Delete(Key::new(known::LEASES, "n", "b")))
            .unwrap();
        first.note();
        let told = all(&first);
        assert_eq!(told.iter().map(|(name, revision, _)| (&**name, revision.0)).collect::<Vec<_>>(), [("a", 9)]);
        // One that was never acknowledged, and one that a kill cut off.
        first.swap(Revision(11), Expect::Absent, &put("c", "")).unwrap();
        drop(first);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let kept = all(&open(&path, "one"));
            assert!(kept.iter().all(|(name, ..)| name == "a" || name == "b"), "{cut}");
        }
        fs::write(&path, [&whole[..], b"leases.coordination.k8s.io\tn\tc\t12\t{\"apiVersion\":"].concat()).unwrap();
        assert_eq!(all(&open(&path, "one")), told);
        assert_eq!(all(&open(&path, "one")), told, "it is written anew when it is taken up");
        assert_eq!(all(&open(&path, "another")), []);
        assert_eq!(all(&open(&path, "one")), [], "another's were forgotten");
    }

    #[test]
    fn notes_do_not_grow_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volatile");
        let mut volatile = open(&path, "one");
        volatile.swap(Revision(1), Expect::Absent, &put("a", "")).unwrap();
        for n in 1..3000 {
            volatile.swap(Revision(n + 1), Expect::Revision(Revision(n)), &put("a", &"x".repeat(1000))).unwrap();
            volatile.note();
            assert!(fs::metadata(&path).unwrap().len() < SLACK + 8 * 1024);
        }
        assert_eq!(all(&open(&path, "one")), all(&volatile));
    }

    #[test]
    fn where_nothing_can_be_noted_writes_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let mut volatile = open(&file.join("below"), "one");
        volatile.swap(Revision(1), Expect::Absent, &put("a", "")).unwrap();
        volatile.note();
        assert_eq!(volatile.objects.len(), 1);
        // A file system that is full.
        let mut volatile = open(&dir.path().join("full"), "one");
        volatile.notes.as_mut().unwrap().file = File::options().write(true).open("/dev/full").unwrap();
        volatile.swap(Revision(1), Expect::Absent, &put("a", "")).unwrap();
        volatile.note();
        assert!(volatile.notes.is_none() && !dir.path().join("full").exists());
        assert_eq!(volatile.objects.len(), 1);
    }
}
