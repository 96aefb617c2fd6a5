//! What became of a claim: which devices it got, for whom they are held, and what their drivers say of them.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    MOST_ITEMS, each, request, text, unique, validate_binding, validate_driver, validate_label, validate_opaque,
    validate_pool_name, validate_raw, validate_toleration,
};
use crate::errors::{Errors, Path};
use crate::kinds::pod::affinity::node_selector;
use crate::kinds::{address, conditions as common};
use crate::value::Look as _;

const MOST_CONSUMERS: usize = 256;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::root("status");
    let status = new.look("status");
    let (consumers, list) = (status.items("reservedFor"), path.child("reservedFor"));
    each(consumers, MOST_CONSUMERS, &list, errors, |consumer, path, errors| {
        for field in ["resource", "name", "uid"] {
            if consumer.text(field).is_empty() {
                errors.required(&path.child(field), "");
            }
        }
    });
    unique(consumers, &list, errors, |consumer| consumer.text("uid"));
    let allocated: HashSet<_> = status.items("allocation.devices.results").iter().map(identity).collect();
    let devices = path.child("devices");
    let mut seen = HashSet::new();
    for (at, device) in status.items("devices").iter().enumerate() {
        let path = devices.index(at);
        validate_device(device, &allocated, &path, errors);
        let id = identity(device);
        if !seen.insert(id.clone()) {
            errors.duplicate_json(&path, &id, "");
        }
    }
    let allocation = status.look("allocation");
    if !consumers.is_empty() && allocation.is_null() {
        errors.forbidden(&list, "may not be specified when `allocated` is not set");
    }
    let added = consumers.iter().any(|consumer| !old.items("status.reservedFor").contains(consumer));
    if !allocation.is_null() && new.has("metadata.deletionTimestamp") && added {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.forbidden(&list, why);
    }
    let here = path.child("allocation");
    match old.look("status.allocation") {
        Value::Null if !allocation.is_null() => validate_allocation(new.look("spec"), allocation, &here, errors),
        before if !before.is_null() && !allocation.is_null() && before != allocation => {
            errors.invalid(&here, allocation.clone(), "field is immutable");
        }
        _ => {}
    }
}

/// Driver, pool, device, and which share of it.
fn identity(device: &Value) -> String {
    let parts = ["driver", "pool", "device", "shareID"].map(|field| device.text(field));
    parts.join("/").trim_end_matches('/').to_owned()
}

fn validate_allocation(spec: &Value, allocation: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known = request::names_of(spec);
    let devices = path.child("devices");
    let list = devices.child("results");
    each(allocation.items("devices.results"), MOST_ITEMS, &list, errors, |result, path, errors| {
        request::validate_reference(result.text("request"), &known, &path.child("request"), errors);
        validate_place(result, path, errors);
        validate_binding(result, path, errors);
        let list = path.child("tolerations");
        for (at, toleration) in result.items("tolerations").iter().enumerate() {
            validate_toleration(toleration, &list.index(at), errors);
        }
        validate_share(result, path, errors);
    });
    // Those of classes and those of the claim.
    let list = devices.child("config");
    each(allocation.items("devices.config"), 2 * MOST_ITEMS, &list, errors, |config, path, errors| {
        let here = path.child("source");
        match config.text("source") {
            "" => errors.required(&here, ""),
            "FromClaim" | "FromClass" => {}
            other => errors.not_supported(&here, other, &["FromClaim", "FromClass"]),
        }
        request::validate_references(config, &known, path, errors);
        validate_opaque(config, path, errors);
    });
    if allocation.has("nodeSelector") {
        node_selector(allocation.look("nodeSelector"), &path.child("nodeSelector"), errors);
    }
}

fn validate_place(device: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_driver(device.text("driver"), &path.child("driver"), errors);
    validate_pool_name(device.text("pool"), &path.child("pool"), errors);
    validate_label(device.text("device"), &path.child("device"), errors);
}

fn validate_share(device: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(share) = device.look("shareID").as_str() else { return };
    let here = path.child("shareID");
    match uuid::Uuid::parse_str(share) {
        Err(error) => errors.invalid(&here, share, &format!("error validating uid: {error}")),
        Ok(uid) if uid.to_string() != share => {
            let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
            errors.invalid(&here, share, why);
        }
        Ok(_) => {}
    }
}

fn validate_device(device: &Value, allocated: &HashSet<String>, path: &Path<'_>, errors: &mut Errors) {
    validate_place(device, path, errors);
    validate_share(device, path, errors);
    let id = identity(device);
    if !allocated.contains(&id) {
        errors.invalid_json(path, &id, "must be an allocated device in the claim");
    }
    let (conditions, list) = (device.items("conditions"), path.child("conditions"));
    if conditions.len() > MOST_CONDITIONS {
        errors.too_many(&list, conditions.len(), MOST_CONDITIONS);
    }
    common::validate(conditions, &list, errors);
    if device.has("data") {
        validate_raw(device.look("data"), &path.child("data"), errors);
    }
    let (network, path) = (device.look("networkData"), path.child("networkData"));
    for (field, longest) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if network.text(field).len() > longest {
            errors.too_long(&path.child(field), longest);
        }
    }
    let (addresses, list) = (network.items("ips"), path.child("ips"));
    each(addresses, MOST_ADDRESSES, &list, errors, |item, path, errors| {
        errors.all_invalid(path, text(item), address::interface(text(item)));
    });
    unique(addresses, &list, errors, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(new: Value, old: Value) -> usize {
        let claim =
            |status| json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {}}]}}, "status": status});
        let mut errors = Errors::default();
        validate(&claim(new), &claim(old), &mut errors);
        errors.len()
    }

    #[test]
    fn what_was_allocated_stays() {
        let result = json!({"request": "r", "driver": "d.io", "pool": "p", "device": "x"});
        let allocation = json!({"devices": {"results": [result]}});
        let consumer = json!({"resource": "pods", "name": "p", "uid": "u"});
        let held = json!({"allocation": allocation, "reservedFor": [consumer]});
        assert_eq!(wrong(json!({"allocation": allocation}), json!({})), 0);
        assert_eq!(wrong(held.clone(), json!({"allocation": allocation})), 0);
        assert_eq!(wrong(json!({"reservedFor": [consumer]}), json!({})), 1);
        assert_eq!(wrong(json!({"allocation": {"devices": {}}}), json!({"allocation": allocation})), 1);
        assert_eq!(wrong(json!({"allocation": {"devices": {"results": [{"request": "s"}]}}}), json!({})), 4);
        let told = |device: &str, ip: &str| json!({"allocation": allocation, "devices": [{"driver": "d.io", "pool": "p", "device": device, "networkData": {"ips": [ip]}}]});
        assert_eq!(wrong(told("x", "10.0.0.1/8"), held.clone()), 0);
        assert_eq!(wrong(told("y", "10.0.0.1"), held), 2);
    }
}
