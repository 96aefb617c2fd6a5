//! One evaluation of a policy: its conditions, then what it demands or changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_api::resource::known;
use kedge_api::{Key, Snapshot};
use kedge_cel::value::Key as CelKey;
use kedge_cel::{Failure, Program, Value as Cel, Variables};
use serde_json::{Map, Value, json};

use crate::Registry;
use crate::admission::Writer;
use crate::admission::matching::Asked;
use crate::admission::webhook::review;
use crate::expressions::{Named, Policy};
use crate::value::Look as _;

/// What one expression may cost, and all of a policy.
const CALL: u64 = 1_000_000;
const POLICY: u64 = 10_000_000;
/// A longer message is not said.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// A validation that does not hold, or that cannot be told of.
pub(super) struct Verdict {
    pub(super) message: String,
    pub(super) reason: String,
    /// Which of the validations.
    pub(super) index: usize,
}

/// What is to become of an object.
pub(super) enum Mutation {
    /// Operations of a JSON patch.
    Patch(Value),
    /// What is laid over it.
    Configuration(Value),
}

pub(super) struct Run<'a> {
    policy: &'a Policy,
    base: Variables,
}

/// Variables, those that failed, and what is left to spend.
struct State {
    variables: Variables,
    failed: BTreeMap<String, String>,
    left: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        registry: &Registry,
        snapshot: &Snapshot,
        writer: &Writer<'_>,
        asked: &Asked<'_>,
        policy: &'a Policy,
        param: Option<&Value>,
    ) -> Self {
        let object = |value: Option<&Value>| value.map_or(Cel::Null, Cel::of_json);
        let namespace = snapshot.get(&Key::new(known::NAMESPACES, "", asked.attributes.namespace));
        let namespace: Option<Value> = namespace.and_then(|object| object.decode().ok());
        let base = base(registry, writer, asked)
            .with("namespaceObject", namespace.as_ref().map_or(Cel::Null, namespace_object))
            .with("params", object(param));
        Self { policy, base }
    }

    /// Everything that does not hold; nothing if the conditions leave the object out.
    pub(super) fn validate(&self) -> Vec<Verdict> {
        let mut state = self.state();
        match holds(&self.policy.conditions, &state.variables, &mut state.left) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(why) => return self.broken(why, 0).into_iter().collect(),
        }
        let mut verdicts = Vec::new();
        for (index, validation) in self.policy.validations.iter().enumerate() {
            let result = state.value(&validation.expression, validation.program.as_ref());
            match result {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    let computed = validation.message_program.as_ref().map(|program| state.run(program));
                    let message = match computed {
                        Some(Ok(Cel::String(text))) => text.trim().to_owned(),
                        _ => String::new(),
                    };
                    let fits = !message.is_empty() && message.len() <= LONGEST_MESSAGE && !message.contains('\n');
                    let message = match (fits, validation.message.as_str()) {
                        (true, _) => message,
                        (false, "") => format!("failed expression: {}", validation.expression),
                        (false, fixed) => fixed.to_owned(),
                    };
                    verdicts.push(Verdict { message, reason: validation.reason.clone(), index });
                }
                Err(why) => verdicts.extend(self.broken(why, index)),
            }
        }
        verdicts
    }

    /// Whether the conditions let the policy change the object.
    pub(super) fn applies(&self) -> Result<bool, String> {
        let mut state = self.state();
        holds(&self.policy.conditions, &state.variables, &mut state.left)
    }

    /// What a mutation asks for.
    pub(super) fn mutate(&self, mutation: &Named) -> Result<Mutation, String> {
        let mut state = self.state();
        let result = state.value(&mutation.expression, mutation.program.as_ref())?;
        if let Some((found, wanted)) = mutation.program.as_ref().ok().and_then(Program::misnamed) {
            return Err(format!(
                "type mismatch: unexpected type name {found:?}, expected {wanted:?}, which matches field name path from root Object type"
            ));
        }
        let asked = to_json(&result).ok_or_else(|| format!("expression '{}' gives no patch", mutation.expression))?;
        Ok(if asked.is_array() { Mutation::Patch(asked) } else { Mutation::Configuration(asked) })
    }

    /// What cannot be told counts as the failure policy says.
    fn broken(&self, message: String, index: usize) -> Option<Verdict> {
        (!self.policy.ignores_failures()).then(|| Verdict { message, reason: String::new(), index })
    }

    fn state(&self) -> State {
        let mut state = State { variables: self.base.clone(), failed: BTreeMap::new(), left: POLICY };
        let mut values = BTreeMap::new();
        for variable in &self.policy.variables {
            match state.value(&variable.expression, variable.program.as_ref()) {
                Ok(value) => {
                    values.insert(CelKey::String(variable.name.as_str().into()), value);
                }
                Err(why) => {
                    state.failed.insert(variable.name.clone(), why);
                }
            }
            state.variables = state.variables.with("variables", values.clone().into());
        }
        state
    }
}

