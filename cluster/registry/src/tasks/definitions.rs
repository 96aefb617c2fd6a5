//! Definitions: names are given and kinds are served.

use async_trait::async_trait;
use kedge_api::{GroupResource, Options, Status, Target, User, Verb};
use serde_json::Value;

use super::Task;
use crate::Registry;
use crate::admission::Writer;
use crate::custom::rows::{DEFINITIONS, Made};
use crate::custom::status;
use crate::value::{Fill as _, Look as _};
use crate::verbs::update::modify;
use crate::verbs::write::How;

#[derive(Default)]
pub(super) struct Definitions(Made);

#[async_trait]
impl Task for Definitions {
    const WHAT: &str = "custom resource definitions";
    const RESOURCES: &[GroupResource] = &[DEFINITIONS];

    /// Serves first and tells then: who reads that a kind is established can use it.
    async fn converge(&mut self, registry: &Registry) -> Result<bool, Status> {
        let snapshot = registry.cache.snapshot();
        let now = (registry.options.now)();
        let mut all: Vec<Value> =
            snapshot.list(&DEFINITIONS, "").map(|object| object.decode()).collect::<Result<_, _>>()?;
        // The eldest first: it had the name before.
        all.sort_by_cached_key(|d| {
            (d.text("metadata.creationTimestamp").to_owned(), d.text("metadata.name").to_owned())
        });
        let mut changed = Vec::new();
        for at in 0..all.len() {
            let Some(definition) = all.get(at) else { continue };
            let wanted = status::of(definition, &all, now);
            if wanted != *definition.look("status")
                && let Some(definition) = all.get_mut(at)
            {
                definition.set("status", wanted);
                changed.push(at);
            }
        }
        registry.set_table(registry.table().with(self.0.rows(&all, registry.options.webhooks.as_ref())));
        for definition in changed.into_iter().filter_map(|at| all.get(at)) {
            let status = definition.look("status");
            change(registry, definition, |stored| stored.set("status", status.clone())).await?;
        }
        Ok(true)
    }
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
