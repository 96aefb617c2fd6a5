//! Bringing a decoded body into the form of its type: wrong types are refused, unknown fields taken out and named, quantities and
//! times checked, and what an upstream server would not write (nulls, empty optional values) left out.

use base64::Engine as _;
use kedge_api::findings::Findings;
use kedge_api::quantity::Quantity;
use kedge_api::schema::{Field, Item, Shape, Type};
use serde_json::{Map, Value};

/// The end of a `400`, as Go's decoder words it.
pub(crate) type Refusal = String;

/// Makes `value` one of `t`. Returns the paths of the fields that `t` does not have, e.g. `spec.template.spec.containers[0].nope`, as they come
/// in sorted objects; who has the document knows better.
pub(crate) fn conform(t: Type, value: &mut Value) -> Result<Vec<String>, Refusal> {
    let mut walk = Walk { unknown: Findings::default(), path: Vec::new() };
    match value {
        Value::Object(map) => walk.object(t, map)?,
        Value::Null => *value = Value::Object(Map::new()),
        other => {
            let found = json_name(other);
            return Err(format!("json: cannot unmarshal {found} into Go value of type {}", go_name(Shape::Type(t))));
        }
    }
    Ok(walk.unknown.into_texts())
}

struct Walk {
    unknown: Findings,
    /// Fields and indices on the way here. Names are copied only when something is to be reported.
    path: Vec<Step>,
}

enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

impl Walk {
    fn object(&mut self, t: Type, map: &mut Map<String, Value>) -> Result<(), Refusal> {
        let mut drop = Vec::new();
        for (name, value) in map.iter_mut() {
            let Some(field) = t.field(name) else {
                if self.unknown.has_room() {
                    self.unknown.note(self.at(name));
                }
                drop.push(name.clone());
                continue;
            };
            if value.is_null() {
                drop.push(name.clone());
                continue;
            }
            self.path.push(Step::Field(field.name()));
            self.value(field.shape(), t, value)?;
            self.path.pop();
            if is_left_out(field, value) {
                drop.push(name.clone());
            }
        }
        for name in drop {
            map.remove(&name);
        }
        Ok(())
    }

    fn value(&mut self, shape: Shape, of: Type, value: &mut Value) -> Result<(), Refusal> {
        match shape {
            Shape::Type(t) => match t.alias() {
                Some(Shape::Time) => self.time(t, of, value),
                // Raw JSON: what may stand there is for whoever reads it to say.
                Some(Shape::Object) => Ok(()),
                Some(alias) => self.value(alias, of, value),
                None => match value {
                    Value::Object(map) => self.object(t, map),
                    Value::Null => {
                        *value = Value::Object(Map::new());
                        Ok(())
                    }
                    other => Err(self.mismatch(other, of, shape)),
                },
            },
            Shape::List(item) => self.list(item, of, shape, value),
            Shape::Map(item) => self.map(item, of, shape, value),
            Shape::String | Shape::Time if value.is_string() => Ok(()),
            Shape::Boolean if value.is_boolean() => Ok(()),
            Shape::Int32 if value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
            Shape::Int64 if value.is_i64() => Ok(()),
            Shape::Number if value.is_number() => Ok(()),
            Shape::Bytes if value.is_string() => bytes(value),
            Shape::IntOrString if value.is_string() => Ok(()),
            Shape::IntOrString => self.value(Shape::Int32, of, value),
            Shape::Quantity => quantity(value),
            Shape::Any => Ok(()),
            Shape::Object if value.is_object() => Ok(()),
            _ => Err(self.mismatch(value, of, shape)),
        }
    }

    fn list(&mut self, item: Item, of: Type, shape: Shape, value: &mut Value) -> Result<(), Refusal> {
        let Value::Array(items) = value else { return Err(self.mismatch(value, of, shape)) };
        for (at, value) in items.iter_mut().enumerate() {
            self.path.push(Step::Index(at));
            if value.is_null() {
                *value = zero(item.shape());
            }
            self.value(item.shape(), of, value)?;
            self.path.pop();
        }
        Ok(())
    }

