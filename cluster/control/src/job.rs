//! Job: pods that run to completion.
//!
//! Owns how many run, when a job has succeeded or failed, and the account of finished pods; never restarts a container. Each pod carries
//! a finalizer until it has been counted in the status, so that no outcome is lost with its pod.
//! Source: "Jobs" and "Job tracking with finalizers" of Kubernetes' documentation.
//!
//! ```text
//! finished pod ─▶ uid into uncountedTerminatedPods ─▶ finalizer off ─▶ counted, uid out
//! ```

mod account;
mod index;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kedge_api::event::{Severity, reference, whole_seconds};
use kedge_api::resource::known::{JOBS, PODS};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::{Value, json};

use crate::controller::{Controller, Now, Plan, Step, Told, Victim, read, value};
use crate::owner::{Owner, owner_keys, spec_selector};
use crate::pods;
use crate::replicaset::count;

pub use verdict::finished_at;

const WATCHES: &[GroupResource] = &[JOBS, PODS];
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Most pods created by one plan.
const BURST: usize = 500;

pub struct Jobs;

#[derive(Clone, Debug)]
struct Member {
    object: Arc<Object>,
    pod: Pod,
}

impl Member {
    fn uid(&self) -> &str {
        self.object.uid()
    }

    fn is_tracked(&self) -> bool {
        self.object.meta.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING)
    }

    fn succeeded(&self) -> bool {
        pods::phase(&self.pod) == "Succeeded"
    }

    /// A pod that is being deleted counts as failed at once unless only failed ones are replaced.
    fn failed(&self, spec: &JobSpec) -> bool {
        match pods::phase(&self.pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => pods::is_deleting(&self.pod) && spec.pod_replacement_policy.as_deref() != Some("Failed"),
        }
    }

    fn index(&self) -> Option<i32> {
        self.object.meta.annotations.as_ref()?.get(INDEX)?.parse().ok()
    }
}

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == JOBS {
            keys.push(change.key.clone());
        } else {
            owner_keys(snapshot, change, "Job", &JOBS, spec_selector, keys);
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(job)) = (snapshot.get(key), read::<Job>(snapshot, key)?) else { return Ok(plan) };
        let Some(spec) = &job.spec else { return Ok(plan) };
        if spec.managed_by.as_deref().is_some_and(|manager| manager != "kubernetes.io/job-controller") {
            return Ok(plan);
        }
        let owner = Owner::of(&job, spec.selector.as_ref())?;
        let members = owner
            .claim(snapshot, &PODS, &mut plan)?
            .into_iter()
            .map(|object| Ok(Member { pod: object.decode()?, object }))
            .collect::<Result<Vec<_>, Status>>()?;
        let about = reference(&job);
        let mut status = job.status.clone().unwrap_or_default();
        if verdict::is_finished(&status) || object.is_deleting() {
            // Nothing more is counted, so nothing may hold the pods back.
            members.iter().filter(|m| m.is_tracked()).for_each(|m| untrack(&mut plan, m));
            return Ok(plan);
        }
        let suspended = spec.suspend.unwrap_or(false);
        if status.start_time.is_none() && !suspended {
            status.start_time = Some(Time(whole_seconds(now)));
        }
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let settled = account::settle(&mut status, &members, spec, indexed);
        let active: Vec<&Member> = members.iter().filter(|m| pods::is_active(&m.pod)).collect();
        let terminating = members.iter().filter(|m| pods::is_deleting(&m.pod) && !pods::is_finished(&m.pod)).count();

        let verdict = verdict::of(&job, spec, &members, &settled, active.len(), now);
        let mut doomed: Vec<&Member> = Vec::new();
        let mut fresh = Vec::new();
        if let Some(verdict) = &verdict {
            doomed.extend(&active);
            verdict::announce(&mut status, verdict, now);
            let waits = !active.is_empty() || terminating > 0 || settled.pending;
            if !waits {
                verdict::conclude(&mut status, verdict, now);
                let severity = if verdict.complete { Severity::Normal } else { Severity::Warning };
                let (reason, message) = verdict.told();
                plan.tell(about.clone(), severity, reason, message.into());
            }
        } else if suspended {
            doomed.extend(&active);
            if verdict::suspend(&mut status, true, now) {
                status.start_time = None;
                plan.tell(about.clone(), Severity::Normal, "Suspended", "Job suspended".into());
            }
        } else {
            if verdict::suspend(&mut status, false, now) {
                status.start_time = Some(Time(whole_seconds(now)));
                plan.tell(about.clone(), Severity::Normal, "Resumed", "Job resumed".into());
            }
            let replacing = spec.pod_replacement_policy.as_deref() == Some("Failed");
            let occupied = active.len() + if replacing { terminating } else { 0 };
            let wanted = wanted(spec, &settled, active.len());
            if active.len() > wanted {
                let mut ranked = active.clone();
                ranked.sort_by_cached_key(|m| pods::deletion_rank(&m.pod, 0, now));
                doomed.extend(ranked.into_iter().take(active.len() - wanted));
            } else if occupied < wanted {
                match account::backoff(&members, spec, now) {
                    Some(delay) => plan.again_after(delay),
                    None => {
                        let missing = (wanted - occupied).min(BURST);
                        let used: Vec<i32> = active.iter().filter_map(|m| m.index()).collect();
                        let indexes = index::missing(spec, &settled.completed, &used, missing);
                        let slots = if indexed { indexes.into_iter().map(Some).collect() } else { vec![None; missing] };
                        for slot in slots {
                            fresh.push(value(&pod(&job, spec, &owner, slot))?);
                        }
                    }
                }
            }
            if let Some(deadline) = verdict::deadline(spec, &status) {
                plan.again_at(deadline, now);
            }
        }
        let (gone, made) = (doomed.len(), fresh.len());
        status.active = some(active.len().saturating_sub(gone) + made);
        status.ready = Some(count(active.iter().filter(|m| pods::is_ready(&m.pod)).count().min(active.len() - gone)));
        status.terminating = Some(count(terminating + gone));
        // The account comes first: a pod may go only when its outcome is written down.
        let mut after = job.clone();
        after.status = Some(status);
        plan.status(object, &value(&job)?, &value(&after)?);
        settled.release.iter().for_each(|m| untrack(&mut plan, m));
        let told = Some(Told { about, successes: true });
        if !doomed.is_empty() {
            if verdict.is_none() {
                // Stopped because too many run, not because the job failed: they do not count. Else they count as failed.
                doomed.iter().filter(|m| m.is_tracked()).for_each(|m| untrack(&mut plan, m));
            }
            let targets = doomed.iter().map(|m| Victim::of(&m.object)).collect();
            plan.push(Step::Delete { resource: PODS, targets, told: told.clone() });
        }
        if !fresh.is_empty() {
            plan.push(Step::Create { resource: PODS, objects: fresh, told });
        }
        Ok(plan)
    }
}

