//! ResourceSlice: devices that a driver has to offer, on a node or for several.

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::capacity;
use super::{
    EFFECTS, GROUP, each, unique, validate_binding, validate_driver, validate_label, validate_label_value,
    validate_pool_name, validate_qualified,
};
use crate::errors::{Errors, Path};
use crate::kinds::pod::affinity::node_selector;
use crate::kinds::{cluster_resource, columns, workload};
use crate::metadata::stamp;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Node", |o| o.text("spec.nodeName").into()),
    columns::text("Driver", |o| o.text("spec.driver").into()),
    columns::text("Pool", |o| o.text("spec.pool.name").into()),
    columns::AGE,
];

const MOST_DEVICES: usize = 128;
/// With taints, or parts that are used by several.
const MOST_ELABORATE_DEVICES: usize = 64;
const MOST_PROPERTIES: usize = 32;
const MOST_COUNTERS: usize = 32;
const MOST_COUNTER_SETS: usize = 8;
const MOST_CONSUMPTIONS: usize = 2;
const MOST_TAINTS: usize = 16;
const LONGEST_VALUE: usize = 64;

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.resource.v1.ResourceSlice";
    let base = cluster_resource(GROUP, "resourceslices", "resourceslice", "ResourceSlice", schema, COLUMNS);
    let resource = Resource { selectable: &["spec.driver", "spec.nodeName"], ..base };
    let strategy = Strategy {
        generation: true,
        returns_deleted: true,
        default,
        validate,
        validate_update: |new, old, errors| {
            for field in ["spec.pool.name", "spec.driver", "spec.nodeName"] {
                workload::immutable(new, old, field, errors);
            }
        },
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn default(slice: &mut Value) {
    slice.fill("spec", json!({}));
    slice.fill("spec.driver", "");
    for (field, zero) in [("name", json!("")), ("generation", json!(0)), ("resourceSliceCount", json!(0))] {
        slice.fill(&format!("spec.pool.{field}"), zero);
    }
    let now = stamp(jiff::Timestamp::now());
    for device in slice.items_mut("spec.devices") {
        for taint in device.items_mut("taints") {
            taint.fill("timeAdded", now.as_str());
        }
        // Off by default upstream, where it is then dropped.
        device.cut("nodeAllocatableResourceMappings");
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut).into_iter().flatten();
        for (_, attribute) in attributes {
            for field in ["bools", "ints", "strings", "versions"] {
                attribute.cut(field);
            }
        }
    }
}

