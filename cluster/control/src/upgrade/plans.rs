//! Plans of k3s' system-upgrade-controller, where they can mean an Upgrade: image and version name a bundle in a registry.
//!
//! ```text
//! Plan ─▶ translate ─┬─▶ Upgrade NAMESPACE.NAME ─▶ its status ─▶ Plan's conditions, labels of nodes
//!                    └─▶ refused: a condition says what and why
//! ```
//! No container is run. Where another definition of the kind is installed, that one's controller has the Plans, and this one keeps away.
//! Source: upgrade.cattle.io/v1 of system-upgrade-controller 0.20.

pub mod definition;
#[cfg(test)]
mod tests;
mod translate;
mod window;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kedge_api::event::{Severity, whole_seconds};
use kedge_api::resource::known::NODES;
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::{Map, Value, json};

use super::fleet;
use super::kind::{API_VERSION, DEFINITIONS, MACHINES, Phase, Stage, UPGRADES, Upgrade};
use crate::controller::{Controller, Now, Plan, Step, Victim, difference};
use translate::{Refusal, Translated};

pub const GROUP: &str = "upgrade.cattle.io";
const PLANS: GroupResource = GroupResource::of(GROUP, "plans");
const WATCHES: &[GroupResource] = &[PLANS, UPGRADES, NODES, MACHINES, DEFINITIONS];
/// On an Upgrade: the Plan that it was made of, as `NAMESPACE/NAME`.
const PLAN: &str = "kedge.dev/plan";
/// On an Upgrade: a window says whether it is paused.
const WINDOW: &str = "kedge.dev/paused-by-window";
/// Fields of an Upgrade that are the Plan's; the others are for whoever edits it.
const OWN: &[&str] = &["source", "nodeSelector", "concurrency", "drain", "minReadySeconds", "paused"];
/// What an object's name may be long.
const LONGEST: usize = 253;

pub struct Plans;

impl Controller for Plans {
    fn name(&self) -> &'static str {
        "system-upgrade-controller"
    }

    fn account(&self) -> &'static str {
        "upgrade-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let resource = &change.key.resource;
        if *resource == PLANS {
            keys.push(change.key.clone());
        } else if *resource == UPGRADES {
            keys.extend([&change.before, &change.after].into_iter().flatten().find_map(|object| plan_of(object)));
        } else if *resource == DEFINITIONS && *change.key.name == *definition::NAME {
            keys.extend(snapshot.list(&PLANS, "").map(|object| object.key.clone()));
            keys.extend(snapshot.list(&UPGRADES, "").filter_map(|object| plan_of(object)));
        } else if snapshot.len(&PLANS) > 0 && relabelled(change) {
            keys.extend(snapshot.list(&PLANS, "").map(|object| object.key.clone()));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let name = format!("{}.{}", key.namespace, key.name);
        let found = snapshot.get(&Key::new(UPGRADES, "", &name));
        let made = found.filter(|object| plan_of(object).as_ref() == Some(key));
        let delete = |plan: &mut Plan| {
            if let Some(object) = made.filter(|object| !object.is_deleting()) {
                plan.push(Step::Delete { resource: UPGRADES, targets: vec![Victim::of(object)], told: None });
            }
        };
        let object = snapshot.get(key).filter(|object| !object.is_deleting());
        let Some(object) = object.filter(|_| definition::is_ours(snapshot)) else {
            delete(&mut plan);
            return Ok(plan);
        };
        let whole: Value = object.decode()?;
        let spec = whole.get("spec").cloned().unwrap_or_default();
        let translated = match translate::translate(&spec, &key.name, now) {
            Ok(_) if name.len() > LONGEST => Err(Refusal::invalid(format!(
                "the name of an Upgrade would be longer than {LONGEST} characters: {name}"
            ))),
            Ok(_) if found.is_some() && made.is_none() => {
                Err(Refusal::new("NameTaken", format!("the Upgrade {name} is there already, and not of this Plan")))
            }
            other => other,
        };
        let upgrade = match made {
            Some(object) => Some((object, object.decode::<Upgrade>()?)),
            None => None,
        };
        let mut status = Told::new(&whole, now);
        match &translated {
            Ok(translated) => {
                status.accepted(translated);
                let complete = upgrade.as_ref().map(|(_, upgrade)| upgrade);
                status.progress(complete.filter(|upgrade| upgrade.status.source == translated.source()));
                match &upgrade {
                    None => plan.push(create(&name, key, translated)),
                    Some((object, _)) if object.is_deleting() => {}
                    Some((_, upgrade)) if newcomers(snapshot, upgrade)? => delete(&mut plan),
                    Some((object, upgrade)) => {
                        correct(object, translated, &mut plan)?;
                        label(snapshot, &key.name, upgrade, translated, &mut plan);
                    }
                }
                translated.again.into_iter().for_each(|at| plan.again_at(at, now));
            }
            Err(refusal) => {
                status.refused(refusal);
                delete(&mut plan);
            }
        }
        status.tell(object, &whole, &mut plan);
        Ok(plan)
    }
}

