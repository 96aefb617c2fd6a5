//! What a claim asks for: devices, how they must fit together, and what their drivers are told.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{
    MOST_ITEMS, each, text, unique, validate_fully_qualified, validate_label, validate_opaque, validate_selectors,
    validate_toleration,
};
use crate::errors::{Errors, Path};
use crate::names;
use crate::value::{Fill as _, Look as _};

const MOST_ALTERNATIVES: usize = 8;

/// Defaults of a claim's specification.
pub(super) fn default(spec: &mut Value) {
    spec.fill("devices", json!({}));
    if spec.items("devices.requests").is_empty() {
        spec.set("devices.requests", Value::Null);
    }
    for request in spec.items_mut("devices.requests") {
        request.find_mut("exactly").map(default_request);
        request.items_mut("firstAvailable").iter_mut().for_each(default_request);
    }
}

fn default_request(request: &mut Value) {
    request.fill_text("allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" {
        request.fill("count", 1);
    }
    for toleration in request.items_mut("tolerations") {
        toleration.fill_text("operator", "Equal");
    }
}

/// The requests' names, and `request/alternative`.
pub(super) fn names_of(spec: &Value) -> HashSet<String> {
    let mut all = HashSet::new();
    for request in spec.items("devices.requests") {
        let name = request.text("name");
        all.insert(name.to_owned());
        all.extend(request.items("firstAvailable").iter().map(|sub| format!("{name}/{}", sub.text("name"))));
    }
    all
}

pub(super) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("devices");
    let claim = spec.look("devices");
    let known = names_of(spec);
    let (requests, list) = (claim.items("requests"), path.child("requests"));
    each(requests, MOST_ITEMS, &list, errors, validate_request);
    if requests.len() <= MOST_ITEMS {
        unique(requests, &list, errors, |request| request.text("name"));
    }
    each(claim.items("constraints"), MOST_ITEMS, &path.child("constraints"), errors, |constraint, path, errors| {
        validate_references(constraint, &known, path, errors);
        match (constraint.look("matchAttribute").as_str(), constraint.look("distinctAttribute").as_str()) {
            (Some(name), _) => validate_fully_qualified(name, &path.child("matchAttribute"), errors),
            (None, Some(name)) => validate_fully_qualified(name, &path.child("distinctAttribute"), errors),
            (None, None) => {
                let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
                errors.required(path, why);
            }
        }
    });
    each(claim.items("config"), MOST_ITEMS, &path.child("config"), errors, |config, path, errors| {
        validate_references(config, &known, path, errors);
        validate_opaque(config, path, errors);
    });
}

fn validate_request(request: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_label(request.text("name"), &path.child("name"), errors);
    let alternatives = request.items("firstAvailable");
    match (request.look("exactly"), alternatives.is_empty()) {
        (Value::Null, true) => errors.required(path, "exactly one of `exactly` or `firstAvailable` is required"),
        (Value::Null, false) => {
            let list = path.child("firstAvailable");
            each(alternatives, MOST_ALTERNATIVES, &list, errors, |sub, path, errors| {
                validate_label(sub.text("name"), &path.child("name"), errors);
                validate_device(sub, path, errors);
            });
            if alternatives.len() <= MOST_ALTERNATIVES {
                unique(alternatives, &list, errors, |sub| sub.text("name"));
            }
        }
        (exactly, true) => validate_device(exactly, &path.child("exactly"), errors),
        (_, false) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.invalid(path, Value::Null, why);
        }
    }
}

/// Which device, and how many.
fn validate_device(request: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (class, here) = (request.text("deviceClassName"), path.child("deviceClassName"));
    if class.is_empty() {
        errors.required(&here, "");
    } else {
        errors.all_invalid(&here, class, names::subdomain(class));
    }
    validate_selectors(request, path, errors);
    let (count, here) = (request.int("count").unwrap_or(0), path.child("count"));
    match request.text("allocationMode") {
        "All" if count != 0 => errors.invalid(&here, count, "must not be specified when allocationMode is 'All'"),
        "ExactCount" if count <= 0 => errors.invalid(&here, count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        other => errors.not_supported(&path.child("allocationMode"), other, &["All", "ExactCount"]),
    }
    let list = path.child("tolerations");
    for (at, toleration) in request.items("tolerations").iter().enumerate() {
        validate_toleration(toleration, &list.index(at), errors);
    }
}

/// Requests that something is about; none are all.
pub(super) fn validate_references(place: &Value, known: &HashSet<String>, path: &Path<'_>, errors: &mut Errors) {
    let (requests, list) = (place.items("requests"), path.child("requests"));
    each(requests, MOST_ITEMS, &list, errors, |name, path, errors| validate_reference(text(name), known, path, errors));
    if requests.len() <= MOST_ITEMS {
        unique(requests, &list, errors, text);
    }
}

pub(super) fn validate_reference(name: &str, known: &HashSet<String>, path: &Path<'_>, errors: &mut Errors) {
    let parts: Vec<_> = name.split('/').collect();
    let several = parts.len() > 2;
    if !several {
        parts.iter().for_each(|part| validate_label(part, path, errors));
    }
    if several || !known.contains(name) {
        let why =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        errors.invalid(path, name, why);
    }
}

/// Where administrators' access is asked for, which some namespaces only may.
pub(super) fn admin_accesses(spec: &Value) -> Vec<usize> {
    let requests = spec.items("devices.requests").iter().enumerate();
    requests.filter(|(_, request)| request.flag("exactly.adminAccess")).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::count;
    use super::*;

    fn wrong(devices: Value) -> usize {
        let mut spec = json!({ "devices": devices });
        default(&mut spec);
        count(|path, errors| validate(&spec, path, errors))
    }

    #[test]
    fn a_request_asks_for_one_thing_or_for_the_first_of_several() {
        let one = json!({"deviceClassName": "c"});
        let sub = |name: &str| json!({"name": name, "deviceClassName": "c"});
        assert_eq!(wrong(json!({})), 0);
        assert_eq!(wrong(json!({"requests": [{"name": "r", "exactly": one}]})), 0);
        assert_eq!(wrong(json!({"requests": [{"name": "r", "firstAvailable": [sub("a"), sub("b")]}]})), 0);
        assert_eq!(wrong(json!({"requests": [{"name": "r", "firstAvailable": [sub("a"), sub("a")]}]})), 1);
        assert_eq!(wrong(json!({"requests": [{"name": "r", "exactly": one, "firstAvailable": [sub("a")]}]})), 1);
        assert_eq!(wrong(json!({"requests": [{"name": "r"}, {"name": "r", "exactly": {}}]})), 3);
        let all = json!({"deviceClassName": "c", "allocationMode": "All", "count": 1});
        assert_eq!(wrong(json!({"requests": [{"name": "r", "exactly": all}]})), 1);
    }

    #[test]
    fn constraints_are_about_requests_of_the_claim() {
        let request = json!({"name": "r", "firstAvailable": [{"name": "a", "deviceClassName": "c"}]});
        for (constraint, count) in [
            (json!({"requests": ["r", "r/a"], "matchAttribute": "d.io/x"}), 0),
            (json!({"requests": ["s"], "matchAttribute": "d.io/x"}), 1),
            (json!({"requests": ["r/a/b"], "distinctAttribute": "x"}), 2),
            (json!({"requests": []}), 1),
        ] {
            assert_eq!(wrong(json!({"requests": [request], "constraints": [constraint]})), count, "{constraint}");
        }
    }
}