/// The ways of saying for which nodes something is; the flags must be true if they are there.
const PLACES: &[&str] = &["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];

/// Those of `PLACES` that are used, quoted.
fn validate_places(place: &Value, empty: &str, path: &Path<'_>, errors: &mut Errors) -> Vec<String> {
    let mut used = Vec::new();
    for field in PLACES {
        let here = path.child(field);
        let used_here = match place.look(field) {
            Value::Null => false,
            Value::String(name) if name.is_empty() => {
                errors.invalid(&here, "", empty);
                false
            }
            Value::String(name) => {
                errors.all_invalid(&here, name, names::subdomain(name));
                true
            }
            Value::Bool(true) => true,
            Value::Bool(false) => {
                errors.invalid(&here, false, "must be either unset or set to true");
                false
            }
            selector => {
                node_selector(selector, &here, errors);
                true
            }
        };
        if used_here {
            used.push(format!("`{field}`"));
        }
    }
    used
}

fn validate(slice: &Value, errors: &mut Errors) {
    let path = Path::root("spec");
    let spec = slice.look("spec");
    validate_driver(spec.text("driver"), &path.child("driver"), errors);
    let pool = path.child("pool");
    validate_pool_name(spec.text("pool.name"), &pool.child("name"), errors);
    for (field, least, why) in [
        ("resourceSliceCount", 1, "must be greater than zero"),
        ("generation", 0, "must be greater than or equal to zero"),
    ] {
        let number = columns::count(spec.look("pool"), field);
        if number < least {
            errors.invalid(&pool.child(field), number, why);
        }
    }
    validate_nodes(spec, &path, errors);
    let (devices, sets) = (spec.items("devices"), spec.items("sharedCounters"));
    if !devices.is_empty() && !sets.is_empty() {
        errors.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let elaborate = devices.iter().any(|d| !d.items("taints").is_empty() || !d.items("consumesCounters").is_empty());
    let most = if elaborate { MOST_ELABORATE_DEVICES } else { MOST_DEVICES };
    let apart = spec.flag("perDeviceNodeSelection");
    let list = path.child("devices");
    each(devices, most, &list, errors, |device, path, errors| validate_device(device, apart, path, errors));
    if devices.len() <= most {
        unique(devices, &list, errors, |device| device.text("name"));
    }
    let list = path.child("sharedCounters");
    each(sets, MOST_COUNTER_SETS, &list, errors, |set, path, errors| validate_counters(set, "name", path, errors));
    if sets.len() <= MOST_COUNTER_SETS {
        unique(sets, &list, errors, |set| set.text("name"));
    }
}

fn validate_nodes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let used = validate_places(spec, "must be either unset or set to a non-empty string", path, errors);
    let terms = spec.items("nodeSelector.nodeSelectorTerms");
    if spec.has("nodeSelector") && terms.len() != 1 {
        let here = path.child("nodeSelector.nodeSelectorTerms");
        errors.invalid(&here, terms.to_vec(), "must have exactly one node selector term");
    }
    match used.as_slice() {
        [] => errors.required(path, ONE),
        [_] => {}
        many => {
            let shown = format!("{{{}}}", many.join(", "));
            errors.invalid(path, shown, &format!("{ONE}, but multiple fields are set"));
        }
    }
}

fn validate_counters(set: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let (text, here) = (set.text(name), path.child(name));
    if text.is_empty() {
        errors.required(&here, "");
    } else {
        validate_label(text, &here, errors);
    }
    let (count, here) = (set.entries("counters").count(), path.child("counters"));
    if count == 0 {
        errors.required(&here, "");
    } else if count > MOST_COUNTERS {
        errors.too_many(&here, count, MOST_COUNTERS);
    } else {
        set.entries("counters").for_each(|(key, _)| validate_label(key, &here, errors));
    }
}

fn validate_device(device: &Value, apart: bool, path: &Path<'_>, errors: &mut Errors) {
    validate_label(device.text("name"), &path.child("name"), errors);
    let properties = device.entries("attributes").count() + device.entries("capacity").count();
    if properties > MOST_PROPERTIES {
        let why = format!("the total number of attributes and capacities must not exceed {MOST_PROPERTIES}");
        errors.invalid(path, properties, &why);
    }
    let here = path.child("attributes");
    for (key, attribute) in device.entries("attributes") {
        validate_qualified(key, &here, errors);
        validate_attribute(attribute, &here.key(key), errors);
    }
    let here = path.child("capacity");
    let shared = device.flag("allowMultipleAllocations");
    for (key, item) in device.entries("capacity") {
        validate_qualified(key, &here, errors);
        capacity::validate(item, shared, &here.key(key), errors);
    }
    each(device.items("taints"), MOST_TAINTS, &path.child("taints"), errors, validate_taint);
    let (consumed, list) = (device.items("consumesCounters"), path.child("consumesCounters"));
    each(consumed, MOST_CONSUMPTIONS, &list, errors, |set, path, errors| {
        validate_counters(set, "counterSet", path, errors);
    });
    if consumed.len() <= MOST_CONSUMPTIONS {
        unique(consumed, &list, errors, |set| set.text("counterSet"));
    }
    validate_device_nodes(device, apart, path, errors);
    validate_binding(device, path, errors);
}

fn validate_device_nodes(device: &Value, apart: bool, path: &Path<'_>, errors: &mut Errors) {
    if !apart {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| device.has(field)) {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the \
                       ResourceSlice spec";
            errors.invalid(path, Value::Null, why);
        }
        return;
    }
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true \
                       in the ResourceSlice spec";
    match validate_places(device, "must not be empty", path, errors).as_slice() {
        [] => errors.required(path, ONE),
        [_] => {}
        many => errors.invalid(path, format!("{{{}}}", many.join(", ")), ONE),
    }
}

