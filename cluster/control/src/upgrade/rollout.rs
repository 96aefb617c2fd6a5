//! What an Upgrade does next: every selected node one step further, and the next nodes begun.
//!
//! ```text
//! Pending ─▶ Fetching ─▶ Installed ─▶ Draining ─▶ Upgrading ─▶ Settling ─▶ Completed
//!   wish, activate: false     └─ its turn ─┴─ cordon,    └─ activate:   └─ node Ready:
//!                                (grant)      evictions     true           uncordon
//! ```
//! All of it stands in objects: the wish in the machine, the cordon in the node, the rest in the status. Whoever plans next, after a restart
//! as well, reads it there; a step that was taken and not yet noted is found as taken.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kedge_api::selector::Selector;
use kedge_api::{Object, Snapshot, Status};
use serde_json::{Value, json};

use super::drain;
use super::fleet::{self, Rival, Seat, Wish};
use super::kind::{
    CLAIM, CORDONED_BY, Entry, FINALIZER, MachinePhase, Phase, Reason, Spec, Stage, Status as Told, Upgrade,
};
use super::tell;
use super::window;
use crate::controller::{Now, Plan, Step, Victim, value};
use crate::finalizer;

/// Where `spec.drain.timeoutSeconds` is not given.
pub const DRAIN_LIMIT: u32 = 600;
/// A failure of another digest than the wish names counts when it is still told after this time.
const DOUBT: SignedDuration = SignedDuration::from_secs(60);
/// A node that was told to start another system is given up when it has not been Ready for so long.
const LOST: SignedDuration = SignedDuration::from_mins(30);

/// One node's part, and what is to be done about it.
pub struct Part<'a> {
    pub seat: &'a Seat<'a>,
    pub entry: Entry,
    order: Order,
    cordon: bool,
    evict: Vec<Victim>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    None,
    /// Fetch and install.
    Put,
    Activate,
}

struct Rollout<'a> {
    snapshot: &'a Snapshot,
    seats: &'a [Seat<'a>],
    name: &'a str,
    spec: &'a Spec,
    rivals: Vec<Rival>,
    now: Now,
    /// It has ended before: only what is left of it is cleared away.
    over: bool,
    again: Plan,
}

pub fn plan(snapshot: &Snapshot, object: &Arc<Object>, now: Now) -> Result<Plan, Status> {
    let mut plan = Plan::default();
    let whole: Value = object.decode()?;
    let Upgrade { spec, status: before } = object.decode()?;
    let name = &*object.key.name;
    let seats = fleet::seats(snapshot)?;
    if object.is_deleting() {
        let parts: Vec<Part<'_>> = seats.iter().map(|seat| Part::new(seat, Entry::default())).collect();
        parts.iter().for_each(|part| release(part, name, true, &mut plan));
        if finalizer::holds(object, FINALIZER) {
            finalizer::lift(object, FINALIZER, &mut plan);
        }
        return Ok(plan);
    }
    if !finalizer::holds(object, FINALIZER) {
        let all: Vec<&str> = object.meta.finalizers.iter().flatten().map(String::as_str).chain([FINALIZER]).collect();
        let meta = json!({"uid": object.uid(), "resourceVersion": object.revision.to_string(), "finalizers": all});
        plan.patch(object, "", json!({"metadata": meta}));
    }
    let generation = object.meta.generation.unwrap_or_default();
    let status = begin(&spec, &before, generation, now);
    let rivals = fleet::rivals(snapshot, object)?;
    let over = status.phase.is_final();
    let mut rollout = Rollout { snapshot, seats: &seats, name, spec: &spec, rivals, now, over, again: Plan::default() };
    let mut parts = parts(&seats, &spec, &status);
    if !over {
        rollout.go_on(&mut parts)?;
        rollout.grant(&mut parts)?;
    }
    // What is back in service is told so before something else is taken out of it.
    parts.iter().for_each(|part| rollout.release(part, &mut plan));
    let taking_part = |seat: &Seat<'_>| parts.iter().any(|part| part.seat.name == seat.name);
    for seat in seats.iter().filter(|seat| !taking_part(seat)) {
        release(&Part::new(seat, Entry::default()), name, true, &mut plan);
    }
    parts.iter().for_each(|part| rollout.order(part, &mut plan));
    if !over {
        let after = tell::status(&spec, status, &parts, generation, now);
        plan.status(object, &whole, &json!({"status": value(&after)?}));
        tell::events(object, &before, &after, &seats, &mut plan);
    }
    rollout.again.again.into_iter().for_each(|delay| plan.again_after(delay));
    Ok(plan)
}

