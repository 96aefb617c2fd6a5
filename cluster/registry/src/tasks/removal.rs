//! What goes takes its objects along: the end of definitions.
//!
//! Each definition has a task of its own: one whose webhook does not answer, or whose objects are held, holds up no other.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use kedge_api::{Informer as _, Reason, Status, Verb};
use serde_json::Value;
use tokio::task::JoinSet;

use super::AGAIN;
use super::definitions::{change, own, target, writer};
use crate::Registry;
use crate::custom::rows::{DEFINITIONS, stored_row};
use crate::custom::status::{FINALIZER, established, terminating};
use crate::value::{Fill as _, Look as _};
use crate::verbs::delete::{Wish, delete_one};

/// Removes definitions until dropped.
pub(super) async fn follow(registry: Arc<Registry>) {
    loop {
        let (_, mut changes) = registry.cache.subscribe(&[DEFINITIONS]);
        let (mut busy, mut work) = (HashSet::new(), JoinSet::new());
        loop {
            for object in registry.cache.snapshot().list(&DEFINITIONS, "").filter(|object| object.is_deleting()) {
                let definition = object.decode::<Value>().ok().filter(|_| busy.insert(object.key.clone()));
                if let Some(definition) = definition {
                    let (registry, key) = (Arc::clone(&registry), object.key.clone());
                    work.spawn(async move {
                        remove(&registry, &definition).await;
                        key
                    });
                }
            }
            tokio::select! {
                change = changes.next() => match change {
                    Some(_) => while let Some(Some(_)) = changes.next().now_or_never() {},
                    None => break,
                },
                Some(done) = work.join_next() => match done {
                    Ok(key) => drop(busy.remove(&key)),
                    Err(error) => {
                        tracing::error!(%error, "removing a custom resource definition");
                        break;
                    }
                },
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Until the definition may go.
async fn remove(registry: &Registry, definition: &Value) {
    loop {
        match clean(registry, definition, (registry.options.now)()).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                let name = definition.text("metadata.name");
                tracing::warn!(name, error = error.message, "the objects of a custom resource definition");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Deletes the objects of a definition that is to go; lets it go when none is left.
async fn clean(registry: &Registry, definition: &Value, now: Timestamp) -> Result<bool, Status> {
    if !definition.items("metadata.finalizers").iter().any(|f| f == FINALIZER) {
        return Ok(true);
    }
    let stored = stored_row(definition, registry.options.webhooks.as_ref());
    if let Some(row) = stored.filter(|_| established(definition)).map(Arc::new) {
        let objects: Vec<_> = registry.cache.snapshot().list(&row.resource.id, "").cloned().collect();
        for object in objects.iter().filter(|object| !object.is_deleting()) {
            let target = target(row.resource.id.clone(), &object.key.namespace, &object.key.name);
            let (who, options) = own();
            let mut writer = writer(&who, Verb::Delete, &target, &options);
            match delete_one(registry, &row, &Wish::default(), &mut writer).await {
                Ok(_) => {}
                Err(gone) if gone.is(Reason::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        if registry.cache.snapshot().list(&row.resource.id, "").next().is_some() {
            let (reason, message) = ("InstanceDeletionInProgress", "CustomResource deletion is in progress");
            change(registry, definition, |stored| terminating(stored, true, reason, message, now)).await?;
            return Ok(false);
        }
    }
    change(registry, definition, |stored| {
        terminating(stored, false, "InstanceDeletionCompleted", "removed all instances", now);
        if let Some(Value::Array(finalizers)) = stored.find_mut("metadata.finalizers") {
            finalizers.retain(|f| f != FINALIZER);
        }
        if stored.items("metadata.finalizers").is_empty() {
            stored.cut("metadata.finalizers");
        }
    })
    .await?;
    Ok(true)
}