fn validate_attribute(attribute: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["string", "version"] {
        let Some(text) = attribute.look(field).as_str() else { continue };
        let here = path.child(field);
        if field == "version" && !is_version(text) {
            errors.invalid(&here, text, "must be a string compatible with semver.org spec 2.0.0");
        }
        if text.len() > LONGEST_VALUE {
            errors.too_long(&here, LONGEST_VALUE);
        }
    }
    match ["bool", "int", "string", "version"].iter().filter(|field| attribute.has(field)).count() {
        0 => errors.invalid(path, "", "exactly one value must be specified"),
        1 => {}
        _ => errors.invalid(path, attribute.clone(), "exactly one value must be specified"),
    }
}

/// `1.2.3`, perhaps with what it comes before and how it was built: `1.2.3-rc.1+x`.
fn is_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|before| before.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn validate_taint(taint: &Value, path: &Path<'_>, errors: &mut Errors) {
    let key = taint.text("key");
    errors.all_invalid(&path.child("key"), key, names::qualified(key));
    validate_label_value(taint.text("value"), &path.child("value"), errors);
    match taint.text("effect") {
        "" => errors.required(&path.child("effect"), ""),
        effect if !EFFECTS.contains(&effect) => errors.not_supported(&path.child("effect"), effect, EFFECTS),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::count;
    use super::*;

    #[test]
    fn versions_are_semantic() {
        for right in ["1.2.3", "0.0.0", "1.2.3-rc.1", "1.2.3-0a+build.01", "1.2.3+x"] {
            assert!(is_version(right), "{right}");
        }
        for wrong in ["1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3"] {
            assert!(!is_version(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_slice_is_for_certain_nodes() {
        let term = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
        for (spec, wrong) in [
            (json!({"nodeName": "n"}), 0),
            (json!({"allNodes": true}), 0),
            (json!({"nodeSelector": {"nodeSelectorTerms": [term]}}), 0),
            (json!({"nodeSelector": {"nodeSelectorTerms": [term, term]}}), 1),
            (json!({"allNodes": false}), 2),
            (json!({"nodeName": "n", "allNodes": true}), 1),
            (json!({"nodeName": ""}), 2),
        ] {
            assert_eq!(count(|path, errors| validate_nodes(&spec, path, errors)), wrong, "{spec}");
        }
    }

    #[test]
    fn devices_are_described_within_limits() {
        for (device, apart, wrong) in [
            (json!({"name": "a", "attributes": {"x": {"int": 1}, "d.io/y": {"version": "1.0.0"}}}), false, 0),
            (json!({"name": "a", "attributes": {"x": {}, "y": {"int": 1, "bool": true}}}), false, 2),
            (json!({"name": "A"}), false, 1),
            (json!({"name": "a", "nodeName": "n"}), false, 1),
            (json!({"name": "a"}), true, 1),
            (
                json!({"name": "a", "taints": [{"key": "k", "effect": "NoSchedule"}, {"key": "", "effect": "x"}]}),
                false,
                3,
            ),
            (
                json!({"name": "a", "consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": "1"}}}]}),
                false,
                0,
            ),
            (json!({"name": "a", "consumesCounters": [{}]}), false, 2),
        ] {
            assert_eq!(count(|path, errors| validate_device(&device, apart, path, errors)), wrong, "{device}");
        }
    }
}
