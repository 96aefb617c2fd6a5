//! CronJob: a Job for each turn of a schedule.
//!
//! Owns when a turn is due, missed or forbidden, and how many finished Jobs are kept; never looks at pods. A Job is called after its turn,
//! so that none is made twice, and what runs is seen from the Jobs themselves.
//! Source: "CronJob" of Kubernetes' documentation.

mod schedule;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kedge_api::event::{Severity, reference};
use kedge_api::resource::known::{CRON_JOBS, JOBS};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};

use self::schedule::Schedule;
use crate::controller::{Controller, Now, Plan, Step, Victim, read, value};
use crate::owner::{Owner, controller_of, owner_keys};

const WATCHES: &[GroupResource] = &[CRON_JOBS, JOBS];
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More turns missed than this are worth a word.
const MANY: i64 = 100;
/// Looks come that much after a turn.
const LATE: Duration = Duration::from_millis(100);

pub struct CronJobs;

struct Child {
    object: Arc<Object>,
    job: Job,
    /// Since when it has ended, and whether well.
    ended: Option<(Timestamp, bool)>,
}

impl Child {
    fn name(&self) -> &str {
        &self.object.key.name
    }

    fn started(&self) -> Option<Timestamp> {
        self.job.status.as_ref()?.start_time.as_ref().map(|time| time.0)
    }
}

/// What a schedule says now.
struct Turn {
    at: Timestamp,
    /// Turns that went by unused, this one included.
    missed: i64,
}

impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        "cronjob-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == CRON_JOBS {
            keys.push(change.key.clone());
        } else {
            owner_keys(snapshot, change, "CronJob", &CRON_JOBS, |_| None, keys);
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(cron)) = (snapshot.get(key), read::<CronJob>(snapshot, key)?) else { return Ok(plan) };
        let spec = &cron.spec;
        let mut children = children(snapshot, object)?;
        let mut after = cron.clone();
        let status = after.status.get_or_insert_default();
        observe(&cron, &children, status, &mut plan);
        if cron.metadata.deletion_timestamp.is_none() {
            forget(&cron, spec, &mut children, &mut plan);
            if spec.suspend != Some(true) {
                start(&cron, spec, &children, status, &mut plan, now)?;
            }
        }
        plan.status(object, &value(&cron)?, &value(&after)?);
        Ok(plan)
    }
}

fn children(snapshot: &Snapshot, cron: &Object) -> Result<Vec<Child>, Status> {
    let own = |job: &&Arc<Object>| controller_of(&job.meta).is_some_and(|owner| owner.uid == cron.uid());
    let jobs = snapshot.list(&JOBS, &cron.key.namespace).filter(own);
    jobs.map(|object| {
        let job: Job = object.decode()?;
        let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut ends = conditions.filter(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"));
        let ended = ends.next().map(|end| {
            let completed = job.status.as_ref().and_then(|status| status.completion_time.as_ref());
            let at = completed.or(end.last_transition_time.as_ref()).map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            (at, end.type_ == "Complete")
        });
        Ok(Child { object: object.clone(), job, ended })
    })
    .collect()
}

/// Notes what runs, and what has ended since the last look.
fn observe(cron: &CronJob, children: &[Child], status: &mut CronJobStatus, plan: &mut Plan) {
    let before = status.active.take().unwrap_or_default();
    let was_active = |uid: &str| before.iter().any(|active| active.uid.as_deref() == Some(uid));
    for child in children {
        let Some((at, well)) = child.ended else { continue };
        if was_active(child.object.uid()) {
            let condition = if well { "Complete" } else { "Failed" };
            let message = format!("Saw completed job: {}, condition: {condition}", child.name());
            plan.tell(reference(cron), Severity::Normal, "SawCompletedJob", message);
        }
        if well && status.last_successful_time.as_ref().is_none_or(|last| last.0 < at) {
            status.last_successful_time = Some(Time(at));
        }
    }
    for gone in before.iter().filter(|active| !children.iter().any(|c| active.uid.as_deref() == Some(c.object.uid()))) {
        let message = format!("Active job went missing: {}", gone.name.as_deref().unwrap_or_default());
        plan.tell(reference(cron), Severity::Normal, "MissingJob", message);
    }
    let running = children.iter().filter(|child| child.ended.is_none());
    let active: Vec<ObjectReference> = running.map(|child| reference(&child.job)).collect();
    // Its version would make a change of every look.
    let active = active.into_iter().map(|active| {
        let same = before.iter().find(|known| known.uid == active.uid);
        same.cloned().unwrap_or(active)
    });
    status.active = Some(active.collect()).filter(|active: &Vec<_>| !active.is_empty());
}

/// Lets finished Jobs go beyond those that are kept, the oldest first.
fn forget(cron: &CronJob, spec: &CronJobSpec, children: &mut [Child], plan: &mut Plan) {
    children.sort_by_key(|child| (child.started(), child.object.key.name.clone()));
    for (well, kept) in [(true, spec.successful_jobs_history_limit), (false, spec.failed_jobs_history_limit)] {
        let Some(kept) = kept.and_then(|kept| usize::try_from(kept).ok()) else { continue };
        let ended: Vec<&Child> = children.iter().filter(|c| c.ended.is_some_and(|(_, ended)| ended == well)).collect();
        let surplus = ended.len().saturating_sub(kept);
        remove(cron, ended.into_iter().take(surplus), plan);
    }
}

fn remove<'a>(cron: &CronJob, children: impl Iterator<Item = &'a Child>, plan: &mut Plan) {
    for child in children.filter(|child| !child.object.is_deleting()) {
        let victim = Victim { propagation: "Background", ..Victim::of(&child.object) };
        plan.push(Step::Delete { resource: JOBS, targets: vec![victim], told: None });
        plan.tell(reference(cron), Severity::Normal, "SuccessfulDelete", format!("Deleted job {}", child.name()));
    }
}

