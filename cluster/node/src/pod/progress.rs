//! How what is known changes: by beginning an action, and by what comes of it.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::observed::{Hold, Observed, Phase, Sandbox, Slot, SlotId, Termination};
use super::plan::{Action, StopReason};
use super::probe::{Kind, Probes};
use super::{after, backoff::Backoff};

/// How long after a configuration error the container is tried again, unless what it lacks appears before.
const TRY_CONFIG_AGAIN: i64 = 10;
/// The longest wait between two tries to make a sandbox.
const PREPARE_LIMIT: i64 = 120;
/// How long after a failure to refresh mounted data it is tried again.
const REFRESH_AGAIN: i64 = 60;

/// Something happened to a pod here.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Prepared {
        addresses: Vec<IpAddr>,
        refresh: Option<Timestamp>,
    },
    PrepareFailed,
    Refreshed {
        refresh: Option<Timestamp>,
    },
    RefreshFailed,
    /// An object that mounted data or environment comes from has changed.
    Changed,
    Started {
        slot: SlotId,
        attempt: u32,
        image: String,
        id: String,
    },
    /// No container could be made: image or configuration is missing.
    Held {
        slot: SlotId,
        attempt: u32,
        reason: String,
        message: String,
        pull: bool,
    },
    HookFailed {
        slot: SlotId,
        attempt: u32,
    },
    Exited {
        slot: SlotId,
        attempt: u32,
        end: Termination,
    },
    Probed {
        slot: SlotId,
        attempt: u32,
        kind: Kind,
        good: bool,
    },
    Released,
    Deleted,
}

impl Observed {
    /// Notes that an action is under way, so that it is not planned twice.
    pub fn begin(&mut self, action: &Action, now: Timestamp, pod: &Pod) {
        match action {
            Action::Prepare => {
                let failures = if let Sandbox::Absent { failures, .. } = self.sandbox { failures } else { 0 };
                self.sandbox = Sandbox::Preparing { failures };
            }
            Action::Refresh { tokens } => {
                self.stale = false;
                if *tokens {
                    self.refresh = None;
                }
                self.refreshing = true;
            }
            Action::Start { slot, attempt } => {
                self.initialized |= matches!(slot, SlotId::Main(_));
                if let Some(slot) = self.slot_mut(*slot) {
                    slot.begin(*attempt, now);
                }
            }
            Action::Stop { slot, grace, why, .. } => {
                if *why == StopReason::PodEnds {
                    self.ending.get_or_insert(now);
                }
                if let Some(slot) = self.slot_mut(*slot)
                    && let Phase::Running { since } = slot.phase
                {
                    slot.phase = Phase::Stopping { since, asked: now, grace: *grace, killed: None, why: *why };
                }
            }
            Action::Kill { slot, .. } => {
                if let Some(slot) = self.slot_mut(*slot)
                    && let Phase::Stopping { killed, .. } = &mut slot.phase
                {
                    *killed = Some(now);
                }
            }
            Action::Probe { slot: id, kind, .. } => {
                let probe = pod.spec.as_ref().and_then(|s| id.container(s)).and_then(|c| kind.of(c));
                if let (Some(slot), Some(probe)) = (self.slot_mut(*id), probe) {
                    slot.probes.tally_mut(*kind).begin(probe, now);
                }
            }
            Action::Fail(verdict) => self.verdict = Some(verdict.clone()),
            Action::Release => self.sandbox = Sandbox::Releasing,
            Action::Delete => self.deleted = true,
            Action::Finish => {}
        }
    }