impl State {
    fn run(&mut self, program: &Program) -> Result<Cel, Failure> {
        let mut budget = CALL.min(self.left);
        let allowed = budget;
        let result = program.evaluate(&self.variables, &mut budget);
        self.left = self.left.saturating_sub(allowed - budget);
        result
    }

    fn value(&mut self, text: &str, program: Result<&Program, &String>) -> Result<Cel, String> {
        let program = program.map_err(|why| format!("compilation error: {why}"))?;
        self.run(program).map_err(|failure| {
            if failure == Failure::OverBudget {
                return "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned();
            }
            let why = failure.to_string();
            // A variable that failed is not there; what is said is why.
            let missing = why.strip_prefix("no such key: ").and_then(|name| Some((name, self.failed.get(name)?)));
            let why = missing
                .map_or(why.clone(), |(name, why)| format!("composited variable \"{name}\" fails to evaluate: {why}"));
            format!("expression '{text}' resulted in error: {why}")
        })
    }
}

/// What policies and webhooks' conditions both see.
pub(in crate::admission) fn base(registry: &Registry, writer: &Writer<'_>, asked: &Asked<'_>) -> Variables {
    let object = |value: Option<&Value>| value.map_or(Cel::Null, Cel::of_json);
    let base = Variables::default()
        .with("object", object(asked.object.as_ref()))
        .with("oldObject", object(asked.old.as_ref()))
        .with("request", Cel::of_json(&review::about(writer, asked)))
        .with("namespaceObject", Cel::Null);
    match super::super::permissions::asking(registry, writer, asked) {
        Some(authorizer) => base.with("authorizer", authorizer),
        None => base,
    }
}

/// Whether all hold. One that does not outweighs others that cannot be told.
pub(in crate::admission) fn holds(conditions: &[Named], variables: &Variables, left: &mut u64) -> Result<bool, String> {
    let mut broken = Vec::new();
    for condition in conditions {
        let result = match &condition.program {
            Ok(program) => program.evaluate(variables, left).map_err(|failure| failure.to_string()),
            Err(why) => Err(why.clone()),
        };
        match result {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(why) => broken.push(format!("expression '{}' resulted in error: {why}", condition.expression)),
        }
    }
    match broken.as_slice() {
        [] => Ok(true),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// A namespace with times as times.
fn namespace_object(namespace: &Value) -> Cel {
    let mut shown = namespace.clone();
    let times = ["creationTimestamp", "deletionTimestamp"]
        .map(|field| (field, namespace.look("metadata").text(field).parse::<jiff::Timestamp>().ok()));
    if let Some(meta) = shown.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["creationTimestamp", "deletionTimestamp", "managedFields"] {
            meta.remove(field);
        }
        let uid = meta.remove("uid");
        meta.extend(uid.map(|uid| ("UID".to_owned(), uid)));
    }
    let Cel::Map(fields) = Cel::of_json(&shown) else { return Cel::Null };
    let mut fields = (*fields).clone();
    if let Some(Cel::Map(meta)) = fields.get(&CelKey::String("metadata".into())) {
        let mut meta = (**meta).clone();
        for (field, time) in times {
            if let Some(time) = time {
                meta.insert(CelKey::String(field.into()), Cel::Timestamp(time));
            }
        }
        fields.insert(CelKey::String("metadata".into()), meta.into());
    }
    Cel::Map(Arc::new(fields))
}

/// As the API writes it; none for what JSON cannot hold.
fn to_json(value: &Cel) -> Option<Value> {
    Some(match value {
        Cel::Null => Value::Null,
        Cel::Bool(flag) => (*flag).into(),
        Cel::Int(n) => (*n).into(),
        Cel::Uint(n) => (*n).into(),
        Cel::Double(n) => json!(n),
        Cel::String(text) => text.as_ref().into(),
        Cel::Quantity(q) => q.to_string().into(),
        Cel::Timestamp(time) => format!("{time:.0}").into(),
        Cel::Optional(None) => Value::Null,
        Cel::Optional(Some(inner)) => to_json(inner)?,
        Cel::List(items) => Value::Array(items.iter().map(to_json).collect::<Option<_>>()?),
        Cel::Map(map) => {
            let mut out = Map::new();
            for (key, value) in map.iter() {
                let CelKey::String(key) = key else { return None };
                out.insert(key.to_string(), to_json(value)?);
            }
            Value::Object(out)
        }
        _ => return None,
    })
}
