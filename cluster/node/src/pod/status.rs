//! What the API is told about a pod, in upstream's words.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::{Observed, Phase, Sandbox, Slot, SlotId, Termination};
use super::outcome::{self, Outcome};
use super::plan::SHOW_ERROR;
use super::{after, backoff};

/// `told`: what the API was told last, which its own copy may not show yet. `host`: the node's addresses, the first one first.
pub fn of(pod: &Pod, observed: &Observed, told: Option<&PodStatus>, host: &[IpAddr], now: Timestamp) -> PodStatus {
    let Some(spec) = pod.spec.as_ref() else { return PodStatus::default() };
    let outcome = outcome::of(pod, observed);
    let identity = format!(
        "{}_{}({})",
        pod.metadata.name.as_deref().unwrap_or_default(),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.uid.as_deref().unwrap_or_default()
    );
    let statuses = |init: bool| {
        let of_kind = observed.slots().filter(|(id, _)| matches!(id, SlotId::Init(_)) == init);
        let list: Vec<_> = of_kind
            .filter_map(|(id, slot)| {
                Some(container_status(spec, (id, id.container(spec)?, slot), outcome, &identity, now))
            })
            .collect();
        Some(list).filter(|l| !l.is_empty())
    };
    let (init, main) = (statuses(true), statuses(false));
    let before = pod.status.clone().unwrap_or_default();
    let addresses: &[IpAddr] = if spec.host_network == Some(true) { host } else { observed.addresses() };
    // A pod that has ended keeps the addresses it had.
    let pod_ips = match addresses {
        [] => before.pod_ips.clone(),
        some => Some(some.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
    };
    let ended = outcome.or_else(|| pod.metadata.deletion_timestamp.as_ref().and_then(|_| outcome::so_far(observed)));
    let phase = phase(spec, observed, ended, main.as_deref().unwrap_or_default());
    PodStatus {
        conditions: Some(conditions(pod, observed, phase, told, (init.as_deref(), main.as_deref()), now)),
        phase: Some(phase.to_owned()),
        reason: observed.verdict.as_ref().map(|v| v.reason.clone()).or(before.reason),
        message: observed.verdict.as_ref().map(|v| v.message.clone()).or(before.message),
        host_ip: host.first().map(IpAddr::to_string),
        host_ips: Some(host.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: pod_ips.as_ref().and_then(|ips| ips.first()).map(|p| p.ip.clone()),
        pod_ips,
        start_time: Some(Time(observed.since)),
        init_container_statuses: init,
        container_statuses: main,
        qos_class: before.qos_class.or_else(|| Some(crate::translate::qos::class(spec).name().to_owned())),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn phase(spec: &PodSpec, observed: &Observed, outcome: Option<Outcome>, main: &[ContainerStatus]) -> &'static str {
    match outcome {
        // Upstream: a pod is not called ended while any of its containers runs.
        Some(_) if observed.slots().any(|(_, s)| s.phase.is_alive()) => {}
        Some(Outcome::Succeeded) => return "Succeeded",
        Some(Outcome::Failed) => return "Failed",
        None => {}
    }
    let never_ran = |status: &ContainerStatus| {
        let waiting = status.state.as_ref().is_none_or(|s| s.waiting.is_some());
        waiting && status.last_state.as_ref().is_none_or(|s| s.terminated.is_none())
    };
    let plain_init_left = !observed.initialized
        && observed.init.iter().enumerate().any(|(i, slot)| {
            let id = SlotId::Init(i);
            let Some(container) = id.container(spec) else { return false };
            let done = slot.exit().is_some_and(|end| end.code == 0);
            if outcome::is_sidecar(container) { !slot.started } else { !done }
        });
    if plain_init_left || main.iter().any(never_ran) { "Pending" } else { "Running" }
}

fn container_status(
    spec: &PodSpec,
    (id, container, slot): (SlotId, &Container, &Slot),
    outcome: Option<Outcome>,
    identity: &str,
    now: Timestamp,
) -> ContainerStatus {
    let mut last = slot.last.as_ref();
    let waiting = |reason: &str, message: &str| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()).filter(|m| !m.is_empty()),
        }),
        ..ContainerState::default()
    };
    let state = match &slot.phase {
        Phase::Waiting(Some(hold)) if hold.reason == "ErrImagePull" && now >= after(hold.since, SHOW_ERROR) => {
            let image = container.image.as_deref().unwrap_or_default();
            waiting("ImagePullBackOff", &format!("Back-off pulling image \"{image}\": {}", hold.message))
        }
        Phase::Waiting(Some(hold)) => waiting(&hold.reason, &hold.message),
        Phase::Waiting(None) | Phase::Starting if observed_init(spec) => waiting("PodInitializing", ""),
        Phase::Waiting(None) | Phase::Starting => waiting("ContainerCreating", ""),
        Phase::Running { since } | Phase::Stopping { since, .. } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
            ..ContainerState::default()
        },
        Phase::Exited(end) => {
            let again = outcome.is_none() && outcome::restarts(spec, id, container, end.code);
            match slot.restarts.until(end.finished) {
                Some(until) if again && until > now => {
                    last = Some(end);
                    let delay = backoff::duration(slot.restarts.seconds());
                    let message =
                        format!("back-off {delay} restarting failed container={} pod={identity}", container.name);
                    waiting("CrashLoopBackOff", &message)
                }
                Some(_) | None => terminated(end),
            }
        }
    };
    let plain_init = matches!(id, SlotId::Init(_)) && !outcome::is_sidecar(container);
    let succeeded = slot.exit().is_some_and(|end| end.code == 0);
    let running = slot.phase.running_since().is_some();
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: slot.image.clone(),
        container_id: Some(&slot.id).filter(|id| !id.is_empty()).map(|id| format!("kedge://{id}")),
        ready: if plain_init { succeeded } else { running && slot.ready },
        started: Some(running && (plain_init || slot.started)),
        restart_count: i32::try_from(slot.attempt).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last.map(terminated).unwrap_or_default()),
        allocated_resources: running.then(|| container.resources.as_ref()?.requests.clone()).flatten(),
        resources: if running { container.resources.clone() } else { None },
        ..ContainerStatus::default()
    }
}

