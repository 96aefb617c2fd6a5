//! How many watch what: the more there are, the more work a write is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::authz::{Attributes, What};

/// Group, resource, namespace, name.
type Watched = [Box<str>; 4];

/// All open watches, by what they are of.
#[derive(Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<Watched, u64>>>);

impl Watchers {
    /// Counts a watch until what this gives is dropped.
    pub fn register(&self, asked: &Attributes<'_>) -> Registered {
        let counted = asked.what == What::Resource && !is_one_nodes(asked);
        let watched = counted.then(|| watched(asked, asked.namespace, asked.name));
        if let Some(watched) = &watched {
            *self.lock().entry(watched.clone()).or_default() += 1;
        }
        Registered { all: self.clone(), watched }
    }

    /// Those that a write of this concerns: of all, of its namespace, of it alone.
    pub fn interested(&self, asked: &Attributes<'_>) -> u64 {
        let counts = self.lock();
        let count = |namespace, name| counts.get(&watched(asked, namespace, name)).copied().unwrap_or_default();
        let mut all = count("", "");
        if !asked.namespace.is_empty() {
            all += count(asked.namespace, "");
        }
        if !asked.name.is_empty() {
            all += count(asked.namespace, asked.name);
        }
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Watched, u64>> {
        // Held for one look or one change; orders nothing else.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watched(asked: &Attributes<'_>, namespace: &str, name: &str) -> Watched {
    [asked.group.into(), asked.resource.into(), namespace.into(), name.into()]
}

/// A node's watch of its own pods is not told of others': such are found by an index and cost next to nothing.
fn is_one_nodes(asked: &Attributes<'_>) -> bool {
    let terms = asked.selectors.fields.split(',').filter_map(|term| term.split_once('='));
    let named = |(field, value): (&str, &str)| {
        field.trim() == "spec.nodeName" && !value.trim_start_matches('=').trim().is_empty()
    };
    asked.resource == "pods" && asked.group.is_empty() && terms.into_iter().any(named)
}

/// A watch that is open.
pub struct Registered {
    all: Watchers,
    watched: Option<Watched>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Some(watched) = &self.watched else { return };
        let mut counts = self.all.lock();
        if let Some(count) = counts.get_mut(watched) {
            *count -= 1;
            if *count == 0 {
                counts.remove(watched);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::authz::Selectors;
    use kedge_api::User;

    use super::*;

    #[test]
    fn a_write_concerns_those_who_watch_it() {
        let (user, watchers) = (User::new("u", &[]), Watchers::default());
        let of =
            |verb, namespace, name| Attributes { namespace, name, ..Attributes::resource(&user, verb, "", "pods") };
        let open: Vec<_> = [("", ""), ("", ""), ("ns", ""), ("ns", "one"), ("other", "")]
            .map(|(namespace, name)| watchers.register(&of("watch", namespace, name)))
            .into();
        let node =
            Attributes { selectors: Selectors { fields: "spec.nodeName=n1", labels: "" }, ..of("watch", "", "") };
        let _node = watchers.register(&node);
        for (namespace, name, want) in
            [("ns", "one", 4), ("ns", "", 3), ("ns", "two", 3), ("other", "x", 3), ("", "", 2)]
        {
            assert_eq!(watchers.interested(&of("update", namespace, name)), want, "{namespace}/{name}");
        }
        drop(open);
        assert_eq!(watchers.interested(&of("update", "ns", "one")), 0);
        assert!(watchers.lock().is_empty());
    }
}
