//! What a job's status may say, whoever keeps it: what was wrong before and did not change may stay.

use jiff::Timestamp;
use serde_json::Value;

use super::{has_condition, indexes, is};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::kinds::columns::count;
use crate::kinds::workload;
use crate::value::Look as _;

const AT: Path<'static> = Path::root("status");

/// The status that is to be, and which of its parts differ from the one that was.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
    completions: Option<i64>,
    indexed: bool,
}

impl Change<'_> {
    fn of(&self, fields: &[&str]) -> bool {
        fields.iter().any(|field| self.new.look("status").look(field) != self.old.look("status").look(field))
    }

    fn of_count(&self, field: &str) -> bool {
        count(self.new.look("status"), field) != count(self.old.look("status"), field)
    }

    fn of_any(&self, conditions: &[&str]) -> bool {
        conditions.iter().any(|kind| is(self.new, kind) != is(self.old, kind))
    }

    fn of_end(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }
}

fn is_finished(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
}

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    const COUNTS: &[&str] =
        &["status.active", "status.succeeded", "status.failed", "status.ready", "status.terminating"];
    let indexed = new.text("spec.completionMode") == "Indexed";
    let change = Change { new, old, completions: new.int("spec.completions"), indexed };
    workload::counts(new, COUNTS, errors);
    uncounted(new, errors);
    outcome(&change, errors);
    end(&change, errors);
    named(&change, errors);
    pods(&change, errors);
    conditions(&change, errors);
    steps(&change, errors);
}

/// Each pod that is not counted yet is named once.
fn uncounted(new: &Value, errors: &mut Errors) {
    let root = AT.child("uncountedTerminatedPods");
    let mut seen = std::collections::BTreeSet::new();
    for list in ["succeeded", "failed"] {
        let path = root.child(list);
        let uids = new.look("status.uncountedTerminatedPods").items(list).iter().filter_map(Value::as_str);
        for (at, uid) in uids.enumerate() {
            if uid.is_empty() {
                errors.invalid(&path.index(at), uid, "must not be empty");
            } else if !seen.insert(uid) {
                errors.duplicate(&path.index(at), uid);
            }
        }
    }
}

fn wrong(errors: &mut Errors, why: &str) {
    errors.invalid_unshown(&AT.child("conditions"), why);
}

