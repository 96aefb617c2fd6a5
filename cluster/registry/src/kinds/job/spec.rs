//! What a job may be: its specification, and the selector and labels that the server made for it.

use std::collections::BTreeMap;

use kedge_api::selector::Selector;
use serde_json::Value;

use super::{CONTROLLER_UID, JOB_NAME, OLD_NAME, OLD_UID, failure, success};
use crate::errors::{Errors, Path};
use crate::kinds::{ingress_class, pod, workload};
use crate::names;
use crate::value::Look as _;

/// Of an indexed job: that many pods run at once, that many indexes fail.
const MOST: i64 = 100_000;
/// … of one with more completions than `MOST`, if each index has a limit.
const MOST_OF_MANY: i64 = 10_000;
const LONGEST_MANAGER: usize = 63;

/// `first` is the job as it was made, or as it is by now.
pub(super) fn validate(job: &Value, first: &Value, errors: &mut Errors) {
    made(job, first, errors);
    specified(job, errors);
    let completions = job.int("spec.completions").unwrap_or(0);
    if job.text("spec.completionMode") == "Indexed" && completions > 0 {
        let name = job.text("metadata.name");
        let host = format!("{name}-{}", completions - 1);
        if !names::label(&host).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            errors.invalid(&Path::root("metadata.name"), name, &why);
        }
    }
}

/// What the server chose stands, unless the job chooses by itself. An old one has the labels of old only.
fn made(job: &Value, first: &Value, errors: &mut Errors) {
    let selector = job.look("spec.selector");
    if job.flag("spec.manualSelector") || selector.is_null() {
        return;
    }
    let (uid, name) = (job.text("metadata.uid"), job.text("metadata.name"));
    let all = [(OLD_UID, uid), (OLD_NAME, name), (CONTROLLER_UID, uid), (JOB_NAME, name)];
    let had = first.look("spec.template.metadata.labels");
    let of_now = [CONTROLLER_UID, JOB_NAME].iter().all(|key| had.get(key).is_some());
    let marks = if of_now { &all[..] } else { &all[..2] };
    let labels = job.look("spec.template.metadata.labels");
    let path = Path::root("spec.template.metadata.labels");
    for &(key, wanted) in marks {
        let why = format!("must be '{wanted}'");
        match labels.get(key).and_then(Value::as_str) {
            None => errors.required(&path.key(key), &why),
            Some(found) if found != wanted => errors.invalid(&path.key(key), labels.clone(), &why),
            Some(_) => {}
        }
    }
    let expected: BTreeMap<_, _> = marks.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let parsed = serde_json::from_value(selector.clone()).ok();
    let parsed = parsed.and_then(|typed| Selector::from_label_selector(Some(&typed)).ok());
    if parsed.is_some_and(|selector| !selector.matches(&expected)) {
        let why = "`selector` not auto-generated";
        errors.invalid_json(&Path::root("spec.selector"), &workload::shown(selector), why);
    }
}

/// Its specification, as a job's own.
pub(super) fn specified(job: &Value, errors: &mut Errors) {
    rules(job.look("spec"), &Path::root("spec"), errors);
    let selector = job.look("spec.selector");
    let path = Path::root("spec.selector");
    if selector.is_null() {
        errors.required(&path, "");
    } else {
        pod::affinity::tolerant_label_selector(selector, &path, errors);
    }
    workload::chosen_if_read(job, errors);
}

/// The rules of a job's specification, also of one that a schedule makes jobs of.
pub(crate) fn rules(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const COUNTS: &[&str] = &[
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for field in COUNTS {
        if let Some(number) = spec.int(field).filter(|n| *n < 0) {
            errors.invalid(&path.child(field), number, "must be greater than or equal to 0");
        }
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.look("managedBy").as_str() {
        let path = path.child("managedBy");
        ingress_class::domain_path(manager, &path, errors);
        if manager.len() > LONGEST_MANAGER {
            errors.too_long(&path, LONGEST_MANAGER);
        }
    }
    mode(spec, path, errors);
    if spec.has("podFailurePolicy") {
        failure::policy(spec, &path.child("podFailurePolicy"), errors);
    }
    success::policy(spec, &path.child("successPolicy"), errors);
    replacement(spec, &path.child("podReplacementPolicy"), errors);
    workload::pod_template(spec.look("template"), &path.child("template"), errors);
    restart(spec, &path.child("template.spec.restartPolicy"), errors);
}

fn mode(spec: &Value, root: &Path<'_>, errors: &mut Errors) {
    const MODES: &[&str] = &["NonIndexed", "Indexed"];
    let mode = spec.text("completionMode");
    match mode {
        "Indexed" => indexed(spec, root, errors),
        _ if spec.has("completionMode") && !MODES.contains(&mode) => {
            errors.not_supported(&root.child("completionMode"), mode, MODES);
        }
        _ => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(number) = spec.int(field) {
                    errors.invalid(&root.child(field), number, "requires indexed completion mode");
                }
            }
        }
    }
}

fn indexed(spec: &Value, root: &Path<'_>, errors: &mut Errors) {
    let [completions, parallelism, failing] =
        ["completions", "parallelism", "maxFailedIndexes"].map(|field| spec.int(field));
    if completions.is_none() {
        errors.required(&root.child("completions"), "when completion mode is Indexed");
    }
    let completions = completions.unwrap_or(i64::MAX);
    let many = (MOST + 1..i64::MAX).contains(&completions) && spec.has("backoffLimitPerIndex");
    let is_many = format!(
        "must be less than or equal to {MOST_OF_MANY} when completions are above {MOST} and used with backoff limit per index"
    );
    let mut limit = |field: &str, number: Option<i64>, most: i64, why: &str| {
        if let Some(number) = number.filter(|number| *number > most) {
            errors.invalid(&root.child(field), number, why);
        }
    };
    let why = format!("must be less than or equal to {MOST} when completion mode is Indexed");
    limit("parallelism", parallelism, MOST, &why);
    limit("maxFailedIndexes", failing, completions, "must be less than or equal to completions");
    limit("maxFailedIndexes", failing, MOST, &format!("must be less than or equal to {MOST}"));
    if many && failing.is_none() {
        let why = format!("must be specified when completions is above {MOST}");
        errors.required(&root.child("maxFailedIndexes"), &why);
    }
    if many {
        for (field, number) in [("parallelism", parallelism), ("maxFailedIndexes", failing)] {
            if let Some(number) = number.filter(|number| *number > MOST_OF_MANY) {
                errors.invalid(&root.child(field), number, &is_many);
            }
        }
    }
}

fn replacement(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known: &[&str] = if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    let policy = spec.text("podReplacementPolicy");
    // A job that a schedule makes has the default.
    if spec.has("podReplacementPolicy") && !known.contains(&policy) {
        errors.not_supported(path, policy, known);
    }
}

fn restart(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    match spec.text("template.spec.restartPolicy") {
        "" | "Always" => errors.required(path, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if spec.has("podFailurePolicy") => {
            errors.invalid(path, "OnFailure", "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" => {}
        other => errors.not_supported(path, other, &["OnFailure", "Never"]),
    }
}

/// Of the specification that lies at a path.
pub(crate) fn warnings(object: &Value, path: &str) -> Vec<String> {
    let spec = object.look(path);
    let over = |field: &str, most: i64| spec.int(field).is_some_and(|number| number > most);
    let mut said = Vec::new();
    if spec.text("completionMode") == "Indexed" && over("completions", MOST) && over("parallelism", MOST_OF_MANY) {
        said.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    said.extend(workload::warnings_at(object, &format!("{path}.template")));
    said
}
