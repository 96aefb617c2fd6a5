//! Objects that are not kept, but made when asked for.

use std::sync::Arc;

use kedge_api::request::Payload;
use kedge_api::{Answer, Key, Request, Revision, Status, Verb};
use serde_json::Value;

use super::{answer, get, options, write};
use crate::select::Selection;
use crate::table::Row;
use crate::value::Look as _;

/// Gets one of them, or lists those that are selected.
pub(crate) async fn read(row: &Arc<Row>, request: &Request, objects: &[Value]) -> Result<Answer, Status> {
    let mut items = Vec::new();
    for value in objects {
        let key = Key::new(row.storage(), "", value.text("metadata.name"));
        items.push(Arc::new(write::loose(&key, Revision(0), value)?));
    }
    if request.verb == Verb::Get {
        let name = request.target.name.as_str();
        let found = items.into_iter().find(|object| *object.key.name == *name);
        return Ok(answer(200, Vec::new(), get::show(row, found.ok_or_else(|| missing(row, name))?).await?));
    }
    options::list(&request.options, false)?;
    let selection = Selection::parse(row, "", &request.options)?;
    items.retain(|object| selection.matches(object));
    let payload = Payload::List {
        api_version: row.resource.api_version(),
        kind: row.list_kind(),
        revision: Revision(0),
        r#continue: None,
        remaining: None,
        items,
    };
    Ok(answer(200, Vec::new(), payload))
}

/// Upstream names the singular here.
fn missing(row: &Row, name: &str) -> Status {
    let singular = kedge_api::GroupResource {
        group: row.resource.id.group.clone(),
        resource: row.resource.singular.as_ref().into(),
    };
    Status::not_found(&singular, name)
}
