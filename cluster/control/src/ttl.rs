//! Finished Jobs with `ttlSecondsAfterFinished` go when that time has passed.

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;
use kedge_api::resource::known::JOBS;
use kedge_api::{Change, GroupResource, Key, Snapshot, Status};

use crate::controller::{Controller, Now, Plan, Step, Victim, read};
use crate::job::finished_at;

const WATCHES: &[GroupResource] = &[JOBS];

pub struct FinishedJobs;

impl Controller for FinishedJobs {
    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, _: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        keys.extend(change.after.is_some().then(|| change.key.clone()));
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(job)) = (snapshot.get(key), read::<Job>(snapshot, key)?) else { return Ok(plan) };
        let ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
        let finished = job.status.as_ref().and_then(finished_at);
        let (Some(ttl), Some(finished), false) = (ttl, finished, object.is_deleting()) else { return Ok(plan) };
        let due = finished.checked_add(SignedDuration::from_secs(ttl.into())).unwrap_or(finished);
        if due > now {
            plan.again_at(due, now);
        } else {
            let victim = Victim { propagation: "Foreground", ..Victim::of(object) };
            plan.push(Step::Delete { resource: JOBS, targets: vec![victim], told: None });
        }
        Ok(plan)
    }
}
