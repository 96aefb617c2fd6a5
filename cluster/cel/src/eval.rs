//! Evaluation. Each step costs; an expression that costs more than its budget ends there.
//!
//! Costs are upstream's, and count what a step is given. What it makes of that, or looks through, can be far more, since values are shared
//! and a list may hold one large text a thousand times: for that an evaluation has room of its own ([`cost::room`]).

use std::collections::BTreeMap;

use crate::ast::{Bind, Expr, Fold, FoldKind, How, Node, Select};
use crate::cost;
use crate::library::call;
use crate::library::operators::shown;
use crate::value::{Key, Value};

/// What one evaluation may make and look through: bytes, or steps that take as long.
const ROOM: u64 = 16 << 20;

/// The variables of one evaluation.
#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, Value>);

impl Variables {
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Error(String),
    /// A function that does not take what it was given, which the checker could not know.
    #[error("no such overload")]
    NoOverload,
    #[error("operation cancelled: actual cost limit exceeded")]
    OverBudget,
}

pub(crate) type Evaluated = Result<Value, Failure>;

pub(crate) fn failed(what: impl Into<String>) -> Failure {
    Failure::Error(what.into())
}

pub(crate) fn evaluate(root: &Expr, variables: &Variables, budget: &mut u64) -> Evaluated {
    let mut evaluator = Evaluator { variables, scope: Vec::new(), left: *budget, room: ROOM };
    let result = evaluator.value(root);
    *budget = evaluator.left;
    // Whoever takes it looks at all of it.
    let value = result?;
    evaluator.take(cost::spread(&value, evaluator.room))?;
    Ok(value)
}

struct Evaluator<'a> {
    variables: &'a Variables,
    scope: Vec<(&'a str, Value)>,
    left: u64,
    room: u64,
}

impl<'a> Evaluator<'a> {
    fn take(&mut self, bytes: u64) -> Result<(), Failure> {
        self.room = self.room.saturating_sub(bytes);
        if self.room == 0 { Err(Failure::OverBudget) } else { Ok(()) }
    }

