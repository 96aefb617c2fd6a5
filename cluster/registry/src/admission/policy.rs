//! Admission policies: what is asked of objects, and done to them, in CEL. A policy says what, a binding where, a parameter how much.
//!
//! ```text
//! policy ─▶ matches? ─▶ binding ─▶ matches? ─▶ params ─▶ conditions ─▶ validations: deny, warn   (validate)
//!                                                                  └▶ mutations: patches         (mutate)
//! ```
//! Source: "Validating Admission Policy" and "Mutating Admission Policy" of Kubernetes' documentation.

pub(in crate::admission) mod evaluate;
mod params;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kedge_api::{GroupResource, Key, Object, Reason, Revision, Snapshot, Status};
use serde_json::{Value, json};

use self::evaluate::{Mutation, Run, Verdict};
use super::matching::{self, Asked, Criteria, Seen};
use super::{Attributes, Writer, webhook};
use crate::expressions::Policy;
use crate::table::Row;
use crate::value::Look as _;
use crate::{Registry, apply, notes, patch};

const GROUP: &str = "admissionregistration.k8s.io";
const VALIDATING: (GroupResource, GroupResource) = (
    GroupResource::of(GROUP, "validatingadmissionpolicies"),
    GroupResource::of(GROUP, "validatingadmissionpolicybindings"),
);
const MUTATING: (GroupResource, GroupResource) = (
    GroupResource::of(GROUP, "mutatingadmissionpolicies"),
    GroupResource::of(GROUP, "mutatingadmissionpolicybindings"),
);

/// Reasons that a validation may give, as they end.
const REASONS: &[(&str, Reason)] = &[
    ("Unauthorized", Reason::Unauthorized),
    ("Forbidden", Reason::Forbidden),
    ("RequestEntityTooLarge", Reason::RequestEntityTooLarge),
];

/// Compiled policies, each as of the revision that it was compiled from.
#[derive(Default)]
pub(crate) struct Compiled(
    /// Held for a look or a change, never while anything is compiled or evaluated.
    Mutex<HashMap<Key, (Revision, Arc<Policy>)>>,
);

impl Compiled {
    fn get(&self, snapshot: &Snapshot, object: &Object) -> Result<Arc<Policy>, Status> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&object.key).cloned();
        if let Some((_, policy)) = found.filter(|(revision, _)| *revision == object.revision) {
            return Ok(policy);
        }
        let policy = Arc::new(Policy::compile(object.decode()?));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|key, _| snapshot.get(key).is_some());
        all.insert(object.key.clone(), (object.revision, policy.clone()));
        Ok(policy)
    }
}

/// Who said no, and what.
struct Denial {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: Reason,
}

impl Denial {
    /// By a policy that judges.
    fn status(self, attributes: &Attributes<'_>, object: &Value) -> Status {
        let binding = self.binding.map(|name| format!(" with binding '{name}'")).unwrap_or_default();
        let message = format!("ValidatingAdmissionPolicy '{}'{binding} denied request: {}", self.policy, self.message);
        let status = attributes.forbidden(object, &message);
        caused(Status { reason: self.reason, ..status }, message)
    }

    /// By a policy that changes: it says less.
    fn bare(self, attributes: &Attributes<'_>, object: &Value) -> Status {
        let Self { policy, binding, message, reason } = self;
        let message = match binding {
            Some(binding) => format!("policy '{policy}' with binding '{binding}' denied request: {message}"),
            None => format!("policy {policy:?} denied request: {message}"),
        };
        let status = attributes.forbidden(object, "");
        caused(Status { reason, message: message.clone(), ..status }, message)
    }
}

fn caused(mut status: Status, message: String) -> Status {
    if let Some(details) = &mut status.details {
        details.causes.push(kedge_api::status::Cause { reason: String::new(), message, field: String::new() });
    }
    status
}

/// A policy's binding that is about the object, with one of its parameters.
struct Bound<'a> {
    policy: &'a Policy,
    binding: &'a Value,
    /// As the policy sees the object.
    seen: &'a Seen,
    param: Option<Value>,
}

pub(super) fn is_silent(registry: &Registry, mutating: bool) -> bool {
    let (policies, bindings) = if mutating { MUTATING } else { VALIDATING };
    let snapshot = registry.cache.snapshot();
    snapshot.len(&policies) == 0 || snapshot.len(&bindings) == 0
}

