//! What the server does about definitions by itself: names are given, kinds are served, and what goes takes its objects along.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use kedge_api::{GroupResource, Informer as _, Options, Snapshot, Status, Target, User, Verb};
use serde_json::Value;

use super::{DEFINITIONS, Made, established, names};
use crate::Registry;
use crate::admission::Writer;
use crate::value::{Fill as _, Look as _};
use crate::verbs::delete::{Wish, delete_one};
use crate::verbs::update::modify;
use crate::verbs::write::How;

pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Between looks at objects whose own finalizers hold them back, and after a failed write.
const AGAIN: Duration = Duration::from_millis(500);

/// Follows the definitions until dropped.
pub async fn follow(registry: Arc<Registry>) {
    tokio::join!(serve(Arc::clone(&registry)), super::register::register(registry));
}

async fn serve(registry: Arc<Registry>) {
    let mut made = Made::default();
    loop {
        let (_, mut changes) = registry.cache.subscribe(&[DEFINITIONS]);
        loop {
            let settled = converge(&registry, &mut made).await.unwrap_or_else(|error| {
                tracing::warn!(error = error.message, "custom resource definitions");
                false
            });
            tokio::select! {
                change = changes.next() => match change {
                    // What came meanwhile is looked at once.
                    Some(_) => while let Some(Some(_)) = changes.next().now_or_never() {},
                    None => break,
                },
                () = tokio::time::sleep(AGAIN), if !settled => {}
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Serves first and tells then: who reads that a kind is established can use it. Gives whether nothing is left to do.
async fn converge(registry: &Registry, made: &mut Made) -> Result<bool, Status> {
    let snapshot = registry.cache.snapshot();
    let now = (registry.options.now)();
    let mut all: Vec<Value> =
        snapshot.list(&DEFINITIONS, "").map(|object| object.decode()).collect::<Result<_, _>>()?;
    // The eldest first: it had the name before.
    all.sort_by_cached_key(|d| (d.text("metadata.creationTimestamp").to_owned(), d.text("metadata.name").to_owned()));
    let mut changed = Vec::new();
    for at in 0..all.len() {
        let Some(definition) = all.get(at) else { continue };
        let status = names::status(definition, &all, now);
        if status != *definition.look("status")
            && let Some(definition) = all.get_mut(at)
        {
            definition.set("status", status);
            changed.push(at);
        }
    }
    registry.set_table(registry.table().with(made.rows(&all, registry.options.webhooks.as_ref())));
    for definition in changed.into_iter().filter_map(|at| all.get(at)) {
        let status = definition.look("status");
        change(registry, definition, |stored| stored.set("status", status.clone())).await?;
    }
    let mut settled = true;
    for definition in all.iter().filter(|d| d.has("metadata.deletionTimestamp")) {
        settled &= clean(registry, &snapshot, definition, now).await?;
    }
    Ok(settled)
}

fn target(resource: GroupResource, namespace: &str, name: &str) -> Target {
    Target {
        resource,
        version: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
    }
}

/// The server itself, without further wishes.
fn own() -> (User, Options) {
    (User::new("system:apiserver", &["system:masters"]), Options::default())
}

/// What the server does by itself has been admitted, with what it is a consequence of.
fn writer<'a>(who: &'a User, verb: Verb, target: &'a Target, options: &'a Options) -> Writer<'a> {
    Writer { who, verb, target, options, dry_run: false, admitted: true, kind: None, warnings: Vec::new() }
}

/// Writes a definition, if it is still the one that was looked at.
async fn change(registry: &Registry, definition: &Value, change: impl Fn(&mut Value)) -> Result<(), Status> {
    let table = registry.table();
    let Some(row) = table.get(&DEFINITIONS) else { return Ok(()) };
    let target = target(DEFINITIONS, "", definition.text("metadata.name"));
    let (who, options) = own();
    let mut writer = writer(&who, Verb::Update, &target, &options);
    let written = modify(registry, row, How::Special, &mut writer, |object, stored| {
        if object.uid() == definition.text("metadata.uid") {
            change(stored);
        }
        Ok(())
    });
    match written.await {
        Ok(_) => Ok(()),
        Err(gone) if gone.is(kedge_api::Reason::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes the objects of a definition that is to go; lets it go when none is left.
async fn clean(registry: &Registry, snapshot: &Snapshot, definition: &Value, now: Timestamp) -> Result<bool, Status> {
    if !definition.items("metadata.finalizers").iter().any(|f| f == FINALIZER) {
        return Ok(true);
    }
    let stored = super::stored_row(definition, registry.options.webhooks.as_ref());
    if let Some(row) = stored.filter(|_| established(definition)).map(Arc::new) {
        let objects: Vec<_> = snapshot.list(&row.resource.id, "").cloned().collect();
        for object in objects.iter().filter(|object| !object.is_deleting()) {
            let target = target(row.resource.id.clone(), &object.key.namespace, &object.key.name);
            let (who, options) = own();
            let mut writer = writer(&who, Verb::Delete, &target, &options);
            match delete_one(registry, &row, &Wish::default(), &mut writer).await {
                Ok(_) => {}
                Err(gone) if gone.is(kedge_api::Reason::NotFound) => {}
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

fn terminating(definition: &mut Value, holds: bool, reason: &str, message: &str, now: Timestamp) {
    names::set(definition.slot("status"), "Terminating", holds, reason, message, now);
}

/// The marks of a definition that is to go, beside its deletion's time.
pub(crate) fn mark(definition: &mut Value) {
    let mut finalizers = definition.items("metadata.finalizers").to_vec();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    definition.set("metadata.finalizers", finalizers);
    let now = definition.text("metadata.deletionTimestamp").parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    terminating(definition, true, "InstanceDeletionPending", message, now);
}
