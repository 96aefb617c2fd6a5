//! `x-kubernetes-validations` of a schema: their form, what they mean, and what they cost.

use std::collections::HashSet;

use serde_json::Value;

use super::field_path;
use super::validate::map;
use crate::custom::rules::{Flaw, Rule, cardinality, occurrences};
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

/// Compiles the rules of a schema that is known to be structural, but for those at `spoiled` places, where it is wrong there or below: of
/// what is no schema, nothing can be said by rules. One that is `unchanged` may cost what it did.
pub(super) fn meaning(
    schema: &Value,
    path: &Path<'_>,
    spoiled: &HashSet<String>,
    unchanged: bool,
    errors: &mut Errors,
) {
    let mut meaning = Meaning { spoiled, unchanged, costs: Vec::new(), errors };
    meaning.node(schema, &Schema::of(schema), path, At { root: true, times: Some(1), within: None });
    let mut costs = meaning.costs;
    let total = costs.iter().fold(0_u64, |sum, (cost, _)| sum.saturating_add(*cost));
    if total > SCHEMA {
        costs.retain(|(cost, _)| *cost >= SCHEMA / 100);
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

/// Where a node stands: how often its values can occur, if that is bounded, and within which list, if it tells no item's old value.
#[derive(Clone, Copy)]
struct At<'a> {
    root: bool,
    times: Option<u64>,
    within: Option<&'a Path<'a>>,
}

struct Meaning<'a> {
    spoiled: &'a HashSet<String>,
    unchanged: bool,
    costs: Costs,
    errors: &'a mut Errors,
}

impl Meaning<'_> {
    /// What lies below is told first.
    fn node(&mut self, schema: &Value, compiled: &Schema, path: &Path<'_>, at: At<'_>) {
        let times = at.times.zip(cardinality(compiled)).map(|(times, most)| times.saturating_mul(most));
        if let Some(inner) = &compiled.additional {
            let at = At { root: false, times, ..at };
            self.node(schema.look("additionalProperties"), inner, &path.child("additionalProperties"), at);
        }
        let properties = path.child("properties");
        for (name, property) in map(schema, "properties").into_iter().flatten() {
            if let Some(compiled) = compiled.properties.get(name) {
                self.node(property, compiled, &properties.key(name), At { root: false, times, ..at });
            }
        }
        if let Some(inner) = &compiled.items {
            let within = at.within.or((compiled.list != "map").then_some(path));
            self.node(schema.look("items"), inner, &path.child("items"), At { root: false, times, within });
        }
        let rules = schema.items("x-kubernetes-validations");
        if rules.is_empty() || self.spoiled.contains(&path.to_string()) {
            return;
        }
        let all = path.child("x-kubernetes-validations");
        for (index, rule) in rules.iter().enumerate() {
            self.one(rule, compiled, &all.index(index), at);
        }
    }

    fn one(&mut self, rule: &Value, schema: &Schema, path: &Path<'_>, at: At<'_>) {
        let resource = at.root || schema.embedded;
        let at_rule = path.child("rule");
        let transition = match Rule::compile(rule, schema, resource) {
            Ok(compiled) => {
                let times = at.times.unwrap_or_else(|| occurrences(schema));
                let cost = compiled.cost(schema, resource).saturating_mul(times);
                self.price(&at_rule, "estimated rule cost", cost);
                if let Some(cost) = compiled.message_cost(schema, resource) {
                    self.price(&path.child("messageExpression"), "estimated messageExpression cost", cost);
                }
                compiled.transition
            }
            Err(Flaw::Rule(why)) => {
                self.errors.invalid_json(&at_rule, &shown(rule), &why);
                false
            }
            Err(Flaw::Message(why)) => {
                return self.errors.invalid_json(&path.child("messageExpression"), &shown(rule), &why);
            }
        };
        if transition {
            if let Some(within) = at.within {
                let detail =
                    format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
                self.errors.invalid(&at_rule, rule.text("rule"), &detail);
            }
        } else if let Some(optional) = rule.look("optionalOldSelf").as_bool() {
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.invalid(&path.child("optionalOldSelf"), optional, detail);
        }
    }

    fn price(&mut self, at: &Path<'_>, what: &str, cost: u64) {
        self.costs.push((cost, at.to_string()));
        if cost > RULE && !self.unchanged {
            self.errors.forbidden(at, &over(what, cost, RULE));
        }
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
