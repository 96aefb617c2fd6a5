//! Server-side apply, and the record of who owns which field that it rests on: `metadata.managedFields`.
//!
//! Every write by a client leaves a trace there; an apply is refused where it would take a field from another owner, and takes away what
//! its manager applied before and does not any more. The rules are those of Kubernetes' structured merge: which lists and maps merge, and
//! by which keys, is the schema's word ([`place`]).
//!
//! ```text
//! create, update, patch ─▶ Author::track ─┐                            ┌─▶ compare::compare (old, new) ─▶ who loses what
//!                                         ├─▶ managed::decode ─▶ update ┤
//! apply ─▶ check::check ─▶ Author::apply ─┘        (entries)           └─▶ merge::merge ─▶ prune ─▶ conflicts?
//!                                                                                  │
//!            object with managedFields ◀── managed::cap, encode ◀── entries ◀──────┘
//! ```
//!
//! What it costs: one walk over both versions that looks only at what they have, and the decoding of those entries that own something under
//! the same top-level fields as the change. A write that changes nothing decodes nothing.

mod check;
mod compare;
mod element;
mod last_applied;
mod managed;
mod merge;
pub(crate) mod place;
pub(crate) mod scale;
mod set;
mod update;

use std::sync::{Arc, LazyLock};

use kedge_api::status::{Cause, Details};
use kedge_api::{Reason, Request, Status};
use serde_json::{Map, Value};

pub(crate) use managed::same_but_for_times;

use crate::Registry;
use crate::errors::quote;
use crate::table::{Row, Table};
use crate::value::{Fill as _, Look as _};
use crate::verbs::incoming::Expected;
use managed::Manager;
use place::Place;
use set::Set;
use update::{Applied, Conflict, Terms};

/// What no one owns: what an object is, and what only the server writes.
fn unowned() -> &'static Set {
    static SET: LazyLock<Set> = LazyLock::new(|| {
        Set::of_fields(&[
            "apiVersion",
            "kind",
            "metadata",
            "metadata.name",
            "metadata.namespace",
            "metadata.creationTimestamp",
            "metadata.selfLink",
            "metadata.uid",
            "metadata.clusterName",
            "metadata.generation",
            "metadata.managedFields",
            "metadata.resourceVersion",
        ])
    });
    &SET
}

/// One who writes objects of a row.
pub(crate) struct Author<'a> {
    table: Arc<Table>,
    row: &'a Row,
    expected: Expected<'a>,
    root: Place<'a>,
    manager: Manager,
    /// What the strategy puts back whatever this write says.
    ignored: Set,
    stamp: String,
}

impl<'a> Author<'a> {
    /// Whoever made the request, as the one who updates.
    pub(crate) fn of(registry: &'a Registry, row: &'a Row, request: &Request) -> Self {
        Self::with(registry, row, Expected::of(&row.resource), request)
    }

    /// As [`Author::of`], for a subresource with a kind of its own.
    pub(crate) fn with(registry: &'a Registry, row: &'a Row, expected: Expected<'a>, request: &Request) -> Self {
        let subresource = request.target.subresource.as_str();
        let ignored = match subresource {
            "" if row.strategy.status => Set::of_fields(&["status"]),
            "status" => Set::of_fields(row.strategy.status_resets),
            _ => Set::default(),
        };
        let named = request.options.field_manager.as_deref().filter(|name| !name.is_empty());
        Self {
            table: registry.table(),
            row,
            expected,
            root: root(row, &expected),
            manager: Manager {
                name: named.unwrap_or("unknown").to_owned(),
                applies: false,
                api_version: expected.api_version(),
                subresource: subresource.to_owned(),
            },
            ignored,
            stamp: crate::metadata::stamp((registry.options.now)()),
        }
    }

