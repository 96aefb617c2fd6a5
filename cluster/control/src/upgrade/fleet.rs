//! Nodes and their machines as they stand, and who else wants them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_api::placement::{NO_EXECUTE, NO_SCHEDULE};
use kedge_api::resource::known::NODES;
use kedge_api::selector::{Selector, SelectorError};
use kedge_api::{Object, Snapshot, Status};
use serde_json::{Map, Value, json};

use super::kind::{CLAIM, CORDONED_BY, MACHINES, Machine, MachinePhase, Node, Phase, Spec, Told, UPGRADES, Upgrade};

/// What makes a node one of the control plane.
const SERVER: &[&str] = &["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
/// What a wish says of how it is done; `gate` may hold defaults that nobody wrote.
const DETAILS: &[&str] = &["certificateAuthorities", "bytesPerSecond", "window", "gate"];

/// A device: as a node, as a machine, or as both.
#[derive(Debug)]
pub struct Seat<'a> {
    pub name: Arc<str>,
    pub node: Option<(&'a Arc<Object>, Node)>,
    pub machine: Option<(&'a Arc<Object>, Machine)>,
}

/// What a machine's wish is to an Upgrade.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// It may be given another.
    Free,
    /// Of the same source, digest and attempt. `exact`: nothing about it is to be written.
    Same { activated: bool, exact: bool },
    /// It starts what another wish named.
    Busy(String),
}

impl Seat<'_> {
    pub fn is_server(&self) -> bool {
        let labels = self.node.as_ref().and_then(|(object, _)| object.meta.labels.as_ref());
        labels.is_some_and(|labels| SERVER.iter().any(|role| labels.contains_key(*role)))
    }

    pub fn is_ready(&self) -> bool {
        self.node.as_ref().is_some_and(|(_, node)| node.is_ready())
    }

    pub fn cordoned_by(&self) -> Option<&str> {
        self.node.as_ref().and_then(|(object, _)| annotation(object, CORDONED_BY))
    }

    pub fn claimed_by(&self) -> Option<&str> {
        self.machine.as_ref().and_then(|(object, _)| annotation(object, CLAIM))
    }

    fn stored(&self) -> Option<&Value> {
        self.machine.as_ref().and_then(|(_, machine)| machine.spec.upgrade.as_ref())
    }

    pub fn is_activated(&self) -> bool {
        self.stored().is_some_and(is_activated)
    }

    pub fn phase(&self) -> Option<MachinePhase> {
        self.news().and_then(|told| told.phase)
    }

    /// What the machine tells about the wish that it has.
    pub fn news(&self) -> Option<&Told> {
        let (told, digest) = self.about_source()?;
        let found = told.digest.as_deref().is_some_and(|found| !found.is_empty());
        let before = matches!(told.phase, Some(MachinePhase::Waiting | MachinePhase::Fetching)) && !found;
        (before || digest.is_none_or(|digest| told.digest.as_deref() == Some(digest))).then_some(told)
    }

    /// A failure that names another digest than the wish, or none: the bundle may hold another system, or it is told about an earlier wish.
    pub fn doubtful(&self) -> Option<&Told> {
        let (told, _) = self.about_source()?;
        (told.phase == Some(MachinePhase::Failed) && self.news().is_none()).then_some(told)
    }

    /// What is told about source and attempt of the wish, and the digest that it names.
    fn about_source(&self) -> Option<(&Told, Option<&str>)> {
        let (stored, told) = (self.stored()?, self.machine.as_ref()?.1.status.upgrade.as_ref()?);
        let attempt = stored.get("attempt").and_then(Value::as_u64).unwrap_or(0);
        let same = told.source.as_deref() == stored.get("source").and_then(Value::as_str)
            && u64::from(told.attempt.unwrap_or(0)) == attempt;
        same.then(|| (told, stored.get("digest").and_then(Value::as_str)))
    }

    pub fn wish(&self, spec: &Spec, name: &str) -> Wish {
        let Some(stored) = self.stored() else { return Wish::Free };
        let wanted = wanted(spec, false);
        let activated = is_activated(stored);
        if ["source", "digest", "attempt"].into_iter().all(|field| stored.get(field) == wanted.get(field)) {
            let details = DETAILS.iter().all(|field| match (stored.get(*field), wanted.get(*field)) {
                (Some(stored), Some(wanted)) => holds(stored, wanted),
                (stored, wanted) => wanted.is_none() && (stored.is_none() || *field == "gate"),
            });
            return Wish::Same { activated, exact: activated || (details && self.claimed_by() == Some(name)) };
        }
        let over = matches!(self.phase(), Some(MachinePhase::Committed | MachinePhase::Failed));
        if activated && !over && self.doubtful().is_none() {
            return Wish::Busy(stored.get("source").and_then(Value::as_str).unwrap_or_default().to_owned());
        }
        Wish::Free
    }

    /// The merge patch that gives the machine a wish.
    pub fn patch(&self, spec: &Spec, activate: bool) -> Value {
        let mut patch = wanted(spec, activate);
        for field in ["digest", "attempt"].iter().chain(DETAILS) {
            if self.stored().is_some_and(|stored| stored.get(field).is_some()) {
                patch.entry(*field).or_insert(Value::Null);
            }
        }
        patch.into()
    }
}

