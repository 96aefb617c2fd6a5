//! The account of finished pods: each is counted once, whatever happens between writing it down and letting the pod go.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods};

use super::index::Indexes;
use super::{FIRST_BACKOFF, LONGEST_BACKOFF, Member, counted};
use crate::pods;

/// The outcome of all pods so far.
#[derive(Debug)]
pub struct Settled<'a> {
    /// Counted or about to be.
    pub succeeded: i32,
    pub failed: i32,
    /// The indexes that have succeeded, of an indexed job.
    pub completed: Indexes,
    /// Pods that are written down and may lose their finalizer.
    pub release: Vec<&'a Member>,
    /// Something is written down but not yet counted.
    pub pending: bool,
}

/// Counts what was written down and has been let go, and writes down what has finished since.
pub fn settle<'a>(status: &mut JobStatus, members: &'a [Member], spec: &JobSpec, indexed: bool) -> Settled<'a> {
    let mut written = status.uncounted_terminated_pods.take().unwrap_or_default();
    let (mut succeeded, mut failed) = counted(status);
    let mut completed = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
    let held = |uid: &String| members.iter().any(|m| m.uid() == uid && m.is_tracked());
    // An indexed job counts its successes by index.
    for (uids, total) in [(&mut written.succeeded, &mut succeeded), (&mut written.failed, &mut failed)] {
        for uids in uids.iter_mut() {
            let before = uids.len();
            uids.retain(held);
            *total = total.saturating_add(i32::try_from(before - uids.len()).unwrap_or(i32::MAX));
        }
    }
    let mut release = Vec::new();
    for member in members.iter().filter(|m| m.is_tracked()) {
        let done = |uids: &Option<Vec<String>>| uids.iter().flatten().any(|uid| uid == member.uid());
        let known = done(&written.succeeded) || done(&written.failed);
        if member.succeeded() {
            completed.extend(member.index());
            if !known && !indexed {
                written.succeeded.get_or_insert_default().push(member.uid().to_owned());
            }
            release.push(member);
        } else if member.failed(spec) {
            if !known {
                written.failed.get_or_insert_default().push(member.uid().to_owned());
            }
            release.push(member);
        }
    }
    if indexed {
        completed.keep_below(spec.completions.unwrap_or(0));
        succeeded = completed.len();
        status.completed_indexes = Some(completed.to_string()).filter(|text| !text.is_empty());
    }
    let some = |n: i32| Some(n).filter(|n| *n > 0);
    status.succeeded = some(succeeded);
    status.failed = some(failed);
    written.succeeded = written.succeeded.filter(|uids| !uids.is_empty());
    written.failed = written.failed.filter(|uids| !uids.is_empty());
    let length =
        |uids: &Option<Vec<String>>| uids.as_ref().map_or(0, |uids| i32::try_from(uids.len()).unwrap_or(i32::MAX));
    let (more, worse) = (length(&written.succeeded), length(&written.failed));
    status.uncounted_terminated_pods =
        Some(UncountedTerminatedPods { succeeded: written.succeeded, failed: written.failed });
    Settled { succeeded: succeeded + more, failed: failed + worse, completed, pending: more + worse > 0, release }
}

/// How long to wait before a failed pod is replaced: 10 s, doubled for each failure since the last success, at most ten minutes.
pub fn backoff(members: &[Member], spec: &JobSpec, now: Timestamp) -> Option<Duration> {
    let ended = |m: &Member| {
        let status = m.pod.status.as_ref();
        let exits = status
            .and_then(|status| status.container_statuses.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|container| container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
        let fallback = || m.object.meta.deletion_timestamp.as_ref().or(m.object.meta.creation_timestamp.as_ref());
        exits.max().or_else(fallback).map(|time| time.0)
    };
    let success = members.iter().filter(|m| m.succeeded()).filter_map(ended).max();
    let failures: Vec<_> = members
        .iter()
        .filter(|m| pods::phase(&m.pod) == "Failed" && m.failed(spec))
        .filter_map(ended)
        .filter(|at| success.is_none_or(|success| *at > success))
        .collect();
    let last = failures.iter().max()?;
    let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(16);
    let delay = FIRST_BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF);
    let left = SignedDuration::try_from(delay).ok()? - now.duration_since(*last);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}
