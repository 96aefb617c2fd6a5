//! LimitRange: how much one container, pod or claim of a namespace may ask for, and what it gets that asks for nothing.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use kedge_api::Resource;
use kedge_api::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::pod::resources::{self, parse};
use super::{columns, resource};
use crate::errors::{Errors, Path};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const TYPES: &[&str] = &["Pod", "Container", "PersistentVolumeClaim"];

/// Numbers up to this are compared in thousandths.
const MOST_IN_MILLI: i64 = i64::MAX / 1000;

pub(crate) fn row() -> Row {
    let base =
        resource("", "limitranges", "limitrange", "LimitRange", "io.k8s.api.core.v1.LimitRange", columns::CREATED);
    let resource = Resource { short_names: Cow::Borrowed(&["limits"]), ..base };
    Row::new(
        resource,
        Strategy { metadata_checks: (0, 1), create_on_update: true, default, validate, ..Strategy::PLAIN },
    )
}

fn default(range: &mut Value) {
    range.fill("spec", json!({}));
    if range.items("spec.limits").is_empty() {
        range.set("spec.limits", Value::Null);
    }
    for limit in range.items_mut("spec.limits").iter_mut().filter(|l| l.text("type") == "Container") {
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            inherit(limit, from, to);
        }
    }
}

/// What `to` does not name is as in `from`.
fn inherit(limit: &mut Value, from: &str, to: &str) {
    let amounts = limit.look(from).as_object().cloned().unwrap_or_default();
    let mut into: Map<String, Value> = limit.look(to).as_object().cloned().unwrap_or_default();
    for (name, amount) in amounts {
        into.entry(name).or_insert(amount);
    }
    if !into.is_empty() {
        limit.set(to, into);
    }
}

fn validate(range: &Value, errors: &mut Errors) {
    let root = Path::root("spec.limits");
    let mut seen = HashSet::new();
    for (at, limit) in range.items("spec.limits").iter().enumerate() {
        let path = root.index(at);
        let kind = limit.text("type");
        let wrong = names::qualified(kind);
        let named = wrong.is_empty();
        errors.all_invalid(&path.child("type"), kind, wrong);
        if named && !kind.contains('/') && !TYPES.contains(&kind) {
            errors.invalid(&path.child("type"), kind, "must be a standard limit type or fully qualified");
        }
        if !seen.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        lists(limit, kind, &path, errors);
        let all = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
        let all: BTreeSet<&String> = all.iter().flat_map(|l| limit.entries(l).map(|(name, _)| name)).collect();
        for name in all {
            compare(limit, name, &path, errors);
        }
    }
}

/// Which lists there may be, and which names in them.
fn lists(limit: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let names_of = |list: &str, errors: &mut Errors| {
        let here = path.child(list);
        for (name, _) in limit.entries(list) {
            let item = here.key(name);
            match kind {
                "Pod" | "Container" => resources::container_resource(name, &item, errors),
                _ => resources::resource(name, &item, errors),
            }
        }
    };
    names_of("max", errors);
    names_of("min", errors);
    for list in ["default", "defaultRequest"] {
        if kind != "Pod" {
            names_of(list, errors);
        } else if limit.entries(list).count() > 0 {
            errors.forbidden(&path.child(list), "may not be specified when `type` is 'Pod'");
        }
    }
    if kind == "PersistentVolumeClaim" && !limit.has("min.storage") && !limit.has("max.storage") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), why);
    }
    names_of("maxLimitRequestRatio", errors);
}