fn observed_init(spec: &PodSpec) -> bool {
    spec.init_containers.as_ref().is_some_and(|c| !c.is_empty())
}

fn terminated(end: &Termination) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("kedge://{}", end.id)).filter(|_| !end.id.is_empty()),
            exit_code: end.code,
            signal: end.signal,
            reason: Some(end.reason.clone()).filter(|r| !r.is_empty()),
            message: Some(end.message.clone()).filter(|m| !m.is_empty()),
            started_at: end.started.map(Time),
            finished_at: Some(Time(end.finished)),
        }),
        ..ContainerState::default()
    }
}

/// One computed condition: type, whether it holds, reason and message where it does not.
struct Verdict(&'static str, bool, &'static str, String);

fn conditions(
    pod: &Pod,
    observed: &Observed,
    phase: &str,
    told: Option<&PodStatus>,
    (init, main): (Option<&[ContainerStatus]>, Option<&[ContainerStatus]>),
    now: Timestamp,
) -> Vec<PodCondition> {
    let before = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let names = |list: Option<&[ContainerStatus]>, good: &dyn Fn(&ContainerStatus) -> bool| -> Vec<String> {
        list.unwrap_or_default().iter().filter(|s| !good(s)).map(|s| s.name.clone()).collect()
    };
    let gates = pod.spec.as_ref().and_then(|s| s.readiness_gates.as_deref()).unwrap_or_default();
    let shut = gates.iter().find(|gate| !before.iter().any(|c| c.type_ == gate.condition_type && c.status == "True"));
    let uninitialized = names(init, &|s| s.ready || (s.started == Some(true) && is_sidecar_name(pod, &s.name)));
    let sidecars_unready = names(init, &|s| s.ready || !is_sidecar_name(pod, &s.name));
    let unready: Vec<String> = sidecars_unready.into_iter().chain(names(main, &|s| s.ready)).collect();
    let sandbox = matches!(observed.sandbox, Sandbox::Ready { .. });
    let containers = match phase {
        "Succeeded" => Verdict("ContainersReady", false, "PodCompleted", String::new()),
        "Failed" => Verdict("ContainersReady", false, "PodFailed", String::new()),
        _ => {
            let message = format!("containers with unready status: [{}]", unready.join(" "));
            Verdict("ContainersReady", unready.is_empty(), "ContainersNotReady", message)
        }
    };
    let ready = match shut {
        Some(gate) if containers.1 => {
            let message =
                format!("corresponding condition of pod readiness gate \"{}\" does not exist.", gate.condition_type);
            Verdict("Ready", false, "ReadinessGatesNotReady", message)
        }
        _ => Verdict("Ready", containers.1, containers.2, containers.3.clone()),
    };
    let initialized = match phase {
        "Succeeded" => Verdict("Initialized", true, "PodCompleted", String::new()),
        _ => {
            let message = format!("containers with incomplete status: [{}]", uninitialized.join(" "));
            let done = observed.initialized || uninitialized.is_empty();
            Verdict("Initialized", done, "ContainersNotInitialized", message)
        }
    };
    let computed = [
        Verdict("PodReadyToStartContainers", sandbox, "", String::new()),
        initialized,
        ready,
        containers,
        Verdict("PodScheduled", true, "", String::new()),
    ];
    let foreign = before.iter().filter(|c| computed.iter().all(|v| v.0 != c.type_)).cloned();
    let own = computed.iter().map(|Verdict(kind, holds, reason, message)| {
        let status = if *holds { "True" } else { "False" };
        let told = told.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        let old = told.iter().chain(before).find(|c| c.type_ == *kind);
        let reasoned = !holds || *reason == "PodCompleted";
        PodCondition {
            type_: (*kind).to_owned(),
            status: status.to_owned(),
            reason: Some((*reason).to_owned()).filter(|r| reasoned && !r.is_empty()),
            message: Some(message.clone()).filter(|m| !holds && !m.is_empty()),
            last_transition_time: old
                .filter(|c| c.status == status)
                .and_then(|c| c.last_transition_time.clone())
                .or(Some(Time(now))),
            last_probe_time: None,
            observed_generation: pod.metadata.generation,
        }
    });
    own.chain(foreign).collect()
}

fn is_sidecar_name(pod: &Pod, name: &str) -> bool {
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
    init.iter().any(|c| c.name == name && outcome::is_sidecar(c))
}
