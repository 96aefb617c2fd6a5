//! What an evaluation can cost at most, before there is a value: for each variable the largest that it can be is taken.
//!
//! The figures are cel-go's and those of Kubernetes' libraries, for they decide which rules may be written: a rule that is estimated
//! otherwise is one that other API servers refuse, or this one. A value's size is known from where it lies below a variable (its `place`),
//! from how it was made, or from its type; where it is not known, it is without bound.

use std::collections::BTreeMap;
use std::slice::Iter;
use std::sync::Arc;

use crate::ast::{Bind, Expr, Fold, FoldKind, HELD, How, Node, Select};
use crate::types::{CIDR, FORMAT, IP, Type};
use crate::value::Value;

/// How large a value can be, and what it holds. The one under no name is what is taken for anything that is no variable.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    /// Characters, elements or entries.
    pub most: u64,
    /// Of each element or entry.
    pub element: Option<Arc<Sizes>>,
    /// Of each key.
    pub key: Option<Arc<Sizes>>,
    pub fields: BTreeMap<String, Sizes>,
    /// Of an entry that is named as a field is: `map.name`.
    pub named: Option<Arc<Sizes>>,
}

/// The least and the most.
type Range = (u64, u64);

const UNKNOWN: Range = (0, u64::MAX);
const ONE: Range = (1, 1);
const LIST: u64 = 10;
const MAP: u64 = 30;
const OBJECT: u64 = 40;
/// Of a question to the authorizer: two may be asked.
const QUESTION: u64 = 350_000;
/// Of each requirement of a selector.
const REQUIREMENT: f64 = 50.0;
/// The longest pattern of a named format, and the longest of their names.
const PATTERN: f64 = 128.0;
const FORMAT_NAME: u64 = 64;
/// The longest address in bytes.
const ADDRESS: u64 = 16;

pub(crate) fn estimate(root: &Expr, types: &[Type], sizes: &BTreeMap<String, Sizes>) -> u64 {
    Estimator { sizes, types: types.iter(), scope: Vec::new() }.walk(root).cost
}

/// What a walk tells of an expression.
#[derive(Clone)]
struct Found<'a> {
    cost: u64,
    of: &'a Type,
    size: Option<Range>,
    place: Option<&'a Sizes>,
    /// Of a list that was written out, or made: the size of its elements.
    element: Option<Range>,
}

impl Found<'_> {
    fn most(&self) -> u64 {
        self.range().1
    }

    fn range(&self) -> Range {
        self.size.unwrap_or(UNKNOWN)
    }
}

struct Estimator<'a> {
    sizes: &'a BTreeMap<String, Sizes>,
    /// Of each expression, in the order of the walk.
    types: Iter<'a, Type>,
    /// Variables of folds and binds, the innermost last, with what it costs to name one.
    scope: Vec<(&'a str, Found<'a>)>,
}

