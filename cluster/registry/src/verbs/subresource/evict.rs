//! A deletion that a disruption budget may refuse.
//!
//! ```text
//! evict ─▶ who has ended, or never began, just goes ──────────────────────────────────▶ delete
//!       └▶ its one budget ─▶ unready, and enough others are well (or it does not matter) ─▶ delete, if the pod stays as it is
//!                         ├▶ spend: one disruption less ────────────────────────────────▶ delete
//!                         └▶ none left ─▶ 429
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_api::request::Payload;
use kedge_api::resource::known;
use kedge_api::selector::Selector;
use kedge_api::status::{Cause, Details};
use kedge_api::{Answer, Object, Reason, Request, Status, Target};
use serde_json::{Value, json};

use super::super::incoming::{self, Expected, Incoming, Strictness};
use super::super::write::How;
use super::super::{answer, delete, get, options, update};
use super::success;
use crate::Registry;
use crate::admission::{self, Operation, Writer};
use crate::metadata::stamp;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const EVICTION: Expected<'_> =
    Expected { group: "policy", version: "v1", kind: "Eviction", schema: "io.k8s.api.policy.v1.Eviction" };

/// Evictions that the budget's controller has not seen yet; more of them, and something is wrong with it.
const MOST_PENDING: usize = 2000;
const ATTEMPTS: usize = 20;

pub(super) async fn evict(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let dry_run = options::write(&request.options, "CreateOptions")?;
    let (value, duplicates) = incoming::body(&mut request);
    let incoming = incoming::conform(value, duplicates, &EVICTION, Strictness::of(&request.options))?;
    let Incoming { value: mut eviction, mut warnings, .. } = incoming;
    let mut writer = Writer::of(&request, dry_run).of_kind(EVICTION);
    admission::mutate(registry, row, &mut writer, &mut eviction, None).await?;
    let name = eviction.text("metadata.name");
    if !name.is_empty() && name != request.target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let wanted = deletion(&eviction, &request.options.dry_run)?;
    admission::validate(registry, row, &mut writer, Operation::Create, &eviction, None).await?;
    warnings.append(&mut writer.warnings);
    let dry_run = !wanted.items("dryRun").is_empty();
    for _ in 0..ATTEMPTS {
        let object = get::find(registry, row, &request.target)?;
        let pod: Value = object.decode()?;
        let guard = match guard(registry, &pod, &object)? {
            Guard::None => None,
            Guard::Several => return Ok(answer(201, warnings, Payload::Value(several()))),
            Guard::Unchanged => Some(object.revision),
            Guard::Spend(budget) => {
                spend(registry, &budget, &request, dry_run).await?;
                None
            }
        };
        let mut wanted = wanted.clone();
        if let Some(revision) = guard.filter(|_| !wanted.has("preconditions.resourceVersion")) {
            wanted.set("preconditions.resourceVersion", revision.to_string());
        }
        let own = wanted != deletion(&eviction, &request.options.dry_run)?;
        request.body = wanted.into();
        let wish = delete::wish(&mut request)?;
        let mut writer = Writer::of(&request, dry_run).admitted();
        match delete::delete_one(registry, row, &wish, &mut writer).await {
            // It has changed since it was looked at.
            Err(conflict) if own && conflict.is(Reason::Conflict) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(answer(201, warnings, Payload::Value(success()))),
        }
    }
    Err(update_conflict(&request.target))
}

/// Upstream answers this failure as what was created.
fn several() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 500,
        "message": "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."})
}

fn update_conflict(target: &Target) -> Status {
    Status::conflict(&known::PODS, &target.name, "the pod changes too often to be evicted")
}

/// The options of the deletion; those of the request and of the body must not differ.
fn deletion(eviction: &Value, dry_run: &[String]) -> Result<Value, Status> {
    let mut wanted = eviction.look("deleteOptions").clone();
    if wanted.is_null() {
        wanted = json!({});
    }
    let own: Vec<&str> = wanted.items("dryRun").iter().filter_map(Value::as_str).collect();
    if own.is_empty() && !dry_run.is_empty() {
        wanted.set("dryRun", dry_run.to_vec());
    } else if !own.is_empty() && !dry_run.is_empty() && own != dry_run {
        let why = format!(
            "Non-matching dry-run options in request and content: [{}] and [{}]",
            dry_run.join(" "),
            own.join(" ")
        );
        return Err(Status::new(Reason::Unknown, why));
    }
    Ok(wanted)
}

/// What stands between a pod and its eviction.
enum Guard {
    None,
    /// More than one budget: none of them can be spent of alone.
    Several,
    /// It may go only as long as it is what it is now.
    Unchanged,
    /// A budget has to be spent of.
    Spend(Arc<Object>),
}

