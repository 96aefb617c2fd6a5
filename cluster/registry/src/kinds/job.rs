//! Job.

mod success;

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::columns::{self, count};
use super::{STATUS, resource, workload};
use crate::errors::{Errors, Path, quote};
use crate::golang;
use crate::pick::pick;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Status", |o| status(o).into()),
    columns::text("Completions", |o| completions(o).into()),
    columns::text("Duration", |o| duration(o).into()),
    columns::AGE,
    columns::CONTAINERS,
    columns::IMAGES,
    columns::SELECTOR,
];

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

pub(crate) fn row() -> Row {
    let base = resource("batch", "jobs", "job", "Job", "io.k8s.api.batch.v1.Job", COLUMNS);
    let resource = Resource {
        categories: Cow::Borrowed(&["all"]),
        subresources: &[STATUS],
        selectable: &["status.successful"],
        ..base
    };
    let strategy = Strategy {
        orphans: true,
        default,
        prepare_create,
        validate,
        validate_update,
        validate_status,
        warnings: workload::warnings_of_named,
        field: |json, _| match pick(json, "status.succeeded").as_str() {
            "" => "0".into(),
            number => number.into(),
        },
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

fn status(job: &Value) -> String {
    let is = |kind: &str| {
        job.items("status.conditions").iter().any(|c| c.text("type") == kind && c.text("status") == "True")
    };
    let known = ["Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"];
    if is("Complete") || is("Failed") {
        return if is("Complete") { "Complete" } else { "Failed" }.into();
    }
    if job.has("metadata.deletionTimestamp") {
        return "Terminating".into();
    }
    known.iter().find(|k| is(k)).map_or_else(|| "Running".into(), |k| (*k).to_owned())
}

fn completions(job: &Value) -> String {
    let done = count(job, "status.succeeded");
    match (job.int("spec.completions"), job.int("spec.parallelism").unwrap_or(1)) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, many) if many > 1 => format!("{done}/1 of {many}"),
        (None, _) => format!("{done}/1"),
    }
}