/// It ends well or badly, at a time, and only after that was decided.
fn outcome(change: &Change<'_>, errors: &mut Errors) {
    let new = change.new;
    let [complete, failed, target, met] =
        ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"].map(|c| is(new, c));
    if complete && failed && change.of_any(&["Complete", "Failed"]) {
        wrong(errors, "cannot set Complete=True and Failed=true conditions");
    }
    if complete && target && change.of_any(&["Complete", "FailureTarget"]) {
        wrong(errors, "cannot set Complete=True and FailureTarget=true conditions");
    }
    let path = AT.child("completionTime");
    let (start, end) = (new.text("status.startTime"), new.text("status.completionTime"));
    if change.of_any(&["Complete"]) || change.of(&["completionTime"]) {
        if !end.is_empty() && !complete {
            errors.invalid(&path, end, "cannot set completionTime when there is no Complete=True condition");
        }
        if end.is_empty() && complete {
            errors.required(&path, "completionTime is required for Complete jobs");
        }
    }
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let backwards = time(start).zip(time(end)).is_some_and(|(start, end)| end < start);
    if backwards && change.of(&["startTime", "completionTime"]) {
        errors.invalid(&path, end, "must be equal to or after `startTime`");
    }
    if failed && !target && (change.of_any(&["Failed"]) || change.of(&["failedIndexes"])) {
        wrong(errors, "cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if complete && !met && change.of_any(&["Complete", "SuccessCriteriaMet"]) {
        wrong(errors, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
}

/// A finished job has begun, and has nothing left to do.
fn end(change: &Change<'_>, errors: &mut Errors) {
    let new = change.new;
    if !is_finished(new) {
        return;
    }
    let active = count(new, "status.active");
    if active > 0 && (change.of_end() || change.of_count("active")) {
        errors.invalid(&AT.child("active"), active, "active>0 is invalid for finished job");
    }
    // One of nothing that waits has nothing to begin.
    let empty = new.flag("spec.suspend") && change.completions == Some(0);
    if !new.has("status.startTime") && (change.of_end() || change.of(&["startTime"])) && !empty {
        errors.required(&AT.child("startTime"), "startTime is required for finished job");
    }
    let left = new.look("status.uncountedTerminatedPods");
    let some = ["succeeded", "failed"].iter().any(|list| !left.items(list).is_empty());
    if some && (change.of_end() || change.of(&["uncountedTerminatedPods"])) {
        let why = "must be empty for finished job";
        let shown = golang::show(left, "UncountedTerminatedPods");
        errors.invalid_json(&AT.child("uncountedTerminatedPods"), &shown, why);
    }
}

/// The indexes that it names are its own, and each has one outcome.
fn named(change: &Change<'_>, errors: &mut Errors) {
    let (new, completions) = (change.new, change.completions);
    let (done, failing) = (new.text("status.completedIndexes"), new.look("status.failedIndexes").as_str());
    let limited = new.has("spec.backoffLimitPerIndex");
    let [done_changed, failing_changed] = ["completedIndexes", "failedIndexes"].map(|field| change.of(&[field]));
    let (done_at, failing_at) = (AT.child("completedIndexes"), AT.child("failedIndexes"));
    let mut read = |field: &str, text: &str| {
        if let Some(Err(why)) = completions.map(|completions| indexes::count(text, completions)) {
            errors.invalid(&AT.child(field), text, &format!("error parsing {field}: {why}"));
        }
    };
    if done_changed {
        read("completedIndexes", done);
    }
    if let Some(failing) = failing.filter(|_| failing_changed && limited) {
        read("failedIndexes", failing);
    }
    if done_changed && !done.is_empty() && !change.indexed {
        errors.invalid(&done_at, done, "cannot set non-empty completedIndexes when non-indexed completion mode");
    }
    let Some(failing) = failing else { return };
    if failing_changed && !limited {
        errors.invalid(&failing_at, failing, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    }
    if done_changed || failing_changed {
        let both = completions.and_then(|completions| indexes::overlap(done, failing, completions));
        if let Some(index) = both {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.invalid(&failing_at, failing, &why);
        }
    }
}

fn pods(change: &Change<'_>, errors: &mut Errors) {
    let new = change.new;
    let [terminating, ready, active] = ["terminating", "ready", "active"].map(|field| count(new.look("status"), field));
    if terminating > 0 && is_finished(new) && (change.of_end() || change.of(&["terminating"])) {
        errors.invalid(&AT.child("terminating"), terminating, "terminating>0 is invalid for finished job");
    }
    if ready > active && (change.of(&["ready"]) || change.of_count("active")) {
        errors.invalid(&AT.child("ready"), ready, "cannot set more ready pods than active");
    }
}

/// What cannot be true at once, whether it is new or not.
fn conditions(change: &Change<'_>, errors: &mut Errors) {
    let new = change.new;
    let [complete, failed, target, met] =
        ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"].map(|c| is(new, c));
    if met && failed {
        wrong(errors, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if met && target {
        wrong(errors, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    if new.has("spec.successPolicy") && complete && !met {
        wrong(errors, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
    }
}

/// What it said before and may not take back.
fn steps(change: &Change<'_>, errors: &mut Errors) {
    let &Change { new, old, indexed, completions } = change;
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(old, kind) && !is(new, kind) {
            wrong(errors, &format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    // Who makes an indexed job smaller takes back what succeeded beyond.
    let elastic = indexed && completions == new.int("spec.parallelism");
    for (field, may) in [("failed", false), ("succeeded", elastic)] {
        let [now, before] = [new, old].map(|job| count(job.look("status"), field));
        if now < before && !may {
            errors.invalid(&AT.child(field), now, &format!("cannot decrease the {field} counter"));
        }
    }
    let [now, before] = [new, old].map(|job| job.text("status.completionTime"));
    if !now.is_empty() && !before.is_empty() && now != before {
        errors.invalid(&AT.child("completionTime"), now, "field is immutable");
    }
    let resumes = is(old, "Suspended") && has_condition(new, "Suspended", "False");
    if old.has("status.startTime") && change.of(&["startTime"]) && !new.flag("spec.suspend") && !resumes {
        let why = "field is immutable for unsuspended job once set";
        errors.invalid(&AT.child("startTime"), new.look("status.startTime").clone(), why);
    }
    if is(old, "SuccessCriteriaMet") && !is(new, "SuccessCriteriaMet") {
        wrong(errors, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if is(old, "Complete") && !is(old, "SuccessCriteriaMet") && is(new, "SuccessCriteriaMet") {
        wrong(errors, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions");
    }
}
