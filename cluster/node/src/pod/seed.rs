//! What is known of a pod when this process meets it first: from the API after a reboot, from a checkpoint and the runtime's
//! containers after a re-exec.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::observed::{Observed, Phase, Sandbox, Slot, SlotId, Termination};

/// A container that the runtime holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub slot: SlotId,
    pub attempt: u32,
    pub id: String,
    /// `None`: created, never started.
    pub state: Option<FoundState>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FoundState {
    Running { since: Timestamp },
    Exited(Termination),
}

/// From what the API was last told. Nothing of it runs any more: what ran has ended by an unknown cause.
pub fn from_api(pod: &Pod, now: Timestamp) -> Observed {
    let mut observed = Observed::new(pod, now);
    let Some(status) = &pod.status else { return observed };
    if let Some(start) = &status.start_time {
        observed.since = start.0;
    }
    let statuses = |list: &Option<Vec<ContainerStatus>>, slots: &mut [Slot], again: bool| {
        for status in list.as_deref().unwrap_or_default() {
            if let Some(slot) = slots.iter_mut().find(|s| s.name == status.name) {
                restore(slot, status, again, now);
            }
        }
    };
    statuses(&status.container_statuses, &mut observed.main, false);
    // A new sandbox begins with the init containers, whether they have run before or not.
    statuses(&status.init_container_statuses, &mut observed.init, true);
    observed
}

fn restore(slot: &mut Slot, status: &ContainerStatus, again: bool, now: Timestamp) {
    slot.attempt = u32::try_from(status.restart_count).unwrap_or(0);
    slot.image.clone_from(&status.image_id);
    let id = status.container_id.as_deref().unwrap_or_default().trim_start_matches("kedge://");
    slot.last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref()).map(termination);
    let Some(state) = &status.state else { return };
    let end = match (&state.running, &state.terminated) {
        (Some(running), _) => {
            let mut end = unknown(id, now);
            end.started = running.started_at.as_ref().map(|t| t.0);
            Some(end)
        }
        (None, Some(end)) => Some(termination(end)),
        (None, None) if slot.last.is_some() => slot.last.take(),
        (None, None) => None,
    };
    let Some(end) = end else { return };
    slot.id.clone_from(&end.id);
    if again {
        slot.attempt = slot.attempt.saturating_add(1);
        slot.last = Some(end);
    } else {
        slot.phase = Phase::Exited(end);
    }
}

fn termination(end: &ContainerStateTerminated) -> Termination {
    Termination {
        code: end.exit_code,
        signal: end.signal,
        reason: end.reason.clone().unwrap_or_default(),
        message: end.message.clone().unwrap_or_default(),
        started: end.started_at.as_ref().map(|t| t.0),
        finished: end.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        id: end.container_id.as_deref().unwrap_or_default().trim_start_matches("kedge://").to_owned(),
    }
}

fn unknown(id: &str, now: Timestamp) -> Termination {
    Termination {
        code: 137,
        signal: None,
        reason: "ContainerStatusUnknown".into(),
        message: "The container could not be located when the node started".into(),
        started: None,
        finished: now,
        id: id.to_owned(),
    }
}

/// Sets what is known right by what the runtime really holds. Returns the ids of containers that are of no use any more.
pub fn adopt(observed: &mut Observed, found: &[Found], now: Timestamp) -> Vec<String> {
    let mut useless = Vec::new();
    if let Sandbox::Preparing { .. } | Sandbox::Releasing = observed.sandbox {
        observed.sandbox = Sandbox::Absent { failures: 0, retry: None };
    }
    // Whether the API heard of it is not known.
    observed.deleted = false;
    observed.stale = matches!(observed.sandbox, Sandbox::Ready { .. });
    let ids: Vec<SlotId> = observed.slots().map(|(id, _)| id).collect();
    for id in ids {
        let latest = found.iter().filter(|f| f.slot == id).max_by_key(|f| f.attempt);
        useless.extend(found.iter().filter(|f| f.slot == id && Some(*f) != latest).map(|f| f.id.clone()));
        if let Some(slot) = observed.slot_mut(id) {
            useless.extend(adopt_slot(slot, latest, now));
            let began = matches!(id, SlotId::Main(_)) && slot.phase.is_alive();
            observed.initialized |= began;
        }
    }
    useless.extend(found.iter().filter(|f| observed.slot(f.slot).is_none()).map(|f| f.id.clone()));
    useless
}

fn adopt_slot(slot: &mut Slot, found: Option<&Found>, now: Timestamp) -> Option<String> {
    let Some(found) = found else {
        match slot.phase {
            Phase::Running { .. } | Phase::Stopping { .. } => {
                let id = slot.id.clone();
                let mut end = unknown(&id, now);
                end.started = slot.phase.running_since();
                slot.exited(end);
            }
            Phase::Starting => slot.phase = Phase::Waiting(None),
            Phase::Waiting(_) | Phase::Exited(_) => {}
        }
        return None;
    };
    match &found.state {
        Some(FoundState::Running { since }) => {
            if found.attempt != slot.attempt {
                // No checkpoint told of this attempt: its probes begin anew.
                let name = std::mem::take(&mut slot.name);
                *slot = Slot {
                    attempt: found.attempt,
                    last: slot.last.take(),
                    restarts: slot.restarts,
                    ..Slot::new(&name)
                };
            }
            if !matches!(slot.phase, Phase::Running { .. } | Phase::Stopping { .. }) {
                slot.phase = Phase::Running { since: *since };
            }
            slot.id.clone_from(&found.id);
            None
        }
        Some(FoundState::Exited(end)) => {
            if slot.phase.is_alive() || found.attempt > slot.attempt {
                slot.attempt = found.attempt;
                slot.exited(end.clone());
            }
            Some(found.id.clone())
        }
        None => {
            if slot.phase.is_alive() {
                slot.phase = Phase::Waiting(None);
            }
            Some(found.id.clone())
        }
    }
}
