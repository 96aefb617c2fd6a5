//! The kinds of `storage.k8s.io`, and the rules that they share.

pub(crate) mod attachment;
pub(crate) mod attributes_class;
pub(crate) mod capacity;
pub(crate) mod class;
pub(crate) mod driver;
pub(crate) mod node;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::names;

const GROUP: &str = "storage.k8s.io";

/// A resource of this group and of no namespace.
fn cluster_wide(
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    schema: &'static str,
    columns: &'static [Column],
) -> Resource {
    super::cluster_resource(GROUP, plural, singular, kind, schema, columns)
}

/// The name of a CSI driver.
pub(crate) fn driver(name: &str, path: &Path<'_>, errors: &mut Errors) {
    const MOST: usize = 63;
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > MOST {
        errors.too_long(path, MOST);
    }
    errors.all_invalid(path, name, names::subdomain(&name.to_lowercase()));
}

/// Whoever makes volumes: a name that may have a domain.
fn provisioner(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        errors.all_invalid(path, name, names::qualified(&name.to_lowercase()));
    }
}

/// What a driver is told: a bounded map.
fn parameters(map: &Value, path: &Path<'_>, errors: &mut Errors) {
    const MOST: usize = 512;
    const BYTES: usize = 256 << 10;
    let entries = map.as_object().into_iter().flatten();
    if entries.clone().count() > MOST {
        errors.too_long(path, MOST);
        return;
    }
    let mut bytes = 0;
    for (key, value) in entries {
        if key.is_empty() {
            errors.invalid(path, "", "field can not be empty.");
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > BYTES {
        errors.too_long(path, BYTES);
    }
}