/// By a factor, rounded up.
fn times(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

/// Texts cost a tenth for each character that is looked at.
fn tenth(size: u64) -> u64 {
    times(size, 0.1)
}

fn is_text(of: &Type) -> bool {
    matches!(of, Type::String | Type::Bytes)
}

fn is_open(of: &Type) -> bool {
    matches!(of, Type::Dyn | Type::Open)
}

/// Of one size, whatever its value.
fn is_scalar(of: &Type) -> bool {
    match of {
        Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Duration | Type::Timestamp => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

fn union(a: Range, b: Range) -> Range {
    (a.0.min(b.0), a.1.max(b.1))
}

fn sum(a: Range, b: Range) -> Range {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

fn product(a: Range, b: Range) -> Range {
    (a.0.saturating_mul(b.0), a.1.saturating_mul(b.1))
}

impl<'a> Estimator<'a> {
    fn walk(&mut self, expr: &'a Expr) -> Found<'a> {
        let of = self.types.next().unwrap_or(&Type::Dyn);
        let plain = Found { cost: 0, of, size: None, place: None, element: None };
        let mut found = match &expr.node {
            Node::Literal(value) => {
                let size = if let Value::String(_) | Value::Bytes(_) = value { value.size() } else { 1 };
                Found { size: Some((size, size)), ..plain }
            }
            Node::Ident(name) => self.ident(name, plain),
            Node::Select(select) => self.select(select, plain),
            Node::Call { function, target, args } => self.call(function, target.as_deref(), args, plain),
            Node::List(items) => {
                let walked: Vec<_> = items.iter().map(|(item, _)| self.walk(item)).collect();
                let element = walked.iter().map(Found::range).reduce(union).unwrap_or_default();
                let size = items.len() as u64;
                Found { cost: total(&walked, LIST), size: Some((size, size)), element: Some(element), ..plain }
            }
            Node::Map(entries) => {
                let walked: Vec<_> =
                    entries.iter().flat_map(|(key, value, _)| [key, value]).map(|part| self.walk(part)).collect();
                let size = entries.len() as u64;
                Found { cost: total(&walked, MAP), size: Some((size, size)), ..plain }
            }
            Node::Fold(fold) => self.fold(fold, plain),
            Node::Bind(bind) => self.bind(bind, plain),
        };
        found.size = found.size.or_else(|| found.place.map(|place| (0, place.most)));
        found.size = found.size.or_else(|| is_scalar(of).then_some(ONE));
        found
    }

    /// What lies below a place. Below what is nowhere lies what is taken for all that has no name.
    fn below(&self, place: Option<&'a Sizes>, step: impl Fn(&'a Sizes) -> Option<&'a Sizes>) -> Option<&'a Sizes> {
        place.map_or_else(|| self.sizes.get(""), step)
    }

    fn ident(&self, name: &str, plain: Found<'a>) -> Found<'a> {
        if let Some((_, local)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            let placed = local.place.map(|place| (0, place.most));
            let size = placed.or_else(|| is_scalar(plain.of).then_some(ONE)).or(local.size);
            return Found { cost: local.cost, size, place: local.place, element: local.element, ..plain };
        }
        Found { cost: 1, place: self.sizes.get(name).or_else(|| self.sizes.get("")), ..plain }
    }

    fn select(&mut self, select: &'a Select, plain: Found<'a>) -> Found<'a> {
        let of = self.walk(&select.of);
        match select.how {
            // To look whether something is there costs nothing.
            How::Test => Found { cost: of.cost, ..plain },
            How::Optional => Found { cost: of.cost.saturating_add(1), ..plain },
            How::Plain => {
                let typed = matches!(of.of, Type::Map(..) | Type::Object(_) | Type::Library(_));
                let field = |place: &'a Sizes| place.fields.get(&select.field).or(place.named.as_deref());
                Found { cost: of.cost.saturating_add(typed.into()), place: self.below(of.place, field), ..plain }
            }
        }
    }

    fn bind(&mut self, bind: &'a Bind, plain: Found<'a>) -> Found<'a> {
        let value = self.walk(&bind.value);
        // What an optional value holds is written out wherever it is used.
        let written_out = bind.variable == HELD;
        let cost = if written_out { 0 } else { LIST.saturating_add(value.cost) };
        let named = if written_out { value.cost } else { 1 };
        self.scope.push((&bind.variable, Found { cost: named, ..value }));
        let body = self.walk(&bind.body);
        self.scope.pop();
        Found { cost: cost.saturating_add(body.cost), size: body.size, element: body.element, ..plain }
    }

    fn fold(&mut self, fold: &'a Fold, plain: Found<'a>) -> Found<'a> {
        let range = self.walk(&fold.range);
        let local = |place, size| Found { cost: 1, of: &Type::Dyn, size, place, element: None };
        let keys = || local(self.below(range.place, |place| place.key.as_deref()), None);
        let values = || local(self.below(range.place, |place| place.element.as_deref()), range.element);
        let is_list = matches!(range.of, Type::List(_));
        let (first, second) = match (&fold.second, is_list) {
            (None, true) => (values(), None),
            (None, false) => (keys(), None),
            (Some(name), true) => (local(None, Some(ONE)), Some((name.as_str(), values()))),
            (Some(name), false) => (keys(), Some((name.as_str(), values()))),
        };
        let before = self.scope.len();
        self.scope.push((&fold.variable, first));
        self.scope.extend(second);
        let holds = fold.filter.as_ref().map(|filter| self.walk(filter).cost);
        let made = match &fold.transform {
            Some(transform) => self.walk(transform),
            None => self.ident(&fold.variable, Found { of: &Type::Dyn, ..plain.clone() }),
        };
        self.scope.truncate(before);
        let condition = holds.unwrap_or(0);
        // What is written for each: whether to go on, the step, and what is made of all in the end.
        let (step, rest) = match fold.kind {
            FoldKind::All => (condition.saturating_add(3), 1),
            FoldKind::Exists => (condition.saturating_add(4), 1),
            FoldKind::ExistsOne => (condition.saturating_add(2), 2),
            FoldKind::Collect => (condition.saturating_add(made.cost).saturating_add(LIST + 2), LIST + 1),
            FoldKind::CollectMap => (condition.saturating_add(made.cost).saturating_add(3), MAP + 1),
            FoldKind::CollectEntries => (condition.saturating_add(made.cost).saturating_add(2), MAP + 1),
        };
        let cost = range.cost.saturating_add(range.most().saturating_mul(step)).saturating_add(rest);
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Found { cost, size: Some(ONE), ..plain },
            FoldKind::Collect => Found { cost, size: Some(range.range()), element: Some((0, made.most())), ..plain },
            FoldKind::CollectMap | FoldKind::CollectEntries => Found { cost, size: Some(range.range()), ..plain },
        }
    }

    fn call(&mut self, function: &'a str, target: Option<&'a Expr>, args: &'a [Expr], plain: Found<'a>) -> Found<'a> {
        let walked: Vec<_> = target.into_iter().chain(args).map(|arg| self.walk(arg)).collect();
        match (function, walked.as_slice()) {
            ("@new", [_, fields]) => {
                return Found { cost: fields.cost.saturating_sub(MAP).saturating_add(OBJECT), ..plain };
            }
            ("dyn", [value]) => {
                let cost = value.cost.saturating_add(1);
                return Found { cost, size: value.size, element: value.element, ..plain };
            }
            ("_?_:_", [condition, a, b]) => {
                let element = a.element.zip(b.element).map(|(a, b)| union(a, b));
                let cost = condition.cost.saturating_add(a.cost.max(b.cost));
                return Found { cost, size: Some(union(a.range(), b.range())), element, ..plain };
            }
            ("_[_]", [of, _]) if !matches!(of.of, Type::Optional(_)) => {
                let place = self.below(of.place, |place| place.element.as_deref());
                return Found { cost: total(&walked, 1), size: of.element, place, ..plain };
            }
            _ => {}
        }
        if let Some((cost, size)) = listed(function, args, &walked) {
            return Found { cost: total(&walked, cost), size: Some(size), ..plain };
        }
        let (more, size) = self.price(function, target.is_some(), &walked);
        let element = match (function, walked.as_slice()) {
            ("_+_", [a, b]) => a.element.zip(b.element).map(|(a, b)| union(a, b)),
            _ => None,
        };
        Found { cost: total(&walked, more), size, element, ..plain }
    }

    /// What a function costs beside its arguments, and the size of its result where that is known.
    fn price(&self, function: &str, member: bool, args: &[Found<'a>]) -> (u64, Option<Range>) {
        let most = |at: usize| args.get(at).map_or(u64::MAX, Found::most);
        let range = |at: usize| args.get(at).map_or(UNKNOWN, Found::range);
        let of = |at: usize| args.get(at).map_or(&Type::Dyn, |found| found.of);
        // Where a function takes texts and others, it costs what it costs of the one it is given, or the more.
        let by_text = |at: &[usize], cost: u64| match () {
            () if at.iter().any(|at| is_text(of(*at))) => cost,
            () if at.iter().all(|at| is_open(of(*at))) => cost.max(1),
            () => 1,
        };
        let doubled = |size: u64| times(size, 0.2);
        let pattern = |text: u64, pattern: u64| tenth(text.saturating_add(1)).saturating_mul(times(pattern, 0.25));
        match function {
            "_&&_" | "_||_" => (0, None),
            "_==_" if of(0) == of(1) && matches!(of(0), Type::Library(_)) => {
                (if *of(0) == FORMAT { tenth(FORMAT_NAME) } else { 1 }, None)
            }
            "_==_" | "_!=_" => (tenth(most(0).min(most(1))), None),
            "_<_" | "_<=_" | "_>_" | "_>=_" => (by_text(&[0, 1], tenth(most(0).min(most(1)))), None),
            "_+_" => {
                let both = sum(range(0), range(1));
                let sized =
                    [0, 1].iter().all(|at| is_text(of(*at)) || is_open(of(*at)) || matches!(of(*at), Type::List(_)));
                (by_text(&[0, 1], tenth(both.1)), sized.then_some(both))
            }
            "@in" => match of(1) {
                Type::Map(..) => (1, None),
                Type::List(_) => (most(1), None),
                _ => (most(1).max(1), None),
            },
            "startsWith" | "endsWith" => (tenth(most(1)), None),
            "contains" => (tenth(most(0)).saturating_mul(tenth(most(1))), None),
            "matches" if member => (pattern(most(0), most(1)), None),
            "find" | "findAll" => (pattern(most(0), most(1)), Some((0, most(0)))),
            "isSorted" | "sum" | "min" | "max" | "indexOf" | "lastIndexOf" => (self.compared(args), None),
            "url" | "jsonpatch.escapeKey" | "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                (tenth(most(0)), Some(range(0)))
            }
            "replace" => (doubled(most(0)), Some(replaced(range(0), range(1), range(2)))),
            "split" => (doubled(most(0)), Some((0, most(0)))),
            "join" => {
                let all = product(range(0), self.element(args.first()));
                let gaps = (range(0).0.saturating_sub(1), range(0).1.saturating_sub(1));
                let size = if args.len() > 1 { sum(all, product(range(1), gaps)) } else { all };
                (tenth(size.1), Some(size))
            }
            "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => (tenth(most(0)), None),
            "ip" if !member => (tenth(most(0)), None),
            "ip.isCanonical" => (doubled(most(0)), None),
            "containsIP" | "containsCIDR" => {
                let bytes = tenth(2 * ADDRESS) + if function == "containsIP" { 0 } else { tenth(ADDRESS) + 1 };
                let read = if *of(1) == IP || *of(1) == CIDR { 0 } else { tenth(most(1)) };
                (bytes.saturating_add(read), None)
            }
            "validate" => (times(tenth(most(1)), PATTERN * 0.25), None),
            "check" => (QUESTION, None),
            "fieldSelector" | "labelSelector" => {
                let length = most(1);
                let requirements = times(times(length, 0.5), REQUIREMENT);
                (LIST.saturating_add(tenth(length)).saturating_add(requirements), None)
            }
            "sets.contains" | "sets.intersects" => (product(range(0), range(1)).1.saturating_add(1), None),
            "sets.equivalent" => (times(product(range(0), range(1)).1, 2.0).saturating_add(1), None),
            "format" => (tenth(most(0)), None),
            "strings.quote" => {
                (tenth(most(0)), Some((range(0).0.saturating_add(2), most(0).saturating_mul(2).saturating_add(2))))
            }
            "bytes" if *of(0) == Type::String => (tenth(most(0)), Some((range(0).0, most(0).saturating_mul(4)))),
            "string" if *of(0) == Type::Bytes => (tenth(most(0)), Some((range(0).0 / 4, most(0)))),
            "bytes" | "string" if is_open(of(0)) => (tenth(most(0)).max(1), Some((range(0).0 / 4, most(0)))),
            _ => (1, None),
        }
    }

    /// To look at each element of a list, and at all of its texts; or at a text.
    fn compared(&self, args: &[Found<'a>]) -> u64 {
        let Some(target) = args.first() else { return 1 };
        match target.of {
            Type::List(of) if is_text(of) => {
                let element = self.element(Some(target)).1;
                target.most().saturating_mul(tenth(element).saturating_add(1))
            }
            Type::List(_) => target.most(),
            _ => tenth(target.most()),
        }
    }

    /// The size of a list's elements, as far as its place tells.
    fn element(&self, list: Option<&Found<'a>>) -> Range {
        let place = list.and_then(|list| list.place).and_then(|place| place.element.as_deref());
        place.map_or(UNKNOWN, |place| (0, place.most))
    }
}

/// What functions cost that make a list of a list, and its size.
fn listed(function: &str, args: &[Expr], walked: &[Found<'_>]) -> Option<(u64, Range)> {
    let range = |at: usize| walked.get(at).map_or(UNKNOWN, Found::range);
    let number = |at: usize, unknown: u64| match args.get(at).map(|arg| &arg.node) {
        Some(Node::Literal(Value::Int(number))) => u64::try_from(*number).unwrap_or(0),
        _ => unknown,
    };
    let exactly = |size: u64| (size, size);
    // Texts are looked at, too.
    let compared = |at: usize| match walked.get(at).map(|found| found.of) {
        Some(Type::List(of)) if is_text(of) || is_open(of) => 2.1,
        Some(Type::List(_)) => 2.0,
        _ => 2.1,
    };
    let (factor, size) = match function {
        "slice" => (1.0, exactly(number(1, range(0).1).wrapping_sub(number(0, 0)))),
        "lists.range" => (1.0, exactly(number(0, u64::MAX))),
        "reverse" => (1.0, range(0)),
        "flatten" => (number(0, if args.is_empty() { 1 } else { u64::MAX }) as f64, range(0)),
        "distinct" => (2.0, product(range(0), range(0))),
        "sort" => (compared(0), product(range(0), range(0))),
        "@sortByAssociatedKeys" => (compared(1), product(range(1), range(1))),
        _ => return None,
    };
    Some((times(size.1, factor).saturating_add(LIST + 1), size))
}

fn total(parts: &[Found<'_>], more: u64) -> u64 {
    parts.iter().fold(more, |sum, part| sum.saturating_add(part.cost))
}

/// A text in which one part takes another's place, as often as that can be.
fn replaced(text: Range, from: Range, to: Range) -> Range {
    let most = match from.0 {
        // Nothing stands between any two characters.
        0 => text.1.saturating_add(1).saturating_mul(to.1).saturating_add(text.1),
        from if to.1 <= from => text.1,
        from => text.1.div_ceil(from).saturating_mul(to.1),
    };
    let least = match from.1 {
        0 => text.0.saturating_add(1).saturating_mul(to.0).saturating_add(text.0),
        from if from <= to.0 => text.0,
        from => text.0.div_ceil(from).saturating_mul(to.0),
    };
    (least, most)
}
