//! Restart policies, and whether a pod as a whole is over.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::observed::{Observed, Slot, SlotId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            Some("Always") => Some(Self::Always),
            Some("OnFailure") => Some(Self::OnFailure),
            Some("Never") => Some(Self::Never),
            Some(_) | None => None,
        }
    }

    pub fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// A sidecar: an init container that stays for the pod's life.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The policy for one container. A plain init container is never restarted after success.
pub fn policy(spec: &PodSpec, id: SlotId, container: &Container) -> Policy {
    let pod = Policy::parse(spec.restart_policy.as_deref()).unwrap_or(Policy::Always);
    let own = Policy::parse(container.restart_policy.as_deref());
    match (id, own.unwrap_or(pod)) {
        (SlotId::Init(_), Policy::Always) if own.is_none() => Policy::OnFailure,
        (_, policy) => policy,
    }
}

/// Whether a container that ended so is started again. `restartPolicyRules` come before the policy.
pub fn restarts(spec: &PodSpec, id: SlotId, container: &Container, code: i32) -> bool {
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let matched = rules.iter().any(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&code);
        rule.action == "Restart" && if codes.operator == "NotIn" { !listed } else { listed }
    });
    matched || policy(spec, id, container).restarts(code)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    Failed,
}

/// How the pod ended, if it has: nothing of it will run again by its own.
pub fn of(pod: &Pod, observed: &Observed) -> Option<Outcome> {
    let spec = pod.spec.as_ref()?;
    // What the API was told once stays true.
    match pod.status.as_ref().and_then(|s| s.phase.as_deref()) {
        Some("Succeeded") => return Some(Outcome::Succeeded),
        Some("Failed") => return Some(Outcome::Failed),
        Some(_) | None => {}
    }
    if observed.verdict.is_some() {
        return Some(Outcome::Failed);
    }
    let final_code = |id: SlotId, slot: &Slot| {
        let (end, container) = (slot.exit()?, id.container(spec)?);
        (!restarts(spec, id, container, end.code)).then_some(end.code)
    };
    let init_failed = observed.init.iter().enumerate().any(|(i, slot)| {
        let id = SlotId::Init(i);
        id.container(spec).is_some_and(|c| !is_sidecar(c)) && final_code(id, slot).is_some_and(|code| code != 0)
    });
    if init_failed && !observed.initialized {
        return Some(Outcome::Failed);
    }
    let mut failed = false;
    for (i, slot) in observed.main.iter().enumerate() {
        failed |= final_code(SlotId::Main(i), slot)? != 0;
    }
    if observed.main.is_empty() {
        return None;
    }
    Some(if failed { Outcome::Failed } else { Outcome::Succeeded })
}

/// How a pod that is being deleted ended: by its containers' codes, whether they would have been started again or not.
pub fn so_far(observed: &Observed) -> Option<Outcome> {
    let mut codes = observed.main.iter().map(|slot| slot.exit().map(|end| end.code));
    if observed.main.is_empty() || codes.clone().any(|code| code.is_none()) {
        return None;
    }
    Some(if codes.all(|code| code == Some(0)) { Outcome::Succeeded } else { Outcome::Failed })
}
