//! When a job is over, and how that stands in its conditions.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kedge_api::event::whole_seconds;

use super::Member;
use super::account::Settled;
use crate::pods;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub complete: bool,
    pub reason: &'static str,
    pub message: &'static str,
}

impl Verdict {
    /// Reason and message of the event.
    pub fn told(&self) -> (&'static str, &'static str) {
        if self.complete { ("Completed", "Job completed") } else { (self.reason, self.message) }
    }
}

const REACHED: Verdict =
    Verdict { complete: true, reason: "CompletionsReached", message: "Reached expected number of succeeded pods" };
const TOO_OFTEN: Verdict =
    Verdict { complete: false, reason: "BackoffLimitExceeded", message: "Job has reached the specified backoff limit" };
const TOO_LONG: Verdict =
    Verdict { complete: false, reason: "DeadlineExceeded", message: "Job was active longer than specified deadline" };

pub fn of(
    job: &Job,
    spec: &JobSpec,
    members: &[Member],
    settled: &Settled<'_>,
    active: usize,
    now: Timestamp,
) -> Option<Verdict> {
    // A verdict once announced stands.
    let status = job.status.clone().unwrap_or_default();
    if has(&status, "SuccessCriteriaMet") {
        return Some(REACHED);
    }
    if let Some(target) = status.conditions.iter().flatten().find(|c| c.type_ == "FailureTarget" && c.status == "True")
    {
        return Some(if target.reason.as_deref() == Some(TOO_LONG.reason) { TOO_LONG } else { TOO_OFTEN });
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if settled.failed > limit || restarted_too_often(spec, members, limit) {
        return Some(TOO_OFTEN);
    }
    if deadline(spec, &status).is_some_and(|deadline| deadline <= now) && !spec.suspend.unwrap_or(false) {
        return Some(TOO_LONG);
    }
    let complete = match spec.completions {
        Some(completions) => settled.succeeded >= completions,
        None => settled.succeeded > 0 && active == 0,
    };
    (complete && !spec.suspend.unwrap_or(false)).then_some(REACHED)
}

/// With `restartPolicy: OnFailure` failures show as restarts of containers.
fn restarted_too_often(spec: &JobSpec, members: &[Member], limit: i32) -> bool {
    if spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let running = members.iter().filter(|m| matches!(pods::phase(&m.pod), "Running" | "Pending"));
    let restarts: i32 = running
        .filter_map(|m| m.pod.status.as_ref())
        .flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses).flatten())
        .map(|container| container.restart_count)
        .sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

pub fn deadline(spec: &JobSpec, status: &JobStatus) -> Option<Timestamp> {
    let start = status.start_time.as_ref()?.0;
    start.checked_add(SignedDuration::from_secs(spec.active_deadline_seconds?)).ok()
}

fn has(status: &JobStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

pub fn is_finished(status: &JobStatus) -> bool {
    has(status, "Complete") || has(status, "Failed")
}

/// When a finished job finished.
pub fn finished_at(status: &JobStatus) -> Option<Timestamp> {
    let last =
        |kind: &str| status.conditions.iter().flatten().find(move |c| c.type_ == kind && c.status == "True").cloned();
    last("Complete").or_else(|| last("Failed"))?.last_transition_time.map(|time| time.0)
}

/// The outcome is decided; the remaining pods are being stopped.
pub fn announce(status: &mut JobStatus, verdict: &Verdict, now: Timestamp) {
    let kind = if verdict.complete { "SuccessCriteriaMet" } else { "FailureTarget" };
    set(status, kind, true, verdict.reason, verdict.message, now);
}

/// No pod is left.
pub fn conclude(status: &mut JobStatus, verdict: &Verdict, now: Timestamp) {
    let kind = if verdict.complete { "Complete" } else { "Failed" };
    set(status, kind, true, verdict.reason, verdict.message, now);
    // One that fails while it is suspended has no start; what is over must have had one.
    status.start_time.get_or_insert_with(|| Time(whole_seconds(now)));
    if verdict.complete {
        status.completion_time = Some(Time(whole_seconds(now)));
    }
}

/// True if that is new.
pub fn suspend(status: &mut JobStatus, suspended: bool, now: Timestamp) -> bool {
    if has(status, "Suspended") == suspended {
        return false;
    }
    let (reason, message) = if suspended { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
    set(status, "Suspended", suspended, reason, message, now);
    true
}

fn set(status: &mut JobStatus, kind: &str, holds: bool, reason: &str, message: &str, now: Timestamp) {
    let value = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|condition| condition.type_ == kind && condition.status == value) {
        return;
    }
    let at = Some(Time(whole_seconds(now)));
    let condition = JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: at.clone(),
        last_transition_time: at,
    };
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(condition);
}
