//! The machine config as an object of the cluster, `machine/NAME`: shown, checked when it is edited, and tried.
//!
//! ```text
//! kubectl edit ─▶ Rules (admission) ─▶ store ─▶ edit::step ─┬─▶ status
//!                                                           └─▶ Trials::offer ─▶ re-exec or reboot ─▶ trial::run ─▶ keep, or refuse and reboot
//! ```

mod definition;
mod edit;
pub mod trial;

use crate::machine::Machine;
use crate::trial::Trials;
use crate::upgrade::Wish;
use definition::DEFINITION;
pub use definition::{API_VERSION, MACHINES};
use edit::{Now, Phase, Step};
use futures::StreamExt as _;
use kedge_api::{Client, ClientExt as _, GroupResource, Informer, Key, Options, Reason, Resource, Status, Verb};
use kedge_config::MachineConfig;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const DEFINITIONS: GroupResource = GroupResource::of("apiextensions.k8s.io", "customresourcedefinitions");
/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What admission asks about a machine's object, beyond its schema.
#[derive(Debug)]
pub struct Rules {
    name: String,
    /// In force.
    config: Arc<MachineConfig>,
}

impl Rules {
    pub fn of(machine: &Machine) -> Self {
        Self { name: machine.hostname.clone(), config: Arc::clone(&machine.config) }
    }
}

impl kedge_cluster::Rules for Rules {
    fn check(&self, resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<(&'static str, String)> {
        let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        // What stays as it is was judged before.
        if resource.id != MACHINES || old.is_some_and(|old| old.get("spec") == new.get("spec")) {
            return Vec::new();
        }
        // Another machine's config is for that machine to judge; how an upgrade is asked for is the same for all.
        let config = (name == self.name).then(|| edit::wanted(new, &self.config).err()).flatten();
        let config = config.map(|why| ("spec.config", why));
        config.into_iter().chain(Wish::of(new).err().map(|why| ("spec.upgrade", why))).collect()
    }
}

/// Keeps the object and the machine as one.
pub async fn run(machine: &Machine, client: &dyn Client, informer: &dyn Informer) -> anyhow::Result<()> {
    let mut trial = machine.trial.subscribe();
    client.put(&DEFINITIONS, "", DEFINITION, definition::definition()).await?;
    loop {
        let (_, mut changes) = informer.subscribe(&[DEFINITIONS, MACHINES]);
        loop {
            let done = converge(machine, client, informer).await;
            if let Err(error) = &done {
                tracing::warn!("this machine's object: {error:#}");
            }
            tokio::select! {
                change = changes.next() => if change.is_none() { break },
                changed = trial.changed() => changed?,
                () = tokio::time::sleep(AGAIN), if done.is_err() => {}
            }
        }
    }
}

async fn converge(machine: &Machine, client: &dyn Client, informer: &dyn Informer) -> anyhow::Result<()> {
    let name = machine.hostname.as_str();
    let found = informer.subscribe(&[MACHINES]).0.get(&Key::new(MACHINES, "", name)).cloned();
    let object: Value = match found {
        Some(object) => object.decode()?,
        None => {
            let spec = json!({"config": edit::shown(&machine.config)});
            let object =
                json!({"apiVersion": API_VERSION, "kind": "Machine", "metadata": {"name": name}, "spec": spec});
            let made = client.verb(Verb::Create, &MACHINES, ("", "", ""), Options::default(), object.into()).await;
            // Before the kind is served, and where somebody was quicker: its change wakes us.
            return match made {
                Err(status) if [Reason::NotFound, Reason::AlreadyExists].contains(&status.reason) => Ok(()),
                other => Ok(other.map(drop)?),
            };
        }
    };
    let trials = Trials::at(&machine.state);
    let trial = machine.trial.borrow().clone();
    let refused = trials.refused()?;
    let addressed = !machine.network.borrow().addresses.is_empty();
    let now = Now { config: &machine.config, trial: trial.as_ref(), refused: refused.as_ref(), addressed };
    match edit::step(&object, &now) {
        Step::Tell(phase, message) => Ok(tell(machine, client, &object, phase, &message).await?),
        Step::Try(trial, request) => {
            tracing::info!(generation = trial.edit.generation, ?request, "a new machine config is tried");
            tell(machine, client, &object, Phase::Trying, "the machine is being started with it").await?;
            trials.offer(&trial)?;
            machine.requests.ask(request)?;
            // Nothing more is looked at: the machine is on its way.
            std::future::pending().await
        }
    }
}

/// Writes the status; one that says the same stays.
async fn tell(
    machine: &Machine,
    client: &dyn Client,
    object: &Value,
    phase: Phase,
    message: &str,
) -> Result<(), Status> {
    let name = machine.hostname.as_str();
    let generation = object.pointer("/metadata/generation").cloned().unwrap_or_default();
    let applied = match phase {
        Phase::Kept => "True",
        Phase::Trying => "Unknown",
        Phase::Refused => "False",
    };
    let old = object.pointer("/status/conditions/0");
    let same = old.filter(|old| old["status"] == applied).map(|old| old["lastTransitionTime"].clone());
    let now = || jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    let phase = format!("{phase:?}");
    let status = json!({
        "observedGeneration": generation, "phase": phase, "message": message, "version": crate::slot::version(),
        "board": machine.board.as_ref().map(|board| board.name.as_str()),
        "conditions": [{"type": "Applied", "status": applied, "reason": phase, "message": message,
            "observedGeneration": generation, "lastTransitionTime": same.unwrap_or_else(now)}],
    });
    // Beside it stands what others tell.
    let there = object.get("status").and_then(Value::as_object);
    let told = status.as_object().into_iter().flatten();
    if there
        .is_some_and(|there| told.into_iter().all(|(field, value)| there.get(field).unwrap_or(&Value::Null) == value))
    {
        return Ok(());
    }
    client.merge(&MACHINES, ("", name, "status"), json!({"status": status})).await.map(drop)
}
