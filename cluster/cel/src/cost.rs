//! What evaluation costs: each step something, and more where a function has to look at all of a text or list.

use crate::value::Value;

/// Texts cost a tenth for each character that is looked at.
fn tenth(size: u64) -> u64 {
    size.div_ceil(10)
}

/// Of a call, by the sizes of its arguments.
pub(crate) fn of_call(function: &str, args: &[Value]) -> u64 {
    let size = |at: usize| args.get(at).map_or(0, Value::size);
    let number = |at: usize| match args.get(at) {
        Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    };
    // To look at each for each, and what makes a list.
    let squared = |at: usize| size(at).saturating_mul(size(at)).saturating_mul(2).saturating_add(LIST);
    let more = match function {
        "startsWith" | "endsWith" => tenth(size(1)),
        "_==_" | "_!=_" => tenth(size(0).min(size(1))),
        "_<_" | "_<=_" | "_>_" | "_>=_" => tenth(size(0).min(size(1))),
        "_+_" => tenth(size(0).saturating_add(size(1))),
        "contains" => tenth(size(0)).saturating_mul(tenth(size(1)).max(1)),
        // A pattern may look at each character for each of its own.
        "matches" | "find" | "findAll" => tenth(size(0).saturating_add(1)).saturating_mul(size(1).div_ceil(4).max(1)),
        "@in" => size(1),
        "isSorted" | "sum" | "min" | "max" | "indexOf" | "lastIndexOf" => size(0),
        "slice" => number(2).saturating_sub(number(1)).saturating_add(LIST),
        "lists.range" => number(0).saturating_add(LIST),
        "flatten" => size(0).saturating_mul(if args.len() > 1 { number(1) } else { 1 }).saturating_add(LIST),
        "reverse" => size(0).saturating_add(LIST),
        "distinct" | "sort" => squared(0),
        "@sortByAssociatedKeys" => squared(1),
        "sets.contains" | "sets.equivalent" | "sets.intersects" => size(0).saturating_mul(size(1)),
        "replace" | "split" | "substring" | "join" | "lowerAscii" | "upperAscii" | "trim" | "format" | "url"
        | "isURL" | "quantity" | "isQuantity" | "ip" | "isIP" | "cidr" | "isCIDR" | "semver" | "isSemver"
        | "string" | "bytes" | "strings.quote" => tenth(size(0)),
        "validate" => tenth(size(1)),
        // Upstream's price of a question that may leave the process.
        "check" => 350_000,
        _ => 0,
    };
    1_u64.saturating_add(more)
}

/// What it costs that a list is made.
const LIST: u64 = 10;

/// What a call makes or looks through, in bytes; no more than `most` is counted.
pub(crate) fn room(function: &str, args: &[Value], most: u64) -> u64 {
    use Value::{List, String};
    let length = |value: &Value| match value {
        String(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        List(items) => items.len() as u64 * ITEM,
        _ => 0,
    };
    // To count a text's characters is quick.
    let looked = args.iter().map(length).fold(0, u64::saturating_add) / 32;
    // How often a part can stand in a text.
    let times = |text: &str, part: &str| (text.len() / part.len().max(1)) as u64 + 1;
    let made = match (function, args) {
        ("_+_", [a, b]) => length(a).saturating_add(length(b)),
        ("_==_" | "_!=_", [a, b]) => spread(a, most).min(spread(b, most)),
        ("@in", [_, list @ List(_)]) => spread(list, most),
        ("indexOf" | "lastIndexOf", [list @ List(_), ..]) => spread(list, most),
        ("sets.contains" | "sets.equivalent" | "sets.intersects", [a @ List(x), b @ List(y)]) => {
            let all = spread(a, most).saturating_mul(y.len() as u64);
            all.saturating_add(spread(b, most).saturating_mul(x.len() as u64))
        }
        ("lists.range", [Value::Int(end)]) => u64::try_from(*end).unwrap_or(0).saturating_mul(ITEM),
        ("flatten", [list @ List(_), ..]) => spread(list, most).saturating_mul(ITEM),
        ("slice" | "reverse", [list @ List(_), ..]) => length(list),
        ("distinct", [list @ List(items)]) => spread(list, most).saturating_mul(items.len() as u64),
        ("sort", [keys @ List(items)]) | ("@sortByAssociatedKeys", [_, keys @ List(items)]) => {
            spread(keys, most).saturating_mul(u64::from(items.len().max(2).ilog2()) + 1).saturating_add(length(keys))
        }
        ("replace", [String(text), String(from), String(to), ..]) => {
            times(text, from).saturating_mul(to.len() as u64).saturating_add(text.len() as u64)
        }
        ("split", [String(text), String(by), ..]) => times(text, by).saturating_mul(ITEM * 2),
        ("findAll", [String(text), ..]) => (text.len() as u64).saturating_mul(ITEM * 2),
        ("join", [list @ List(items), by @ ..]) => {
            let between = by.first().map_or(0, length).saturating_mul(items.len() as u64);
            spread(list, most).saturating_add(between)
        }
        ("format", [String(text), list]) => spread(list, most).saturating_add(text.len() as u64),
        ("charAt" | "substring", [String(text), ..]) => text.len() as u64,
        _ => 0,
    };
    looked.saturating_add(made)
}

/// The memory that an item of a list takes.
const ITEM: u64 = 32;

/// How large a value is written out, what is shared being counted as often as it stands there; no more than `most`.
pub(crate) fn spread(value: &Value, most: u64) -> u64 {
    let mut left = most;
    walk(value, &mut left);
    most - left
}

fn walk(value: &Value, left: &mut u64) {
    let own = match value {
        Value::String(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        _ => 0,
    };
    *left = left.saturating_sub(own.saturating_add(1));
    let inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::List(items) => Box::new(items.iter()),
        Value::Map(map) => Box::new(map.values()),
        Value::Optional(Some(inner)) => Box::new(std::iter::once(&**inner)),
        _ => return,
    };
    for value in inner {
        if *left == 0 {
            return;
        }
        walk(value, left);
    }
}
