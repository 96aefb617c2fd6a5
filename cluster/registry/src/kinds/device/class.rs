//! DeviceClass: devices by what they can do, ready to be asked for.

use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{GROUP, MOST_ITEMS, each, validate_opaque, validate_selectors};
use crate::errors::{Errors, Path};
use crate::kinds::{cluster_resource, columns};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[columns::AGE];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.resource.v1.DeviceClass";
    let resource = cluster_resource(GROUP, "deviceclasses", "deviceclass", "DeviceClass", schema, COLUMNS);
    let strategy = Strategy {
        generation: true,
        returns_deleted: true,
        default: |class| class.fill("spec", json!({})),
        validate,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn validate(class: &Value, errors: &mut Errors) {
    let path = Path::root("spec");
    let spec = class.look("spec");
    validate_selectors(spec, &path, errors);
    each(spec.items("config"), MOST_ITEMS, &path.child("config"), errors, validate_opaque);
    if let Some(name) = spec.look("extendedResourceName").as_str().filter(|name| !is_extended(name)) {
        errors.invalid(&path.child("extendedResourceName"), name, "must be a valid extended resource name");
    }
}

/// The name of a resource that is not Kubernetes' own, and can be one of a quota.
fn is_extended(name: &str) -> bool {
    let own = !name.contains('/') || name.contains("kubernetes.io/");
    !own && !name.starts_with("requests.") && names::qualified(&format!("requests.{name}")).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_resources_have_a_domain_of_their_own() {
        for (name, right) in [
            ("example.com/gpu", true),
            ("bad", false),
            ("kubernetes.io/x", false),
            ("requests.example.com/gpu", false),
            ("example.com/", false),
        ] {
            assert_eq!(is_extended(name), right, "{name}");
        }
    }
}
