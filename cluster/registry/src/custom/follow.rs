//! What the server does about definitions by itself: names are given and kinds are served. [`super::remove`] does the rest.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kedge_api::{GroupResource, Informer as _, Options, Status, Target, User, Verb};
use serde_json::Value;

use super::{DEFINITIONS, Made, names};
use crate::Registry;
use crate::admission::Writer;
use crate::value::{Fill as _, Look as _};
use crate::verbs::update::modify;
use crate::verbs::write::How;

/// Between looks at what waits for others, and after a failed write.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

/// Follows the definitions until dropped.
pub async fn follow(registry: Arc<Registry>) {
    tokio::join!(
        serve(&registry),
        super::remove::follow(Arc::clone(&registry)),
        super::register::register(Arc::clone(&registry))
    );
}

async fn serve(registry: &Registry) {
    let mut made = Made::default();
    loop {
        let (_, mut changes) = registry.cache.subscribe(&[DEFINITIONS]);
        loop {
            let done = converge(registry, &mut made).await;
            if let Err(error) = &done {
                tracing::warn!(error = error.message, "custom resource definitions");
            }
            tokio::select! {
                change = changes.next() => match change {
                    // What came meanwhile is looked at once.
                    Some(_) => while let Some(Some(_)) = changes.next().now_or_never() {},
                    None => break,
                },
                () = tokio::time::sleep(AGAIN), if done.is_err() => {}
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Serves first and tells then: who reads that a kind is established can use it.
async fn converge(registry: &Registry, made: &mut Made) -> Result<(), Status> {
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
    Ok(())
}

pub(super) fn target(resource: GroupResource, namespace: &str, name: &str) -> Target {
    Target {
        resource,
        version: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
    }
}

/// The server itself, without further wishes.
pub(super) fn own() -> (User, Options) {
    (User::new("system:apiserver", &["system:masters"]), Options::default())
}

/// What the server does by itself has been admitted, with what it is a consequence of.
pub(super) fn writer<'a>(who: &'a User, verb: Verb, target: &'a Target, options: &'a Options) -> Writer<'a> {
    Writer { who, verb, target, options, dry_run: false, admitted: true, kind: None, warnings: Vec::new() }
}

/// Writes a definition, if it is still the one that was looked at.
pub(super) async fn change(registry: &Registry, definition: &Value, change: impl Fn(&mut Value)) -> Result<(), Status> {
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
