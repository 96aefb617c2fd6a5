//! The last lines that watches sent: one change is the same line to all who want it in the same form, so it is made once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kedge_api::request::WatchEvent;
use kedge_api::{Change, Key, Resource, Revision, Status};

use super::answer::Wanted;
use super::table::Include;
use crate::wire::media::Accepted;

/// Watchers of one change come one soon after another.
const MOST: usize = 32;
/// Beyond one, no more than this many bytes of them.
const BYTES: usize = 1 << 20;

#[derive(Default)]
pub struct Lines {
    /// Newest last. Orders who looks against who puts; held for neither making nor sending a line.
    recent: Mutex<VecDeque<(Mark, Bytes)>>,
}

/// All that a line depends on. Whoever looks for one lends it: a thousand watchers do for one change, and would count what they share up
/// and down.
struct Mark {
    form: Form,
    /// The row by its address: a conversion shows another object, and a row that is gone keeps its place as long as it is here.
    row: Arc<Resource>,
    key: Key,
}

#[derive(Clone, Copy, PartialEq)]
struct Form {
    revision: Revision,
    first: bool,
    /// Whether there was a version before and one after: what the change is called.
    versions: (bool, bool),
    include: Include,
    accepted: Accepted,
}

impl Mark {
    fn is(&self, form: &Form, row: &Arc<Resource>, key: &Key) -> bool {
        let same = || Arc::ptr_eq(&self.key.name, &key.name) && Arc::ptr_eq(&self.key.namespace, &key.namespace);
        // A row is of one resource.
        self.form == *form && Arc::ptr_eq(&self.row, row) && (same() || self.key == *key)
    }
}

impl Lines {
    /// The line of `event`, made by `make` if none of the last ones is it.
    pub(super) fn of(
        &self,
        event: WatchEvent,
        row: &Arc<Resource>,
        wanted: &Wanted,
        first: bool,
        make: impl FnOnce(WatchEvent) -> Result<Bytes, Status>,
    ) -> Result<Bytes, Status> {
        let WatchEvent::Object(change) = &event else { return make(event) };
        let Change { revision, key, before, after } = &**change;
        let form = Form {
            revision: *revision,
            first,
            versions: (before.is_some(), after.is_some()),
            include: wanted.include,
            accepted: wanted.accepted,
        };
        if let Some(line) = self.find(&form, row, key) {
            return Ok(line);
        }
        let mark = Mark { form, row: Arc::clone(row), key: key.clone() };
        let line = make(event)?;
        self.put(mark, line.clone());
        Ok(line)
    }

    fn find(&self, form: &Form, row: &Arc<Resource>, key: &Key) -> Option<Bytes> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().rev().find(|(mark, _)| mark.is(form, row, key)).map(|(_, line)| line.clone())
    }

    fn put(&self, mark: Mark, line: Bytes) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((mark, line));
        let mut bytes: usize = recent.iter().map(|(_, line)| line.len()).sum();
        while recent.len() > MOST || (recent.len() > 1 && bytes > BYTES) {
            bytes -= recent.pop_front().map_or(0, |(_, line)| line.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use kedge_api::resource::known;

    use super::*;

    fn wanted(meta_version: &'static str) -> Wanted {
        let accepted = Accepted { meta_version, ..Accepted::JSON };
        Wanted { accepted, pretty: false, include: Include::Metadata, gzip: false }
    }

    fn change(revision: u64, name: &str) -> WatchEvent {
        let key = Key::new(known::CONFIG_MAPS, "n", name);
        WatchEvent::Object(Arc::new(Change { revision: Revision(revision), key, before: None, after: None }))
    }

    #[tokio::test]
    async fn a_line_is_made_once_for_each_form_and_forgotten_in_time() {
        let row = crate::fixture::row(&known::CONFIG_MAPS).await;
        let lines = Lines::default();
        let mut made = 0;
        let mut ask = |event: WatchEvent, wanted: &Wanted, row: &Arc<Resource>, text: &'static str| {
            let make = |_| {
                made += 1;
                Ok(Bytes::from_static(text.as_bytes()))
            };
            (lines.of(event, row, wanted, false, make).unwrap(), made)
        };
        assert_eq!(ask(change(7, "a"), &wanted("v1"), &row, "one"), ("one".into(), 1));
        assert_eq!(ask(change(7, "a"), &wanted("v1"), &row, "other"), ("one".into(), 1));
        assert_eq!(ask(change(7, "b"), &wanted("v1"), &row, "two"), ("two".into(), 2));
        assert_eq!(ask(change(7, "a"), &wanted("v1beta1"), &row, "three"), ("three".into(), 3));
        assert_eq!(ask(change(7, "a"), &wanted("v1"), &Arc::new((*row).clone()), "four"), ("four".into(), 4));
        for n in 0..MOST as u64 {
            ask(change(100 + n, "c"), &wanted("v1"), &row, "more");
        }
        assert_eq!(ask(change(7, "a"), &wanted("v1"), &row, "anew"), ("anew".into(), 5 + MOST));
    }
}