fn some(n: usize) -> Option<i32> {
    Some(count(n)).filter(|n| *n > 0)
}

/// How many pods should run now.
fn wanted(spec: &JobSpec, settled: &account::Settled<'_>, active: usize) -> usize {
    let number = |n: i32| usize::try_from(n).unwrap_or(0);
    let parallel = number(spec.parallelism.unwrap_or(1));
    match spec.completions {
        // A work queue: once a pod has succeeded the others finish, and none starts anew.
        None if settled.succeeded > 0 => active.min(parallel),
        None => parallel,
        Some(completions) => parallel.min(number(completions.saturating_sub(settled.succeeded))),
    }
}

fn untrack(plan: &mut Plan, member: &Member) {
    let left: Vec<_> =
        member.object.meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != TRACKING).collect();
    let finalizers = if left.is_empty() { Value::Null } else { json!(left) };
    // Without a revision: a status update by the node meanwhile must not stop this. Finalizers of pods are rare enough.
    plan.patch(&member.object, "", json!({"metadata": {"uid": member.uid(), "finalizers": finalizers}}));
}

fn pod(job: &Job, spec: &JobSpec, owner: &Owner<'_>, index: Option<i32>) -> Pod {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let prefix = index.map_or_else(|| format!("{name}-"), |index| format!("{name}-{index}-"));
    let mut pod = pods::from_template(&spec.template, job.metadata.namespace.as_deref(), prefix, owner.reference());
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.into());
    if let Some(index) = index {
        pod.metadata.annotations.get_or_insert_default().insert(INDEX.into(), index.to_string());
        pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname.get_or_insert_with(|| format!("{name}-{index}"));
        let source = EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..EnvVarSource::default()
        };
        let variable = EnvVar { name: "JOB_COMPLETION_INDEX".into(), value_from: Some(source), ..EnvVar::default() };
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            let all = container.env.get_or_insert_default();
            if !all.iter().any(|v| v.name == variable.name) {
                all.push(variable.clone());
            }
        }
    }
    pod
}

/// A status's account, for tests and for the tracker: succeeded and failed, counted or not.
fn counted(status: &JobStatus) -> (i32, i32) {
    (status.succeeded.unwrap_or(0), status.failed.unwrap_or(0))
}

/// Longest and first wait before failed pods are replaced, as upstream has them.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(600);