    fn map(&mut self, item: Item, of: Type, shape: Shape, value: &mut Value) -> Result<(), Refusal> {
        let Value::Object(map) = value else { return Err(self.mismatch(value, of, shape)) };
        let is_list_of_resources =
            matches!(item.shape().resolve(), Shape::Quantity) && of.name().starts_with("io.k8s.api.core.");
        for (key, value) in map.iter_mut() {
            if value.is_null() {
                *value = zero(item.shape());
            }
            // Most maps are of strings; their keys need no path.
            if matches!(item.shape(), Shape::String) && value.is_string() {
                continue;
            }
            self.path.push(Step::Key(key.clone()));
            self.value(item.shape(), of, value)?;
            self.path.pop();
            if is_list_of_resources {
                whole_milli(value);
            }
        }
        Ok(())
    }

    fn time(&self, t: Type, of: Type, value: &mut Value) -> Result<(), Refusal> {
        let Value::String(text) = value else { return Err(self.mismatch(value, of, Shape::String)) };
        let micro = t.short_name() == "MicroTime";
        let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
        let fraction = text.split_once('.').is_some();
        if micro && !fraction && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok() {
            return Err(format!("parsing time \"{text}\" as \"{layout}\": cannot parse \"Z\" as \".000000\""));
        }
        let Ok(time) = text.parse::<jiff::Timestamp>() else {
            return Err(format!("parsing time \"{text}\" as \"{layout}\": cannot parse \"{text}\" as \"2006\""));
        };
        *text = if micro { format!("{time:.6}") } else { format!("{time:.0}") };
        Ok(())
    }

    fn mismatch(&self, value: &Value, of: Type, shape: Shape) -> Refusal {
        let found = match (value, shape) {
            (Value::Number(n), Shape::Int32 | Shape::Int64) => format!("number {}", literal(n)),
            _ => json_name(value).to_owned(),
        };
        let mut path = String::new();
        for step in &self.path {
            if let Step::Field(name) = step {
                path.push('.');
                path.push_str(name);
            }
        }
        format!(
            "json: cannot unmarshal {found} into Go struct field {}{path} of type {}",
            of.short_name(),
            go_name(shape)
        )
    }

    fn at(&self, last: &str) -> String {
        let mut path = String::new();
        let steps = self.path.iter().map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Key(key) => format!(".{key}"),
            Step::Index(at) => format!("[{at}]"),
        });
        path.extend(steps);
        path.push('.');
        path.push_str(last);
        path.trim_start_matches('.').to_owned()
    }
}

/// What an optional field's absence and this value have in common is that upstream writes neither.
fn is_left_out(field: Field, value: &Value) -> bool {
    if field.required() {
        return false;
    }
    match value {
        Value::String(text) => text.is_empty() && !field.keeps_empty(),
        Value::Array(items) => items.is_empty() && !field.keeps_empty(),
        Value::Object(map) => map.is_empty() && matches!(field.shape(), Shape::Map(_)),
        Value::Number(n) => field.drops_zero() && n.as_i64() == Some(0),
        Value::Bool(flag) => field.drops_zero() && !flag,
        Value::Null => true,
    }
}

/// What Go makes of a null inside a list or map.
fn zero(shape: Shape) -> Value {
    match shape.resolve() {
        Shape::String | Shape::Bytes => "".into(),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Quantity => "0".into(),
        Shape::Boolean => false.into(),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Type(_) | Shape::Map(_) | Shape::Object => Value::Object(Map::new()),
        Shape::Any | Shape::Time => Value::Null,
    }
}

fn quantity(value: &mut Value) -> Result<(), Refusal> {
    let text = match &*value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(n) => n.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let parsed: Quantity = text.parse().map_err(|e| format!("{e}"))?;
    *value = parsed.to_string().into();
    Ok(())
}

/// Amounts of resources have no parts of thousandths.
fn whole_milli(amount: &mut Value) {
    if let Some(exact) =
        amount.as_str().and_then(|text| text.parse::<Quantity>().ok()).filter(|exact| *exact != exact.in_milli())
    {
        *amount = exact.in_milli().to_string().into();
    }
}

