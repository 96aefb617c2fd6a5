//! Tables: what `kubectl get` shows, computed by the server.

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Map, Value, json};

use crate::value::Look as _;

/// What of the object goes along with its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// The values of the query parameter `includeObject`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

const NAME: Column =
    Column { name: "Name", r#type: "string", format: "name", priority: 0, cell: |o| o.text("metadata.name").into() };

/// The columns in order. A row that places its own name column has it where it wants it; all others begin with it.
fn all(resource: &Resource) -> impl Iterator<Item = &Column> {
    let own = resource.columns.iter().any(|c| c.format == "name");
    (!own).then_some(&NAME).into_iter().chain(resource.columns)
}

/// `columnDefinitions`.
pub fn columns(resource: &Resource) -> Value {
    let definition = |c: &Column| json!({"name": c.name, "type": c.r#type, "format": c.format, "description": "", "priority": c.priority});
    all(resource).map(definition).collect()
}

/// One element of `rows`; `object` with its `apiVersion` and `kind`.
pub fn row(resource: &Resource, object: &Value, include: Include) -> Value {
    let cells: Vec<Value> = all(resource).map(|c| (c.cell)(object)).collect();
    let mut row = Map::new();
    row.insert("cells".into(), cells.into());
    match include {
        Include::None => {}
        Include::Object => {
            row.insert("object".into(), object.clone());
        }
        Include::Metadata => {
            let metadata = object.look("metadata").clone();
            let partial =
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
            row.insert("object".into(), partial);
        }
    }
    Value::Object(row)
}

/// A whole table. `metadata` is the list's: resourceVersion, continue, remainingItemCount.
pub fn table<'a>(
    resource: &Resource,
    objects: impl IntoIterator<Item = &'a Value>,
    metadata: Value,
    include: Include,
) -> Value {
    let rows: Vec<Value> = objects.into_iter().map(|o| row(resource, o, include)).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns(resource), "rows": rows,
    })
}
