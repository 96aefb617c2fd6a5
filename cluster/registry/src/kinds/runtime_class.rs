//! RuntimeClass: by what containers are run.

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::pod::{resources, spec};
use super::{columns, resource, workload};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[columns::text("Handler", |o| o.text("handler").into()), columns::AGE];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.node.v1.RuntimeClass";
    let base = resource("node.k8s.io", "runtimeclasses", "runtimeclass", "RuntimeClass", schema, COLUMNS);
    let resource = Resource { namespaced: false, ..base };
    let strategy = Strategy {
        create_on_update: true,
        unconditional_update: false,
        default: |class| class.fill("handler", ""),
        validate,
        validate_update: |new, old, errors| workload::immutable(new, old, "handler", errors),
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn validate(class: &Value, errors: &mut Errors) {
    let handler = class.text("handler");
    let path = Path::root("handler");
    if handler.is_empty() {
        errors.required(&path, "");
    } else {
        errors.all_invalid(&path, handler, names::label(handler));
    }
    if class.has("overhead") {
        let limits = json!({"limits": class.look("overhead.podFixed")});
        resources::requirements(&limits, &[], &Path::root("overhead"), errors);
    }
    let scheduling = Path::root("scheduling");
    crate::metadata::labels(class.look("scheduling.nodeSelector"), &scheduling.child("nodeSelector"), errors);
    let list = scheduling.child("tolerations");
    let tolerations = class.items("scheduling.tolerations");
    spec::tolerations(tolerations, &list, errors);
    for (at, toleration) in tolerations.iter().enumerate() {
        let key =
            |toleration: &Value| ["key", "operator", "value", "effect"].map(|field| toleration.text(field).to_owned());
        if tolerations.iter().take(at).any(|earlier| key(earlier) == key(toleration)) {
            errors.duplicate_json(&list.index(at), &golang::show(toleration, "Toleration"), "");
        }
    }
}