/// Makes the Job of the turn that is due, if there is one and it may run.
fn start(
    cron: &CronJob,
    spec: &CronJobSpec,
    children: &[Child],
    status: &mut CronJobStatus,
    plan: &mut Plan,
    now: Now,
) -> Result<(), Status> {
    let about = || reference(cron);
    let Some(schedule) = Schedule::parse(&spec.schedule, spec.time_zone.as_deref()) else {
        let message = format!("unparseable schedule: {:?}", spec.schedule);
        plan.tell(about(), Severity::Warning, "UnparseableSchedule", message);
        return Ok(());
    };
    if let Some(next) = schedule.next(now) {
        plan.again_after(next.duration_since(now).unsigned_abs() + LATE);
    }
    let Some(Turn { at, missed }) = due(cron, spec, status, &schedule, now) else { return Ok(()) };
    if missed > MANY {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.tell(about(), Severity::Warning, "TooManyMissedTimes", message.into());
    }
    let name = format!("{}-{}", cron.metadata.name.as_deref().unwrap_or_default(), at.as_second() / 60);
    if children.iter().any(|child| child.name() == name) {
        status.last_schedule_time = Some(Time(at));
        return Ok(());
    }
    let running = || children.iter().filter(|child| child.ended.is_none());
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if running().next().is_some() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.tell(about(), Severity::Normal, "JobAlreadyActive", message.into());
            return Ok(());
        }
        Some("Replace") => remove(cron, running(), plan),
        _ => {}
    }
    let job = job(cron, spec, &schedule, at, &name)?;
    plan.push(Step::Create { resource: JOBS, objects: vec![value(&job)?], told: None });
    plan.tell(about(), Severity::Normal, "SuccessfulCreate", format!("Created job {name}"));
    status.last_schedule_time = Some(Time(at));
    Ok(())
}

/// The last turn since the one that was used, unless it is too late for it.
fn due(cron: &CronJob, spec: &CronJobSpec, status: &CronJobStatus, schedule: &Schedule, now: Now) -> Option<Turn> {
    let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let mut since = status.last_schedule_time.as_ref().map_or(created, |time| time.0);
    if let Some(deadline) = spec.starting_deadline_seconds {
        since = since.max(now.checked_sub(SignedDuration::from_secs(deadline)).unwrap_or(since));
    }
    let first = schedule.next(since).filter(|first| *first <= now)?;
    let Some(second) = schedule.next(first).filter(|second| *second <= now) else {
        return Some(Turn { at: first, missed: 1 });
    };
    // Turns need not be looked at one by one: the last of them is not far from where it would be if all were as far apart as these.
    let apart = second.duration_since(first).as_secs().max(1);
    let missed = now.duration_since(first).as_secs() / apart + 1;
    let near = SignedDuration::from_secs(apart.saturating_mul(missed - 2).max(0));
    let mut at = first;
    let mut looked = first.checked_add(near).unwrap_or(first).min(now);
    while let Some(next) = schedule.next(looked).filter(|next| *next <= now) {
        at = next;
        looked = next;
    }
    Some(Turn { at, missed })
}

fn job(cron: &CronJob, spec: &CronJobSpec, schedule: &Schedule, at: Timestamp, name: &str) -> Result<Job, Status> {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.insert(
        SCHEDULED.to_owned(),
        at.to_zoned(schedule.zone().clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z"),
    );
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: cron.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![Owner::of(cron, None)?.reference()]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    })
}

#[cfg(test)]
mod tests;