    /// Notes in `new`, which comes from the client, what it changes of `old`; without an old one all of it is new. Both are in their stored
    /// form.
    pub(crate) fn track(&self, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
        let empty = Value::Object(Map::new());
        let old = old.unwrap_or(&empty);
        let said = new.cut("metadata.managedFields").unwrap_or_default();
        let mut entries = if self.manager.subresource.is_empty() && managed::resets(&said) {
            Vec::new()
        } else {
            // A subresource's body has no say. Clients that know nothing of managed fields shall not delete them by leaving them out.
            let said = if self.manager.subresource.is_empty() {
                managed::decode(said).unwrap_or_default()
            } else {
                Vec::new()
            };
            if said.is_empty() { managed::of(old).unwrap_or_default() } else { said }
        };
        let convert = |value: &Value, version: &str| self.convert(value, version);
        let terms = Terms { root: self.root, manager: &self.manager, ignored: &self.ignored, convert: &convert };
        match self.row.stored_as {
            None => update::updated(&terms, old, new, &mut entries, &self.stamp)?,
            Some(face) => {
                let show = |value: &Value| {
                    let mut shown = value.clone();
                    (face.show)(&mut shown);
                    shown
                };
                update::updated(&terms, &show(old), &show(new), &mut entries, &self.stamp)?;
            }
        }
        managed::cap(&mut entries);
        if let Some(list) = managed::encode(entries) {
            new.set("metadata.managedFields", list);
        }
        Ok(())
    }

    /// An object in this row's form, in that of another version of the same resource.
    fn convert(&self, value: &Value, version: &str) -> Result<Option<(Place<'_>, Value)>, Status> {
        let storage = self.row.storage();
        let is = |row: &&Arc<Row>| row.storage() == storage && row.resource.api_version() == version;
        let Some(other) = self.table.rows().find(is) else { return Ok(None) };
        let mut value = value.clone();
        if let Some(face) = self.row.stored_as {
            (face.keep)(&mut value);
        }
        if let Some(face) = other.stored_as {
            (face.show)(&mut value);
        }
        if let Some(custom) = &other.custom {
            custom.convert_to(&other.resource, &mut value)?;
        }
        Ok(Some((root_of(other), value)))
    }

    /// `live` as this row shows it, or nothing, with `config` applied by this author: an object yet to be conformed and defaulted, with its
    /// managed fields.
    pub(crate) fn apply(&self, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, Status> {
        let manager = Manager { applies: true, ..self.manager.clone() };
        check_config(&self.expected, config)?;
        check::check(self.root, config).map_err(|why| {
            Status::new(Reason::Unknown, format!("failed to create typed patch object ({}): {why}", named(config)))
        })?;
        let mut base = live.cloned().unwrap_or_else(|| {
            serde_json::json!({"apiVersion": self.expected.api_version(), "kind": self.expected.kind, "metadata": {}})
        });
        let mut entries = managed::of(&base)
            .map_err(|why| Status::new(Reason::Unknown, format!("failed to decode managed fields: {why}")))?;
        base.cut("metadata.managedFields");
        let convert = |value: &Value, version: &str| self.convert(value, version);
        let terms = Terms { root: self.root, manager: &manager, ignored: &self.ignored, convert: &convert };
        let kubectl = manager.name == last_applied::KUBECTL;
        let before = entries.clone();
        let mut found = update::applied(&terms, &base, config, &mut entries, force)?;
        if let Applied::Conflicts(conflicts) = &mut found
            && kubectl
            && let Some(allowed) = last_applied::allowed(self.root, &base, &manager.api_version)
        {
            conflicts.retain_mut(|conflict| {
                conflict.fields = conflict.fields.difference(&allowed);
                !conflict.fields.is_empty()
            });
            if conflicts.is_empty() {
                entries = before;
                found = update::applied(&terms, &base, config, &mut entries, true)?;
            }
        }
        let mut object = match found {
            Applied::Conflicts(conflicts) => return Err(conflicted(&conflicts)),
            Applied::Same => base,
            Applied::Changed(object) => {
                for entry in entries.iter_mut().filter(|e| e.manager.is(&manager)) {
                    entry.time = Some(self.stamp.clone());
                }
                object
            }
        };
        if kubectl {
            last_applied::renew(&mut object, config);
        }
        if let Some(list) = managed::encode(entries) {
            object.set("metadata.managedFields", list);
        }
        Ok(object)
    }
}

/// How objects of a row merge, or those of a subresource that has a kind of its own.
fn root<'a>(row: &'a Row, expected: &Expected<'a>) -> Place<'a> {
    if expected.schema == row.resource.schema { root_of(row) } else { place::of_type(expected.schema) }
}

/// `live` with all that `config` says, of which no one takes note: what a policy makes of an object. What merges only as a whole is refused:
/// who sets a part of it would take away the rest.
pub(crate) fn configure(row: &Row, expected: &Expected<'_>, live: &Value, mut config: Value) -> Result<Value, String> {
    config.set("apiVersion", expected.api_version());
    config.set("kind", expected.kind);
    let root = root(row, expected);
    check::check(root, &config).map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let atomics = check::atomics(root, &config);
    if !atomics.is_empty() {
        let paths = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {paths}"));
    }
    Ok(merge::merge(root, live, &config))
}

/// How objects of a row merge.
fn root_of(row: &Row) -> Place<'_> {
    match &row.custom {
        Some(custom) => custom.place(),
        None => place::of_type(&row.resource.schema),
    }
}

