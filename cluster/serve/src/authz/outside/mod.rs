//! An authority outside: a webhook that is sent a SubjectAccessReview. Its answers are kept for a while.
//! Source: "Webhook Mode" of Kubernetes' documentation.
//!
//! ```text
//! Attributes ─▶ review ─▶ conditions hold? ─▶ kept? ─▶ Destination::ask ─▶ Decision
//! ```

mod conditions;
pub mod config;

use kedge_api::selector::{FieldSelector, FieldTerm, Operator, Requirement, Selector};
use serde_json::{Map, Value, json};

use self::config::Settings;
use super::{Attributes, Decision, Selectors, What};
use crate::clock::Clock;
use crate::kept::Kept;

/// Bytes of a question whose answer is kept.
const LONGEST_KEPT: usize = 10_000;

pub struct Webhook {
    settings: Settings,
    kept: Kept<String, Decision>,
    clock: Clock,
}

impl Webhook {
    pub fn new(settings: Settings, clock: Clock) -> Self {
        Self { settings, kept: Kept::default(), clock }
    }

    pub async fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let settings = &self.settings;
        let spec = spec(attributes);
        match conditions::hold(&settings.conditions, &spec) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(why) => return self.failed(why),
        }
        let key = spec.to_string();
        if let Some(kept) = self.kept.get(&key, self.clock.now()) {
            return kept;
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "metadata": {"creationTimestamp": null}, "spec": spec,
        });
        let answer = match settings.destination.ask(&review, settings.timeout).await {
            Ok(answer) => answer,
            Err(why) => return self.failed(why),
        };
        let decision = decision(answer.get("status").unwrap_or(&Value::Null));
        let (keeps, life) = match &decision {
            Decision::Allow(_) => (settings.keeps_allowed, settings.allowed_life),
            Decision::Deny(_) | Decision::NoOpinion(_) | Decision::Failed { .. } => {
                (settings.keeps_refused, settings.refused_life)
            }
        };
        if keeps && key.len() <= LONGEST_KEPT {
            self.kept.keep(key, decision.clone(), self.clock.now(), life);
        }
        decision
    }

    fn failed(&self, why: String) -> Decision {
        let name = &self.settings.name;
        tracing::warn!(authorizer = name, why, "an authorizer cannot be asked");
        Decision::Failed { why, denies: self.settings.failure_denies }
    }
}

fn decision(status: &Value) -> Decision {
    let flag = |name: &str| status.get(name) == Some(&Value::Bool(true));
    let reason = status.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    match (flag("allowed"), flag("denied")) {
        (true, true) => {
            Decision::Deny("webhook subject access review returned both allow and deny response".to_owned())
        }
        (true, false) => Decision::Allow(reason),
        (false, true) => Decision::Deny(reason),
        (false, false) => Decision::NoOpinion(reason),
    }
}

/// The `spec` of a review; what is empty is left out, but for what upstream always says to conditions.
fn spec(attributes: &Attributes<'_>) -> Value {
    let user = attributes.user;
    let mut spec = Map::new();
    match attributes.what {
        What::Path(path) => {
            spec.insert("nonResourceAttributes".to_owned(), json!({"path": path, "verb": attributes.verb}));
        }
        What::Resource => {
            let mut resource = Map::new();
            for (field, text) in [
                ("namespace", attributes.namespace),
                ("verb", attributes.verb),
                ("group", attributes.group),
                ("version", attributes.version),
                ("resource", attributes.resource),
                ("subresource", attributes.subresource),
                ("name", attributes.name),
            ] {
                resource.insert(field.to_owned(), text.into());
            }
            let Selectors { fields, labels } = attributes.selectors;
            for (name, requirements) in [("fieldSelector", of_fields(fields)), ("labelSelector", of_labels(labels))] {
                if !requirements.is_empty() {
                    resource.insert(name.to_owned(), json!({"requirements": requirements}));
                }
            }
            spec.insert("resourceAttributes".to_owned(), resource.into());
        }
    }
    spec.insert("user".to_owned(), (*user.name).into());
    spec.insert("uid".to_owned(), (*user.uid).into());
    spec.insert("groups".to_owned(), json!(*user.groups));
    spec.insert("extra".to_owned(), json!(*user.extra));
    spec.into()
}

/// What a field selector demands, as far as it can be read.
fn of_fields(selector: &str) -> Vec<Value> {
    let terms = FieldSelector::parse(selector).map(|selector| selector.terms).unwrap_or_default();
    let requirement = |term: &FieldTerm| {
        let operator = if term.equal { "In" } else { "NotIn" };
        json!({"key": term.field, "operator": operator, "values": [term.value]})
    };
    terms.iter().map(requirement).collect()
}

/// … and a label selector; numbers are not compared outside.
fn of_labels(selector: &str) -> Vec<Value> {
    let Ok(selector) = Selector::parse(selector) else { return Vec::new() };
    let told = selector.requirements().iter().filter(|one| !matches!(one.operator(), Operator::Gt | Operator::Lt));
    let requirement = |one: &Requirement| match one.values() {
        [] => json!({"key": one.key(), "operator": one.operator().as_str()}),
        values => json!({"key": one.key(), "operator": one.operator().as_str(), "values": values}),
    };
    told.map(requirement).collect()
}

#[cfg(test)]
mod tests;