/// Whether a node or machine is new, or another one to selectors.
fn relabelled(change: &Change) -> bool {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => before.meta.labels != after.meta.labels,
        (_, after) => after.is_some(),
    }
}

fn plan_of(upgrade: &Object) -> Option<Key> {
    let (namespace, name) = upgrade.meta.annotations.as_ref()?.get(PLAN)?.split_once('/')?;
    Some(Key::new(PLANS, namespace, name))
}

fn create(name: &str, plan: &Key, translated: &Translated) -> Step {
    let annotations = json!({PLAN: format!("{}/{}", plan.namespace, plan.name)});
    let meta = json!({"name": name, "annotations": annotations});
    let object = json!({"apiVersion": API_VERSION, "kind": "Upgrade", "metadata": meta, "spec": translated.spec});
    Step::Create { resource: UPGRADES, objects: vec![object], told: None }
}

/// Brings the Plan's part of an Upgrade to what the Plan says now.
fn correct(object: &Object, translated: &Translated, plan: &mut Plan) -> Result<(), Status> {
    let whole: Value = object.decode()?;
    let own = |spec: Option<&Value>| -> Value {
        let fields = OWN.iter().filter_map(|field| Some(((*field).to_owned(), spec?.get(*field)?.clone())));
        fields.collect::<Map<_, _>>().into()
    };
    let (mut before, mut after) = (own(whole.get("spec")), own(Some(&translated.spec)));
    let had_window = object.meta.annotations.as_ref().is_some_and(|all| all.contains_key(WINDOW));
    let has_window = translated.spec.get("paused").is_some();
    match (before.as_object_mut(), after.as_object_mut()) {
        // Without a window, pausing it is for people.
        (Some(before), _) if !has_window && !had_window => drop(before.remove("paused")),
        (_, Some(after)) if !has_window => drop(after.insert("paused".to_owned(), false.into())),
        _ => {}
    }
    let spec = difference(&before, &after);
    if spec.is_some() || has_window != had_window {
        let annotations = json!({WINDOW: has_window.then_some("true")});
        let meta = json!({"uid": object.uid(), "annotations": annotations});
        plan.patch(object, "", json!({"metadata": meta, "spec": spec.unwrap_or_else(|| json!({}))}));
    }
    Ok(())
}

/// Whether nodes are there that a completed Upgrade has not seen: it is made anew for them.
fn newcomers(snapshot: &Snapshot, upgrade: &Upgrade) -> Result<bool, Status> {
    if upgrade.status.phase != Phase::Completed {
        return Ok(false);
    }
    let Ok(selector) = fleet::selector(&upgrade.spec) else { return Ok(false) };
    let seats = fleet::seats(snapshot)?;
    Ok(seats.iter().any(|seat| {
        let selected = seat.node.as_ref().is_some_and(|(node, _)| selector.matches(&node.meta.labels));
        selected && seat.machine.is_some() && !upgrade.status.nodes.iter().any(|entry| *entry.name == *seat.name)
    }))
}

/// Labels nodes as upstream does once their part is done.
fn label(snapshot: &Snapshot, name: &str, upgrade: &Upgrade, translated: &Translated, plan: &mut Plan) {
    if upgrade.status.source != translated.source() {
        return;
    }
    let mut labels = translated.labels.clone();
    labels.insert(translate::label(name), translated.hash.clone());
    for entry in upgrade.status.nodes.iter().filter(|entry| entry.stage == Stage::Completed) {
        let Some(node) = snapshot.get(&Key::new(NODES, "", &entry.name)) else { continue };
        let has =
            |(key, value): (&String, &String)| node.meta.labels.as_ref().and_then(|all| all.get(key)) == Some(value);
        if !labels.iter().all(has) {
            plan.patch(node, "", json!({"metadata": {"uid": node.uid(), "labels": labels}}));
        }
    }
}

/// A Plan's status in the making.
struct Told {
    before: Vec<Value>,
    status: Map<String, Value>,
    conditions: Vec<(&'static str, bool, String, String)>,
    now: Timestamp,
}

impl Told {
    fn new(whole: &Value, now: Timestamp) -> Self {
        let status = whole.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        let before = status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        Self { before, status, conditions: Vec::new(), now }
    }