/// `NAMESPACE/NAME; /v1, Kind=ConfigMap`, of what is applied.
pub(crate) fn named(config: &Value) -> String {
    format!("{}/{}; {}", config.text("metadata.namespace"), config.text("metadata.name"), gvk(config))
}

/// `/v1, Kind=ConfigMap`, as Go prints it.
pub(crate) fn gvk(object: &Value) -> String {
    let version = object.text("apiVersion");
    let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
    format!("{version}, Kind={}", object.text("kind"))
}

fn check_config(expected: &Expected<'_>, config: &Value) -> Result<(), Status> {
    let refused = |why: String| Err(Status::bad_request(why));
    if config.text("apiVersion") != expected.api_version() || config.text("kind") != expected.kind {
        return refused(format!("invalid object type: {}", gvk(config)));
    }
    if config.has("metadata.managedFields") {
        return refused("metadata.managedFields must be nil".into());
    }
    Ok(())
}

/// `409` with a cause for each field.
fn conflicted(conflicts: &[Conflict]) -> Status {
    let mut told: Vec<(String, Vec<String>)> =
        conflicts.iter().map(|c| (owner(&c.manager), c.fields.paths())).collect();
    told.sort();
    let count: usize = told.iter().map(|(_, paths)| paths.len()).sum();
    let text = match told.as_slice() {
        [(owner, paths)] if count == 1 => format!("1 conflict: conflict with {owner}: {}", paths.concat()),
        many => {
            let lines = many.iter().flat_map(|(owner, paths)| {
                let paths = paths.iter().map(|path| format!("- {path}"));
                std::iter::once(format!("conflicts with {owner}:")).chain(paths)
            });
            format!("{count} conflicts: {}", lines.collect::<Vec<_>>().join("\n"))
        }
    };
    let causes = told.iter().flat_map(|(owner, paths)| {
        paths.iter().map(move |path| Cause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with {owner}"),
            field: path.clone(),
        })
    });
    let details = Details { causes: causes.collect(), ..Details::default() };
    Status { details: Some(Box::new(details)), ..Status::new(Reason::Conflict, format!("Apply failed with {text}")) }
}

fn owner(manager: &Manager) -> String {
    let mut text = quote(&manager.name);
    if !manager.subresource.is_empty() {
        text.push_str(&format!(" with subresource {}", quote(&manager.subresource)));
    }
    if !manager.applies {
        text.push_str(&format!(" using {}", manager.api_version));
    }
    text
}

#[cfg(test)]
mod tests;