fn duration(job: &Value) -> String {
    let time = |path: &str| job.text(path).parse::<jiff::Timestamp>().ok();
    match (time("status.startTime"), time("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), Some(end)) => columns::duration(end.as_second() - start.as_second()),
        (Some(start), None) => columns::since(&start.to_string()),
    }
}

fn default(job: &mut Value) {
    workload::default_template(job);
    if job.look("spec.completions").is_null() && job.look("spec.parallelism").is_null() {
        job.set("spec.completions", 1);
        job.set("spec.parallelism", 1);
    }
    job.fill("spec.parallelism", 1);
    let per_index = job.has("spec.backoffLimitPerIndex");
    job.fill("spec.backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    job.fill("spec.completionMode", "NonIndexed");
    job.fill("spec.suspend", false);
    let policy = if job.has("spec.podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    job.fill("spec.podReplacementPolicy", policy);
    for rule in job.items_mut("spec.podFailurePolicy.rules") {
        for pattern in rule.items_mut("onPodConditions") {
            pattern.fill_text("status", "True");
        }
    }
    job.fill("spec.manualSelector", false);
    if job.entries("metadata.labels").count() == 0 && job.entries("spec.template.metadata.labels").count() > 0 {
        let labels = job.look("spec.template.metadata.labels").clone();
        job.set("metadata.labels", labels);
    }
    job.fill("status", json!({}));
    workload::null_times(job, "status.conditions", &["lastProbeTime", "lastTransitionTime"]);
}

/// Without `manualSelector` the server chooses one that no other job has.
fn prepare_create(job: &mut Value) {
    job.set("status", json!({}));
    let uid = job.text("metadata.uid").to_owned();
    let name = job.text("metadata.name").to_owned();
    if job.flag("spec.manualSelector") {
        return;
    }
    // Labels that were taken from the template, or would have been, follow what the server adds to it.
    let follow = job.entries("metadata.labels").count() == 0
        || job.look("metadata.labels") == job.look("spec.template.metadata.labels");
    let mut labels = job.look("spec.template.metadata.labels").as_object().cloned().unwrap_or_default();
    for (key, value) in [(CONTROLLER_UID, &uid), ("controller-uid", &uid), (JOB_NAME, &name), ("job-name", &name)] {
        labels.entry(key).or_insert_with(|| value.as_str().into());
    }
    if follow {
        job.set("metadata.labels", labels.clone());
    }
    job.set("spec.template.metadata.labels", labels);
    let mut chosen = job.look("spec.selector.matchLabels").as_object().cloned().unwrap_or_default();
    chosen.entry(CONTROLLER_UID).or_insert_with(|| uid.into());
    job.set("spec.selector.matchLabels", chosen);
}

/// The job as a whole: the selector is the server's, unless the job says otherwise.
fn validate(job: &Value, errors: &mut Errors) {
    let selector = job.look("spec.selector");
    let own = |key: &str| json!({"matchLabels": {key: job.text("metadata.uid")}});
    let generated = [CONTROLLER_UID, "controller-uid"].iter().any(|key| selector == &own(key));
    if !job.flag("spec.manualSelector") && !selector.is_null() && !generated {
        errors.invalid(&Path::root("spec.selector"), selector.clone(), "`selector` not auto-generated");
    }
    specified(job, errors);
}

fn specified(job: &Value, errors: &mut Errors) {
    rules(job.look("spec"), &Path::root("spec"), errors);
    let selector = job.look("spec.selector");
    let path = Path::root("spec.selector");
    if selector.is_null() {
        errors.required(&path, "");
    } else {
        super::pod::affinity::label_selector(selector, &path, errors);
    }
    workload::chosen(job, "invalid label selector", errors);
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
    mode(spec, path, errors);
    let template = path.child("template");
    workload::pod_template(spec.look("template"), &template, errors);
    let restart = spec.text("template.spec.restartPolicy");
    let here = template.child("spec.restartPolicy");
    if restart == "Always" {
        errors.required(&here, "valid values: \"OnFailure\", \"Never\"");
    } else if !["OnFailure", "Never"].contains(&restart) {
        errors.not_supported(&here, restart, &["OnFailure", "Never"]);
    }
    if spec.has("podFailurePolicy") && restart != "Never" {
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.invalid(&here, restart, why);
    }
    failure_policy(spec, path, errors);
    success::policy(spec, &path.child("successPolicy"), errors);
}

fn mode(spec: &Value, root: &Path<'_>, errors: &mut Errors) {
    const MODES: &[&str] = &["NonIndexed", "Indexed"];
    let mode = spec.text("completionMode");
    let path = root.child("completionMode");
    if spec.has("completionMode") && !MODES.contains(&mode) {
        errors.not_supported(&path, mode, MODES);
    }
    if mode == "Indexed" {
        match spec.int("completions") {
            None => errors.required(&root.child("completions"), "when completion mode is Indexed"),
            Some(_) => {
                if let Some(many) = spec.int("parallelism").filter(|p| *p > 100_000) {
                    let why = "must be less than or equal to 100000 when completion mode is Indexed";
                    errors.invalid(&root.child("parallelism"), many, why);
                }
            }
        }
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = spec.int(field) {
                errors.invalid(&root.child(field), number, "requires indexed completion mode");
            }
        }
    }
    if mode != "Indexed" && spec.has("successPolicy") {
        let rules = spec.items("successPolicy.rules").to_vec();
        errors.invalid(&root.child("successPolicy"), json!({"Rules": rules}), "requires indexed completion mode");
    }
    let manager = spec.text("managedBy");
    if !manager.is_empty() && !manager.contains('/') {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.invalid(&root.child("managedBy"), manager, why);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(&root.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    const REPLACE: &[&str] = &["Failed", "TerminatingOrFailed"];
    let policy = spec.text("podReplacementPolicy");
    let path = root.child("podReplacementPolicy");
    if !spec.has("podReplacementPolicy") {
        // A job that is made of it has the default.
    } else if !REPLACE.contains(&policy) {
        errors.not_supported(&path, policy, REPLACE);
    } else if spec.has("podFailurePolicy") && policy != "Failed" {
        errors.not_supported(&path, policy, &["Failed"]);
    }
}

fn failure_policy(spec: &Value, root: &Path<'_>, errors: &mut Errors) {
    const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
    const OPERATORS: &[&str] = &["In", "NotIn"];
    let root = root.child("podFailurePolicy.rules");
    for (at, rule) in spec.items("podFailurePolicy.rules").iter().enumerate() {
        let path = root.index(at);
        let action = rule.text("action");
        if action.is_empty() {
            errors.required(&path.child("action"), &format!("valid values: {}", quoted(ACTIONS)));
        } else if !ACTIONS.contains(&action) {
            errors.not_supported(&path.child("action"), action, ACTIONS);
        }
        let codes = rule.look("onExitCodes");
        let conditions = rule.items("onPodConditions");
        if codes.is_object() {
            let here = path.child("onExitCodes");
            let operator = codes.text("operator");
            if !OPERATORS.contains(&operator) {
                errors.not_supported(&here.child("operator"), operator, OPERATORS);
            }
            let values = codes.items("values");
            if values.is_empty() {
                errors.invalid(&here.child("values"), json!([]), "at least one value is required");
            }
            let list = here.child("values");
            for (at, value) in values.iter().enumerate() {
                if operator == "In" && value.as_i64() == Some(0) {
                    errors.invalid(&list.index(at), 0, "must not be 0 for the In operator");
                }
            }
            if !conditions.is_empty() {
                let why = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.invalid(&path, rule.clone(), why);
            }
        } else if conditions.is_empty() {
            errors.invalid(&path, rule.clone(), "specifying one of OnExitCodes and OnPodConditions is required");
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", ")
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    // Upstream checks the specification a second time.
    specified(new, errors);
    for field in [
        "spec.completions",
        "spec.selector",
        "spec.completionMode",
        "spec.podFailurePolicy",
        "spec.backoffLimitPerIndex",
        "spec.managedBy",
        "spec.successPolicy",
    ] {
        if new.look(field) == old.look(field) {
            continue;
        }
        let indexed = field == "spec.completions" && new.text("spec.completionMode") == "Indexed";
        // An indexed job may change its size with its parallelism.
        if indexed && new.look("spec.completions") == new.look("spec.parallelism") {
            continue;
        }
        errors.invalid(&Path::root(field), new.look(field).clone(), "field is immutable");
    }
    // While it has never run, its scheduling may still be decided.
    let waiting = old.flag("spec.suspend") && old.text("status.startTime").is_empty();
    let mut same = new.look("spec.template").clone();
    if waiting {
        for field in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
            let path = format!("spec.{field}");
            match old.look("spec.template").look(&path) {
                Value::Null => {
                    same.cut(&path);
                }
                value => same.set(&path, value.clone()),
            }
        }
        for part in ["metadata.annotations", "metadata.labels"] {
            match old.look("spec.template").look(part) {
                Value::Null => {
                    same.cut(part);
                }
                value => same.set(part, value.clone()),
            }
        }
    }
    if &same != old.look("spec.template") {
        let shown = shown(new.look("spec.template"));
        errors.invalid_json(&Path::root("spec.template"), &shown, "field is immutable");
    }
}

/// A job that is over stays so.
fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    const COUNTS: &[&str] =
        &["status.active", "status.succeeded", "status.failed", "status.ready", "status.terminating"];
    workload::counts(new, COUNTS, errors);
    let is = |job: &Value, kind: &str| {
        job.items("status.conditions").iter().any(|c| c.text("type") == kind && c.text("status") == "True")
    };
    let active = count(new, "status.active");
    if active > 0 && (is(new, "Complete") || is(new, "Failed")) {
        errors.invalid(&Path::root("status.active"), active, "active>0 is invalid for finished job");
    }
    let time = new.text("status.completionTime");
    if !time.is_empty() && !is(new, "Complete") {
        let why = "cannot set completionTime when there is no Complete=True condition";
        errors.invalid(&Path::root("status.completionTime"), time, why);
    }
    let conditions = Path::root("status.conditions");
    for kind in ["Failed", "Complete"] {
        if is(old, kind) && !is(new, kind) {
            errors.invalid_unshown(&conditions, &format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    for kind in ["FailureTarget", "SuccessCriteriaMet"] {
        if is(old, kind) && !is(new, kind) {
            errors.invalid_unshown(&conditions, &format!("cannot disable the {kind}=True condition"));
        }
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
