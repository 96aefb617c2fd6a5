//! The rules of what a number of pods is measured by.

use serde_json::Value;

use crate::errors::{Errors, Late, Path};
use crate::kinds::pod::resources::{self, parse};
use crate::names;
use crate::value::Look as _;

/// Where each type of metric stands, in the order in which upstream looks for them.
const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

pub(super) struct Target {
    /// It may be of the core group.
    pub(super) core: bool,
    /// Whose version it is that has to be one.
    pub(super) rule: Late,
}

/// An object of any kind.
pub(super) fn reference(object: &Value, target: Target, path: &Path<'_>, errors: &mut Errors) {
    for field in ["kind", "name"] {
        let text = object.text(field);
        if text.is_empty() {
            errors.required(&path.child(field), "");
        }
        segment(text, &path.child(field), errors);
    }
    let version = object.text("apiVersion");
    let here = path.child("apiVersion");
    let why = match version.split('/').collect::<Vec<_>>().as_slice() {
        [_] | ["", _] if !target.core => "apiVersion must specify API group".to_owned(),
        [_] | [_, _] => return,
        _ => format!("unexpected GroupVersion string: {version}"),
    };
    errors.late(target.rule, |errors| errors.invalid(&here, version, &why));
}

/// A part of a request's path.
fn segment(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text == "." || text == ".." {
        errors.invalid(path, text, &format!("may not be '{text}'"));
    }
    for c in ['/', '%'].into_iter().filter(|c| text.contains(*c)) {
        errors.invalid(path, text, &format!("may not contain '{c}'"));
    }
}

pub(super) fn validate(metrics: &[Value], min: i64, path: &Path<'_>, errors: &mut Errors) {
    for (at, metric) in metrics.iter().enumerate() {
        let item = path.index(at);
        let kind = metric.text("type");
        if kind.is_empty() {
            errors.required(&item.child("type"), "must specify a metric source type");
        }
        if !TYPES.contains(&kind) {
            errors.not_supported(&item.child("type"), kind, TYPES);
        }
        sources(metric, kind, &item, errors);
    }
    let outside = |metric: &Value| ["Object", "External"].contains(&metric.text("type"));
    if min == 0 && !metrics.iter().any(outside) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(path, why);
    }
}

fn sources(metric: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let mut given: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|field| metric.has(field)).collect();
    if let Some(first) = given.first() {
        source(metric.look(first), first, &path.child(first), errors);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    match expected {
        Some(field) if !metric.has(field) => {
            errors.required(&path.child(field), "must populate information for the given metric source");
        }
        Some(_) => {}
        // Said a second time: here upstream looks for the source.
        None => errors.not_supported(&path.child("type"), kind, TYPES),
    }
    if given.len() != 1 {
        given.retain(|field| Some(*field) != expected);
        for field in given {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn source(source: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let of_resource = kind == "resource" || kind == "containerResource";
    if kind == "object" {
        let target = Target { core: true, rule: Late::MetricVersion };
        reference(source.look("describedObject"), target, &path.child("describedObject"), errors);
    }
    if of_resource {
        let (name, container) = (source.text("name"), source.text("container"));
        let of_container = kind == "containerResource";
        match name {
            "" => errors.required(&path.child("name"), "must specify a resource name"),
            name if of_container => resources::container_resource(name, &path.child("name"), errors),
            _ => {}
        }
        match container {
            _ if !of_container => {}
            "" => errors.required(&path.child("container"), "must specify a container"),
            container => errors.all_invalid(&path.child("container"), container, names::label(container)),
        }
    } else {
        let metric = path.child("metric");
        let name = source.text("metric.name");
        if name.is_empty() {
            errors.required(&metric.child("name"), "must specify a metric name");
        }
        segment(name, &metric.child("name"), errors);
    }
    let target = source.look("target");
    let here = path.child("target");
    self::target(target, &here, errors);
    let (value, average) = (target.has("value"), target.has("averageValue"));
    let utilization = target.has("averageUtilization");
    match kind {
        "object" if !value && !average => {
            errors.required(&here.child("averageValue"), "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            let why = "must set either a target value for metric or a per-pod target";
            errors.required(&here.child("averageValue"), why);
        }
        "external" if value && average => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&here.child("value"), why);
        }
        "pods" if !is_positive(target.look("averageValue")) => {
            errors.required(&here.child("averageValue"), "must specify a positive target averageValue");
        }
        _ if of_resource && !utilization && !average => {
            let why = "must set either a target raw value or a target utilization";
            errors.required(&here.child("averageUtilization"), why);
        }
        _ if of_resource && utilization && average => {
            let why = "may not set both a target raw value and a target utilization";
            errors.forbidden(&here.child("averageValue"), why);
        }
        _ => {}
    }
}

fn is_positive(amount: &Value) -> bool {
    let amount = parse(amount);
    !amount.is_negative() && !amount.is_zero()
}

fn target(target: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = target.text("type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        errors.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        let amount = target.look(field);
        if !amount.is_null() && !is_positive(amount) {
            errors.invalid(&path.child(field), amount.clone(), "must be positive");
        }
    }
    if let Some(percent) = target.int("averageUtilization").filter(|p| *p < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
}
