//! Who owns what after a write: pure functions from two versions of an object and the entries so far to the entries after.

use std::collections::BTreeMap;

use kedge_api::Status;
use serde_json::Value;

use super::compare::{Comparison, compare, fields};
use super::managed::{Entry, Manager};
use super::merge::{merge, named, remove};
use super::place::Place;
use super::set::Set;

/// An object in the form of another version, with the schema of that; `None` if there is no such version.
pub(crate) type Convert<'a> = &'a dyn Fn(&Value, &str) -> Result<Option<(Place<'a>, Value)>, Status>;

/// Who writes, and in what terms.
pub(crate) struct Terms<'a> {
    pub(crate) root: Place<'a>,
    pub(crate) manager: &'a Manager,
    /// Fields that this write cannot change.
    pub(crate) ignored: &'a Set,
    pub(crate) convert: Convert<'a>,
}

/// Of one manager, the fields that an apply would take from it.
#[derive(Debug, PartialEq)]
pub(crate) struct Conflict {
    pub(crate) manager: Manager,
    pub(crate) fields: Set,
}

/// What was given a new value and what is gone, as each version says it that the entries are in; `None` of one that is served no more.
type Versions = BTreeMap<String, Option<(Set, Set)>>;

fn versions(
    terms: &Terms<'_>,
    diff: &Comparison,
    old: &Value,
    new: &Value,
    entries: &[Entry],
) -> Result<Versions, Status> {
    let own = (terms.manager.api_version.clone(), Some((diff.written(), diff.removed.clone())));
    let mut versions = Versions::from([own]);
    for version in entries.iter().map(|entry| &entry.manager.api_version) {
        if !versions.contains_key(version) {
            let both = (terms.convert)(old, version)?.zip((terms.convert)(new, version)?);
            let diff = both.map(|((root, old), (_, new))| compare(root, &old, &new).without(terms.ignored));
            versions.insert(version.clone(), diff.map(|diff| (diff.written(), diff.removed)));
        }
    }
    Ok(versions)
}

/// What every owner but those that are spared loses: what was given a new value, and what is gone.
fn settle(versions: &Versions, entries: &mut Vec<Entry>, spares: impl Fn(&Manager) -> bool) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    entries.retain_mut(|entry| {
        if spares(&entry.manager) {
            return true;
        }
        let Some(Some((written, removed))) = versions.get(&entry.manager.api_version) else { return false };
        if !entry.may_own(written) && !entry.may_own(removed) {
            return true;
        }
        let set = entry.set();
        let taken = set.intersection(written);
        let rest = set.difference(&taken).difference(removed);
        if !taken.is_empty() {
            conflicts.push(Conflict { manager: entry.manager.clone(), fields: taken });
        }
        if rest != set {
            entry.keep(rest);
        }
        !entry.is_empty()
    });
    conflicts
}

/// After a write of the whole object: the writer owns what it changed. `stamp` is the time of its entry if it did.
pub(crate) fn updated(
    terms: &Terms<'_>,
    old: &Value,
    new: &Value,
    entries: &mut Vec<Entry>,
    stamp: &str,
) -> Result<(), Status> {
    let diff = compare(terms.root, old, new).without(terms.ignored);
    if diff.is_empty() {
        return Ok(());
    }
    settle(&versions(terms, &diff, old, new, entries)?, entries, |_| false);
    let own = diff.written().difference(super::unowned());
    if own.is_empty() {
        return Ok(());
    }
    let time = Some(stamp.to_owned());
    match entries.iter_mut().find(|entry| entry.manager.is(terms.manager)) {
        Some(entry) => {
            entry.keep(entry.set().union(&own));
            entry.time = time;
        }
        None => entries.push(Entry::new(terms.manager.clone(), time, own)),
    }
    Ok(())
}

/// What an apply makes of an object.
pub(crate) enum Applied {
    /// The object with what is applied, to be defaulted.
    Changed(Value),
    /// It says what the object says already.
    Same,
    /// Nothing: others own what it says.
    Conflicts(Vec<Conflict>),
}

/// Lays `config` over `live`. Without `force`, fields of others that get new values are conflicts, and nothing is done.
pub(crate) fn applied(
    terms: &Terms<'_>,
    live: &Value,
    config: &Value,
    entries: &mut Vec<Entry>,
    force: bool,
) -> Result<Applied, Status> {
    let merged = merge(terms.root, live, config);
    let set = fields(terms.root, config).without(terms.ignored);
    let last = entries.iter().position(|e| e.manager.is(terms.manager)).map(|at| entries.remove(at));
    let time = last.as_ref().and_then(|last| last.time.clone());
    entries.push(Entry::new(terms.manager.clone(), time, set));
    let new = match last.map(|last| last.set()).filter(|set| !set.is_empty()) {
        Some(last) => prune(terms.root, &merged, &last, entries),
        None => merged,
    };
    let diff = compare(terms.root, live, &new).without(terms.ignored);
    let versions = versions(terms, &diff, live, &new, entries)?;
    let conflicts = settle(&versions, entries, |manager| manager.is(terms.manager));
    if !force && !conflicts.is_empty() {
        return Ok(Applied::Conflicts(conflicts));
    }
    for entry in entries.iter_mut().filter(|e| e.manager.is(terms.manager)) {
        entry.keep(entry.set().difference(super::unowned()));
    }
    Ok(if new == *live { Applied::Same } else { Applied::Changed(new) })
}

/// Takes out what the manager applied last time, does not apply now, and no one else owns.
fn prune(root: Place<'_>, merged: &Value, last: &Set, entries: &[Entry]) -> Value {
    let last = named(root, last);
    let owned = entries.iter().fold(Set::default(), |all, entry| all.union(&entry.set()));
    let has = |value: &Value| named(root, &fields(root, value));
    let all = has(merged);
    let pruned = has(&remove(root, merged, &last));
    let pruned = remove(root, merged, &all.difference(&pruned.union(&named(root, &owned))));
    // What went along with its parents, but never was the manager's, stays.
    remove(root, merged, &all.difference(&has(&pruned)).intersection(&last))
}
