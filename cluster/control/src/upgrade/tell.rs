//! What people are told: the status as a whole, its conditions, and events of what changed.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kedge_api::Object;
use kedge_api::event::{Severity, whole_seconds};
use serde_json::{Value, json};

use super::fleet::{self, Seat};
use super::kind::{API_VERSION, Condition, Counts, Entry, Past, Phase, Spec, Stage, Status, Upgrade};
use super::rollout::Part;
use super::window;
use crate::controller::{Plan, value};

pub const NOT_DRAINED: &str = "not drained: no other node could take its pods";
/// Earlier rollouts that the status remembers.
const REMEMBERED: usize = 10;
/// Up to so many nodes an Upgrade tells of each. Of more there would be more than an object may tell at once, and what matters were lost;
/// nodes tell of themselves in any case.
const FEW: usize = 6;
/// Nodes that one column names.
const NAMED: usize = 3;

/// The whole status of nodes as they are now.
pub fn status(spec: &Spec, before: Status, parts: &[Part<'_>], generation: i64, now: Timestamp) -> Status {
    let nodes: Vec<Entry> = parts.iter().map(|part| part.entry.clone()).collect();
    let count = |stage: Stage| nodes.iter().filter(|entry| entry.stage == stage).count();
    let (completed, failed) = (count(Stage::Completed), count(Stage::Failed));
    let under_way: Vec<&str> =
        nodes.iter().filter(|entry| entry.stage.is_under_way()).map(|entry| entry.name.as_str()).collect();
    let phase = phase(spec, &nodes, failed);
    let at = Some(Time(whole_seconds(now)));
    let over = phase.is_final() || (phase == Phase::Stopped && under_way.is_empty());
    let mut after = Status {
        phase,
        message: message(phase, spec, &nodes, now),
        observed_generation: generation,
        version: nodes.iter().find_map(|entry| entry.version.clone()).or(before.version),
        counts: Counts { nodes: format!("{completed}/{}", nodes.len()), selected: nodes.len(), completed, failed },
        current: named(&under_way),
        started_at: before.started_at.or_else(|| at.clone().filter(|_| phase != Phase::Pending)),
        finished_at: if over { before.finished_at.or(at) } else { None },
        conditions: Vec::new(),
        nodes,
        source: before.source,
        digest: before.digest,
        attempt: before.attempt,
        history: before.history,
    };
    after.conditions = conditions(&after, &before.conditions, now);
    after
}

fn named(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(",");
    if more == 0 { first } else { format!("{first}+{more}") }
}

fn phase(spec: &Spec, nodes: &[Entry], failed: usize) -> Phase {
    let any = |is: fn(&Entry) -> bool| nodes.iter().any(is);
    let under_way = any(|entry| entry.stage.is_under_way());
    if spec.abort {
        if under_way { Phase::Aborting } else { Phase::Aborted }
    } else if failed > spec.max_failures {
        Phase::Stopped
    } else if !nodes.is_empty() && nodes.iter().all(|entry| entry.stage.is_over()) {
        Phase::Completed
    } else if spec.paused {
        Phase::Paused
    } else if under_way || any(|entry| entry.stage.is_over()) {
        Phase::Progressing
    } else if any(|entry| entry.stage > Stage::Pending) {
        Phase::Fetching
    } else {
        Phase::Pending
    }
}

fn message(phase: Phase, spec: &Spec, nodes: &[Entry], now: Timestamp) -> String {
    let one = |entry: &Entry| match entry.message.as_str() {
        "" => format!("{} is {:?}", entry.name, entry.stage),
        why => format!("{} is {:?}: {why}", entry.name, entry.stage),
    };
    let under_way = nodes.iter().find(|entry| entry.stage.is_under_way()).map(one);
    let failed = nodes.iter().find(|entry| entry.stage == Stage::Failed);
    let failed = failed.map(|entry| format!("{} failed: {}", entry.name, entry.message));
    let held = || nodes.iter().find(|entry| !entry.stage.is_over() && !entry.message.is_empty()).map(one);
    let closed = spec.window.as_ref().filter(|window| window::opens(window, now).is_some());
    let closed = closed.map(|window| format!("waits for its window, {} to {} UTC", window.start, window.end));
    let wrong = fleet::selector(spec).err().map(|error| format!("spec.nodeSelector: {error}"));
    let parts = match phase {
        Phase::Pending if wrong.is_some() => vec![wrong],
        Phase::Pending if nodes.is_empty() => vec![Some("no node that has a machine is selected".to_owned())],
        Phase::Pending => vec![held()],
        Phase::Fetching => {
            let installed = nodes.iter().filter(|entry| entry.stage >= Stage::Installed).count();
            vec![Some(format!("{installed} of {} machines have it installed", nodes.len())), closed.or_else(held)]
        }
        Phase::Progressing => vec![under_way.or(closed).or_else(held)],
        Phase::Paused => vec![Some("nothing new begins while spec.paused is true".to_owned()), under_way],
        Phase::Stopped => vec![failed, Some("nothing new begins".to_owned()), under_way],
        Phase::Aborting => vec![Some("what has begun comes to its end".to_owned()), under_way],
        Phase::Aborted => vec![Some("what had not begun was taken back".to_owned())],
        Phase::Completed => vec![failed],
    };
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn conditions(status: &Status, before: &[Condition], now: Timestamp) -> Vec<Condition> {
    let going = matches!(status.phase, Phase::Fetching | Phase::Progressing | Phase::Aborting);
    let all = [
        ("Progressing", going),
        ("Complete", status.phase == Phase::Completed),
        ("Failed", status.phase == Phase::Stopped),
    ];
    all.into_iter()
        .map(|(kind, holds)| {
            let holds = if holds { "True" } else { "False" };
            let same = before.iter().find(|condition| condition.kind == kind && condition.status == holds);
            Condition {
                kind: kind.to_owned(),
                status: holds.to_owned(),
                reason: format!("{:?}", status.phase),
                message: if kind == "Progressing" || holds == "True" { status.message.clone() } else { String::new() },
                observed_generation: status.observed_generation,
                last_transition_time: same
                    .map_or_else(|| Time(whole_seconds(now)), |condition| condition.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The history with the rollout that ends now.
pub fn archived(before: &Status, now: Timestamp) -> Vec<Past> {
    let mut history = before.history.clone();
    if !before.source.is_empty() {
        let past = Past {
            source: before.source.clone(),
            digest: before.digest.clone(),
            version: before.version.clone(),
            phase: before.phase,
            nodes: before.counts.nodes.clone(),
            failed: before.counts.failed,
            started_at: before.started_at.clone(),
            finished_at: before.finished_at.clone().or_else(|| Some(Time(whole_seconds(now)))),
        };
        history.insert(0, past);
        history.truncate(REMEMBERED);
    }
    history
}

fn about(object: &Object, api_version: &str, kind: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(object.key.name.to_string()),
        uid: Some(object.uid().to_owned()),
        ..ObjectReference::default()
    }
}

/// A step that the API does not take, such as a wish that a machine does not understand: it is tried again, and people must know.
pub fn refused(object: &Object, why: &kedge_api::Status, plan: &mut Plan) -> Result<(), kedge_api::Status> {
    let whole: Value = object.decode()?;
    let Upgrade { status: before, .. } = object.decode()?;
    let message = format!("cannot go on: {}", why.message);
    if before.message != message {
        plan.status(object, &whole, &json!({"status": value(&Status { message: message.clone(), ..before })?}));
        plan.tell(about(object, API_VERSION, "Upgrade"), Severity::Warning, "Refused", message);
    }
    Ok(())
}

/// What has changed from one status to the next, told about the Upgrade and about its nodes.
pub fn events(object: &Object, before: &Status, after: &Status, seats: &[Seat<'_>], plan: &mut Plan) {
    let upgrade = || about(object, API_VERSION, "Upgrade");
    if before.identity() != after.identity() {
        let what = if before.source.is_empty() { "Started" } else { "Superseded" };
        plan.tell(
            upgrade(),
            Severity::Normal,
            what,
            format!("Upgrade of {} nodes to {}", after.nodes.len(), after.source),
        );
    }
    for entry in &after.nodes {
        let old = before.nodes.iter().find(|old| old.name == entry.name).map_or(Stage::Pending, |old| old.stage);
        let name = &entry.name;
        let what = entry.version.as_deref().unwrap_or(&after.source);
        let (severity, reason, text) = match entry.stage {
            stage if stage == old => continue,
            Stage::Draining => (Severity::Normal, "NodeDraining", format!("Node {name} is cordoned and drained")),
            Stage::Upgrading if entry.message == NOT_DRAINED => {
                (Severity::Normal, "NodeUpgrading", format!("Node {name} starts {what}; {NOT_DRAINED}"))
            }
            Stage::Upgrading => (Severity::Normal, "NodeUpgrading", format!("Node {name} starts {what}")),
            Stage::Completed => (Severity::Normal, "NodeUpgraded", format!("Node {name} runs {what}")),
            Stage::Failed => (Severity::Warning, "NodeUpgradeFailed", format!("Node {name}: {}", entry.message)),
            Stage::Pending | Stage::Fetching | Stage::Installed | Stage::Settling | Stage::Aborted => continue,
        };
        if entry.stage == Stage::Failed || after.nodes.len() <= FEW {
            plan.tell(upgrade(), severity, reason, text.clone());
        }
        let seat = seats.iter().find(|seat| *seat.name == **name);
        if let Some((node, _)) = seat.and_then(|seat| seat.node.as_ref()) {
            let text = format!("Upgrade {}: {text}", object.key.name);
            plan.tell(about(node, "v1", "Node"), severity, reason, text);
        }
    }
    if before.phase != after.phase {
        let severity = if after.phase == Phase::Stopped { Severity::Warning } else { Severity::Normal };
        let told = match after.phase {
            Phase::Pending | Phase::Fetching | Phase::Progressing => before.phase == Phase::Paused,
            Phase::Paused | Phase::Stopped | Phase::Aborting | Phase::Aborted | Phase::Completed => true,
        };
        let reason = if told { format!("{:?}", after.phase) } else { return };
        let text = match after.message.as_str() {
            "" => format!("{} nodes", after.counts.nodes),
            message => format!("{} nodes; {message}", after.counts.nodes),
        };
        plan.tell(upgrade(), severity, &reason, text);
    }
}