/// That the amounts of one resource are in order: min ≤ request ≤ limit ≤ max.
fn compare(limit: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let of = |list: &str| limit.look(list).get(name).map(parse);
    let (max, min) = (of("max"), of("min"));
    // A pod has none, and what is said of them all the same is told already.
    let of_one = |list: &str| of(list).filter(|_| limit.text("type") != "Pod");
    let (default, request) = (of_one("default"), of_one("defaultRequest"));
    // Which two, in which of their fields, which of the two the error shows, and how it calls them.
    let pairs = [
        (min, max, "min", true, "min value", "max value"),
        (min, request, "defaultRequest", false, "min value", "default request value"),
        (request, max, "defaultRequest", true, "default request value", "max value"),
        (request, default, "defaultRequest", true, "default request value", "default limit value"),
        (min, default, "default", true, "min value", "default value"),
        (default, max, "default", false, "default value", "max value"),
    ];
    for (small, large, field, shows_small, small_word, large_word) in pairs {
        let (Some(small), Some(large)) = (small, large) else { continue };
        if small > large {
            let here = path.child(field);
            let shown = if shows_small { small } else { large }.to_string();
            let why = format!("{small_word} {small} is greater than {large_word} {large}");
            errors.invalid(&here.key(name), shown, &why);
        }
    }
    if let Some(ratio) = of("maxLimitRequestRatio") {
        let here = path.child("maxLimitRequestRatio");
        if ratio < Quantity::from_units(1) {
            errors.invalid(&here.key(name), ratio.to_string(), &format!("ratio {ratio} is less than 1"));
        }
        if let Some(most) = min.zip(max).and_then(|(min, max)| span(ratio, min, max))
            && ratio.as_f64() > most
        {
            let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
            errors.invalid(&here.key(name), ratio.to_string(), &why);
        }
    }
    if let Some((default, request)) = default.zip(request)
        && !resources::is_overcommitted(name)
        && default != request
    {
        let here = path.child("defaultRequest");
        let why = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        errors.invalid(&here.key(name), request.to_string(), &why);
    }
}

/// How many times the smallest amount goes into the largest.
fn span(ratio: Quantity, min: Quantity, max: Quantity) -> Option<f64> {
    let small = [ratio, min, max].iter().all(|q| q.value() < MOST_IN_MILLI);
    let (min, max) = if small { (min.as_f64(), max.as_f64()) } else { (whole(min), whole(max)) };
    (min != 0.0).then_some(max / min)
}

fn whole(amount: Quantity) -> f64 {
    Quantity::from_units(amount.value()).as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::cases;

    #[test]
    fn a_container_inherits_from_what_is_next_to_it() {
        let mut range = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2", "memory": "1Gi"},
            "min": {"cpu": "100m", "x.io/y": "1"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "200m"}},
            {"type": "Pod", "max": {"cpu": "4"}}]}});
        default(&mut range);
        let container = &range["spec"]["limits"][0];
        assert_eq!(container["default"], json!({"cpu": "500m", "memory": "1Gi"}));
        assert_eq!(container["defaultRequest"], json!({"cpu": "200m", "memory": "1Gi", "x.io/y": "1"}));
        assert_eq!(range["spec"]["limits"][1], json!({"type": "Pod", "max": {"cpu": "4"}}));
        let once = range.clone();
        default(&mut range);
        assert_eq!(range, once);
    }

    #[test]
    fn ratios_stay_within_the_span() {
        let with = |ratio: &str| {
            let mut errors = Errors::default();
            let range = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"},
                "maxLimitRequestRatio": {"cpu": ratio}}]}});
            validate(&range, &mut errors);
            errors.len()
        };
        assert_eq!((with("500m"), with("1"), with("2"), with("2100m")), (1, 0, 0, 1));
    }

    #[test]
    fn types_and_names() {
        let range = json!({"spec": {"limits": [{"type": "Pod"}]}});
        cases::created(
            &row(),
            &range,
            &[
                (
                    "/spec/limits/0/type",
                    json!("Node"),
                    &["spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified"],
                ),
                (
                    "/spec/limits/0/type",
                    json!(""),
                    &[
                        "spec.limits[0].type: Invalid value: \"\": name part must be non-empty",
                        "spec.limits[0].type: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                    ],
                ),
                (
                    "/spec/limits/0",
                    json!({"type": "PersistentVolumeClaim"}),
                    &[
                        "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
                    ],
                ),
                (
                    "/spec/limits/-",
                    json!({"type": "Pod", "default": {"cpu": "1"}, "max": {"cpu": "1"}, "min": {"cpu": "2"}}),
                    &[
                        "spec.limits[1].type: Duplicate value: \"Pod\"",
                        "spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'",
                        "spec.limits[1].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                    ],
                ),
            ],
        );
    }
}
