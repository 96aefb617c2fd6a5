//! A deployment's status: counts, and the conditions Available, Progressing and ReplicaFailure with upstream's reasons.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kedge_api::Status;
use kedge_api::event::whole_seconds;

use super::{Set, Work, rollout};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";

const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// What this plan did for the rollout.
pub enum Progress {
    /// Nothing: paused, resized or going away.
    Untouched,
    /// A new set of this name.
    Created(String),
    /// The new set's name is taken.
    Collision,
    /// Moved on, or tried to: compare with the status before.
    Measured,
}

pub fn after(work: &Work<'_>, progress: Progress, now: Timestamp) -> DeploymentStatus {
    let before = work.deployment.status.clone().unwrap_or_default();
    let some = |n: i32| Some(n).filter(|n| *n > 0);
    let sum = |pick: fn(&Set) -> i32| work.all().map(pick).sum::<i32>();
    let total = sum(|set| set.status(|s| s.replicas));
    let available = sum(Set::available);
    let mut status = DeploymentStatus {
        observed_generation: work.deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: some(work.new.as_ref().map_or(0, |set| set.status(|s| s.replicas))),
        ready_replicas: some(sum(|set| set.status(|s| s.ready_replicas.unwrap_or(0)))),
        available_replicas: some(available),
        unavailable_replicas: some(sum(Set::replicas) - available),
        terminating_replicas: Some(sum(|set| set.status(|s| s.terminating_replicas.unwrap_or(0)))),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    let least = work.replicas() - rollout::fences(work.spec).unavailable;
    let (value, reason, message) = if available >= least {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, AVAILABLE, value, reason, message, now);
    if deadline_seconds(work).is_some() {
        progressing(work, &before, &mut status, &progress, now);
    } else {
        drop_condition(&mut status, PROGRESSING);
    }
    if let Progress::Collision = progress {
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
    }
    let failure = work.new.iter().chain(&work.old).find_map(|set| {
        set.rs.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == FAILURE)
    });
    match failure {
        Some(failure) => {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            set(&mut status, FAILURE, &failure.status, &text(&failure.reason), &text(&failure.message), now);
        }
        None if !matches!(progress, Progress::Untouched) => drop_condition(&mut status, FAILURE),
        None => {}
    }
    status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
    status
}

fn progressing(
    work: &Work<'_>,
    before: &DeploymentStatus,
    status: &mut DeploymentStatus,
    progress: &Progress,
    now: Timestamp,
) {
    let reason = find(before, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    let paused = work.spec.paused.unwrap_or(false);
    if reason != Some(TIMED_OUT) {
        if paused && reason != Some(PAUSED) {
            return set(status, PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now);
        }
        if !paused && reason == Some(PAUSED) {
            return set(status, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now);
        }
    }
    match progress {
        Progress::Untouched | Progress::Collision => return,
        Progress::Created(name) => {
            let message = format!("Created new replica set {name:?}");
            return set(status, PROGRESSING, "True", "NewReplicaSetCreated", &message, now);
        }
        Progress::Measured => {}
    }
    let about = match &work.new {
        Some(set) => format!("ReplicaSet {:?}", set.name()),
        None => format!("Deployment {:?}", work.deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if status.replicas == status.updated_replicas && reason == Some(NEW_AVAILABLE) {
        return;
    }
    if is_complete(work, Some(status)) {
        let message = format!("{about} has successfully progressed.");
        set(status, PROGRESSING, "True", NEW_AVAILABLE, &message, now);
    } else if moved(before, status) {
        let message = format!("{about} is progressing.");
        // Each movement counts anew against the deadline: the update time changes even if nothing else does.
        let since =
            find(status, PROGRESSING).filter(|c| c.status == "True").and_then(|c| c.last_transition_time.clone());
        drop_condition(status, PROGRESSING);
        set(status, PROGRESSING, "True", "ReplicaSetUpdated", &message, now);
        let condition = status.conditions.iter_mut().flatten().find(|c| c.type_ == PROGRESSING);
        if let (Some(condition), Some(since)) = (condition, since) {
            condition.last_transition_time = Some(since);
        }
    } else if timed_out(work, before, now) {
        set(status, PROGRESSING, "False", TIMED_OUT, &format!("{about} has timed out progressing."), now);
    } else if let (None, Some(new)) = (reason, &work.new) {
        let message = format!("Found new replica set {:?}", new.name());
        set(status, PROGRESSING, "True", "FoundNewReplicaSet", &message, now);
    }
}

pub fn is_complete(work: &Work<'_>, status: Option<&DeploymentStatus>) -> bool {
    let wanted = work.replicas();
    status.is_some_and(|status| {
        [status.updated_replicas, status.replicas, status.available_replicas].iter().all(|n| n.unwrap_or(0) == wanted)
    })
}

fn moved(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let n = |n: Option<i32>| n.unwrap_or(0);
    let old = |status: &DeploymentStatus| n(status.replicas) - n(status.updated_replicas);
    n(after.updated_replicas) > n(before.updated_replicas)
        || old(after) < old(before)
        || n(after.ready_replicas) > n(before.ready_replicas)
        || n(after.available_replicas) > n(before.available_replicas)
}

fn deadline_seconds(work: &Work<'_>) -> Option<i32> {
    work.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
}

fn deadline_of(work: &Work<'_>, status: &DeploymentStatus) -> Option<Timestamp> {
    let seconds = deadline_seconds(work)?;
    let since = find(status, PROGRESSING)?.last_update_time.as_ref()?.0;
    since.checked_add(SignedDuration::from_secs(seconds.into())).ok()
}

fn timed_out(work: &Work<'_>, status: &DeploymentStatus, now: Timestamp) -> bool {
    match find(status, PROGRESSING).and_then(|condition| condition.reason.as_deref()) {
        None | Some(NEW_AVAILABLE | PAUSED) => false,
        Some(TIMED_OUT) => true,
        Some(_) => deadline_of(work, status).is_some_and(|deadline| deadline < now),
    }
}

/// When the rollout will have taken too long, if it is under way.
pub fn deadline(work: &Work<'_>, status: Option<&DeploymentStatus>) -> Option<Timestamp> {
    let status = status?;
    let reason = find(status, PROGRESSING)?.reason.as_deref();
    let settled = matches!(reason, Some(NEW_AVAILABLE | TIMED_OUT | PAUSED)) || is_complete(work, Some(status));
    if settled { None } else { deadline_of(work, status) }
}

/// A set could not be made or changed.
pub fn refused(status: &mut DeploymentStatus, why: &Status, now: Timestamp) {
    let message = format!("Failed to create new replica set: {why}");
    set(status, PROGRESSING, "False", "ReplicaSetCreateError", &message, now);
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn drop_condition(status: &mut DeploymentStatus, kind: &str) {
    status.conditions.iter_mut().for_each(|conditions| conditions.retain(|condition| condition.type_ != kind));
}

/// Sets a condition; the same status and reason leave it as it is, the same status keeps its transition time.
fn set(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let now = Some(Time(whole_seconds(now)));
    let mut transition = now.clone();
    if let Some(old) = find(status, kind).filter(|old| old.status == value) {
        if old.reason.as_deref() == Some(reason) {
            return;
        }
        transition = old.last_transition_time.clone();
    }
    let condition = DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: transition,
        last_update_time: now,
    };
    drop_condition(status, kind);
    status.conditions.get_or_insert_default().push(condition);
}