fn guard(registry: &Registry, pod: &Value, object: &Object) -> Result<Guard, Status> {
    match pod.text("status.phase") {
        "Succeeded" | "Failed" => return Ok(Guard::None),
        _ if object.is_deleting() => return Ok(Guard::None),
        "Pending" => return Ok(Guard::Unchanged),
        _ => {}
    }
    let mut budgets = budgets(registry, object)?;
    let Some((budget, value)) = budgets.pop() else { return Ok(Guard::None) };
    if !budgets.is_empty() {
        return Ok(Guard::Several);
    }
    let ready = pod.items("status.conditions").iter().any(|c| c.text("type") == "Ready" && c.text("status") == "True");
    let count = |field: &str| value.look("status").int(field).unwrap_or(0);
    let well = count("desiredHealthy") > 0 && count("currentHealthy") >= count("desiredHealthy");
    let always = value.text("spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
    Ok(if !ready && (well || always) { Guard::Unchanged } else { Guard::Spend(budget) })
}

/// The budgets that choose the pod.
fn budgets(registry: &Registry, pod: &Object) -> Result<Vec<(Arc<Object>, Value)>, Status> {
    let none = BTreeMap::new();
    let labels = pod.meta.labels.as_ref().unwrap_or(&none);
    let snapshot = registry.cache.snapshot();
    let mut found = Vec::new();
    for budget in snapshot.list(&known::POD_DISRUPTION_BUDGETS, &pod.key.namespace) {
        let value: Value = budget.decode()?;
        let selector = value.look("spec.selector");
        let typed = serde_json::from_value(selector.clone()).ok();
        let parsed = typed.and_then(|selector| Selector::from_label_selector(Some(&selector)).ok());
        if !selector.is_null() && parsed.is_some_and(|selector| selector.matches(labels)) {
            found.push((budget.clone(), value));
        }
    }
    Ok(found)
}

/// Takes one disruption from the budget, and notes whose it is.
async fn spend(registry: &Registry, budget: &Object, request: &Request, dry_run: bool) -> Result<(), Status> {
    let row = registry.table().get(&known::POD_DISRUPTION_BUDGETS).ok_or_else(crate::no_resource)?.clone();
    let target = Target {
        resource: known::POD_DISRUPTION_BUDGETS,
        version: String::new(),
        namespace: budget.key.namespace.to_string(),
        name: budget.key.name.to_string(),
        subresource: "status".to_owned(),
    };
    let now = stamp((registry.options.now)());
    let mut writer = Writer { target: &target, ..Writer::of(request, dry_run) }.admitted();
    update::modify(registry, &row, How::Status, &mut writer, |object, budget| {
        let left = allowed(budget, &object.key.name)?;
        budget.set("status.disruptionsAllowed", left - 1);
        let disrupted = budget.slot("status.disruptedPods");
        if !disrupted.is_object() {
            *disrupted = json!({});
        }
        if let Some(map) = disrupted.map_mut() {
            map.insert(request.target.name.clone(), now.as_str().into());
        }
        if left == 1 {
            exhausted(budget, &now);
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// How many disruptions are left: at least one.
fn allowed(budget: &Value, name: &str) -> Result<i64, Status> {
    let count = |path: &str| budget.int(path).unwrap_or(0);
    let refused = |seconds: u32, why: String| {
        let cause = Cause { reason: "DisruptionBudget".into(), message: why, field: String::new() };
        let retry_after_seconds = Some(seconds).filter(|s| *s > 0);
        let details = Details { causes: vec![cause], retry_after_seconds, ..Details::default() };
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        Err(Status { details: Some(Box::new(details)), ..Status::new(Reason::TooManyRequests, message) })
    };
    let forbidden = |why: &str| {
        let message = format!("poddisruptionbudget.policy {name:?} is forbidden: {why}");
        let singular = kedge_api::GroupResource::of("policy", "poddisruptionbudget");
        Err(Status::about(Reason::Forbidden, &singular, name, message))
    };
    if count("status.observedGeneration") < count("metadata.generation") {
        return refused(10, format!("The disruption budget {name} is still being processed by the server."));
    }
    match count("status.disruptionsAllowed") {
        left if left < 0 => forbidden("pdb disruptions allowed is negative"),
        _ if budget.entries("status.disruptedPods").count() > MOST_PENDING => {
            forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller")
        }
        0 => refused(
            0,
            format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                count("status.desiredHealthy"),
                count("status.currentHealthy")
            ),
        ),
        left => Ok(left),
    }
}

/// Says that nothing is left.
fn exhausted(budget: &mut Value, now: &str) {
    const KIND: &str = "DisruptionAllowed";
    let generation = budget.int("status.observedGeneration").unwrap_or(0);
    let mut conditions = budget.items("status.conditions").to_vec();
    let before = conditions.iter().find(|c| c.text("type") == KIND && c.text("status") == "False");
    let since = before.map_or(now, |c| c.text("lastTransitionTime")).to_owned();
    conditions.retain(|c| c.text("type") != KIND);
    conditions
        .push(json!({"type": KIND, "status": "False", "observedGeneration": generation, "lastTransitionTime": since,
        "reason": "InsufficientPods", "message": ""}));
    budget.set("status.conditions", conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_only_while_something_is_left_of_it() {
        let budget = |generation: i64, left: i64| {
            json!({"metadata": {"generation": generation}, "status": {"observedGeneration": 1, "disruptionsAllowed": left,
                "desiredHealthy": 2, "currentHealthy": 2}})
        };
        assert_eq!(allowed(&budget(1, 2), "b").unwrap(), 2);
        let refused = |budget: Value| allowed(&budget, "b").unwrap_err();
        let spent = refused(budget(1, 0));
        assert_eq!(spent.reason, Reason::TooManyRequests);
        let cause = &spent.details.unwrap().causes[0];
        assert_eq!(cause.message, "The disruption budget b needs 2 healthy pods and has 2 currently");
        assert_eq!(refused(budget(2, 2)).details.unwrap().retry_after_seconds, Some(10));
        assert_eq!(refused(budget(1, -1)).reason, Reason::Forbidden);
    }

    #[test]
    fn a_condition_keeps_the_time_when_it_became_so() {
        let mut budget = json!({"status": {"observedGeneration": 3, "conditions": [{"type": "DisruptionAllowed", "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        exhausted(&mut budget, "2026-01-02T00:00:00Z");
        exhausted(&mut budget, "2026-01-03T00:00:00Z");
        assert_eq!(budget["status"]["conditions"].as_array().unwrap().len(), 1);
        assert_eq!(budget["status"]["conditions"][0]["lastTransitionTime"], "2026-01-02T00:00:00Z");
    }
}
