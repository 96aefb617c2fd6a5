//! Job.

mod failure;
mod indexes;
pub(crate) mod spec;
mod status;
mod success;
mod update;

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::columns::{self, count};
use super::{STATUS, resource, workload};
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
/// Their names of old.
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

pub(crate) fn row() -> Row {
    let base = resource("batch", "jobs", "job", "Job", "io.k8s.api.batch.v1.Job", COLUMNS);
    let resource = Resource {
        categories: Cow::Borrowed(&["all"]),
        subresources: &[STATUS],
        selectable: &["status.successful"],
        ..base
    };
    let strategy = Strategy {
        metadata_checks: (1, 1),
        orphans: true,
        default,
        borrows: Some(("metadata.labels", "spec.template.metadata.labels")),
        prepare_create,
        prepare_update: |job, _| labelled(job),
        validate_create: |job, errors| spec::validate(job, job, errors),
        validate_update: update::validate,
        validate_status: status::validate,
        warnings,
        field: |json, _| match pick(json, "status.succeeded").as_str() {
            "" => "0".into(),
            number => number.into(),
        },
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

fn status(job: &Value) -> String {
    let is = |kind: &str| is(job, kind);
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
    default_patterns(job.slot("spec"));
    job.fill("spec.manualSelector", false);
    job.fill("status", json!({}));
    workload::null_times(job, "status.conditions", &["lastProbeTime", "lastTransitionTime"]);
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = workload::name_warning(new, old, "Pod names and hostnames");
    if old.is_none_or(|old| old.look("spec") != new.look("spec")) {
        said.extend(spec::warnings(new, "spec"));
    }
    said
}

/// A condition of a failed pod is one that it has.
pub(crate) fn default_patterns(spec: &mut Value) {
    for rule in spec.items_mut("podFailurePolicy.rules") {
        for pattern in rule.items_mut("onPodConditions") {
            pattern.fill_text("status", "True");
        }
    }
}

/// A job without labels has its template's.
fn labelled(job: &mut Value) {
    let labels = job.look("spec.template.metadata.labels");
    if job.entries("metadata.labels").count() == 0 && labels.is_object() {
        job.set("metadata.labels", labels.clone());
    }
}

/// Without `manualSelector` the server chooses one that no other job has.
fn prepare_create(job: &mut Value) {
    job.set("status", json!({}));
    let uid = job.text("metadata.uid").to_owned();
    let name = job.text("metadata.name").to_owned();
    if !job.flag("spec.manualSelector") {
        let mut labels = job.look("spec.template.metadata.labels").as_object().cloned().unwrap_or_default();
        for (key, value) in [(OLD_UID, &uid), (CONTROLLER_UID, &uid), (OLD_NAME, &name), (JOB_NAME, &name)] {
            labels.entry(key).or_insert_with(|| value.as_str().into());
        }
        job.set("spec.template.metadata.labels", labels);
        let mut chosen = job.look("spec.selector.matchLabels").as_object().cloned().unwrap_or_default();
        chosen.entry(CONTROLLER_UID).or_insert_with(|| uid.into());
        job.set("spec.selector.matchLabels", chosen);
    }
    // As what is stored without labels is read: with its template's.
    labelled(job);
}

/// Whether a condition of it is true.
fn is(job: &Value, kind: &str) -> bool {
    has_condition(job, kind, "True")
}

fn has_condition(job: &Value, kind: &str, status: &str) -> bool {
    job.items("status.conditions").iter().any(|c| c.text("type") == kind && c.text("status") == status)
}
