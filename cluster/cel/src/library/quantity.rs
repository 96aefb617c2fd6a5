//! Kubernetes' quantities: `1Gi`, `500m`.

use std::cmp::Ordering;

use kedge_api::quantity::Quantity;

use crate::eval::{Evaluated, failed};
use crate::value::Value;

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    use Value::{Bool, Double, Int, String};
    let whole = |q: &Quantity| Quantity::from_units(q.value()) == *q;
    Some(match (function, args) {
        ("quantity", [String(text)]) => {
            text.parse().map(Value::Quantity).map_err(|e: kedge_api::quantity::QuantityError| failed(e.to_string()))
        }
        ("isQuantity", [String(text)]) => Ok(text.parse::<Quantity>().is_ok().into()),
        ("isInteger", [Value::Quantity(q)]) => Ok(Bool(whole(q))),
        ("asInteger", [Value::Quantity(q)]) if whole(q) => Ok(Int(q.value())),
        ("asInteger", [Value::Quantity(_)]) => Err(failed("cannot convert value to integer")),
        ("asApproximateFloat", [Value::Quantity(q)]) => Ok(Double(q.as_f64())),
        ("sign", [Value::Quantity(q)]) => Ok(Int(number(q.cmp(&Quantity::ZERO)))),
        ("add", [Value::Quantity(a), Value::Quantity(b)]) => Ok(Value::Quantity(*a + *b)),
        ("add", [Value::Quantity(a), Int(b)]) => Ok(Value::Quantity(*a + Quantity::from_units(*b))),
        ("sub", [Value::Quantity(a), Value::Quantity(b)]) => Ok(Value::Quantity(*a - *b)),
        ("sub", [Value::Quantity(a), Int(b)]) => Ok(Value::Quantity(*a - Quantity::from_units(*b))),
        ("isLessThan", [Value::Quantity(a), Value::Quantity(b)]) => Ok((a < b).into()),
        ("isGreaterThan", [Value::Quantity(a), Value::Quantity(b)]) => Ok((a > b).into()),
        ("compareTo", [Value::Quantity(a), Value::Quantity(b)]) => Ok(Int(number(a.cmp(b)))),
        _ => return None,
    })
}

pub(crate) const fn number(order: Ordering) -> i64 {
    match order {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }
}
