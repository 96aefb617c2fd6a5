//! `x-kubernetes-validations`: what a schema demands in CEL of the values that it describes.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use kedge_cel::value::Key;
use kedge_cel::{CompileError, Environment, Failure, Program, Sizes, Type, Value as Cel, Variables, names};
use serde_json::Value;

use super::json_path::JsonPath;
use super::schema::Schema;
use super::validate::{At, child, counterpart, place};
use crate::errors::{Errors, Path};
use crate::value::Look as _;

/// What one evaluation may cost, and all that one object needs.
const CALL: u64 = 1_000_000;
const OBJECT: u64 = 10_000_000;
/// No request is larger; what has no bound of its own has this one.
const REQUEST: u64 = 3 * 1024 * 1024;
const MESSAGE: usize = 5 * 1024;

/// One rule, compiled against the schema it stands at.
#[derive(Debug)]
pub(crate) struct Rule {
    text: String,
    message: String,
    reason: String,
    program: Program,
    message_program: Option<Program>,
    /// Names below the value that the rule stands at, and whether each is a map's key.
    field: Vec<(String, bool)>,
    /// It compares with what was there.
    pub(crate) transition: bool,
    optional_old: bool,
}

/// Why a rule is none: the part of it, and what is wrong there.
#[derive(Debug)]
pub(crate) enum Flaw {
    Rule(String),
    Message(String),
}

impl Rule {
    pub(crate) fn compile(rule: &Value, schema: &Schema, resource: bool) -> Result<Self, Flaw> {
        let this = declare(schema, resource, &META).unwrap_or(Type::Dyn);
        let optional_old = rule.flag("optionalOldSelf");
        let old = if optional_old { Type::optional(this.clone()) } else { this.clone() };
        let environment = Environment::default().with("self", this).with("oldSelf", old);
        let text = rule.text("rule");
        let failed = |e: &CompileError| format!("compilation failed: {e}");
        let program = Program::compile(text, &environment).map_err(|e| Flaw::Rule(failed(&e)))?;
        if *program.result() != Type::Bool {
            return Err(Flaw::Rule("cel expression must evaluate to a bool".to_owned()));
        }
        let transition = program.names("oldSelf");
        let expression = rule.text("messageExpression");
        let message_program = if expression.trim().is_empty() {
            None
        } else {
            let compiled = Program::compile(expression, &environment);
            let compiled = compiled.map_err(|e| Flaw::Message(format!("messageExpression {}", failed(&e))))?;
            if *compiled.result() != Type::String {
                return Err(Flaw::Message("messageExpression must evaluate to a string".to_owned()));
            }
            Some(compiled)
        };
        Ok(Self {
            text: text.trim().to_owned(),
            message: rule.text("message").trim().to_owned(),
            reason: rule.text("reason").to_owned(),
            program,
            message_program,
            field: field(rule.text("fieldPath"), schema),
            transition,
            optional_old,
        })
    }

    /// What it costs at most to check one value.
    pub(crate) fn cost(&self, schema: &Schema, resource: bool) -> u64 {
        self.program.cost(&of_variables(schema, resource))
    }

    /// What it costs at most to make its message, if one is computed.
    pub(crate) fn message_cost(&self, schema: &Schema, resource: bool) -> Option<u64> {
        self.message_program.as_ref().map(|program| program.cost(&of_variables(schema, resource)))
    }

    /// What is said when it does not hold.
    fn failing(&self, variables: &Variables, budget: &mut u64) -> String {
        let computed = self.message_program.as_ref().and_then(|program| program.evaluate(variables, budget).ok());
        match computed {
            Some(Cel::String(text)) if is_message(&text) => text.trim().to_owned(),
            _ if self.message.is_empty() => format!("failed rule: {}", self.text),
            _ => self.message.clone(),
        }
    }
}

fn is_message(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MESSAGE && !text.contains(['\n', '\r'])
}

fn field(path: &str, schema: &Schema) -> Vec<(String, bool)> {
    let parsed = JsonPath::parse(path).ok();
    let names = parsed.as_ref().and_then(JsonPath::simple).unwrap_or_default();
    let mut at = Some(schema);
    names
        .into_iter()
        .map(|name| {
            let key = at.is_some_and(|schema| !schema.properties.contains_key(name));
            at = at.and_then(|schema| schema.field(name));
            (name.to_owned(), key)
        })
        .collect()
}

