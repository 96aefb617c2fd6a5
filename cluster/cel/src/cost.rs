//! What evaluation costs: each step something, and more where a function has to look at all of a text or list.
//!
//! An estimate takes for each variable the largest it can be, as its schema says.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Expr, FoldKind, Node};
use crate::value::Value;

/// How large a value can be, and what it holds.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    /// Characters, elements or entries.
    pub most: u64,
    /// Of each element or entry.
    pub element: Option<Arc<Sizes>>,
    pub fields: BTreeMap<String, Sizes>,
}

impl Sizes {
    fn of(most: u64) -> Self {
        Self { most, ..Self::default() }
    }
}

/// Texts cost a tenth for each character that is looked at.
fn tenth(size: u64) -> u64 {
    size.div_ceil(10)
}

/// Of a call, by the sizes of its arguments.
pub(crate) fn of_call(function: &str, sizes: &[u64]) -> u64 {
    let size = |at: usize| sizes.get(at).copied().unwrap_or(0);
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

/// The most that an evaluation can cost.
pub(crate) fn estimate(root: &Expr, sizes: &BTreeMap<String, Sizes>) -> u64 {
    let mut estimator = Estimator { sizes, scope: Vec::new() };
    estimator.walk(root).0
}

struct Estimator<'a> {
    sizes: &'a BTreeMap<String, Sizes>,
    scope: Vec<(&'a str, Sizes)>,
}

impl<'a> Estimator<'a> {
    /// Cost, and the size of what comes out.
    fn walk(&mut self, expr: &'a Expr) -> (u64, Sizes) {
        match &expr.node {
            Node::Literal(value @ (Value::String(_) | Value::Bytes(_))) => (0, Sizes::of(value.size())),
            Node::Literal(_) => (0, Sizes::of(1)),
            Node::Ident(name) => {
                let scoped = self.scope.iter().rev().find(|(known, _)| known == name).map(|(_, sizes)| sizes.clone());
                (1, scoped.or_else(|| self.sizes.get(name).cloned()).unwrap_or(Sizes::of(1)))
            }
            Node::Select(select) => {
                let (cost, of) = self.walk(&select.of);
                let inner = of.fields.get(&select.field).cloned().or_else(|| of.element.as_deref().cloned());
                (cost.saturating_add(1), inner.unwrap_or(Sizes::of(1)))
            }
            Node::Call { function, target, args } => {
                let walked: Vec<_> = target.iter().map(|t| &**t).chain(args).map(|arg| self.walk(arg)).collect();
                self.call(function, &walked)
            }
            Node::List(items) => {
                let walked: Vec<_> = items.iter().map(|(item, _)| self.walk(item)).collect();
                let cost = walked.iter().fold(10_u64, |sum, (cost, _)| sum.saturating_add(*cost));
                let element = walked.into_iter().map(|(_, sizes)| sizes).max_by_key(|sizes| sizes.most).map(Arc::new);
                (cost, Sizes { most: items.len() as u64, element, ..Sizes::default() })
            }
            Node::Map(entries) => {
                let mut cost = 30_u64;
                for (key, value, _) in entries {
                    cost = cost.saturating_add(self.walk(key).0).saturating_add(self.walk(value).0);
                }
                (cost, Sizes::of(entries.len() as u64))
            }
            Node::Bind(bind) => {
                let (cost, value) = self.walk(&bind.value);
                self.scope.push((&bind.variable, value));
                let (more, result) = self.walk(&bind.body);
                self.scope.pop();
                (cost.saturating_add(more), result)
            }
            Node::Fold(fold) => {
                let (cost, range) = self.walk(&fold.range);
                let element = range.element.as_deref().cloned().unwrap_or(Sizes::of(1));
                let before = self.scope.len();
                self.scope.push((&fold.variable, if fold.second.is_some() { Sizes::of(1) } else { element.clone() }));
                self.scope.extend(fold.second.as_deref().map(|name| (name, element.clone())));
                let filter = fold.filter.as_ref().map_or(0, |filter| self.walk(filter).0);
                let (transform, made) = fold.transform.as_ref().map_or((0, element), |transform| self.walk(transform));
                self.scope.truncate(before);
                let step = filter.saturating_add(transform).saturating_add(3);
                let result = match fold.kind {
                    FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Sizes::of(1),
                    FoldKind::Collect | FoldKind::CollectMap => {
                        Sizes { most: range.most, element: Some(Arc::new(made)), ..Sizes::default() }
                    }
                };
                (cost.saturating_add(range.most.saturating_mul(step)), result)
            }
        }
    }

    fn call(&self, function: &str, walked: &[(u64, Sizes)]) -> (u64, Sizes) {
        let sum = |range: &[(u64, Sizes)]| range.iter().fold(0_u64, |sum, (cost, _)| sum.saturating_add(*cost));
        let sizes: Vec<u64> = walked.iter().map(|(_, sizes)| sizes.most).collect();
        let first = || walked.first().map(|(_, sizes)| sizes.clone()).unwrap_or_default();
        if function == "_?_:_" {
            let branches: Vec<&(u64, Sizes)> = walked.iter().skip(1).collect();
            let most = branches.iter().map(|(cost, _)| *cost).max().unwrap_or(0);
            let result = branches.into_iter().map(|(_, sizes)| sizes.clone()).max_by_key(|sizes| sizes.most);
            return (sum(walked.get(..1).unwrap_or_default()).saturating_add(most), result.unwrap_or_default());
        }
        let cost = sum(walked).saturating_add(of_call(function, &sizes));
        let total = sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
        let result = match function {
            "_[_]" | "_[?_]" => first().element.as_deref().cloned().unwrap_or(Sizes::of(1)),
            "_+_" => Sizes { most: total, ..first() },
            "value" | "orValue" | "or" | "optional.of" | "dyn" => first(),
            "split" | "findAll" => {
                let text = first().most;
                Sizes { most: text.saturating_add(1), element: Some(Arc::new(Sizes::of(text))), ..Sizes::default() }
            }
            "replace" | "format" | "join" | "substring" | "trim" | "lowerAscii" | "upperAscii" | "string" | "find"
            | "bytes" => Sizes::of(total),
            _ => Sizes::of(1),
        };
        (cost, result)
    }
}