    fn accepted(&mut self, translated: &Translated) {
        self.status.insert("latestVersion".to_owned(), translated.version.as_str().into());
        self.status.insert("latestHash".to_owned(), translated.hash.as_str().into());
        let without = translated.without_meaning.join(", ");
        let note = match without.as_str() {
            "" => String::new(),
            fields => format!("no Job is run on Kedge, so that this has no meaning here: {fields}"),
        };
        self.conditions.push(("Validated", true, "PlanIsValid".to_owned(), note));
        self.conditions.push(("LatestResolved", true, "Version".to_owned(), String::new()));
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.status.remove("applying");
        let of = |kind: &'static str| (kind, false, refusal.reason.to_owned(), refusal.message.clone());
        let valid = ("Validated", true, "PlanIsValid".to_owned(), String::new());
        self.conditions.push(if refusal.unresolved { valid } else { of("Validated") });
        self.conditions.extend(refusal.unresolved.then(|| of("LatestResolved")));
        self.conditions.push(("Complete", false, "NotReady".to_owned(), refusal.message.clone()));
    }

    fn progress(&mut self, upgrade: Option<&Upgrade>) {
        let status = upgrade.map(|upgrade| &upgrade.status);
        let applying: Vec<Value> = status
            .into_iter()
            .flat_map(|status| &status.nodes)
            .filter(|entry| entry.stage.is_under_way())
            .map(|entry| entry.name.as_str().into())
            .collect();
        if applying.is_empty() {
            self.status.remove("applying");
        } else {
            self.status.insert("applying".to_owned(), applying.into());
        }
        let (complete, reason, message) = match status {
            None => (false, "Resolved".to_owned(), String::new()),
            Some(status) if status.phase == Phase::Completed => (true, "Complete".to_owned(), status.message.clone()),
            Some(status) => (false, format!("{:?}", status.phase), status.message.clone()),
        };
        self.conditions.push(("Complete", complete, reason, message));
    }

    fn tell(mut self, object: &Object, whole: &Value, plan: &mut Plan) {
        let at = whole_seconds(self.now).to_string();
        // The column of messages shows the first one: what is said of the progress comes before what is said of the rest.
        self.conditions.sort_by_key(|(kind, ..)| *kind);
        let mut told = Vec::new();
        let conditions: Vec<Value> = self
            .conditions
            .iter()
            .map(|(kind, holds, reason, message)| {
                let status = if *holds { "True" } else { "False" };
                let old = self.before.iter().find(|old| old["type"] == *kind);
                let same = old.filter(|old| old["status"] == status);
                if same.is_none() {
                    told.push((*kind, *holds, reason.as_str(), message.as_str()));
                }
                let moved = same.and_then(|old| old.get("lastTransitionTime")).cloned();
                let mut condition = json!({"type": kind, "status": status, "reason": reason,
                    "lastTransitionTime": moved.unwrap_or_else(|| at.as_str().into()), "lastUpdateTime": at});
                if let Some(condition) = condition.as_object_mut().filter(|_| !message.is_empty()) {
                    condition.insert("message".to_owned(), message.as_str().into());
                }
                let but_time = |value: &Value| {
                    let mut value = value.clone();
                    value.as_object_mut().and_then(|fields| fields.remove("lastUpdateTime"));
                    value
                };
                match old.filter(|old| but_time(old) == but_time(&condition)) {
                    Some(old) => old.clone(),
                    None => condition,
                }
            })
            .collect();
        self.status.insert("conditions".to_owned(), conditions.into());
        plan.status(object, whole, &json!({"status": self.status}));
        for (kind, holds, reason, message) in told {
            let (severity, reason, text) = match (kind, holds) {
                ("Validated", true) => (Severity::Normal, "Validated", "Plan is valid".to_owned()),
                ("Validated", false) => {
                    (Severity::Warning, "ValidateFailed", format!("Failed to validate plan: {message}"))
                }
                ("LatestResolved", true) => {
                    let version = self.status.get("latestVersion").and_then(Value::as_str).unwrap_or_default();
                    (Severity::Normal, "Resolved", format!("Resolved latest version from Spec.Version: {version}"))
                }
                ("LatestResolved", false) => (Severity::Warning, "ResolveFailed", message.to_owned()),
                ("Complete", true) => (
                    Severity::Normal,
                    "Complete",
                    format!("Upgrade {}.{} is complete", object.key.namespace, object.key.name),
                ),
                _ if reason == "Stopped" => (Severity::Warning, "Stopped", message.to_owned()),
                _ => continue,
            };
            let about = ObjectReference {
                api_version: Some(format!("{GROUP}/v1")),
                kind: Some("Plan".to_owned()),
                namespace: Some(object.key.namespace.to_string()),
                name: Some(object.key.name.to_string()),
                uid: Some(object.uid().to_owned()),
                ..ObjectReference::default()
            };
            plan.tell(about, severity, reason, text);
        }
    }
}
