//! The part of kubectl's JSONPath that printer columns use: fields, indices, slices, wildcards, unions, descent and filters.

use serde_json::Value;

/// Values that one step may find: later steps would find more in each of them.
const FOUND: usize = 10_000;
/// Nesting of filters and length of a path are bounded by a definition's size; steps are bounded here.
const STEPS: usize = 64;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// From, to (not included) and stride; negative counts from the end.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Every,
    Descend,
    Union(Vec<Step>),
    Filter(Side, Compare, Side),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Exists,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const OPERATORS: [(&str, Compare); 6] = [
    ("==", Compare::Equal),
    ("!=", Compare::Unequal),
    ("<=", Compare::LessOrEqual),
    (">=", Compare::GreaterOrEqual),
    ("<", Compare::Less),
    (">", Compare::Greater),
];

#[derive(Clone, Debug, PartialEq)]
enum Side {
    Path(JsonPath),
    Literal(Value),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

impl JsonPath {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.strip_prefix(['$', '@']).unwrap_or(text);
        let mut steps = Vec::new();
        while let Some(next) = rest.chars().next() {
            if steps.len() == STEPS {
                return Err(format!("more than {STEPS} steps"));
            }
            rest = match next {
                '.' if rest.starts_with("..") => {
                    steps.push(Step::Descend);
                    match rest.get(2..).unwrap_or_default() {
                        after if after.starts_with('[') => after,
                        after => field(after, &mut steps)?,
                    }
                }
                '.' => match rest.get(1..).unwrap_or_default() {
                    "" if steps.is_empty() => "",
                    after if after.starts_with('[') => after,
                    after => field(after, &mut steps)?,
                },
                '[' => bracket(rest, &mut steps)?,
                _ if steps.is_empty() => field(rest, &mut steps)?,
                other => return Err(format!("unexpected {other:?}")),
            };
        }
        Ok(Self(steps))
    }

    /// Only names, as a scale subresource's or a selectable field's path must be: dotted, without the first dot.
    pub(crate) fn simple(&self) -> Option<Vec<&str>> {
        self.0.iter().map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None }).collect()
    }

    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                if next.len() >= FOUND {
                    break;
                }
                take(step, value, &mut next);
            }
            next.truncate(FOUND);
            found = next;
        }
        found
    }
}

fn field<'a>(text: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, String> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => return Err("a field without a name".to_owned()),
        "*" => steps.push(Step::Every),
        _ => steps.push(Step::Field(name)),
    }
    Ok(text.get(end..).unwrap_or_default())
}

fn bracket<'a>(text: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, String> {
    let end = closing(text).ok_or("unterminated array")?;
    let inner = text.get(1..end).unwrap_or_default().trim();
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        steps.push(self::filter(filter)?);
    } else {
        let mut parts = split(inner).into_iter().map(element).collect::<Result<Vec<_>, _>>()?;
        match (parts.len(), parts.pop()) {
            (1, Some(one)) => steps.push(one),
            (_, Some(last)) => {
                parts.push(last);
                steps.push(Step::Union(parts));
            }
            (_, None) => return Err("an empty array".to_owned()),
        }
    }
    Ok(text.get(end + 1..).unwrap_or_default())
}

/// Where the bracket that `text` begins with is closed.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 1 => return Some(at),
            (None, ']') => depth = depth.checked_sub(1)?,
            (None, _) => {}
        }
    }
    None
}

fn split(inner: &str) -> Vec<&str> {
    let (mut quote, mut start, mut parts) = (None, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, ',') => {
                parts.push(inner.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            (None, _) => {}
        }
    }
    parts.push(inner.get(start..).unwrap_or_default());
    parts
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|q| text.strip_prefix(q)?.strip_suffix(q))
}

fn element(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::Every);
    }
    if let Some(name) = quoted(text) {
        return Ok(Step::Field(name.to_owned()));
    }
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| format!("invalid array index {text}"));
    let parts: Vec<&str> = text.split(':').collect();
    let bound = |at: usize| parts.get(at).filter(|t| !t.trim().is_empty()).map(|t| number(t)).transpose();
    match parts.len() {
        1 => number(text).map(Step::Index),
        2 | 3 => match bound(2)?.unwrap_or(1) {
            stride if stride < 1 => Err("step must be >= 0".to_owned()),
            stride => Ok(Step::Slice(bound(0)?, bound(1)?, stride)),
        },
        _ => Err(format!("invalid array index {text}")),
    }
}

fn filter(text: &str) -> Result<Step, String> {
    // The first operator outside of quotes.
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, _) => {
                let rest = text.get(at..).unwrap_or_default();
                if let Some((sign, compare)) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)) {
                    let left = side(text.get(..at).unwrap_or_default())?;
                    let right = side(rest.get(sign.len()..).unwrap_or_default())?;
                    return Ok(Step::Filter(left, *compare, right));
                }
            }
        }
    }
    Ok(Step::Filter(side(text)?, Compare::Exists, Side::Literal(Value::Null)))
}

