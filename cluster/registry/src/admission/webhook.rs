//! Admission by webhooks: the configurations that an object's write matches are asked in the order of their names. Mutating ones one
//! after the other, each seeing what the last made of the object; validating ones all at once.
//!
//! ```text
//! mutate ─▶ hook::matching ─▶ (ask ─▶ patch) … ─▶ changed? plugins anew, and hooks that want to see it again
//! validate ─▶ hook::matching ─▶ ask … ─▶ the first refusal
//! ```
//!
//! Source: "Dynamic Admission Control" of Kubernetes' documentation.

mod hook;
pub(super) mod review;

use std::collections::BTreeSet;
use std::time::Instant;

use futures::future::join_all;
use kedge_api::{GroupResource, Status};
use serde_json::Value;

use self::hook::Hook;
use self::review::Response;
use super::counted::Step;
use super::matching::Asked;
use super::{Attributes, Operation, Writer};
use crate::Registry;
use crate::errors::{internal, quote};
use crate::notes;
use crate::table::Row;

const MUTATING: GroupResource = GroupResource::of("admissionregistration.k8s.io", "mutatingwebhookconfigurations");
const VALIDATING: GroupResource = GroupResource::of("admissionregistration.k8s.io", "validatingwebhookconfigurations");

/// Whether a webhook changed the object. Called again with `again`, only those of it are asked.
pub(super) struct Round {
    pub(super) changed: bool,
    /// Hooks that want to see what others, or plugins, made of the object after them.
    again: BTreeSet<(String, String)>,
    /// The last to be asked, which want to see what plugins make of it.
    last: BTreeSet<(String, String)>,
}

impl Round {
    /// What is to be asked again where the plugins, which have run anew, `changed` the object.
    pub(super) fn repeat(mut self, changed: bool) -> BTreeSet<(String, String)> {
        if changed {
            self.again.append(&mut self.last);
        }
        self.again
    }
}

pub(super) fn is_silent(registry: &Registry, mutating: bool) -> bool {
    let kind = if mutating { MUTATING } else { VALIDATING };
    registry.options.webhooks.is_none() || registry.cache.snapshot().len(&kind) == 0
}

/// Lets mutating webhooks change the object: all that match, or only those of `again`.
pub(super) async fn mutate(
    registry: &Registry,
    row: &Row,
    writer: &mut Writer<'_>,
    attributes: &Attributes<'_>,
    object: &mut Value,
    again: Option<&BTreeSet<(String, String)>>,
) -> Result<Round, Status> {
    let mut round = Round { changed: false, again: BTreeSet::new(), last: BTreeSet::new() };
    let fixed = matches!(attributes.operation, Operation::Delete | Operation::Connect);
    let mut asked = Asked::of(row, attributes, object);
    let hooks = hook::matching(registry, writer, &MUTATING, &asked)?;
    refuse_dry_runs(&hooks, writer)?;
    for (index, hook) in hooks.into_iter().enumerate() {
        let id = hook.id();
        if again.is_some_and(|again| !again.contains(&id)) {
            continue;
        }
        let view = hook.view(&asked)?;
        let shown = view.as_ref().unwrap_or(&asked);
        let Some(response) = settle(&hook, ask(registry, writer, shown, &hook, true).await)? else { continue };
        for warning in response.warnings {
            writer.warn(warning);
        }
        let before = round.changed;
        round.changed = false;
        if let Some(patch) = response.patch.filter(|_| !fixed) {
            let patched = review::patched(row, shown, &patch)?;
            if patched != *object {
                *object = patched;
                asked = Asked::of(row, attributes, object);
                round.changed = true;
                round.again.append(&mut round.last);
            }
        }
        note(again.is_some(), index, &id, round.changed);
        round.changed |= before;
        if hook.wants_repetition() {
            round.last.insert(id);
        }
    }
    Ok(round)
}

/// For the audit log: who was asked, and whether that changed anything.
fn note(again: bool, index: usize, (configuration, webhook): &(String, String), mutated: bool) {
    let key = format!("mutation.webhook.admission.k8s.io/round_{}_index_{index}", u8::from(again));
    notes::note(key, || {
        let (configuration, webhook) = (quote(configuration), quote(webhook));
        format!("{{\"configuration\":{configuration},\"webhook\":{webhook},\"mutated\":{mutated}}}")
    });
}

/// Asks validating webhooks; the first refusal, in the order of their names, counts.
pub(super) async fn validate(
    registry: &Registry,
    row: &Row,
    writer: &mut Writer<'_>,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<(), Status> {
    let asked = Asked::of(row, attributes, object);
    let hooks = hook::matching(registry, writer, &VALIDATING, &asked)?;
    refuse_dry_runs(&hooks, writer)?;
    let answers = {
        let writer = &*writer;
        let asked = &asked;
        join_all(hooks.iter().map(|hook| async move {
            let view = hook.view(asked).map_err(Failure::Refused)?;
            ask(registry, writer, view.as_ref().unwrap_or(asked), hook, false).await
        }))
        .await
    };
    for (hook, answer) in hooks.iter().zip(answers) {
        for warning in settle(hook, answer)?.into_iter().flat_map(|response| response.warnings) {
            writer.warn(warning);
        }
    }
    Ok(())
}

fn refuse_dry_runs(hooks: &[Hook], writer: &Writer<'_>) -> Result<(), Status> {
    match hooks.iter().find(|hook| writer.dry_run && hook.has_side_effects()) {
        Some(hook) => {
            let why = format!("admission webhook {} does not support dry run", quote(hook.name()));
            Err(Status::bad_request(why))
        }
        None => Ok(()),
    }
}

/// Why there is no answer that lets the object pass.
pub(super) enum Failure {
    /// The webhook's own word.
    Refused(Status),
    /// There was no word that could be understood.
    Broken(String),
}

async fn ask(
    registry: &Registry,
    writer: &Writer<'_>,
    asked: &Asked<'_>,
    hook: &Hook,
    mutating: bool,
) -> Result<Response, Failure> {
    let Some(webhooks) = &registry.options.webhooks else { return Ok(Response::default()) };
    let uid = uuid::Uuid::new_v4().to_string();
    let version = hook.review_version();
    let request = review::request(writer, asked, &uid);
    let began = Instant::now();
    let answer = webhooks.call(hook.client_config(), hook.timeout(), &review::wrap(version, request)).await;
    let answer = answer.map_err(|why| Failure::Broken(format!("failed to call webhook: {why}")));
    let answer = answer.and_then(|answer| review::response(hook.name(), version, &uid, &answer, mutating));
    let step = if mutating { Step::Admit } else { Step::Validate };
    registry.admission.hook(
        hook.name(),
        step,
        asked.attributes.operation.as_str(),
        began,
        &answer,
        hook.ignores_failures(),
    );
    answer
}

/// A webhook that cannot be asked decides by its failure policy.
fn settle(hook: &Hook, answer: Result<Response, Failure>) -> Result<Option<Response>, Status> {
    match answer {
        Ok(response) => Ok(Some(response)),
        Err(Failure::Refused(status)) => Err(status),
        Err(Failure::Broken(why)) if hook.ignores_failures() => {
            tracing::warn!(webhook = hook.name(), why, "a webhook is not asked");
            Ok(None)
        }
        Err(Failure::Broken(why)) => Err(internal(format!("failed calling webhook {}: {why}", quote(hook.name())))),
    }
}