    fn pay(&mut self, cost: u64) -> Result<(), Failure> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Failure::OverBudget)
            }
        }
    }

    fn value(&mut self, expr: &'a Expr) -> Evaluated {
        match &expr.node {
            Node::Literal(value) => Ok(value.clone()),
            Node::Ident(name) => {
                self.pay(1)?;
                self.ident(name)
            }
            Node::Select(select) => self.select(select),
            Node::Call { function, target, args } => self.call(function, target.as_deref(), args),
            Node::List(items) => {
                self.pay(10)?;
                let mut out = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match (self.value(item)?, optional) {
                        (Value::Optional(inner), true) => out.extend(inner.map(|v| (*v).clone())),
                        (value, _) => out.push(value),
                    }
                }
                Ok(out.into())
            }
            Node::Map(entries) => self.map(entries),
            Node::Fold(fold) => self.fold(fold),
            Node::Bind(bind) => self.bind(bind),
        }
    }

    fn ident(&self, name: &str) -> Evaluated {
        let scoped = self.scope.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let found = scoped.or_else(|| self.variables.0.get(name).cloned());
        // What is no variable passed the checker as a type.
        Ok(found.unwrap_or_else(|| Value::Type(name.into())))
    }

    fn map(&mut self, entries: &'a [(Expr, Expr, bool)]) -> Evaluated {
        self.pay(30)?;
        let mut out = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.value(key)?;
            let key = key.key().ok_or_else(|| failed(format!("unsupported key type: {}", key.type_name())))?;
            let value = match (self.value(value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => (*inner).clone(),
                (value, _) => value,
            };
            if out.insert(key, value).is_some() {
                return Err(failed("Failed with repeated key"));
            }
        }
        Ok(out.into())
    }

    fn select(&mut self, select: &'a Select) -> Evaluated {
        let of = self.value(&select.of)?;
        self.pay(1)?;
        let (of, chained) = match of {
            Value::Optional(None) if select.how == How::Test => return Ok(Value::Bool(false)),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        if let Value::Asking(asking) = &of {
            return asking.field(&select.field).ok_or(Failure::NoOverload);
        }
        let Value::Map(map) = &of else { return Err(Failure::NoOverload) };
        let found = map.get(&Key::String(select.field.as_str().into())).cloned();
        match select.how {
            How::Test => Ok(found.is_some().into()),
            How::Optional => Ok(Value::optional(found)),
            How::Plain if chained => Ok(Value::optional(found)),
            How::Plain => found.ok_or_else(|| failed(format!("no such key: {}", select.field))),
        }
    }

    fn call(&mut self, function: &'a str, target: Option<&'a Expr>, args: &'a [Expr]) -> Evaluated {
        match (function, args) {
            // The type is the checker's business.
            ("@new", [_, fields]) => return self.value(fields),
            ("_&&_", [a, b]) => return self.either(a, b, false),
            ("_||_", [a, b]) => return self.either(a, b, true),
            ("_?_:_", [condition, then, other]) => {
                return match self.value(condition)? {
                    Value::Bool(true) => self.value(then),
                    Value::Bool(false) => self.value(other),
                    _ => Err(Failure::NoOverload),
                };
            }
            ("or" | "orValue", [other]) if target.is_some() => {
                if let Some(Value::Optional(found)) = target.map(|target| self.value(target)).transpose()? {
                    self.pay(1)?;
                    return match (found, function) {
                        (Some(found), "or") => Ok(Value::Optional(Some(found))),
                        (Some(found), _) => Ok((*found).clone()),
                        (None, _) => self.value(other),
                    };
                }
                return Err(Failure::NoOverload);
            }
            _ => {}
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in target.into_iter().chain(args) {
            values.push(self.value(arg)?);
        }
        self.take(cost::room(function, &values, self.room))?;
        self.pay(cost::of_call(function, &values))?;
        call::call(function, &values)
    }

    /// `&&` and `||`: one side that decides is enough, even where the other fails.
    fn either(&mut self, a: &'a Expr, b: &'a Expr, decides: bool) -> Evaluated {
        let first = self.value(a);
        match first {
            Ok(Value::Bool(found)) if found == decides => return Ok(found.into()),
            Err(Failure::OverBudget) => return first,
            Ok(_) | Err(_) => {}
        }
        self.pay(1)?;
        match (first, self.value(b)) {
            (_, Ok(Value::Bool(found))) if found == decides => Ok(found.into()),
            (_, Err(Failure::OverBudget)) => Err(Failure::OverBudget),
            (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => Ok((!decides).into()),
            (Ok(_), Ok(_)) => Err(Failure::NoOverload),
        }
    }

    fn bind(&mut self, bind: &'a Bind) -> Evaluated {
        let value = self.value(&bind.value)?;
        self.scope.push((&bind.variable, value));
        let result = self.value(&bind.body);
        self.scope.pop();
        result
    }

    fn fold(&mut self, fold: &'a Fold) -> Evaluated {
        let range = self.value(&fold.range)?;
        let elements: Box<dyn Iterator<Item = (Value, Value)>> = match &range {
            Value::List(items) => match fold.second {
                None => Box::new(items.iter().map(|item| (item.clone(), Value::Null))),
                Some(_) => Box::new(items.iter().enumerate().map(|(at, item)| (Value::from(at), item.clone()))),
            },
            Value::Map(map) => Box::new(map.iter().map(|(key, value)| (of_key(key), value.clone()))),
            _ => return Err(Failure::NoOverload),
        };
        let mut walk = Walk { count: 0, failure: None, list: Vec::new(), map: BTreeMap::new() };
        for (first, second) in elements {
            self.pay(2)?;
            let depth = self.scope.len();
            self.scope.push((&fold.variable, first.clone()));
            self.scope.extend(fold.second.as_deref().map(|name| (name, second)));
            let step = self.step(fold, first, &mut walk);
            self.scope.truncate(depth);
            if let Some(decided) = step? {
                return Ok(decided.into());
            }
        }
        if let Some(failure) = walk.failure {
            return Err(failure);
        }
        Ok(match fold.kind {
            FoldKind::All => true.into(),
            FoldKind::Exists => false.into(),
            FoldKind::ExistsOne => (walk.count == 1).into(),
            FoldKind::Collect => walk.list.into(),
            FoldKind::CollectMap | FoldKind::CollectEntries => walk.map.into(),
        })
    }

    /// One element; gives the answer where this one decides it.
    fn step(&mut self, fold: &'a Fold, first: Value, walk: &mut Walk) -> Result<Option<bool>, Failure> {
        let holds = match &fold.filter {
            None => true,
            Some(filter) => match self.value(filter) {
                Ok(Value::Bool(holds)) => holds,
                Ok(_) => return Err(Failure::NoOverload),
                // As `&&` and `||` do: a later element may decide.
                Err(failure @ (Failure::Error(_) | Failure::NoOverload))
                    if matches!(fold.kind, FoldKind::All | FoldKind::Exists) =>
                {
                    walk.failure.get_or_insert(failure);
                    return Ok(None);
                }
                Err(failure) => return Err(failure),
            },
        };
        match (fold.kind, holds) {
            (FoldKind::All, false) => return Ok(Some(false)),
            (FoldKind::Exists, true) => return Ok(Some(true)),
            (FoldKind::ExistsOne, true) => walk.count += 1,
            (FoldKind::Collect, true) => {
                let value = fold.transform.as_ref().map(|t| self.value(t)).transpose()?.unwrap_or(first);
                walk.list.push(value);
            }
            (FoldKind::CollectMap, true) => {
                let key = first.key().ok_or(Failure::NoOverload)?;
                let value = fold.transform.as_ref().map(|t| self.value(t)).transpose()?.unwrap_or(first);
                walk.map.insert(key, value);
            }
            (FoldKind::CollectEntries, true) => {
                let Some(Value::Map(made)) = fold.transform.as_ref().map(|t| self.value(t)).transpose()? else {
                    return Err(Failure::NoOverload);
                };
                for (key, value) in made.iter() {
                    if walk.map.insert(key.clone(), value.clone()).is_some() {
                        return Err(failed(format!("insert failed: key {} already exists", shown(&of_key(key)))));
                    }
                }
            }
            (FoldKind::All, true) | (_, false) => {}
        }
        Ok(None)
    }
}

/// What a fold has gathered.
struct Walk {
    count: usize,
    failure: Option<Failure>,
    list: Vec<Value>,
    map: BTreeMap<Key, Value>,
}

pub(crate) fn of_key(key: &Key) -> Value {
    match key {
        Key::Bool(flag) => Value::Bool(*flag),
        Key::Int(n) => {
            i64::try_from(*n).map_or_else(|_| Value::Uint(u64::try_from(*n).unwrap_or(u64::MAX)), Value::Int)
        }
        Key::String(text) => Value::String(text.clone()),
    }
}