/// The status that this plan goes on from: of a new rollout, where the source is another one.
fn begin(spec: &Spec, before: &Told, generation: i64, now: Now) -> Told {
    let mut status = before.clone();
    if before.identity() != spec.identity() {
        status = Told { history: tell::archived(before, now), ..Told::default() };
        (status.source, status.digest, status.attempt) = (spec.source.clone(), spec.digest.clone(), spec.attempt);
        // Whoever was told to start the old one does so first.
        let begun = before.nodes.iter().filter(|entry| entry.stage.is_activated());
        status.nodes = begun.map(|entry| Entry { version: None, ..entry.clone() }).collect();
    } else if before.observed_generation != generation {
        let again = |entry: &&mut Entry| match entry.stage {
            Stage::Aborted => !spec.abort,
            _ => entry.reason.is_some_and(Reason::is_before_activation),
        };
        status.nodes.iter_mut().filter(again).for_each(Entry::restart);
        status.phase = Phase::Pending;
        status.finished_at = None;
    }
    status
}

/// The nodes that take part: those selected that have a machine, and those that cannot be left alone any more.
fn parts<'a>(seats: &'a [Seat<'a>], spec: &Spec, status: &Told) -> Vec<Part<'a>> {
    // One that says nothing sensible selects nothing, and the status says so.
    let selector = fleet::selector(spec).unwrap_or_else(|_| Selector::nothing());
    let mut parts = Vec::new();
    for seat in seats {
        let entry = status.nodes.iter().find(|entry| *entry.name == *seat.name);
        let selected = seat.machine.is_some()
            && seat.node.as_ref().is_some_and(|(object, _)| selector.matches(&object.meta.labels));
        let stays = entry.is_some_and(|entry| entry.stage.is_activated() || entry.stage.is_over());
        if stays || (selected && !status.phase.is_final()) {
            parts.push(Part::new(seat, entry.cloned().unwrap_or_else(|| Entry::of(&seat.name))));
        }
    }
    parts
}

impl<'a> Part<'a> {
    fn new(seat: &'a Seat<'a>, entry: Entry) -> Self {
        Self { seat, entry, order: Order::None, cordon: false, evict: Vec::new() }
    }
}

impl Rollout<'_> {
    fn failures(&self, parts: &[Part<'_>]) -> usize {
        parts.iter().filter(|part| part.entry.stage == Stage::Failed).count()
    }

    /// Whether anything new may be begun.
    fn goes_on(&self, parts: &[Part<'_>]) -> bool {
        !self.spec.paused && !self.spec.abort && self.failures(parts) <= self.spec.max_failures
    }

    fn prefetches(&self) -> bool {
        self.spec.prefetch.unwrap_or(true)
    }

    /// Whether the node counts against the concurrency.
    fn is_under_way(&self, entry: &Entry) -> bool {
        let fetching = matches!(entry.stage, Stage::Fetching | Stage::Installed);
        entry.stage.is_under_way() || (fetching && !self.prefetches())
    }

    /// The same, or its machine starts what another wish named.
    fn is_away(&self, part: &Part<'_>) -> bool {
        let busy = || part.seat.is_ready() && matches!(part.seat.wish(self.spec, self.name), Wish::Busy(_));
        self.is_under_way(&part.entry) || busy()
    }

    /// Every node as far as it comes by itself.
    fn go_on(&mut self, parts: &mut [Part<'_>]) -> Result<(), Status> {
        for part in parts.iter_mut() {
            let activated = matches!(part.seat.wish(self.spec, self.name), Wish::Same { activated: true, .. });
            let stage = part.entry.stage;
            match stage {
                _ if self.spec.abort && !activated && !stage.is_activated() && !stage.is_over() => {
                    part.entry.to(Stage::Aborted, "", self.now);
                }
                Stage::Pending | Stage::Fetching | Stage::Installed => self.wait(part),
                Stage::Upgrading => self.upgrade(part),
                Stage::Settling => self.settle(part),
                Stage::Draining | Stage::Completed | Stage::Failed | Stage::Aborted => {}
            }
        }
        // After the others: what fails on one node is not begun on the next.
        let stopped = self.failures(parts) > self.spec.max_failures;
        for part in parts.iter_mut() {
            if part.entry.stage == Stage::Draining {
                self.drain(part, stopped)?;
            }
            if let Some(version) = part.seat.news().and_then(|told| told.version.clone())
                && matches!(part.seat.wish(self.spec, self.name), Wish::Same { .. })
            {
                part.entry.version = Some(version);
            }
        }
        if self.prefetches() && self.goes_on(parts) {
            for part in parts.iter_mut().filter(|part| part.entry.stage == Stage::Pending) {
                self.put(part);
            }
        }
        Ok(())
    }

    /// Another Upgrade that comes first on a node: the one that has begun, else the oldest.
    fn holder(&self, seat: &Seat<'_>) -> Option<&Rival> {
        let claimed = seat.claimed_by();
        let mut wanting = self.rivals.iter().filter(|rival| rival.wants(seat));
        match claimed {
            Some(own) if own == self.name => None,
            Some(other) if self.rivals.iter().any(|rival| *rival.name == *other && rival.wants(seat)) => {
                wanting.find(|rival| *rival.name == *other)
            }
            _ => wanting.find(|rival| rival.older),
        }
    }

    fn wait(&mut self, part: &mut Part<'_>) {
        let (seat, now) = (part.seat, self.now);
        if let Some(rival) = self.holder(seat) {
            let phase = rival.upgrade.status.phase;
            return part.entry.to(Stage::Pending, format!("held by upgrade {} ({phase:?})", rival.name), now);
        }
        match seat.wish(self.spec, self.name) {
            Wish::Busy(source) => part.entry.to(Stage::Pending, format!("its machine still starts {source}"), now),
            Wish::Free => part.entry.to(Stage::Pending, "", now),
            Wish::Same { activated, exact } => {
                if !exact && !self.spec.paused {
                    part.order = Order::Put;
                }
                let told = seat.news();
                let message = told.and_then(|told| told.message.clone()).unwrap_or_default();
                if let Some(told) = seat.doubtful().filter(|_| !activated && part.entry.stage == Stage::Fetching) {
                    // One that lives would have told of the new wish by then.
                    let certain = part.entry.since(now).checked_add(DOUBT).unwrap_or(now);
                    if certain <= now && seat.is_ready() {
                        return part.entry.fail(Reason::MachineFailed, told.message.clone().unwrap_or_default(), now);
                    }
                    self.again.again_at(certain.max(now), now);
                }
                match told.and_then(|told| told.phase) {
                    Some(MachinePhase::Failed) => part.entry.fail(Reason::MachineFailed, message, now),
                    Some(MachinePhase::Committed) => part.entry.to(Stage::Settling, "", now),
                    _ if activated => part.entry.to(Stage::Upgrading, "", now),
                    Some(MachinePhase::Installed) => part.entry.to(Stage::Installed, "", now),
                    Some(MachinePhase::Waiting) => part.entry.to(Stage::Fetching, message, now),
                    Some(MachinePhase::Fetching | MachinePhase::Trying | MachinePhase::Other) | None => {
                        part.entry.to(Stage::Fetching, "", now);
                    }
                }
            }
        }
    }

    /// Has a node's machine fetch and install, if nothing stands against it.
    fn put(&self, part: &mut Part<'_>) -> bool {
        let free = self.holder(part.seat).is_none() && part.seat.wish(self.spec, self.name) == Wish::Free;
        if free {
            part.order = Order::Put;
            part.entry.to(Stage::Fetching, "", self.now);
        }
        free
    }

    fn drain(&mut self, part: &mut Part<'_>, stopped: bool) -> Result<(), Status> {
        let (seat, now) = (part.seat, self.now);
        match seat.wish(self.spec, self.name) {
            Wish::Same { activated: true, .. } => {
                part.entry.to(Stage::Upgrading, "", now);
                return Ok(());
            }
            Wish::Same { .. } if seat.node.is_some() => {}
            Wish::Same { .. } | Wish::Free | Wish::Busy(_) => {
                part.entry.restart();
                return Ok(());
            }
        }
        match seat.phase() {
            Some(MachinePhase::Installed) if stopped => {
                part.entry.to(Stage::Installed, "", now);
                return Ok(());
            }
            Some(MachinePhase::Installed) => {}
            Some(MachinePhase::Failed) => {
                let message = seat.news().and_then(|told| told.message.clone()).unwrap_or_default();
                part.entry.fail(Reason::MachineFailed, message, now);
                return Ok(());
            }
            _ => {
                part.entry.restart();
                return Ok(());
            }
        }
        let pods = match self.spec.drain.disabled {
            true => drain::Pods::default(),
            false => drain::pods(self.snapshot, &seat.name, &self.spec.drain)?,
        };
        let limit = self.spec.drain.timeout_seconds.unwrap_or(DRAIN_LIMIT);
        let passed = now.duration_since(part.entry.since(now)).as_secs().max(0);
        if !pods.refused.is_empty() {
            part.entry.fail(Reason::DrainRefused, pods.message(), now);
        } else if pods.left.is_empty() {
            part.order = Order::Activate;
            part.entry.to(Stage::Upgrading, "", now);
        } else if passed >= i64::from(limit) {
            part.entry.fail(Reason::DrainTimeout, format!("not drained within {limit} s: {}", pods.message()), now);
        } else {
            part.entry.to(Stage::Draining, pods.message(), now);
            part.evict = pods.evict;
            // The longer it takes, the less often it is tried.
            let again = (passed / 10).clamp(1, 30).min(i64::from(limit) - passed);
            self.again.again_after(Duration::from_secs(again.unsigned_abs()));
        }
        Ok(())
    }

    fn upgrade(&mut self, part: &mut Part<'_>) {
        let (seat, now) = (part.seat, self.now);
        let own = matches!(seat.wish(self.spec, self.name), Wish::Same { .. });
        if seat.machine.is_some() && !seat.is_activated() {
            // Taken back by somebody.
            return part.entry.restart();
        }
        let message = seat.news().and_then(|told| told.message.clone()).unwrap_or_default();
        match seat.phase() {
            Some(MachinePhase::Committed) => {
                part.entry.to(Stage::Settling, "", now);
                return self.settle(part);
            }
            Some(MachinePhase::Failed) if own => return part.entry.fail(Reason::MachineFailed, message, now),
            Some(MachinePhase::Failed) => return part.entry.restart(),
            Some(MachinePhase::Trying) => part.entry.to(Stage::Upgrading, "the new system is on trial", now),
            Some(MachinePhase::Waiting) => part.entry.to(Stage::Upgrading, message, now),
            Some(MachinePhase::Fetching | MachinePhase::Installed | MachinePhase::Other) | None => {
                part.entry.to(Stage::Upgrading, "the machine is about to start the new system", now);
            }
        }
        self.lost(part);
    }

    fn settle(&mut self, part: &mut Part<'_>) {
        let (seat, now) = (part.seat, self.now);
        if !seat.is_ready() {
            part.entry.to(Stage::Settling, "waits for the node to be Ready", now);
            return self.lost(part);
        }
        let least = SignedDuration::from_secs(self.spec.min_ready_seconds.into());
        let ready = seat.node.as_ref().and_then(|(_, node)| node.ready()?.last_transition_time.as_ref());
        let since = ready.map_or(part.entry.since(now), |time| time.0.max(part.entry.since(now)));
        let at = since.checked_add(least).unwrap_or(now);
        if !least.is_zero() && at > now {
            part.entry.to(Stage::Settling, format!("Ready, for {} s yet", self.spec.min_ready_seconds), now);
            return self.again.again_at(at, now);
        }
        match seat.wish(self.spec, self.name) {
            Wish::Same { .. } => part.entry.to(Stage::Completed, "", now),
            // That was the end of an earlier one.
            Wish::Free | Wish::Busy(_) => part.entry.restart(),
        }
    }

    /// Gives a node up that does not come back.
    fn lost(&mut self, part: &mut Part<'_>) {
        if part.seat.is_ready() && part.seat.machine.is_some() {
            return;
        }
        let ready = part.seat.node.as_ref().and_then(|(_, node)| node.ready()?.last_transition_time.as_ref());
        let began = part.entry.since(self.now);
        let since = ready.map_or(began, |time| time.0.max(began));
        let limit = since.checked_add(LOST).unwrap_or(self.now);
        if limit <= self.now {
            let message = format!("the node has not been Ready for {} min", LOST.as_mins());
            part.entry.fail(Reason::NodeNotReady, message, self.now);
        } else {
            self.again.again_at(limit, self.now);
        }
    }

    /// Begins with the next nodes: servers before agents, one server at a time.
    fn grant(&mut self, parts: &mut [Part<'_>]) -> Result<(), Status> {
        if !self.goes_on(parts) {
            return Ok(());
        }
        if let Some(window) = &self.spec.window
            && let Some(opens) = window::opens(window, self.now)
        {
            self.again.again_at(opens, self.now);
            return Ok(());
        }
        let limit = concurrency(self.spec, parts.len());
        let servers_left = parts.iter().any(|part| part.seat.is_server() && !part.entry.stage.is_over());
        for i in 0..parts.len() {
            // What was begun may have failed at once.
            let Some(part) = parts.get(i).filter(|_| self.goes_on(parts)) else { break };
            let counted = self.is_away(part);
            let under_way = parts.iter().filter(|part| self.is_away(part)).count() - usize::from(counted);
            let fetch = part.entry.stage == Stage::Pending && !self.prefetches() && part.entry.message.is_empty();
            if !fetch && part.entry.stage != Stage::Installed {
                continue;
            }
            let (server, ready) = (part.seat.is_server(), part.seat.is_ready());
            let elsewhere = self.elsewhere(parts, i);
            let why = match server {
                _ if !ready => Some("the node is not Ready".to_owned()),
                true if under_way > 0 => Some("one server at a time".to_owned()),
                true => self.other_servers(),
                false if servers_left => Some("after the servers".to_owned()),
                false => None,
            };
            let Some(part) = parts.get_mut(i) else { break };
            match why {
                Some(why) => part.entry.message = why,
                None if under_way >= limit => {}
                None if fetch => drop(self.put(part)),
                None => self.start(part, elsewhere)?,
            }
        }
        Ok(())
    }

    fn start(&mut self, part: &mut Part<'_>, elsewhere: bool) -> Result<(), Status> {
        if !elsewhere {
            part.order = Order::Activate;
            part.entry.to(Stage::Upgrading, tell::NOT_DRAINED, self.now);
            return Ok(());
        }
        let pods = match self.spec.drain.disabled {
            true => drain::Pods::default(),
            false => drain::pods(self.snapshot, &part.seat.name, &self.spec.drain)?,
        };
        if pods.refused.is_empty() {
            part.cordon = true;
            part.entry.to(Stage::Draining, pods.message(), self.now);
        } else {
            part.entry.fail(Reason::DrainRefused, pods.message(), self.now);
        }
        Ok(())
    }

    /// Whether a node that stays in service could take another's pods.
    fn elsewhere(&self, parts: &[Part<'_>], own: usize) -> bool {
        let name = parts.get(own).map(|part| part.seat.name.clone());
        let away =
            |seat: &Seat<'_>| parts.iter().any(|part| part.seat.name == seat.name && part.entry.stage.is_under_way());
        self.seats.iter().any(|seat| Some(&seat.name) != name.as_ref() && !away(seat) && fleet::takes_pods(seat))
    }

    /// What another Upgrade does with servers: there is one at a time in the whole cluster.
    fn other_servers(&self) -> Option<String> {
        let mut servers = self.seats.iter().filter(|seat| seat.is_server());
        servers.find_map(|seat| {
            let rival = self.rivals.iter().find(|rival| {
                let Upgrade { spec, status } = &rival.upgrade;
                let entry = status.nodes.iter().find(|entry| *entry.name == *seat.name);
                let under_way = entry.is_some_and(|entry| entry.stage.is_under_way());
                under_way || (rival.older && !spec.paused && rival.wants(seat) && seat.is_ready())
            })?;
            Some(format!("upgrade {} is with server {} first", rival.name, seat.name))
        })
    }

    /// What of the Upgrade is to go from a node and its machine.
    fn release(&self, part: &Part<'_>, plan: &mut Plan) {
        let (seat, stage) = (part.seat, part.entry.stage);
        let retried = !self.over && !self.spec.abort && part.entry.reason.is_some_and(Reason::is_before_activation);
        let claims = part.order != Order::None || !stage.is_over() || (stage == Stage::Failed && retried);
        let away = match stage {
            Stage::Draining | Stage::Upgrading => true,
            Stage::Settling | Stage::Failed => !seat.is_ready(),
            Stage::Pending | Stage::Fetching | Stage::Installed | Stage::Completed | Stage::Aborted => false,
        };
        release(&Part { cordon: part.cordon || away, ..Part::new(seat, part.entry.clone()) }, self.name, !claims, plan);
    }

    /// What is to be written about one node.
    fn order(&self, part: &Part<'_>, plan: &mut Plan) {
        let seat = part.seat;
        if let Some((object, node)) = seat.node.as_ref().filter(|_| part.cordon) {
            let revision = object.revision.to_string();
            if !node.is_unschedulable() {
                let annotations = json!({CORDONED_BY: self.name});
                let meta = json!({"uid": object.uid(), "resourceVersion": revision, "annotations": annotations});
                plan.patch(object, "", json!({"metadata": meta, "spec": {"unschedulable": true}}));
            }
        }
        if let Some((object, _)) = seat.machine.as_ref().filter(|_| part.order != Order::None) {
            let upgrade = seat.patch(self.spec, part.order == Order::Activate);
            let revision = object.revision.to_string();
            let annotations = json!({CLAIM: self.name});
            let meta = json!({"uid": object.uid(), "resourceVersion": revision, "annotations": annotations});
            plan.patch(object, "", json!({"metadata": meta, "spec": {"upgrade": upgrade}}));
        }
        if !part.evict.is_empty() {
            plan.push(Step::Evict { targets: part.evict.clone() });
        }
    }
}

/// Takes back what stands of an Upgrade on a device: the cordon where it is not to be, and its claim.
fn release(part: &Part<'_>, name: &str, claim: bool, plan: &mut Plan) {
    let seat = part.seat;
    if let Some((object, _)) = seat.node.as_ref().filter(|_| seat.cordoned_by() == Some(name) && !part.cordon) {
        let revision = object.revision.to_string();
        let annotations = json!({CORDONED_BY: null});
        let meta = json!({"uid": object.uid(), "resourceVersion": revision, "annotations": annotations});
        plan.patch(object, "", json!({"metadata": meta, "spec": {"unschedulable": null}}));
    }
    if let Some((object, _)) = seat.machine.as_ref().filter(|_| seat.claimed_by() == Some(name) && claim) {
        let annotations = json!({CLAIM: null});
        let meta =
            json!({"uid": object.uid(), "resourceVersion": object.revision.to_string(), "annotations": annotations});
        let over = matches!(seat.phase(), Some(MachinePhase::Committed | MachinePhase::Failed));
        match seat.is_activated() || over {
            true => plan.patch(object, "", json!({"metadata": meta})),
            false => plan.patch(object, "", json!({"metadata": meta, "spec": {"upgrade": null}})),
        }
    }
}

/// How many nodes at once: a part of all, rounded down, and never none.
fn concurrency(spec: &Spec, nodes: usize) -> usize {
    let number = match &spec.concurrency {
        None => 1,
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(1),
        Some(IntOrString::String(text)) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            nodes.saturating_mul(percent) / 100
        }
    };
    number.max(1)
}
