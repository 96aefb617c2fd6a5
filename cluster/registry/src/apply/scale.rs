//! `scale` is another view of an object: who owns `spec.replicas` of the one owns it in the other.

use serde_json::Value;

use super::managed::{self, Entry, Manager};
use super::set::Set;
use crate::value::Fill as _;

/// The number, where it stands in a Scale, and where in what is scaled.
fn replicas(path: &str) -> Set {
    Set::of_fields(&[path])
}

const IN_SCALE: &str = "spec.replicas";

const SCALE_VERSION: &str = "autoscaling/v1";

/// Gives a Scale the entries of those who own the number of `parent`.
pub(crate) fn show(parent: &Value, api_version: &str, path: &str, scale: &mut Value) {
    let entries = managed::of(parent).unwrap_or_default();
    let owns = |entry: &Entry| {
        entry.manager.api_version == api_version && !entry.set().intersection(&replicas(path)).is_empty()
    };
    let owners = entries.into_iter().filter(owns).map(|entry| {
        Entry::new(
            Manager { api_version: SCALE_VERSION.into(), ..entry.manager.clone() },
            entry.time,
            replicas(IN_SCALE),
        )
    });
    if let Some(list) = managed::encode(owners.collect()) {
        scale.set("metadata.managedFields", list);
    }
}

/// The entries of the scaled object, after a Scale of it was written: who lost the number there loses it here.
pub(crate) fn keep(parent: &mut Value, api_version: &str, path: &str, scale: &Value) {
    let scaled = managed::of(scale).unwrap_or_default();
    let at_parent = |manager: &Manager| Manager { api_version: api_version.into(), ..manager.clone() };
    let owners: Vec<Manager> = scaled.iter().map(|entry| at_parent(&entry.manager)).collect();
    let mut entries = managed::of(parent).unwrap_or_default();
    entries.retain_mut(|entry| {
        if entry.manager.api_version != api_version {
            return false;
        }
        let set = entry.set();
        if set.intersection(&replicas(path)).is_empty() || owners.iter().any(|owner| owner.is(&entry.manager)) {
            return true;
        }
        entry.keep(set.difference(&replicas(path)));
        !entry.is_empty()
    });
    for owner in owners {
        match entries.iter_mut().find(|entry| entry.manager.is(&owner)) {
            Some(entry) => entry.keep(entry.set().union(&replicas(path))),
            // Upstream takes times from the scaled object, where a new owner has none.
            None => entries.push(Entry::new(owner, None, replicas(path))),
        }
    }
    parent.cut("metadata.managedFields");
    if let Some(list) = managed::encode(entries) {
        parent.set("metadata.managedFields", list);
    }
}
