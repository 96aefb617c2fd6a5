//! Lists, and lists as sets.

use super::operators::{self, order};
use crate::eval::{Evaluated, Failure, failed};
use crate::value::Value;

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    use Value::{Int, List};
    Some(match (function, args) {
        ("isSorted", [List(items)]) => sorted(items),
        ("sum", [List(items)]) => sum(items),
        ("min", [List(items)]) => extreme(items, "min", std::cmp::Ordering::Less),
        ("max", [List(items)]) => extreme(items, "max", std::cmp::Ordering::Greater),
        ("indexOf", [List(items), value]) => {
            Ok(items.iter().position(|item| item == value).map_or(Int(-1), Value::from))
        }
        ("lastIndexOf", [List(items), value]) => {
            Ok(items.iter().rposition(|item| item == value).map_or(Int(-1), Value::from))
        }
        ("slice", [List(items), Int(start), Int(end)]) => slice(items, *start, *end),
        ("flatten", [List(items)]) => flat(items, 1),
        ("flatten", [List(items), Int(depth)]) => flat(items, *depth),
        ("sort", [List(items)]) => by_keys(items, items),
        ("@sortByAssociatedKeys", [List(items), List(keys)]) => by_keys(items, keys),
        ("lists.range", [Int(end)]) => Ok((0..*end).map(Int).collect::<Vec<_>>().into()),
        ("first", [List(items)]) => Ok(Value::optional(items.first().cloned())),
        ("last", [List(items)]) => Ok(Value::optional(items.last().cloned())),
        ("optional.unwrap" | "unwrapOpt", [List(items)]) => unwrap(items),
        ("reverse", [List(items)]) => Ok(items.iter().rev().cloned().collect::<Vec<_>>().into()),
        ("distinct", [List(items)]) => Ok(distinct(items).into()),
        ("sets.contains", [List(all), List(some)]) => Ok(some.iter().all(|item| all.contains(item)).into()),
        ("sets.equivalent", [List(a), List(b)]) => {
            Ok((a.iter().all(|item| b.contains(item)) && b.iter().all(|item| a.contains(item))).into())
        }
        ("sets.intersects", [List(a), List(b)]) => Ok(a.iter().any(|item| b.contains(item)).into()),
        _ => return None,
    })
}

fn sorted(items: &[Value]) -> Evaluated {
    for pair in items.windows(2) {
        let [a, b] = pair else { continue };
        match order(a, b) {
            Some(std::cmp::Ordering::Greater) => return Ok(false.into()),
            Some(_) => {}
            None => return Err(Failure::NoOverload),
        }
    }
    Ok(true.into())
}

fn sum(items: &[Value]) -> Evaluated {
    let Some((first, rest)) = items.split_first() else { return Ok(Value::Int(0)) };
    if !matches!(first, Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)) {
        return Err(Failure::NoOverload);
    }
    rest.iter().try_fold(first.clone(), |sum, item| {
        operators::call("_+_", &[sum, item.clone()]).unwrap_or(Err(Failure::NoOverload))
    })
}

/// What optional values hold, as far as they hold something.
fn unwrap(items: &[Value]) -> Evaluated {
    let mut out = Vec::new();
    for item in items {
        let Value::Optional(held) = item else {
            return Err(failed(format!("value {} is not optional", operators::shown(item))));
        };
        out.extend(held.as_deref().cloned());
    }
    Ok(out.into())
}

fn slice(items: &[Value], start: i64, end: i64) -> Evaluated {
    let why = match (usize::try_from(start), usize::try_from(end)) {
        (Ok(from), Ok(to)) if from <= to => match items.get(from..to) {
            Some(part) => return Ok(part.to_vec().into()),
            None => format!("list is length {}", items.len()),
        },
        (Ok(_), Ok(_)) => "start index must be less than or equal to end index".to_owned(),
        _ => "negative indexes not supported".to_owned(),
    };
    Err(failed(format!("cannot slice({start}, {end}), {why}")))
}

fn flat(items: &[Value], depth: i64) -> Evaluated {
    if depth < 0 {
        return Err(failed("level must be non-negative"));
    }
    let mut out = Vec::new();
    flatten(items, depth, &mut out);
    Ok(out.into())
}

fn flatten(items: &[Value], depth: i64, out: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::List(inner) if depth > 0 => flatten(inner, depth - 1, out),
            other => out.push(other.clone()),
        }
    }
}

/// The items in the order of their keys.
fn by_keys(items: &[Value], keys: &[Value]) -> Evaluated {
    if items.len() != keys.len() {
        return Err(failed(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements \
             respectively",
            items.len(),
            keys.len()
        )));
    }
    let Some(first) = keys.first() else { return Ok(items.to_vec().into()) };
    if order(first, first).is_none() {
        return Err(failed("list elements must be comparable"));
    }
    if keys.iter().any(|key| key.type_name() != first.type_name()) {
        return Err(failed("list elements must have the same type"));
    }
    let mut pairs: Vec<(&Value, &Value)> = keys.iter().zip(items).collect();
    pairs.sort_by(|(a, _), (b, _)| order(a, b).unwrap_or(std::cmp::Ordering::Equal));
    Ok(pairs.into_iter().map(|(_, item)| item.clone()).collect::<Vec<_>>().into())
}

fn distinct(items: &[Value]) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for item in items {
        if !out.contains(item) {
            out.push(item.clone());
        }
    }
    out
}

fn extreme(items: &[Value], name: &str, wanted: std::cmp::Ordering) -> Evaluated {
    let (first, rest) = items.split_first().ok_or_else(|| failed(format!("{name} called on empty list")))?;
    let mut best = first;
    for item in rest {
        if order(item, best).ok_or(Failure::NoOverload)? == wanted {
            best = item;
        }
    }
    Ok(best.clone())
}