fn is_activated(wish: &Value) -> bool {
    wish.get("activate").and_then(Value::as_bool).unwrap_or(true)
}

fn wanted(spec: &Spec, activate: bool) -> Map<String, Value> {
    let said = [
        ("source", Some(json!(spec.source))),
        ("certificateAuthorities", spec.certificate_authorities.as_ref().map(|text| json!(text))),
        ("digest", spec.digest.as_ref().map(|digest| json!(digest))),
        ("attempt", spec.attempt.map(Value::from)),
        ("bytesPerSecond", spec.bytes_per_second.map(Value::from)),
        ("window", spec.window.as_ref().map(|window| json!(window))),
        ("gate", spec.gate.clone()),
        ("activate", Some(activate.into())),
    ];
    said.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

/// Whether all that is wanted stands there.
fn holds(stored: &Value, wanted: &Value) -> bool {
    match (stored, wanted) {
        (Value::Object(stored), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| stored.get(key).is_some_and(|found| holds(found, value)))
        }
        (Value::Array(stored), Value::Array(wanted)) => {
            stored.len() == wanted.len() && stored.iter().zip(wanted).all(|(stored, wanted)| holds(stored, wanted))
        }
        (stored, wanted) => stored == wanted,
    }
}

fn annotation<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// All devices: servers first, then by name.
pub fn seats(snapshot: &Snapshot) -> Result<Vec<Seat<'_>>, Status> {
    let mut seats: BTreeMap<&Arc<str>, Seat<'_>> = BTreeMap::new();
    let seat = |name: &Arc<str>| Seat { name: name.clone(), node: None, machine: None };
    for object in snapshot.list(&NODES, "") {
        let node = Some((object, object.decode()?));
        seats.insert(&object.key.name, Seat { node, ..seat(&object.key.name) });
    }
    for object in snapshot.list(&MACHINES, "") {
        let machine = Some((object, object.decode()?));
        seats.entry(&object.key.name).or_insert_with(|| seat(&object.key.name)).machine = machine;
    }
    let mut seats: Vec<_> = seats.into_values().collect();
    seats.sort_by_key(|seat| !seat.is_server());
    Ok(seats)
}

/// Whether pods could go there.
pub fn takes_pods(seat: &Seat<'_>) -> bool {
    seat.node.as_ref().is_some_and(|(_, node)| {
        let taints = node.spec.taints.iter().flatten();
        let mut repelling = taints.filter(|taint| [NO_SCHEDULE, NO_EXECUTE].contains(&taint.effect.as_str()));
        node.is_ready() && !node.is_unschedulable() && repelling.next().is_none()
    })
}

/// Another Upgrade.
pub struct Rival {
    pub name: Arc<str>,
    pub older: bool,
    pub upgrade: Upgrade,
    selector: Selector,
    /// It goes on, or will.
    pub active: bool,
}

impl Rival {
    /// Whether a node still has its part in it to come.
    pub fn wants(&self, seat: &Seat<'_>) -> bool {
        let Upgrade { spec, status } = &self.upgrade;
        let labels = seat.node.as_ref().map(|(object, _)| &object.meta.labels);
        let current = status.identity() == spec.identity();
        let over = current && status.nodes.iter().any(|entry| *entry.name == *seat.name && entry.stage.is_over());
        self.active && !over && labels.is_some_and(|labels| self.selector.matches(labels))
    }
}

pub fn rivals(snapshot: &Snapshot, own: &Object) -> Result<Vec<Rival>, Status> {
    let age = |object: &Object| (object.meta.creation_timestamp.as_ref().map(|time| time.0), object.key.name.clone());
    let others = snapshot.list(&UPGRADES, "").filter(|object| object.key != own.key);
    others
        .map(|object| {
            let upgrade: Upgrade = object.decode()?;
            let Upgrade { spec, status } = &upgrade;
            let stays = status.phase.is_final() || status.phase == Phase::Stopped;
            let observed = object.meta.generation == Some(status.observed_generation);
            Ok(Rival {
                name: object.key.name.clone(),
                older: age(object) < age(own),
                selector: selector(spec).unwrap_or_else(|_| Selector::nothing()),
                active: !(object.is_deleting() || spec.abort || stays && observed),
                upgrade,
            })
        })
        .collect()
}

/// No selector is every node.
pub fn selector(spec: &Spec) -> Result<Selector, SelectorError> {
    match &spec.node_selector {
        None => Ok(Selector::everything()),
        some => Selector::from_label_selector(some.as_ref()),
    }
}
