//! PodTemplate: a template of pods that stands alone.

use kedge_api::resource::Column;
use serde_json::json;

use super::{columns, resource, workload};
use crate::errors::Path;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Containers", |o| columns::containers(o.look("template"), "name")),
    columns::text("Images", |o| columns::containers(o.look("template"), "image")),
    columns::text("Pod Labels", |o| columns::labels(o.look("template.metadata.labels")).into()),
];

pub(crate) fn row() -> Row {
    let resource =
        resource("", "podtemplates", "podtemplate", "PodTemplate", "io.k8s.api.core.v1.PodTemplate", COLUMNS);
    let strategy = Strategy {
        generation: true,
        returns_deleted: true,
        default: |object| {
            object.fill("template", json!({}));
            workload::default_pods(object.slot("template"));
        },
        validate: |object, errors| workload::pod_template(object.look("template"), &Path::root("template"), errors),
        warnings: |new, _| workload::warnings_at(new, "template"),
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}