/// Calls `each` for every policy, binding and parameter that are about the object; gives what could not be set up for it.
fn each_bound(
    registry: &Registry,
    kinds: &(GroupResource, GroupResource),
    asked: &Asked<'_>,
    mut each: impl FnMut(&Snapshot, Bound<'_>) -> Result<(), Status>,
) -> Result<Option<Denial>, Status> {
    let (table, snapshot) = (registry.table(), registry.cache.snapshot());
    let mut denial: Option<Denial> = None;
    if matching::is_exempt(asked) {
        return Ok(None);
    }
    for object in snapshot.list(&kinds.0, "") {
        let policy = registry.policies.get(&snapshot, object)?;
        let constraints = Criteria::of_policy(policy.value.look("spec.matchConstraints"));
        let Some(seen) = constraints.seen(&table, &snapshot, asked)? else { continue };
        for object in snapshot.list(&kinds.1, "") {
            let binding: Value = object.decode()?;
            let bound = binding.text("spec.policyName") == policy.name();
            let resources = Criteria::of_policy(binding.look("spec.matchResources"));
            if !bound || resources.seen(&table, &snapshot, asked)?.is_none() {
                continue;
            }
            let params = match params::collect(registry, &snapshot, &policy, &binding, asked) {
                Ok(params) => params,
                Err(_) if policy.ignores_failures() => continue,
                Err(unset) => {
                    let binding = unset.of_binding.then(|| binding.text("metadata.name").to_owned());
                    let message = unset.message;
                    let denied = Denial { policy: policy.name().to_owned(), binding, message, reason: Reason::Invalid };
                    denial.get_or_insert(denied);
                    continue;
                }
            };
            for param in params {
                each(&snapshot, Bound { policy: &policy, binding: &binding, seen: &seen, param })?;
            }
        }
    }
    Ok(denial)
}

pub(super) fn validate(
    registry: &Registry,
    row: &Row,
    writer: &mut Writer<'_>,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<(), Status> {
    let asked = Asked::of(row, attributes, object);
    let mut denied: Option<Denial> = None;
    let unset = each_bound(registry, &VALIDATING, &asked, |snapshot, bound| {
        let view = bound.seen.view(&asked)?;
        let shown = view.as_ref().unwrap_or(&asked);
        let run = Run::new(registry, snapshot, writer, shown, bound.policy, bound.param.as_ref());
        let (policy, binding) = (bound.policy.name(), bound.binding.text("metadata.name"));
        for Verdict { message, reason, index } in run.validate() {
            let acts = |action: &str| bound.binding.items("spec.validationActions").iter().any(|a| a == action);
            if acts("Warn") {
                writer.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}"
                ));
            }
            if acts("Audit") {
                let failure = json!([{"message": message, "policy": policy, "binding": binding, "expressionIndex": index,
                    "validationActions": bound.binding.look("spec.validationActions")}]);
                let key = "validation.policy.admission.k8s.io/validation_failure";
                notes::note(key.to_owned(), || failure.to_string());
            }
            if acts("Deny") && denied.is_none() {
                let reason = REASONS.iter().find(|(name, _)| *name == reason).map_or(Reason::Invalid, |(_, r)| *r);
                let binding = Some(binding.to_owned());
                denied = Some(Denial { policy: policy.to_owned(), binding, message, reason });
            }
        }
        Ok(())
    })?;
    match unset.or(denied) {
        Some(denial) => Err(denial.status(attributes, object)),
        None => Ok(()),
    }
}

/// Applies the mutations, each to what the last one left; whether anything changed.
pub(super) fn mutate(
    registry: &Registry,
    row: &Row,
    writer: &Writer<'_>,
    attributes: &Attributes<'_>,
    object: &mut Value,
) -> Result<bool, Status> {
    let before = object.clone();
    let asked = Asked::of(row, attributes, &before);
    let unset = each_bound(registry, &MUTATING, &asked, |snapshot, bound| {
        let policy = bound.policy;
        for (at, mutation) in policy.mutations.iter().enumerate() {
            let now = Asked::of(row, attributes, object);
            let view = bound.seen.view(&now)?;
            let shown = view.as_ref().unwrap_or(&now);
            let run = Run::new(registry, snapshot, writer, shown, policy, bound.param.as_ref());
            let applies = if at == 0 { run.applies() } else { Ok(true) };
            let made = match applies {
                Ok(false) => return Ok(()),
                Err(_) if policy.ignores_failures() => return Ok(()),
                Ok(true) => run.mutate(mutation).and_then(|mutation| made(row, shown, mutation)),
                Err(why) => Err(why),
            };
            match made {
                Ok(made) => made.into_iter().for_each(|made| *object = made),
                Err(_) if policy.ignores_failures() => {}
                Err(message) => {
                    let binding = Some(bound.binding.text("metadata.name").to_owned());
                    let (policy, reason) = (policy.name().to_owned(), Reason::InvalidByPolicy);
                    return Err(Denial { policy, binding, message, reason }.bare(attributes, object));
                }
            }
        }
        Ok(())
    })?;
    match unset {
        // That it could not be set up is no one's invalid object.
        Some(denial) => Err(Denial { reason: Reason::Forbidden, ..denial }.bare(attributes, object)),
        None => Ok(*object != before),
    }
}

/// What a mutation makes of the object that was `shown`, in the form of the request's own row. None: a test of its own keeps it off.
fn made(own: &Row, shown: &Asked<'_>, mutation: Mutation) -> Result<Option<Value>, String> {
    let object = shown.object.clone().unwrap_or_default();
    let made = match mutation {
        Mutation::Patch(patch) => {
            patch::json::apply_if(object, &patch).map_err(|s| format!("JSON Patch: {}", s.message))?
        }
        Mutation::Configuration(config) => {
            let laid = apply::configure(shown.row, &shown.kind(), &object, config);
            Some(laid.map_err(|why| format!("error applying patch: {why}"))?)
        }
    };
    made.map(|made| webhook::review::changed(own, shown, made).map_err(|status| status.message)).transpose()
}