/// What rules may name of an object's metadata.
static META: LazyLock<Type> = LazyLock::new(|| {
    let names = ["name", "generateName"].map(|name| (name.to_owned(), Type::String));
    Type::object("object", names.into_iter().collect())
});

/// The type that a schema describes; none for what expressions cannot reach. `meta` is that of a resource's metadata.
pub(crate) fn declare(schema: &Schema, resource: bool, meta: &Type) -> Option<Type> {
    if schema.int_or_string {
        return Some(Type::Dyn);
    }
    Some(match schema.kind.as_str() {
        "string" => match schema.format.as_str() {
            "byte" => Type::Bytes,
            "duration" => Type::Duration,
            "date" | "date-time" => Type::Timestamp,
            _ => Type::String,
        },
        "integer" => Type::Int,
        "number" => Type::Double,
        "boolean" => Type::Bool,
        "array" => Type::list(declare(schema.items.as_deref()?, schema.items.as_ref()?.embedded, meta)?),
        "object" => match &schema.additional {
            Some(inner) => Type::map(Type::String, declare(inner, inner.embedded, meta)?),
            None => {
                let fields = schema
                    .properties
                    .iter()
                    .filter_map(|(name, inner)| Some((names::escape(name)?, declare(inner, inner.embedded, meta)?)));
                let mut fields: BTreeMap<String, Type> = fields.collect();
                if resource {
                    fields.insert("metadata".to_owned(), meta.clone());
                    fields.extend(["apiVersion", "kind"].map(|name| (name.to_owned(), Type::String)));
                }
                Type::object("object", fields)
            }
        },
        _ => return None,
    })
}

fn of_variables(schema: &Schema, resource: bool) -> BTreeMap<String, Sizes> {
    // Upstream takes whatever it cannot name for the value itself.
    let size = sizes(schema, resource);
    BTreeMap::from(["self", "oldSelf", ""].map(|name| (name.to_owned(), size.clone())))
}

/// How large a described value can be.
fn sizes(schema: &Schema, resource: bool) -> Sizes {
    let bounds = &schema.bounds;
    let bound = |most: Option<i64>, without: u64| most.and_then(|n| u64::try_from(n).ok()).unwrap_or(without);
    match schema.kind.as_str() {
        _ if schema.int_or_string => of_text(bounds.max_length, REQUEST - 2),
        "string" => match schema.format.as_str() {
            "byte" => Sizes { most: bound(bounds.max_length, REQUEST - 2), ..Sizes::default() },
            "date" => Sizes { most: 12, ..Sizes::default() },
            "date-time" | "duration" => Sizes { most: 32, ..Sizes::default() },
            _ => {
                let longest = schema.allowed.iter().filter_map(Value::as_str).map(|text| text.len() as u64).max();
                of_text(bounds.max_length, if schema.allowed.is_empty() { REQUEST - 2 } else { longest.unwrap_or(0) })
            }
        },
        "array" => {
            let least = schema.items.as_deref().map_or(1, least_bytes);
            let element = schema.items.as_deref().map(|items| Arc::new(sizes(items, items.embedded)));
            Sizes { most: bound(bounds.max_items, (REQUEST - 2) / (least + 1)), element, ..Sizes::default() }
        }
        "object" => match &schema.additional {
            Some(inner) => {
                let most = bound(bounds.max_properties, (REQUEST - 2) / (least_bytes(inner) + 6));
                let element = Some(Arc::new(sizes(inner, inner.embedded)));
                Sizes { most, element, key: Some(Arc::default()), ..Sizes::default() }
            }
            None => {
                let fields = schema
                    .properties
                    .iter()
                    .filter_map(|(name, inner)| Some((names::escape(name)?, sizes(inner, inner.embedded))));
                let mut fields: BTreeMap<String, Sizes> = fields.collect();
                if resource {
                    let text = of_text(None, REQUEST - 2);
                    let names = ["name", "generateName"].map(|field| (field.to_owned(), text.clone()));
                    fields.insert(
                        "metadata".to_owned(),
                        Sizes { fields: names.into_iter().collect(), ..Sizes::default() },
                    );
                    fields.extend(["apiVersion", "kind"].map(|field| (field.to_owned(), text.clone())));
                }
                Sizes { fields, ..Sizes::default() }
            }
        },
        // What is neither text nor list nor map has no size.
        _ => Sizes::default(),
    }
}

