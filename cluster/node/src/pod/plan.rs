//! What to do next for a pod: a pure function of what is wanted, what is known, and the time.
//!
//! ```text
//! next ─┬─▶ run        sandbox ─▶ init containers, one after the other ─▶ containers; probes; restarts
//!       └─▶ wind_down  containers ─▶ sidecars ─▶ sandbox ─▶ the API object
//! ```

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde::{Deserialize, Serialize};

use super::observed::{Observed, Phase, Sandbox, Slot, SlotId, Verdict};
use super::{after, outcome, probe, sooner};

/// How long after a first SIGKILL another one is sent.
const KILL_AGAIN: i64 = 30;
/// How long a failed pull shows as `ErrImagePull` before it shows as `ImagePullBackOff`.
pub const SHOW_ERROR: i64 = 2;

/// Why a running container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    PodEnds,
    Liveness,
    Startup,
    PostStartHook,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make namespaces, network and volumes.
    Prepare,
    /// Write mounted data anew; tokens too, where they are due.
    Refresh {
        tokens: bool,
    },
    Start {
        slot: SlotId,
        attempt: u32,
    },
    /// Run the preStop hook, then ask the container to end.
    Stop {
        slot: SlotId,
        attempt: u32,
        grace: i64,
        why: StopReason,
    },
    Kill {
        slot: SlotId,
        attempt: u32,
    },
    Probe {
        slot: SlotId,
        attempt: u32,
        kind: probe::Kind,
    },
    /// The pod as a whole has failed.
    Fail(Verdict),
    /// Give network, namespaces and volumes back.
    Release,
    /// Delete the API object for good.
    Delete,
    /// Nothing is left of the pod, neither here nor in the API.
    Finish,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// When to ask again if nothing else happens.
    pub wake: Option<Timestamp>,
}

impl Plan {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake = sooner(self.wake, Some(at));
    }
}

/// Seconds between asking and killing: what the deletion says, else the spec.
pub fn grace(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    pod.metadata.deletion_grace_period_seconds.or(spec).unwrap_or(30).max(1)
}

/// `gone`: the API no longer has the pod.
pub fn next(pod: &Pod, observed: &Observed, gone: bool, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = pod.spec.as_ref() else { return plan };
    let deleting = gone || pod.metadata.deletion_timestamp.is_some();
    let over = outcome::of(pod, observed).is_some();
    if deleting || over {
        wind_down(&mut plan, pod, spec, observed, (deleting, gone), now);
        return plan;
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let end = after(observed.since, seconds);
        if end <= now {
            plan.act(Action::Fail(Verdict {
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
            }));
            return plan;
        }
        plan.wake(end);
    }
    run(&mut plan, pod, spec, observed, now);
    plan
}

fn wind_down(
    plan: &mut Plan,
    pod: &Pod,
    spec: &PodSpec,
    observed: &Observed,
    (deleting, gone): (bool, bool),
    now: Timestamp,
) {
    let grace = grace(pod);
    let main_alive = observed.main.iter().any(|s| s.phase.is_alive());
    let mut alive = main_alive;
    // Sidecars end in the reverse of the order in which they started, each when the one after it has ended.
    for (id, slot) in observed.slots().collect::<Vec<_>>().into_iter().rev() {
        let waits =
            id.container(spec).is_some_and(|c| matches!(id, SlotId::Init(_)) && outcome::is_sidecar(c)) && alive;
        match &slot.phase {
            Phase::Waiting(_) | Phase::Exited(_) => continue,
            Phase::Running { .. } if !waits => {
                let spent = observed.ending.map_or(0, |e| now.duration_since(e).as_secs());
                let grace = (grace - spent).max(1);
                plan.act(Action::Stop { slot: id, attempt: slot.attempt, grace, why: StopReason::PodEnds });
            }
            Phase::Starting | Phase::Running { .. } => {}
            Phase::Stopping { .. } => overdue(plan, id, slot, grace, now),
        }
        if matches!(id, SlotId::Init(_)) {
            alive = true;
        }
    }
    if alive || observed.slots().any(|(_, s)| s.phase.is_alive()) {
        return;
    }
    match observed.sandbox {
        Sandbox::Absent { .. } | Sandbox::Ready { .. } => plan.act(Action::Release),
        Sandbox::Preparing { .. } | Sandbox::Releasing => {}
        Sandbox::Gone if gone => plan.act(Action::Finish),
        Sandbox::Gone if deleting && !observed.deleted => plan.act(Action::Delete),
        Sandbox::Gone => {}
    }
}

/// Kills a container that was asked to end and has not within its grace; `most` may have become shorter meanwhile.
fn overdue(plan: &mut Plan, id: SlotId, slot: &Slot, most: i64, now: Timestamp) {
    let Phase::Stopping { asked, grace, killed, .. } = &slot.phase else { return };
    let at = match killed {
        Some(killed) => after(*killed, KILL_AGAIN),
        None => after(*asked, most.min(*grace)),
    };
    if at <= now {
        plan.act(Action::Kill { slot: id, attempt: slot.attempt });
        plan.wake(after(now, KILL_AGAIN));
    } else {
        plan.wake(at);
    }
}

