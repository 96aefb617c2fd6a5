//! What must be unique in the cluster, addresses and ports: chosen before the object is checked, as upstream does, so that rules and
//! webhooks see it, and kept from others until it is stored or refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kedge_api::Status;
use serde_json::Value;

use crate::Registry;
use crate::errors::Errors;
use crate::strategy::Others;
use crate::table::Row;
use crate::value::Look as _;

/// Objects on their way into the store, with what was chosen for them.
#[derive(Default)]
pub(crate) struct Pending {
    // The lock orders choices: the next one sees what is stored and all that is on its way.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    next: u64,
    objects: BTreeMap<u64, Arc<Value>>,
}

/// Holds what was chosen; dropped once the object is in the cache, or will never be.
pub(crate) struct Allocation<'a> {
    pending: &'a Pending,
    number: u64,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        self.pending.lock().objects.remove(&self.number);
    }
}

/// Chooses for `new` what its kind must have of its own. A dry run holds nothing.
pub(crate) fn allocate<'a>(
    registry: &'a Registry,
    row: &Row,
    new: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Option<Allocation<'a>>, Status> {
    let Some(allocate) = row.strategy.allocate else { return Ok(None) };
    let pending = &registry.pending;
    let mut held = pending.lock();
    let chosen: Vec<Arc<Value>> = held.objects.values().cloned().collect();
    // Within the lock: what is no longer held is in this snapshot.
    let snapshot = registry.cache.snapshot();
    let others = Others { snapshot: &snapshot, pending: &chosen, settings: &registry.options.settings, dry_run };
    let mut errors = Errors::default();
    allocate(&others, new, old, &mut errors)?;
    row.refuse(errors, new.text("metadata.name"))?;
    if dry_run {
        return Ok(None);
    }
    let number = held.next;
    held.next += 1;
    held.objects.insert(number, Arc::new(new.clone()));
    Ok(Some(Allocation { pending, number }))
}