/// A bound tells characters, of which each can take four bytes.
fn of_text(most: Option<i64>, without: u64) -> Sizes {
    let most = most.map_or(without, |most| u64::try_from(most).unwrap_or(0).saturating_mul(4));
    Sizes { most, ..Sizes::default() }
}

/// The fewest bytes that a value takes in a request.
fn least_bytes(schema: &Schema) -> u64 {
    match schema.kind.as_str() {
        _ if schema.int_or_string => 1,
        "string" => match schema.format.as_str() {
            "duration" => 3,
            "date" => 12,
            "date-time" => 21,
            _ => 2,
        },
        "array" => 2,
        "boolean" => 4,
        "object" if schema.additional.is_none() => {
            let required = schema.required.iter().filter_map(|name| Some((name, schema.properties.get(name)?)));
            // What has a default may be left out.
            let sent = required.filter(|(_, inner)| inner.default.is_none());
            2 + sent.map(|(name, inner)| name.len() as u64 + 4 + least_bytes(inner)).sum::<u64>()
        }
        "object" => 2,
        _ => 1,
    }
}

/// How many values a list or map of this schema can hold, if it says so: as often are the rules below it evaluated.
pub(crate) fn cardinality(schema: &Schema) -> Option<u64> {
    let bound = |most: Option<i64>| most.map(|most| u64::try_from(most).unwrap_or(0));
    match schema.kind.as_str() {
        "array" => bound(schema.bounds.max_items),
        "object" if schema.additional.is_some() => bound(schema.bounds.max_properties),
        _ => Some(1),
    }
}

/// How often a value of this schema can stand in a request at most.
pub(crate) fn occurrences(schema: &Schema) -> u64 {
    REQUEST / (least_bytes(schema) + 1)
}

/// A value as its schema describes it to expressions.
fn to_cel(value: &Value, schema: &Schema, resource: bool) -> Cel {
    match value {
        Value::Object(map) => {
            let entries = map.iter().filter_map(|(name, value)| {
                if resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    return Some((Key::String(name.as_str().into()), Cel::of_json(value)));
                }
                if let Some(inner) = schema.properties.get(name) {
                    let name = names::escape(name)?;
                    return Some((Key::String(name.into()), to_cel(value, inner, inner.embedded)));
                }
                let inner = schema.additional.as_deref()?;
                Some((Key::String(name.as_str().into()), to_cel(value, inner, inner.embedded)))
            });
            entries.collect::<BTreeMap<_, _>>().into()
        }
        Value::Array(items) => match &schema.items {
            Some(inner) => items.iter().map(|item| to_cel(item, inner, inner.embedded)).collect::<Vec<_>>().into(),
            None => Cel::of_json(value),
        },
        Value::Number(number) if schema.kind == "number" => number.as_f64().map_or(Cel::Null, Cel::Double),
        Value::Number(number) if schema.kind == "integer" => {
            number.as_i64().or_else(|| number.as_f64().map(|n| n as i64)).map_or(Cel::Null, Cel::Int)
        }
        Value::String(text) if schema.kind == "string" => {
            formatted(text, &schema.format).unwrap_or_else(|| text.as_str().into())
        }
        other => Cel::of_json(other),
    }
}

fn formatted(text: &str, format: &str) -> Option<Cel> {
    use base64::Engine as _;
    match format {
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).ok().map(|bytes| Cel::Bytes(bytes.into())),
        "duration" => kedge_cel::value::parse_duration(text).map(Cel::Duration),
        "date-time" => text.parse().ok().map(Cel::Timestamp),
        "date" => format!("{text}T00:00:00Z").parse().ok().map(Cel::Timestamp),
        _ => None,
    }
}

/// Whether every rule of a schema holds for a whole object.
pub(crate) fn check(new: &Value, old: Option<&Value>, schema: &Schema, errors: &mut Errors) {
    if !schema.ruled {
        return;
    }
    if errors.is_malformed() {
        let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete \
                      validation";
        return errors.invalid(&super::validate::ROOT, Value::Null, detail);
    }
    let mut walk = Walk { budget: OBJECT, errors };
    walk.value(new, old, schema, None, true);
}

struct Walk<'e> {
    budget: u64,
    errors: &'e mut Errors,
}