fn bytes(value: &mut Value) -> Result<(), Refusal> {
    let Value::String(text) = value else { return Ok(()) };
    // Go ignores line breaks in base64.
    if text.contains(['\n', '\r']) {
        text.retain(|c| c != '\n' && c != '\r');
    }
    match base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len(),
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

fn json_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A number as it was most likely written.
fn literal(number: &serde_json::Number) -> String {
    let text = number.to_string();
    match text.split_once('e') {
        Some((digits, power)) if !power.starts_with(['-', '+']) => format!("{digits}e+{power}"),
        _ => text,
    }
}

fn go_name(shape: Shape) -> String {
    match shape {
        Shape::String | Shape::Time => "string".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Int32 | Shape::IntOrString => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Number => "float64".into(),
        Shape::Boolean => "bool".into(),
        Shape::Any | Shape::Quantity => "interface {}".into(),
        Shape::Object => "map[string]interface {}".into(),
        Shape::List(item) => format!("[]{}", go_name(item.shape())),
        Shape::Map(item) => format!("map[string]{}", go_name(item.shape())),
        Shape::Type(t) => match t.alias() {
            Some(alias) => go_name(alias),
            None => {
                let mut parts = t.name().rsplit('.');
                let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                format!("{package}.{name}")
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(t: &str, mut value: Value) -> Result<(Value, Vec<String>), String> {
        let unknown = conform(kedge_api::schema::get(t).unwrap(), &mut value)?;
        Ok((value, unknown))
    }

    const POD: &str = "io.k8s.api.core.v1.Pod";

    #[test]
    fn amounts_of_resources_are_whole_thousandths() {
        let requests =
            |cpu: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        for (given, kept) in [("100u", "1m"), ("1500500u", "1501m"), ("-1u", "-1m"), ("0.5", "500m"), ("0", "0")] {
            assert_eq!(run(POD, requests(given)).unwrap().0, requests(kept), "{given}");
        }
    }

    #[test]
    fn unknown_fields_are_named_and_taken_out() {
        let (value, unknown) = run(
            POD,
            json!({"metadata": {"labls": {}, "name": "p"}, "nope": 1,
                   "spec": {"containers": [{"name": "c"}, {"name": "d", "ports": [{"containerport": 1, "containerPort": 2}]}]}}),
        )
        .unwrap();
        assert_eq!(unknown, ["metadata.labls", "nope", "spec.containers[1].ports[0].containerport"]);
        assert_eq!(
            value,
            json!({"metadata": {"name": "p"},
                   "spec": {"containers": [{"name": "c"}, {"name": "d", "ports": [{"containerPort": 2}]}]}})
        );
    }

    #[test]
    fn what_upstream_would_not_write_is_left_out() {
        let (value, _) = run(
            POD,
            json!({"metadata": {"name": "p", "labels": {}, "annotations": null, "creationTimestamp": null},
                   "spec": {"nodeName": "", "hostNetwork": false, "volumes": [], "securityContext": {}, "terminationGracePeriodSeconds": 0,
                            "automountServiceAccountToken": false, "containers": [{"name": "", "env": [{"name": "A", "value": ""}],
                            "resources": {"limits": {"cpu": "0.5", "memory": 1024}}}]}}),
        )
        .unwrap();
        assert_eq!(
            value,
            json!({"metadata": {"name": "p"},
                   "spec": {"securityContext": {}, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                            "containers": [{"name": "", "env": [{"name": "A"}],
                                            "resources": {"limits": {"cpu": "500m", "memory": "1024"}}}]}})
        );
        let (value, _) =
            run("io.k8s.api.core.v1.ConfigMap", json!({"data": {"a": null}, "binaryData": {"b": "eA\n=="}})).unwrap();
        assert_eq!(value, json!({"data": {"a": ""}, "binaryData": {"b": "eA=="}}));
    }

    #[test]
    fn wrong_types_are_refused_in_gos_words() {
        let refused = |t: &str, value: Value| run(t, value).unwrap_err();
        assert_eq!(
            refused("io.k8s.api.core.v1.ConfigMap", json!({"data": {"k": 1}})),
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
        );
        assert_eq!(
            refused(POD, json!({"metadata": {"name": 1}})),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string"
        );
        assert_eq!(
            refused(POD, json!({"spec": {"terminationGracePeriodSeconds": 1e30}})),
            "json: cannot unmarshal number 1e+30 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"
        );
        assert_eq!(
            refused("io.k8s.api.core.v1.Service", json!({"spec": {"ports": [{"targetPort": true}]}})),
            "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type int32"
        );
        assert_eq!(
            refused(POD, json!({"spec": {"containers": {}}})),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"
        );
        assert_eq!(
            refused("io.k8s.api.core.v1.ConfigMap", json!({"binaryData": {"k": "!!"}})),
            "illegal base64 data at input byte 0"
        );
    }
}