fn side(text: &str) -> Result<Side, String> {
    let text = text.trim();
    if let Some(text) = quoted(text) {
        return Ok(Side::Literal(text.into()));
    }
    match text.strip_prefix('@') {
        // A filter within a filter is refused: paths stay flat.
        Some(path) if !path.contains("?(") => JsonPath::parse(path).map(Side::Path),
        Some(_) => Err("a filter within a filter".to_owned()),
        None => serde_json::from_str(text)
            .map(Side::Literal)
            .map_err(|_| format!("unrecognized character in filter: {text}")),
    }
}

fn take<'a>(step: &Step, value: &'a Value, out: &mut Vec<&'a Value>) {
    match step {
        Step::Field(name) => out.extend(value.get(name)),
        Step::Index(at) => out.extend(value.as_array().and_then(|items| items.get(place(*at, items.len())?))),
        Step::Slice(from, to, stride) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let clamp = |at: i64| place(at, items.len()).unwrap_or(0).min(items.len());
            let (from, to) = (from.map_or(0, clamp), to.map_or(items.len(), clamp));
            let stride = usize::try_from(*stride).unwrap_or(1);
            out.extend(items.get(from..to).unwrap_or_default().iter().step_by(stride));
        }
        Step::Every => match value {
            Value::Array(items) => out.extend(items),
            Value::Object(map) => out.extend(map.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        },
        Step::Descend => descend(value, out),
        Step::Union(steps) => steps.iter().for_each(|step| take(step, value, out)),
        Step::Filter(left, compare, right) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            out.extend(items.iter().filter(|item| holds(left, *compare, right, item)));
        }
    }
}

fn place(at: i64, length: usize) -> Option<usize> {
    usize::try_from(if at < 0 { at + i64::try_from(length).ok()? } else { at }).ok()
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, out)),
        Value::Object(map) => map.values().for_each(|value| descend(value, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn holds(left: &Side, compare: Compare, right: &Side, item: &Value) -> bool {
    let of = |side: &Side| match side {
        Side::Path(path) => path.find(item).first().map(|v| (*v).clone()),
        Side::Literal(value) => Some(value.clone()),
    };
    let (Some(left), Some(right)) = (of(left), of(right)) else { return false };
    let order = match (&left, &right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => left.as_f64().zip(right.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
    };
    match compare {
        Compare::Exists => true,
        Compare::Equal => left == right || order.is_some_and(std::cmp::Ordering::is_eq),
        Compare::Unequal => left != right && !order.is_some_and(std::cmp::Ordering::is_eq),
        Compare::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Compare::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Compare::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Compare::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_found_is_bounded() {
        let nested = (0..60).fold(json!([]), |inner, _| json!([inner]));
        for path in ["..*..*..*..*..*..*..*..*..*", &"[0,0,0]".repeat(40)] {
            assert!(JsonPath::parse(path).unwrap().find(&nested).len() <= FOUND, "{path}");
        }
    }

    #[test]
    fn paths_find_what_they_name() {
        let value = json!({"a": {"b.c": 1, "l": [{"k": "x", "n": 1}, {"k": "y", "n": 2}, {"k": "z", "n": 3}]}});
        for (path, want) in [
            (".a.b\\.c", json!([1])),
            (".a['b.c']", json!([1])),
            (".a.l[0].k", json!(["x"])),
            (".a.l[-1].k", json!(["z"])),
            (".a.l[*].k", json!(["x", "y", "z"])),
            (".a.l[1:].n", json!([2, 3])),
            (".a.l[0,2].n", json!([1, 3])),
            (".a.l[?(@.k==\"y\")].n", json!([2])),
            (".a.l[?(@.n >= 2)].k", json!(["y", "z"])),
            (".a.l[?(@.nope)].k", json!([])),
            ("..k", json!(["x", "y", "z"])),
            (".nope.x", json!([])),
        ] {
            let found = JsonPath::parse(path).unwrap();
            assert_eq!(json!(found.find(&value)), want, "{path}");
        }
        for bad in [".a[", ".a[x]", ".", ".a..", ".a[?(@.x=='[?(')]x", ".a[?(@.l[?(@.x)])]"] {
            let _parsed = JsonPath::parse(bad);
        }
        assert!(JsonPath::parse(".a[").is_err());
        assert!(JsonPath::parse(".a[x]").is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[a.\\[\\]?(@='\"*:,\\\\0-9-]{0,40}") {
            if let Ok(path) = JsonPath::parse(&text) {
                path.find(&json!({"a": [{"a": 1}]}));
            }
        }
    }
}