fn run(plan: &mut Plan, pod: &Pod, spec: &PodSpec, observed: &Observed, now: Timestamp) {
    match &observed.sandbox {
        Sandbox::Absent { retry: Some(at), .. } if *at > now => return plan.wake(*at),
        Sandbox::Absent { .. } => return plan.act(Action::Prepare),
        Sandbox::Preparing { .. } | Sandbox::Releasing | Sandbox::Gone => return,
        Sandbox::Ready { .. } => {}
    }
    match observed.refresh {
        _ if observed.refreshing => {}
        Some(at) if at <= now => plan.act(Action::Refresh { tokens: true }),
        _ if observed.stale => plan.act(Action::Refresh { tokens: false }),
        Some(at) => plan.wake(at),
        None => {}
    }
    for (id, slot) in observed.slots() {
        match &slot.phase {
            Phase::Running { since } => watch(plan, pod, spec, (id, slot), *since, now),
            Phase::Stopping { grace, .. } => overdue(plan, id, slot, *grace, now),
            Phase::Waiting(_) | Phase::Starting | Phase::Exited(_) => {}
        }
    }
    if !start_init(plan, spec, observed, now) && !observed.initialized {
        return;
    }
    for (i, slot) in observed.main.iter().enumerate() {
        let id = SlotId::Main(i);
        let starting = start_if_due(plan, spec, id, slot, now);
        // Upstream starts one after the other, its postStart hook included; some pods rely on it.
        if starting && slot.attempt == 0 && slot.exit().is_none() {
            return;
        }
    }
}

/// Starts what is next among the init containers. Says whether all of them are past.
fn start_init(plan: &mut Plan, spec: &PodSpec, observed: &Observed, now: Timestamp) -> bool {
    let mut past = true;
    for (i, slot) in observed.init.iter().enumerate() {
        let id = SlotId::Init(i);
        let sidecar = id.container(spec).is_some_and(outcome::is_sidecar);
        if observed.initialized && !sidecar {
            continue;
        }
        let done = match &slot.phase {
            Phase::Running { .. } => sidecar && slot.started,
            Phase::Exited(end) => id.container(spec).is_some_and(|c| !outcome::restarts(spec, id, c, end.code)),
            Phase::Waiting(_) | Phase::Starting | Phase::Stopping { .. } => false,
        };
        if !done {
            start_if_due(plan, spec, id, slot, now);
            past = false;
            if !observed.initialized {
                break;
            }
        }
    }
    past
}

/// Plans a start, or when to think of it again. Says whether a start is under way.
fn start_if_due(plan: &mut Plan, spec: &PodSpec, id: SlotId, slot: &Slot, now: Timestamp) -> bool {
    let (at, attempt) = match &slot.phase {
        Phase::Waiting(None) => (None, slot.attempt),
        Phase::Waiting(Some(hold)) => {
            let flip = after(hold.since, SHOW_ERROR);
            if flip > now {
                plan.wake(flip);
            }
            (Some(hold.until), slot.attempt)
        }
        Phase::Exited(end) => {
            if !id.container(spec).is_some_and(|c| outcome::restarts(spec, id, c, end.code)) {
                return false;
            }
            (slot.restarts.until(end.finished), slot.attempt.saturating_add(1))
        }
        Phase::Starting => return true,
        Phase::Running { .. } | Phase::Stopping { .. } => return false,
    };
    match at {
        Some(at) if at > now => {
            plan.wake(at);
            false
        }
        Some(_) | None => {
            plan.act(Action::Start { slot: id, attempt });
            true
        }
    }
}

/// Probes a running container, or stops it where a probe or hook condemned it.
fn watch(plan: &mut Plan, pod: &Pod, spec: &PodSpec, (id, slot): (SlotId, &Slot), since: Timestamp, now: Timestamp) {
    let Some(container) = id.container(spec) else { return };
    if let Some(why) = slot.condemned {
        let own = match why {
            StopReason::Liveness => container.liveness_probe.as_ref().and_then(|p| p.termination_grace_period_seconds),
            StopReason::Startup => container.startup_probe.as_ref().and_then(|p| p.termination_grace_period_seconds),
            StopReason::PodEnds | StopReason::PostStartHook => None,
        };
        let grace = own.unwrap_or_else(|| grace(pod)).max(1);
        return plan.act(Action::Stop { slot: id, attempt: slot.attempt, grace, why });
    }
    let (kinds, wake) = probe::due(container, &slot.probes, slot.started, since, now);
    for kind in kinds {
        plan.act(Action::Probe { slot: id, attempt: slot.attempt, kind });
    }
    if let Some(at) = wake {
        plan.wake(at);
    }
}