    pub fn apply(&mut self, event: Event, now: Timestamp, pod: &Pod) {
        match event {
            Event::Prepared { addresses, refresh } => {
                self.sandbox = Sandbox::Ready { addresses };
                self.refresh = refresh;
            }
            Event::PrepareFailed => {
                let failures = if let Sandbox::Preparing { failures } = self.sandbox { failures } else { 0 };
                let wait = 1i64.checked_shl(failures.min(16)).unwrap_or(PREPARE_LIMIT).min(PREPARE_LIMIT);
                self.sandbox = Sandbox::Absent { failures: failures.saturating_add(1), retry: Some(after(now, wait)) };
            }
            Event::Refreshed { refresh } => {
                self.refreshing = false;
                self.refresh = refresh.or(self.refresh);
            }
            Event::RefreshFailed => {
                self.refreshing = false;
                self.refresh = Some(after(now, REFRESH_AGAIN));
            }
            Event::Changed => self.changed(now),
            Event::Started { slot, attempt, image, id } => {
                let Some((container, slot)) = self.at(slot, attempt, pod) else { return };
                slot.image = image;
                slot.id = id;
                slot.pulls = Backoff::default();
                // Its end may have been seen before its start was told.
                if slot.phase == Phase::Starting {
                    slot.phase = Phase::Running { since: now };
                    slot.started = container.startup_probe.is_none();
                    slot.ready = slot.started && container.readiness_probe.is_none();
                }
            }
            Event::Held { slot, attempt, reason, message, pull } => {
                let Some((_, slot)) = self.at(slot, attempt, pod) else { return };
                let until = if pull {
                    slot.pulls.next(now, now);
                    after(now, slot.pulls.seconds().into())
                } else {
                    after(now, TRY_CONFIG_AGAIN)
                };
                slot.phase = Phase::Waiting(Some(Hold { reason, message, since: now, until }));
            }
            Event::HookFailed { slot, attempt } => {
                if let Some((_, slot)) = self.at(slot, attempt, pod) {
                    slot.condemned = Some(StopReason::PostStartHook);
                }
            }
            Event::Exited { slot, attempt, end } => {
                let Some((_, slot)) = self.at(slot, attempt, pod) else { return };
                if slot.phase.is_alive() {
                    slot.exited(end);
                }
            }
            Event::Probed { slot, attempt, kind, good } => {
                let Some((container, slot)) = self.at(slot, attempt, pod) else { return };
                if let Some(probe) = kind.of(container) {
                    slot.probes.tally_mut(kind).record(probe, good);
                    slot.judge(kind, container.readiness_probe.is_some());
                }
            }
            Event::Released => self.sandbox = Sandbox::Gone,
            Event::Deleted => self.deleted = true,
        }
    }

    fn at<'p>(
        &mut self,
        id: SlotId,
        attempt: u32,
        pod: &'p Pod,
    ) -> Option<(&'p k8s_openapi::api::core::v1::Container, &mut Slot)> {
        let container = id.container(pod.spec.as_ref()?)?;
        let slot = self.slot_mut(id)?;
        (slot.attempt == attempt).then_some((container, slot))
    }

    /// What was held back for lack of something, or mounted, is looked at anew.
    fn changed(&mut self, now: Timestamp) {
        self.stale = true;
        if let Sandbox::Absent { retry, .. } = &mut self.sandbox {
            *retry = None;
        }
        for slot in self.init.iter_mut().chain(self.main.iter_mut()) {
            if let Phase::Waiting(Some(hold)) = &mut slot.phase
                && hold.reason == "CreateContainerConfigError"
            {
                hold.until = now;
            }
        }
    }
}

impl Slot {
    fn begin(&mut self, attempt: u32, now: Timestamp) {
        let before = std::mem::replace(&mut self.phase, Phase::Starting);
        if let Phase::Exited(end) = before {
            self.restarts.next(end.finished, now);
            self.last = Some(end);
        }
        self.attempt = attempt;
        self.id.clear();
        self.started = false;
        self.ready = false;
        self.probes = Probes::default();
        self.condemned = None;
    }

    pub fn exited(&mut self, end: Termination) {
        self.id.clone_from(&end.id);
        self.phase = Phase::Exited(end);
        self.started = false;
        self.ready = false;
        self.condemned = None;
    }

    /// Draws the consequence of a probe's count.
    fn judge(&mut self, kind: Kind, has_readiness: bool) {
        match (kind, self.probes.tally(kind).verdict) {
            (Kind::Startup, Some(true)) => {
                self.started = true;
                self.ready = !has_readiness;
            }
            (Kind::Startup, Some(false)) => self.condemned = Some(StopReason::Startup),
            (Kind::Liveness, Some(false)) => self.condemned = Some(StopReason::Liveness),
            (Kind::Readiness, Some(verdict)) => self.ready = verdict,
            (Kind::Liveness, Some(true)) | (_, None) => {}
        }
    }
}
