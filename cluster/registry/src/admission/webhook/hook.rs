//! One webhook of a configuration: whether it is asked about a write, and how it wants to be.

use std::time::Duration;

use kedge_api::{GroupResource, Status};
use serde_json::Value;

use crate::Registry;
use crate::admission::Writer;
use crate::admission::matching::{self, Asked, Criteria, Seen};
use crate::admission::policy::evaluate;
use crate::expressions;
use crate::value::Look as _;

/// What all conditions of a webhook may cost.
const CONDITIONS: u64 = 2_500_000;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Hook {
    configuration: String,
    webhook: Value,
    seen: Seen,
}

impl Hook {
    pub(super) fn name(&self) -> &str {
        self.webhook.text("name")
    }

    pub(super) fn id(&self) -> (String, String) {
        (self.configuration.clone(), self.name().to_owned())
    }

    pub(super) fn client_config(&self) -> &Value {
        self.webhook.look("clientConfig")
    }

    pub(super) fn timeout(&self) -> Duration {
        let seconds = self.webhook.int("timeoutSeconds").and_then(|s| u64::try_from(s).ok());
        seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs)
    }

    pub(super) fn ignores_failures(&self) -> bool {
        self.webhook.text("failurePolicy") == "Ignore"
    }

    pub(super) fn has_side_effects(&self) -> bool {
        !["None", "NoneOnDryRun"].contains(&self.webhook.text("sideEffects"))
    }

    pub(super) fn wants_repetition(&self) -> bool {
        self.webhook.text("reinvocationPolicy") == "IfNeeded"
    }

    /// The first version of reviews that both know.
    pub(super) fn review_version(&self) -> &'static str {
        let known = |version: &Value| ["v1", "v1beta1"].into_iter().find(|v| version == v);
        self.webhook.items("admissionReviewVersions").iter().find_map(known).unwrap_or("v1")
    }

    /// The object in the version that its rules are about; none if that is its own.
    pub(super) fn view<'b>(&'b self, asked: &Asked<'b>) -> Result<Option<Asked<'b>>, Status> {
        self.seen.view(asked)
    }
}

impl Hook {
    /// Whether its conditions hold. Where that cannot be told, the failure policy tells.
    fn is_meant(&self, registry: &Registry, writer: &Writer<'_>, asked: &Asked<'_>) -> Result<bool, Status> {
        let conditions = expressions::conditions(&self.webhook);
        if conditions.is_empty() {
            return Ok(true);
        }
        let view = self.view(asked)?;
        let variables = evaluate::base(registry, writer, view.as_ref().unwrap_or(asked));
        let mut left = CONDITIONS;
        match evaluate::holds(&conditions, &variables, &mut left) {
            Ok(meant) => Ok(meant),
            Err(_) if self.ignores_failures() => Ok(false),
            Err(why) => {
                let object = asked.object.as_ref().or(asked.old.as_ref());
                Err(asked.attributes.forbidden(object.unwrap_or(&Value::Null), &why))
            }
        }
    }
}

/// The webhooks of all configurations of a kind that are to be asked, in their order.
pub(super) fn matching(
    registry: &Registry,
    writer: &Writer<'_>,
    kind: &GroupResource,
    asked: &Asked<'_>,
) -> Result<Vec<Hook>, Status> {
    let (table, snapshot) = (registry.table(), registry.cache.snapshot());
    let mut hooks = Vec::new();
    if matching::is_exempt(asked) {
        return Ok(hooks);
    }
    for object in snapshot.list(kind, "") {
        let configuration: Value = object.decode()?;
        for webhook in configuration.items("webhooks") {
            let Some(seen) = Criteria::of_webhook(webhook).seen(&table, &snapshot, asked)? else { continue };
            let hook = Hook { configuration: object.key.name.to_string(), webhook: webhook.clone(), seen };
            if hook.is_meant(registry, writer, asked)? {
                hooks.push(hook);
            }
        }
    }
    Ok(hooks)
}
