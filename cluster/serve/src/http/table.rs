//! Objects as the Table that `kubectl get` prints: the resource's columns applied to each.

use kedge_api::{Resource, Status};
use serde_json::{Value, json};

use super::item::partial;
use crate::describe::columns::describe;
use crate::wire::query::Query;
use crate::wire::set;

/// What a row carries of its object (`?includeObject=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub fn of(query: &Query) -> Result<Self, Status> {
        match query.first("includeObject") {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// How a Table is made of a resource's objects.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    pub row: &'a Resource,
    pub include: Include,
    pub meta_version: &'static str,
}

impl Style<'_> {
    /// `metadata` is the list's, or the one object's resource version.
    pub fn table(&self, metadata: Value, rows: Vec<Value>) -> Value {
        json!({
            "kind": "Table",
            "apiVersion": format!("meta.k8s.io/{}", self.meta_version),
            "metadata": metadata,
            "columnDefinitions": self.columns(),
            "rows": if rows.is_empty() && self.is_plain() { Value::Null } else { rows.into() },
        })
    }

    /// Whether upstream knows no more of the resource than its age: its printer for any kind makes no list of nothing.
    fn is_plain(&self) -> bool {
        matches!(self.row.columns, [only] if only.name == "Created At")
    }

    /// Whether the resource's own columns say where the name stands.
    fn names_itself(&self) -> bool {
        self.row.columns.iter().any(|c| c.format == "name")
    }

    fn columns(&self) -> Vec<Value> {
        let kind = &*self.row.kind;
        let name = (!self.names_itself()).then(|| column(kind, "Name", "string", "name", 0));
        let own = self.row.columns.iter().map(|c| column(kind, c.name, c.r#type, c.format, c.priority));
        let custom = self.row.custom.iter().flat_map(|custom| &custom.columns).map(|c| {
            json!({"name": c.name, "type": c.r#type, "format": c.format, "priority": c.priority, "description": c.description})
        });
        name.into_iter().chain(own).chain(custom).collect()
    }

    pub fn line(&self, object: &Value) -> Value {
        let name = (!self.names_itself()).then(|| object.pointer("/metadata/name").cloned().unwrap_or_default());
        let own = self.row.columns.iter().map(|c| (c.cell)(object));
        let custom = self.row.custom.iter().flat_map(|custom| &custom.columns).map(|c| (c.cell)(object));
        let cells: Vec<Value> = name.into_iter().chain(own).chain(custom).collect();
        let mut line = json!({"cells": cells});
        if let Some(condition) = completed(self.row, object)
            && let Some(line) = line.as_object_mut()
        {
            line.insert("conditions".to_owned(), json!([condition]));
        }
        let carried = match self.include {
            Include::None => Value::Null,
            Include::Metadata => self.partial(object),
            Include::Object => object.clone(),
        };
        if let Some(line) = line.as_object_mut() {
            line.insert("object".to_owned(), carried);
        }
        line
    }

    /// Type and metadata, as they were before annotations were made for this version.
    fn partial(&self, object: &Value) -> Value {
        let mut partial = partial(object, self.meta_version);
        if let Some(metadata) = partial.get_mut("metadata").and_then(Value::as_object_mut)
            && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
        {
            annotations.retain(|key, _| !self.row.made_annotations.contains(&key.as_str()));
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        partial
    }
}

fn column(kind: &str, name: &str, of: &str, format: &str, priority: u8) -> Value {
    let description = describe(kind, name);
    json!({"name": name, "type": of, "format": format, "priority": priority, "description": description})
}

/// A Scale as a Table, which has columns of its own whatever is scaled.
pub fn scale(style: &Style<'_>, object: &Value) -> Value {
    let of = |path: &str| object.pointer(path).cloned().unwrap_or_else(|| 0.into());
    let age = style.row.columns.iter().find(|c| c.name == "Age").map(|c| (c.cell)(object)).unwrap_or_default();
    let name = object.pointer("/metadata/name").cloned().unwrap_or_default();
    let mut line = style.line(object);
    set(&mut line, "cells", vec![name, of("/spec/replicas"), of("/status/replicas"), age]);
    let version = object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
    let mut table = style.table(json!({"resourceVersion": version}), vec![line]);
    let columns = [("Name", "string"), ("Desired", "integer"), ("Available", "integer"), ("Age", "string")];
    set(&mut table, "columnDefinitions", columns.map(|(name, of)| column("Scale", name, of, "", 0)).to_vec());
    table
}

/// What tells `kubectl` that a pod's row is of one that has ended.
fn completed(row: &Resource, object: &Value) -> Option<Value> {
    if row.id != kedge_api::resource::known::PODS {
        return None;
    }
    let (reason, message) = match object.pointer("/status/phase")?.as_str()? {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}
