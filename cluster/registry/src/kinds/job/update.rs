//! What of a job may change: little, and of its template nothing while pods may run.

use serde_json::{Value, json};

use super::{is, spec};
use crate::errors::{Errors, Path, quote};
use crate::golang;
use crate::kinds::columns::count;
use crate::kinds::workload;
use crate::value::{Fill as _, Look as _};

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    spec::validate(new, old, errors);
    // Upstream checks the specification a second time.
    spec::specified(new, errors);
    completions(new, old, errors);
    workload::same_selector(new, old, errors);
    template(new, old, errors);
    for (field, shown_as) in [
        ("spec.completionMode", ""),
        ("spec.podFailurePolicy", "PodFailurePolicy"),
        ("spec.backoffLimitPerIndex", ""),
        ("spec.managedBy", ""),
        ("spec.successPolicy", "SuccessPolicy"),
    ] {
        fixed(new, old, field, shown_as, errors);
    }
}

fn fixed(new: &Value, old: &Value, field: &str, shown_as: &str, errors: &mut Errors) {
    let value = new.look(field);
    if value == old.look(field) {
        return;
    }
    let (path, why) = (Path::root(field), "field is immutable");
    if value.is_null() || shown_as.is_empty() {
        errors.invalid(&path, value.clone(), why);
    } else {
        errors.invalid_json(&path, &golang::show(value, shown_as), why);
    }
}

/// An indexed job may change its size with its parallelism.
fn completions(new: &Value, old: &Value, errors: &mut Errors) {
    let field = "spec.completions";
    if new.text("spec.completionMode") != "Indexed" {
        fixed(new, old, field, "", errors);
    } else if let Some(number) =
        new.int(field).filter(|n| old.int(field) != Some(*n) && new.int("spec.parallelism") != Some(*n))
    {
        errors.invalid(&Path::root(field), number, "can only be modified in tandem with spec.parallelism");
    }
}

fn template(new: &Value, old: &Value, errors: &mut Errors) {
    const WHY: &str = "field is immutable";
    let stopped = old.text("status.startTime").is_empty() || is(old, "Suspended");
    let idle = old.flag("spec.suspend") && stopped && count(old, "status.active") == 0;
    let (new, mut expected) = (new.look("spec.template"), old.look("spec.template").clone());
    if !idle {
        if new != &expected {
            errors.invalid_json(&Path::root("spec.template"), &shown(new), WHY);
        }
        return;
    }
    decide_anew(&mut expected, new);
    let spec = new.look("spec");
    if spec != expected.look("spec") {
        errors.invalid_json(&Path::root("spec.template.spec"), &golang::show(spec, "PodSpec"), WHY);
    }
}

/// While no pod runs, where they will run and what they will need may still be decided.
fn decide_anew(template: &mut Value, new: &Value) {
    for field in ["spec.nodeSelector", "spec.tolerations", "spec.schedulingGates"] {
        take(template, field, new);
    }
    // Of the affinity only what concerns nodes.
    let affinity = new.look("spec.affinity");
    if affinity.is_object() {
        template.fill("spec.affinity", json!({}));
        take(template, "spec.affinity.nodeAffinity", new);
    } else {
        template.cut("spec.affinity.nodeAffinity");
        if template.entries("spec.affinity").count() == 0 {
            take(template, "spec.affinity", new);
        }
    }
    for list in ["spec.containers", "spec.initContainers"] {
        let (containers, new) = (template.items_mut(list), new.items(list));
        if containers.len() == new.len() {
            let same =
                containers.iter_mut().zip(new).filter(|(container, new)| container.text("name") == new.text("name"));
            same.for_each(|(container, new)| take(container, "resources", new));
        }
    }
}

/// A field as another object has it, or has it not.
fn take(object: &mut Value, field: &str, from: &Value) {
    match from.look(field) {
        Value::Null => drop(object.cut(field)),
        value => object.set(field, value.clone()),
    }
}

/// A template of pods as upstream's internal types show it: `{"labels":…,"Spec":…}`: the metadata keeps its names, and leaves out what is empty.
fn shown(template: &Value) -> String {
    const META: &[&str] =
        &["name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers"];
    let given = META.iter().filter_map(|name| {
        let value = template.look("metadata").get(name)?;
        Some(format!("{}:{value}", quote(name)))
    });
    let spec = format!("\"Spec\":{}", golang::show(template.look("spec"), "PodSpec"));
    format!("{{{}}}", given.chain([spec]).collect::<Vec<_>>().join(","))
}
