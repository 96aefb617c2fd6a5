//! `x-kubernetes-validations` of a schema: their form, what they mean, and what they cost.

use serde_json::Value;

use super::field_path;
use super::validate::map;
use crate::custom::rules::{Flaw, Rule, cardinality};
use crate::custom::schema::Schema;
use crate::errors::{Errors, Path, quote};
use crate::value::Look as _;

/// What one rule may cost for an object, and all rules of a schema.
const RULE: u64 = 10_000_000;
const SCHEMA: u64 = 100_000_000;
/// So many rules are named where all together cost too much.
const MOST_EXPENSIVE: usize = 4;

/// What each rule costs, by its path.
type Costs = Vec<(u64, String)>;

/// The form of `x-kubernetes-validations`; what their expressions mean is checked where they are compiled.
pub(super) fn form(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let all = path.child("x-kubernetes-validations");
    for (index, rule) in schema.items("x-kubernetes-validations").iter().enumerate() {
        let at = all.index(index);
        let (text, message) = (rule.text("rule").trim(), rule.text("message").trim());
        let breaks = |text: &str| text.contains(['\n', '\r']);
        if text.is_empty() {
            errors.required(&at.child("rule"), "rule is not specified");
        } else if !rule.text("message").is_empty() && message.is_empty() {
            errors.invalid(&at.child("message"), rule.text("message"), "must be non-empty if specified");
        } else if breaks(message) {
            errors.invalid(&at.child("message"), rule.text("message"), "must not contain line breaks");
        } else if breaks(text) && message.is_empty() {
            errors.required(&at.child("message"), "message must be specified if rule contains line breaks");
        }
        if !rule.text("messageExpression").is_empty() && rule.text("messageExpression").trim().is_empty() {
            errors.required(&at.child("messageExpression"), "messageExpression must be non-empty if specified");
        }
        if let Some(reason) = rule.look("reason").as_str().filter(|reason| !REASONS.contains(reason)) {
            errors.not_supported(&at.child("reason"), reason, &REASONS);
        }
        let (field, at) = (rule.text("fieldPath"), at.child("fieldPath"));
        if !field.is_empty() && field.trim().is_empty() {
            errors.invalid(&at, field, "must be non-empty if specified");
        }
        if breaks(field) {
            errors.invalid(&at, field, "must not contain line breaks");
        }
        if !field.is_empty() && field_path::find(schema, field, true).is_err() {
            errors.invalid(&at, field, "must be a valid path");
        }
    }
}

/// Compiles every rule of a schema that is known to be structural.
pub(super) fn meaning(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut costs = Vec::new();
    node(schema, &Schema::of(schema), path, At { root: true, times: 1, within: None }, &mut costs, errors);
    let total = costs.iter().fold(0_u64, |sum, (cost, _)| sum.saturating_add(*cost));
    if total > SCHEMA {
        costs.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, rule) in costs.iter().take(MOST_EXPENSIVE) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.forbidden(&Path::root(rule), detail);
        }
        let detail =
            over("x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema", total, SCHEMA);
        errors.forbidden(path, &detail);
    }
}

/// Where a node stands: how often its values can occur, and within which list, if it tells no item's old value.
#[derive(Clone, Copy)]
struct At<'a> {
    root: bool,
    times: u64,
    within: Option<&'a Path<'a>>,
}

fn node(schema: &Value, compiled: &Schema, path: &Path<'_>, at: At<'_>, costs: &mut Costs, errors: &mut Errors) {
    let rules = schema.items("x-kubernetes-validations");
    let all = path.child("x-kubernetes-validations");
    for (index, rule) in rules.iter().enumerate() {
        one(rule, compiled, &all.index(index), at, costs, errors);
    }
    let times = at.times.saturating_mul(cardinality(compiled));
    let properties = path.child("properties");
    for (name, property) in map(schema, "properties").into_iter().flatten() {
        if let Some(compiled) = compiled.properties.get(name) {
            node(property, compiled, &properties.key(name), At { root: false, ..at }, costs, errors);
        }
    }
    if let Some(inner) = &compiled.additional {
        let at = At { root: false, times, ..at };
        node(schema.look("additionalProperties"), inner, &path.child("additionalProperties"), at, costs, errors);
    }
    if let Some(inner) = &compiled.items {
        let within = at.within.or((compiled.list != "map").then_some(path));
        node(schema.look("items"), inner, &path.child("items"), At { root: false, times, within }, costs, errors);
    }
}

fn one(rule: &Value, schema: &Schema, path: &Path<'_>, at: At<'_>, costs: &mut Costs, errors: &mut Errors) {
    let at_rule = path.child("rule");
    let compiled = match Rule::compile(rule, schema, at.root || schema.embedded) {
        Ok(compiled) => compiled,
        Err(Flaw::Rule(why)) => return errors.invalid_json(&at_rule, &shown(rule), &why),
        Err(Flaw::Message(why)) => return errors.invalid_json(&path.child("messageExpression"), &shown(rule), &why),
    };
    let resource = at.root || schema.embedded;
    for (field, what, cost) in [
        ("rule", "estimated rule cost", Some(compiled.cost(schema, resource).saturating_mul(at.times))),
        ("messageExpression", "estimated messageExpression cost", compiled.message_cost(schema, resource)),
    ] {
        let (Some(cost), at) = (cost, path.child(field)) else { continue };
        costs.push((cost, at.to_string()));
        if cost > RULE {
            errors.forbidden(&at, &over(what, cost, RULE));
        }
    }
    if compiled.transition {
        if let Some(within) = at.within {
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
            errors.invalid(&at_rule, rule.text("rule"), &detail);
        }
    } else if let Some(optional) = rule.look("optionalOldSelf").as_bool() {
        let detail = "may not be set if oldSelf is not used in rule";
        errors.invalid(&path.child("optionalOldSelf"), optional, detail);
    }
}

fn over(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where \
         arrays, maps, and strings are declared)"
    )
}

/// A rule of `x-kubernetes-validations` as Go writes its internal form.
fn shown(rule: &Value) -> String {
    let text = |name: &str| Value::from(rule.text(name)).to_string();
    let fields = [
        ("Rule", text("rule")),
        ("Message", text("message")),
        ("MessageExpression", text("messageExpression")),
        ("Reason", rule.look("reason").to_string()),
        ("FieldPath", text("fieldPath")),
        ("OptionalOldSelf", rule.look("optionalOldSelf").to_string()),
    ];
    let json = fields.map(|(name, value)| format!("{}:{value}", quote(name))).join(",");
    // As Go's encoder, which thinks of HTML.
    format!("{{{json}}}").replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
