//! CSIStorageCapacity: how much a driver has left somewhere.

use serde_json::Value;

use super::GROUP;
use crate::errors::{Errors, Path};
use crate::kinds::pod::{affinity, resources};
use crate::kinds::{columns, resource, workload};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.storage.v1.CSIStorageCapacity";
    let resource =
        resource(GROUP, "csistoragecapacities", "csistoragecapacity", "CSIStorageCapacity", schema, columns::CREATED);
    let strategy = Strategy {
        unconditional_update: false,
        default: |capacity| capacity.fill("storageClassName", ""),
        validate,
        validate_update: |new, old, errors| {
            for field in ["nodeTopology", "storageClassName"] {
                workload::immutable(new, old, field, errors);
            }
        },
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn validate(capacity: &Value, errors: &mut Errors) {
    affinity::tolerant_label_selector(capacity.look("nodeTopology"), &Path::root("nodeTopology"), errors);
    let class = capacity.text("storageClassName");
    errors.all_invalid(&Path::root("storageClassName"), class, names::subdomain(class));
    resources::negative(capacity.look("capacity"), &Path::root("capacity"), errors);
}
