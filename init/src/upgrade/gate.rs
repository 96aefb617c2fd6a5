//! A new system on trial: kept once nothing has been missing for a while, else condemned, and the machine rebooted into the old one.

use super::book::{Book, Books, Outcome, Trial};
use super::install::Place;
use super::wish::{Pods, Probe};
use crate::machine::Machine;
use crate::request::Request;
use crate::services::health;
use crate::slot;
use crate::supervisor::Handle;
use k8s_openapi::api::core::v1::Pod;
use kedge_api::Informer;
use kedge_api::resource::known::PODS;
use kedge_api::selector::Selector;
use kedge_stage1::report;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// For an answer to the probe.
const ANSWER: Duration = Duration::from_secs(5);

/// The trial that this system is in, if it is in one.
pub async fn trial(machine: &Machine) -> anyhow::Result<Option<(Place, Trial)>> {
    let books = Books::at(&machine.state);
    let Some(trial) = tokio::task::spawn_blocking(move || books.read().trial).await? else { return Ok(None) };
    let Ok(place) = Place::of(machine) else { return Ok(None) };
    Ok((place.own == trial.system.slot.into()).then_some((place, trial)))
}

pub async fn run(machine: &Arc<Machine>, place: Place, trial: Trial, handle: &Handle) -> anyhow::Result<()> {
    let limit = Duration::from_secs(trial.gate.limit_seconds.into());
    let soak = Duration::from_secs(trial.gate.soak_seconds.into());
    handle.note("this system is on trial");
    let mut well_since: Option<Instant> = None;
    let failed = loop {
        let missing = missing(machine, &trial, handle).await;
        let since = match missing.is_empty() {
            true => Some(*well_since.get_or_insert_with(Instant::now)),
            false => None,
        };
        well_since = since;
        if since.is_some_and(|since| since.elapsed() >= soak) {
            break None;
        }
        if report::now() >= limit {
            let still = if missing.is_empty() { vec!["not well for long enough".to_owned()] } else { missing };
            break Some(format!("not well within {} s: {}", limit.as_secs(), still.join("; ")));
        }
        tokio::select! {
            () = handle.stopped() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    };
    handle.note("");
    let own = Arc::clone(machine);
    tokio::task::spawn_blocking(move || end(&own, &place, trial, failed)).await?
}

/// Power may fail after each of the steps: the slot record decides, the book follows it at the next start.
fn end(machine: &Machine, place: &Place, mut trial: Trial, failed: Option<String>) -> anyhow::Result<()> {
    let books = Books::at(&machine.state);
    let version = trial.system.version.clone();
    match failed {
        None if trial.gate.cold_boot && trial.passed == 0 => {
            tracing::info!(version, "the new system is well, and shows it once more after a start");
            trial.passed += 1;
            books.write(&Book { trial: Some(trial), ..books.read() })?;
            machine.requests.ask(Request::Reboot)?;
        }
        None => {
            slot::confirm(machine.disk.as_ref())?;
            place.tell("the new system is started", |firmware| firmware.commit(place.own));
            let mut book = books.read();
            book.end(Outcome::Committed, "", &super::now());
            if let Err(error) = books.write(&book) {
                tracing::warn!("the new system is kept, and that is noted at the next start: {error:#}");
            }
            tracing::info!(version, "the new system is kept");
            machine.upgrade.send_modify(|turn| *turn += 1);
        }
        Some(why) => {
            tracing::error!(version, "the new system is given up: {why}");
            crate::console::say(&format!("\nkedge: the new system is given up: {why}\n"));
            place.change(|record| record.condemn(place.own, &why))?;
            place.tell("the old system is started", |firmware| firmware.commit(place.idle()));
            let mut book = books.read();
            book.end(Outcome::Failed, &why, &super::now());
            if let Err(error) = books.write(&book) {
                tracing::warn!("{error:#}");
            }
            machine.requests.ask(Request::Reboot)?;
        }
    }
    Ok(())
}

async fn missing(machine: &Machine, trial: &Trial, handle: &Handle) -> Vec<String> {
    let mut missing = health::missing(machine, &handle.statuses().borrow());
    if !trial.gate.pods.is_empty() {
        missing.extend(match machine.informer.get() {
            Some(informer) => pods(&**informer, &trial.gate.pods),
            None => vec!["pods cannot be seen yet".to_owned()],
        });
    }
    if let Some(probe) = &trial.gate.probe {
        missing.extend(probed(probe).await.err().map(|why| format!("the probe: {why}")));
    }
    missing
}

fn pods(informer: &dyn Informer, wanted: &[Pods]) -> Vec<String> {
    let snapshot = informer.snapshot();
    let look = |pods: &Pods| {
        let namespace = &pods.namespace;
        let Ok(selector) = Selector::from_label_selector(Some(&pods.selector)) else {
            return Some(format!("pods of {namespace}: the selector cannot be read"));
        };
        let labels = Default::default();
        let found: Vec<_> = snapshot
            .list(&PODS, namespace)
            .filter(|object| selector.matches(object.meta.labels.as_ref().unwrap_or(&labels)))
            .collect();
        let unready = found.iter().find(|object| !object.pod().is_ok_and(|pod| is_ready(&pod)));
        match unready {
            Some(object) => Some(format!("pod {} is not Ready", object.key)),
            None if found.is_empty() => Some(format!("there is no such pod in {namespace}")),
            None => None,
        }
    };
    wanted.iter().filter_map(look).collect()
}

/// Those that have done their work are.
fn is_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let mut conditions = status.conditions.iter().flatten();
    status.phase.as_deref() == Some("Succeeded")
        || conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn probed(probe: &Probe) -> Result<(), String> {
    let answer = async {
        match probe {
            Probe::TcpSocket { host, port } => {
                TcpStream::connect((host.as_str(), *port)).await.map(drop).map_err(|error| error.to_string())
            }
            Probe::HttpGet { host, port, path } => kedge_fetch::probe(host, *port, path).await,
        }
    };
    tokio::time::timeout(ANSWER, answer).await.unwrap_or(Err(format!("no answer within {} s", ANSWER.as_secs())))
}
