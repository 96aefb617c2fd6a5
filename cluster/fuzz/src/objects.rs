//! Objects of any type of the API, generated along the schema: every field may be there, and each has a value of its shape.

use kedge_api::schema::{Field, Shape, Type};
use serde_json::{Map, Value, json};

use crate::random::Random;

/// Deeper than this only scalars come.
const DEEPEST: usize = 9;

/// An object of `kind` that names itself.
pub fn object(random: &mut Random, of: Type) -> Option<Value> {
    let (group, version, kind) = of.kinds().next()?;
    let mut fields = message(random, of, 0);
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), kind.into());
    Some(fields.into())
}

/// Fields of a type. None is empty, false or zero: whether such are written is another question.
pub fn message(random: &mut Random, of: Type, depth: usize) -> Map<String, Value> {
    let wanted = if depth < 2 { 2 } else { 3 };
    let mut fields = Map::new();
    // What an object inside of another is, protobuf does not tell.
    let typed = of.kinds().next().is_some();
    for field in of.fields().filter(|field| !typed || !["apiVersion", "kind"].contains(&field.name())) {
        if field.required() || random.once_in(wanted) {
            fields.extend(value_of(random, of, field, depth).map(|value| (field.name().to_owned(), value)));
        }
    }
    fields
}

fn value_of(random: &mut Random, of: Type, field: Field, depth: usize) -> Option<Value> {
    if let Some(narrower) = narrower(random, of, field, depth) {
        return narrower;
    }
    let choices: Vec<&str> = field.choices().filter(|choice| !choice.is_empty()).collect();
    let choice = random.pick(&choices).map(|choice| Value::from(*choice));
    match (choice, field.shape().resolve()) {
        (Some(choice), Shape::String) => Some(choice),
        (Some(choice), Shape::List(_)) => Some(vec![choice].into()),
        _ => value(random, field.shape(), depth),
    }
}

/// What the schema calls any object, and is of a type nevertheless: a schema within a schema, and a part that only is there.
fn narrower(random: &mut Random, of: Type, field: Field, depth: usize) -> Option<Option<Value>> {
    let mut schema = || (depth <= DEEPEST).then(|| Value::from(message(random, of, depth + 1)));
    Some(match (of.short_name(), field.name()) {
        ("JSONSchemaProps", "additionalItems" | "additionalProperties" | "items") => schema(),
        ("JSONSchemaProps", "dependencies") => schema().map(|schema| json!({"a": schema, "b": ["c"]})),
        ("CustomResourceSubresources", "status") => Some(json!({})),
        _ => return None,
    })
}

fn value(random: &mut Random, shape: Shape, depth: usize) -> Option<Value> {
    let micro = matches!(shape, Shape::Type(t) if t.short_name() == "MicroTime");
    Some(match shape.resolve() {
        Shape::String => (*random.pick(&["a", "some-name", "e.com/x", "\u{e9}", "10.0.0.1", "x\ny", "Always"])?).into(),
        Shape::Bytes => (*random.pick(&["AA==", "aGVsbG8=", "//79"])?).into(),
        Shape::Time if micro => (*random.pick(&["2026-01-02T03:04:05.000006Z", "1969-12-31T23:59:59.999999Z"])?).into(),
        Shape::Time => {
            (*random.pick(&["2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z", "2038-01-19T03:14:08Z"])?).into()
        }
        Shape::Int32 => (*random.pick(&[1, -1, 80, 65536, i64::from(i32::MAX), i64::from(i32::MIN)])?).into(),
        Shape::Int64 => (*random.pick(&[1, -1, 1 << 40, i64::MAX, i64::MIN])?).into(),
        Shape::Number => (*random.pick(&[0.5, -1.25, 1024.75])?).into(),
        Shape::Boolean => true.into(),
        Shape::Any | Shape::Object => {
            random.pick(&[json!({"a": [1, "x", null, {"b": true}]}), json!({"z": {}})])?.clone()
        }
        Shape::IntOrString => random.pick(&[json!(80), json!(-1), json!("http"), json!("25%")])?.clone(),
        Shape::Quantity => (*random.pick(&["100m", "1Gi", "3", "-5n", "1e3"])?).into(),
        Shape::Type(_) | Shape::List(_) | Shape::Map(_) if depth > DEEPEST => return None,
        Shape::Type(of) => message(random, of, depth + 1).into(),
        Shape::List(item) => {
            let items: Vec<Value> =
                (0..=random.below(2)).filter_map(|_| value(random, item.shape(), depth + 1)).collect();
            Some(items).filter(|items| !items.is_empty())?.into()
        }
        Shape::Map(item) => {
            let keys: Vec<_> = ["a", "e.com/b", "C-_.d"].into_iter().take(1 + random.below(3)).collect();
            let members: Map<String, Value> = keys
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), value(random, item.shape(), depth + 1)?)))
                .collect();
            Some(members).filter(|members| !members.is_empty())?.into()
        }
    })
}