impl Walk<'_> {
    fn value(&mut self, new: &Value, old: Option<&Value>, schema: &Schema, at: At<'_>, resource: bool) {
        if !schema.ruled || (new.is_null() && schema.nullable) {
            return;
        }
        self.rules(new, old, schema, at, resource);
        match new {
            Value::Object(map) => {
                for (name, inner) in map {
                    let old = old.and_then(|old| old.get(name));
                    if let Some(schema) = schema.properties.get(name) {
                        self.value(inner, old, schema, Some(&child(at, name)), schema.embedded);
                    } else if let Some(schema) = schema.additional.as_deref() {
                        self.value(inner, old, schema, Some(&place(at).key(name)), schema.embedded);
                    }
                }
            }
            Value::Array(items) => {
                let Some(inner) = &schema.items else { return };
                let list = place(at);
                for (index, item) in items.iter().enumerate() {
                    self.value(item, counterpart(schema, old, item), inner, Some(&list.index(index)), inner.embedded);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn rules(&mut self, new: &Value, old: Option<&Value>, schema: &Schema, at: At<'_>, resource: bool) {
        if schema.rules.is_empty() {
            return;
        }
        let unchanged = old == Some(new);
        let this = to_cel(new, schema, resource);
        let before = old.map(|old| to_cel(old, schema, resource));
        for rule in &schema.rules {
            // What has not changed is let be, unless the rule is about change; and without a past there is no change.
            if (unchanged && !rule.transition) || (rule.transition && !rule.optional_old && before.is_none()) {
                continue;
            }
            let mut variables = Variables::default().with("self", this.clone());
            if rule.transition {
                let old =
                    if rule.optional_old { Cel::optional(before.clone()) } else { before.clone().unwrap_or(Cel::Null) };
                variables = variables.with("oldSelf", old);
            }
            let mut left = CALL.min(self.budget);
            let allowed = left;
            let result = rule.program.evaluate(&variables, &mut left);
            let failing = match result {
                Ok(Cel::Bool(true)) => None,
                Ok(_) => Some(rule.failing(&variables, &mut left)),
                Err(failure) => {
                    self.fail(rule, &failure, schema, at);
                    None
                }
            };
            self.budget = self.budget.saturating_sub(allowed - left);
            if let Some(message) = failing {
                self.tell(rule, new, &message, at, &rule.field);
            }
        }
    }

    fn fail(&mut self, rule: &Rule, failure: &Failure, schema: &Schema, at: At<'_>) {
        let said = if rule.message.is_empty() { &rule.text } else { &rule.message };
        let detail = match failure {
            Failure::OverBudget => format!("call cost exceeds limit for rule: {said}"),
            Failure::NoOverload => {
                format!(
                    "call arguments did not match a supported operator, function or macro signature for rule: {said}"
                )
            }
            Failure::Error(why) => format!("{why} evaluating rule: {said}"),
        };
        self.errors.invalid(&place(at), schema.kind.as_str(), &detail);
    }

    /// At the field that the rule points to, below the value it stands at.
    fn tell(&mut self, rule: &Rule, value: &Value, message: &str, at: At<'_>, field: &[(String, bool)]) {
        let Some(((name, key), rest)) = field.split_first() else {
            return self.errors.because(&rule.reason, &place(at), value, message);
        };
        let parent = place(at);
        let path: Path<'_> = if *key { parent.key(name) } else { child(at, name) };
        self.tell(rule, value, message, Some(&path), rest);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut errors = Errors::default();
        check(new, old, &Schema::of(schema), &mut errors);
        match errors.into_result("", "T", "t") {
            Ok(()) => Vec::new(),
            Err(status) => {
                status.details.unwrap().causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
            }
        }
    }

    fn with(field: Value) -> Value {
        json!({"type": "object", "properties": {"a": field}})
    }

    #[test]
    fn rules_are_told_where_they_point() {
        let schema = with(
            json!({"type": "object", "properties": {"x-y": {"type": "integer"}, "m": {"type": "object", "additionalProperties": {"type": "integer"}}},
            "x-kubernetes-validations": [
                {"rule": "self.x__dash__y > 1"},
                {"rule": "self.x__dash__y > 2", "messageExpression": "'is ' + string(self.x__dash__y)", "fieldPath": "['x-y']", "reason": "FieldValueRequired"},
                {"rule": "!has(self.m)", "fieldPath": ".m['k']", "message": "no m"},
                {"rule": "1 / (self.x__dash__y - 1) > 0 || true"},
                {"rule": "dyn(self.x__dash__y) + 'a' == ''"}]}),
        );
        assert_eq!(
            wrong(&schema, &json!({"a": {"x-y": 1, "m": {}}}), None),
            [
                "a: Invalid value: failed rule: self.x__dash__y > 1",
                "a.x-y: Required value: is 1",
                "a.m[k]: Invalid value: no m",
                "a: Invalid value: \"object\": call arguments did not match a supported operator, function or macro signature for rule: \
                 dyn(self.x__dash__y) + 'a' == ''",
            ]
        );
        let typed = with(
            json!({"type": "string", "format": "date-time", "x-kubernetes-validations": [{"rule": "self.getFullYear() > 2025"}]}),
        );
        assert_eq!(wrong(&typed, &json!({"a": "2026-01-01T00:00:00Z"}), None), Vec::<String>::new());
        let list = with(
            json!({"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}}),
        );
        assert_eq!(wrong(&list, &json!({"a": [1, 0]}), None), ["a[1]: Invalid value: 0: failed rule: self > 0"]);
    }

    #[test]
    fn changes_are_held_against_what_was_there() {
        let fixed = with(
            json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed"}]}),
        );
        assert_eq!(wrong(&fixed, &json!({"a": "x"}), None), Vec::<String>::new());
        assert_eq!(wrong(&fixed, &json!({"a": "x"}), Some(&json!({"a": "y"}))), ["a: Invalid value: \"x\": fixed"]);
        let grows = with(json!({"type": "integer", "x-kubernetes-validations": [
            {"rule": "oldSelf.hasValue() ? self > oldSelf.value() : self == 1", "optionalOldSelf": true}]}));
        assert_eq!(wrong(&grows, &json!({"a": 2}), None).len(), 1);
        assert_eq!(wrong(&grows, &json!({"a": 2}), Some(&json!({"a": 1}))).len(), 0);
        // Stricter than what is there: only a change is refused.
        let strict = with(json!({"type": "integer", "x-kubernetes-validations": [{"rule": "self > 9"}]}));
        assert_eq!(wrong(&strict, &json!({"a": 2, "b": 1}), Some(&json!({"a": 2}))).len(), 0);
        assert_eq!(wrong(&strict, &json!({"a": 3}), Some(&json!({"a": 2}))).len(), 1);
        let list = with(json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]}}));
        let new = json!({"a": [{"k": "new", "v": 0}, {"k": "x", "v": 1}]});
        assert_eq!(
            wrong(&list, &new, Some(&json!({"a": [{"k": "x", "v": 2}]}))),
            ["a[1]: Invalid value: failed rule: self.v >= oldSelf.v"]
        );
    }

    #[test]
    fn rules_cost_what_they_cost_elsewhere() {
        let of = |kind: &str| match kind {
            "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
            "duration" | "date" | "date-time" => json!({"type": "string", "format": kind}),
            kind => json!({"type": kind}),
        };
        let list = |kind: &str| json!({"type": "array", "items": of(kind)});
        let map = |kind: &str| json!({"type": "object", "additionalProperties": of(kind)});
        let text = || json!({"type": "string"});
        let item = json!({"type": "object", "required": ["required"],
            "properties": {"required": {"type": "string"}, "optional": {"type": "string"}}});
        let objects = json!({"type": "array", "items": item});
        let lists = json!({"type": "array", "items": list("number")});
        let maps = json!({"type": "array", "items": map("number")});
        let all = "self.all(x, true)";
        // Without a bound, and with one.
        let cases = [
            (list("number"), all, 4_718_591, 10, 32),
            (list("string"), all, 3_145_727, 20, 62),
            (list("boolean"), all, 1_887_437, 5, 17),
            (lists.clone(), all, 3_145_727, 100, 302),
            (objects.clone(), all, 555_128, 50, 152),
            (map("number"), all, 1_348_169, 10, 32),
            (map("number"), "has(self.x)", 1, 100, 1),
            (map("string"), all, 1_179_647, 3, 11),
            (map("boolean"), all, 943_718, 100, 302),
            (text(), "self.contains('test')", 314_574, 10, 5),
            (text(), "self.startsWith('test')", 2, 15, 2),
            (text(), "size(self + 'hello') > size('hello')", 314_578, 4, 7),
            (list("number"), "self[1] == 0.0", 2, 5000, 2),
            (list("string"), "self[1] == self[1]", 314_577, 8, 314_577),
            (text(), "self.matches('x')", 314_574, 50, 22),
            (text(), "''.matches('(((((((((())))))))))[0-9]')", 7, 10, 7),
            (text(), "self.matches('')", 1, 100, 1),
            (text(), "self == 'x'", 2, 0, 1),
            (json!({"type": "string", "format": "byte"}), "self == b'x'", 2, 0, 1),
            (list("number"), "self.all(x, x == 0.0)", 6_291_454, 3 * 1024 * 2048, 25_165_826),
            (list("number"), "self.all(x, self.all(y, true))", u64::MAX, 10, 352),
            (list("number"), "self.all(x, self.all(y, self.all(z, true)))", u64::MAX, 10, 3552),
            (list("int-or-string"), all, 4_718_591, 10, 32),
            (list("int-or-string"), "self[0] == 5", 3, 10, 3),
            (objects, "self[0] == null", 2, 422, 2),
            (lists, "self[0][0] == -1.0", 3, 51, 3),
            (maps.clone(), "self.all(x, x.y == 25.2)", 6_291_452, 12, 74),
            (maps, "self[0].x > 2.0", 4, 3000, 4),
            (list("duration"), all, 2_359_295, 5, 17),
            (list("duration"), "self[0].getHours() == 2", 4, 525, 4),
            (list("date"), all, 725_936, 15, 47),
            (list("date-time"), all, 428_963, 25, 77),
            (map("duration"), all, 1_048_577, 5, 17),
            (map("date"), all, 524_288, 10, 32),
            (map("date-time"), all, 349_526, 25, 77),
            (map("date-time"), "self['a'] == self['b']", 8, 7, 8),
            (map("integer"), "oldSelf.size() == self.size()", 5, 10, 5),
            (text(), "self.find('[0-9]+') == ''", 629_147, 10, 11),
            (text(), "self.lowerAscii() == 'lower!'", 314_575, 10, 6),
            (json!({"type": "string", "enum": ["A", "LongValue"]}), "self.contains('A')", 2, 1000, 401),
            (of("int-or-string"), "isQuantity(self)", 314_574, 20, 9),
        ];
        let cost = |schema: &Value, rule: &str| {
            let schema = Schema::of(schema);
            Rule::compile(&json!({"rule": rule}), &schema, false).unwrap().cost(&schema, false)
        };
        for (schema, rule, free, bound, bounded) in cases {
            let found = cost(&schema, rule);
            assert!(
                found == free || (free == u64::MAX && found > 10_000_000),
                "{rule} of {schema}: {found}, not {free}"
            );
            let mut with = schema.clone();
            let name = match schema["type"].as_str() {
                Some("array") => "maxItems",
                Some("object") => "maxProperties",
                _ => "maxLength",
            };
            with[name] = json!(bound);
            assert_eq!(cost(&with, rule), bounded, "{rule} of {with}");
        }
        let texts = |most: Value| {
            let mut list = json!({"type": "array", "items": {"type": "string"}});
            if most.is_number() {
                list["maxItems"] = most.clone();
                list["items"]["maxLength"] = most;
            }
            list
        };
        for (rule, free, bounded) in
            [("self.join(' ') == 'aa bb'", 329_853_068_905, 43), ("self.isSorted() == true", 329_854_432_052, 52)]
        {
            assert_eq!(cost(&texts(Value::Null), rule), free, "{rule}");
            assert_eq!(cost(&texts(json!(10)), rule), bounded, "{rule}");
        }
        let parts = |most: Value| {
            let mut text = json!({"type": "string"});
            if most.is_number() {
                text["maxLength"] = most;
            }
            json!({"type": "object", "properties": {"str": text, "separator": text,
                "before": {"type": "string", "maxLength": 2}, "after": {"type": "string", "maxLength": 4}}})
        };
        let replaced = "self.str.replace(self.before, self.after) == 'does not matter'";
        assert_eq!(cost(&parts(Value::Null), replaced), 629_154);
        assert_eq!(cost(&parts(json!(4)), replaced), 12);
        assert_eq!(cost(&parts(Value::Null), "self.str.split(self.separator) == []"), 629_160);
        assert_eq!(cost(&parts(json!(10)), "self.str.split(self.separator) == []"), 22);
    }
}
