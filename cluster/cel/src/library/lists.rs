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
