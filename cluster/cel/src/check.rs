//! Types of expressions, and the errors that cel-go's checker tells.

use std::collections::BTreeMap;

use crate::Environment;
use crate::ast::{Expr, Fold, FoldKind, How, Node, Select};
use crate::authorizer::{AUTHORIZER, OF_REQUEST, RESOURCE_CHECK};
use crate::library::overloads;
use crate::library::strings::regex;
use crate::library::time::parse_duration;
use crate::source::Wrong;
use crate::types::{Binding, Type, fits, join};
use crate::value::Value;

/// Types are values, too, and are named by themselves.
const TYPES: [&str; 10] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

/// The type of each expression, in the order in which they are walked.
pub(crate) fn check(root: &Expr, environment: &Environment) -> Result<Box<[Type]>, Vec<Wrong>> {
    let mut checker = Checker { environment, scope: Vec::new(), mixed: false, types: Vec::new(), errors: Vec::new() };
    checker.infer(root);
    let types = checker.types.into_iter().map(Type::settled);
    if checker.errors.is_empty() { Ok(types.collect()) } else { Err(checker.errors) }
}

struct Checker<'a> {
    environment: &'a Environment,
    /// Variables of folds and binds, the innermost last.
    scope: Vec<(&'a str, Type)>,
    /// In what `format` prints, where values of several types may stand in one list.
    mixed: bool,
    types: Vec<Type>,
    errors: Vec<Wrong>,
}

impl<'a> Checker<'a> {
    /// The type; of what is wrong, one that fits anywhere, so that it is told once.
    fn infer(&mut self, expr: &'a Expr) -> Type {
        let place = self.types.len();
        self.types.push(Type::Dyn);
        let of = self.inferred(expr);
        if let Some(known) = self.types.get_mut(place) {
            *known = of.clone();
        }
        of
    }

    fn inferred(&mut self, expr: &'a Expr) -> Type {
        match &expr.node {
            Node::Literal(value) => literal(value),
            Node::Ident(name) => self.ident(name, expr.at),
            Node::Select(select) => self.select(select, expr.at),
            Node::Call { function, target, args } => self.call(function, target.as_deref(), args, expr.at),
            Node::List(items) => {
                let mut of = None;
                for (item, optional) in items {
                    let found = self.infer(item);
                    let found = if *optional { self.unwrapped(found, item.at) } else { found };
                    of = Some(self.alike(of, found, item.at));
                }
                Type::list(of.unwrap_or(Type::Open))
            }
            Node::Map(entries) => {
                let (mut of_keys, mut of_values) = (None, None);
                for (key, value, optional) in entries {
                    let found = self.infer(key);
                    of_keys = Some(self.alike(of_keys, found, key.at));
                    let found = self.infer(value);
                    let found = if *optional { self.unwrapped(found, value.at) } else { found };
                    of_values = Some(self.alike(of_values, found, value.at));
                }
                Type::map(of_keys.unwrap_or(Type::Open), of_values.unwrap_or(Type::Open))
            }
            Node::Fold(fold) => self.fold(fold, expr.at),
            Node::Bind(bind) => {
                if let Some(at) = bind.written.filter(|_| !self.environment.binds) {
                    self.wrong(at, "undeclared reference to 'cel' (in container '')".to_owned());
                    return self.wrong(expr.at, "undeclared reference to 'bind' (in container '')".to_owned());
                }
                let value = self.infer(&bind.value);
                self.within(vec![(&bind.variable, value)], |checker| checker.infer(&bind.body))
            }
        }
    }

    fn wrong(&mut self, at: usize, what: String) -> Type {
        self.errors.push(Wrong::new(at, what));
        Type::Dyn
    }

    fn within<T>(&mut self, variables: Vec<(&'a str, Type)>, check: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.scope.len();
        self.scope.extend(variables);
        let result = check(self);
        self.scope.truncate(before);
        result
    }

    /// What `?element` puts in.
    fn unwrapped(&mut self, found: Type, at: usize) -> Type {
        match found {
            Type::Optional(of) => (*of).clone(),
            Type::Dyn | Type::Open => Type::Dyn,
            other => self.wrong(at, format!("expected type 'optional_type({other})' but found '{other}'")),
        }
    }

    /// The type of elements so far and one more: literals hold values of one type, unless they are made `dyn`.
    fn alike(&mut self, before: Option<Type>, found: Type, at: usize) -> Type {
        match before {
            Some(before) if self.mixed || fits(&before, &found) || fits(&found, &before) => join(&before, &found),
            Some(before) => self.wrong(at, format!("expected type '{before}' but found '{found}'")),
            None => found,
        }
    }

    fn ident(&mut self, name: &str, at: usize) -> Type {
        if let Some((_, of)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return of.clone();
        }
        match self.environment.variables.get(name) {
            Some(of) => of.clone(),
            None if TYPES.contains(&name) => Type::Type,
            None => self.wrong(at, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    fn select(&mut self, select: &'a Select, at: usize) -> Type {
        let of = self.infer(&select.of);
        let found = self.field(&of, &select.field, at);
        match select.how {
            How::Test => Type::Bool,
            How::Optional if !matches!(found, Type::Optional(_)) => Type::optional(found),
            How::Plain | How::Optional => found,
        }
    }

    fn field(&mut self, of: &Type, field: &str, at: usize) -> Type {
        match of {
            Type::Dyn | Type::Open => Type::Dyn,
            Type::Map(_, value) => (**value).clone(),
            Type::Object(object) => match object.fields.get(field) {
                Some(found) => found.clone(),
                None => self.wrong(at, format!("undefined field '{field}'")),
            },
            Type::Optional(inner) => match self.field(inner, field, at) {
                found @ Type::Optional(_) => found,
                found => Type::optional(found),
            },
            of if *of == AUTHORIZER && field == OF_REQUEST => RESOURCE_CHECK,
            other => self.wrong(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn call(&mut self, function: &str, target: Option<&'a Expr>, args: &'a [Expr], at: usize) -> Type {
        let mixed = std::mem::replace(&mut self.mixed, ["format", "@new"].contains(&function));
        let types: Vec<Type> = target.into_iter().chain(args).map(|arg| self.infer(arg)).collect();
        self.mixed = mixed;
        if let ("@new", Some(of)) = (function, args.first()) {
            return Type::object(&of.path(), BTreeMap::new());
        }
        let Some(known) = overloads(function) else {
            return self.wrong(at, format!("undeclared reference to '{function}' (in container '')"));
        };
        let mut results: Vec<Type> = Vec::new();
        for overload in known.iter().filter(|o| o.member == target.is_some() && o.args.len() == types.len()) {
            let mut binding = Binding::default();
            if overload.args.iter().zip(&types).all(|(wanted, found)| binding.accept(wanted, found)) {
                let result = binding.apply(&overload.result);
                if !results.contains(&result) {
                    results.push(result);
                }
            }
        }
        self.literals(function, args);
        match results.as_slice() {
            [] => {
                let shown = |types: &[Type]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let applied = match (target, types.split_first()) {
                    (Some(_), Some((receiver, args))) => format!("{receiver}.({})", shown(args)),
                    _ => format!("({})", shown(&types)),
                };
                self.wrong(at, format!("found no matching overload for '{function}' applied to '{applied}'"))
            }
            [one] => one.clone(),
            // Which one it is shows when it is evaluated.
            _ => Type::Dyn,
        }
    }

    /// What is written out is read at once.
    fn literals(&mut self, function: &str, args: &[Expr]) {
        let Some((text, at)) = args.last().and_then(|arg| Some((arg.text()?, arg.at))) else { return };
        let fine = match (function, args.len()) {
            ("duration", 1) => parse_duration(text).is_some(),
            ("timestamp", 1) => text.parse::<jiff::Timestamp>().is_ok(),
            ("matches", _) => regex(text).is_ok(),
            _ => true,
        };
        if !fine {
            self.wrong(at, format!("invalid {function} argument"));
        }
    }

    fn fold(&mut self, fold: &'a Fold, at: usize) -> Type {
        let range = self.infer(&fold.range);
        let (first, second) = match (&range, &fold.second) {
            (Type::List(of), None) => ((**of).clone(), Type::Dyn),
            (Type::List(of), Some(_)) => (Type::Int, (**of).clone()),
            (Type::Map(key, value), _) => ((**key).clone(), (**value).clone()),
            (Type::Dyn | Type::Open, _) => (Type::Dyn, Type::Dyn),
            (other, _) => {
                let what = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.wrong(fold.range.at, what), Type::Dyn)
            }
        };
        let key = first.clone();
        let mut variables = vec![(fold.variable.as_str(), first.clone())];
        variables.extend(fold.second.as_deref().map(|name| (name, second)));
        let (filter, transform) = self.within(variables, |checker| {
            (fold.filter.as_ref().map(|f| (checker.infer(f), f.at)), fold.transform.as_ref().map(|t| checker.infer(t)))
        });
        if let Some((found, at_filter)) = filter.filter(|(found, _)| !fits(&Type::Bool, found)) {
            let operator = match fold.kind {
                FoldKind::All => "_&&_",
                FoldKind::Exists => "_||_",
                FoldKind::ExistsOne | FoldKind::Collect | FoldKind::CollectMap | FoldKind::CollectEntries => "_?_:_",
            };
            let what = format!("found no matching overload for '{operator}' applied to '(bool, {found})'");
            return self.wrong(if fold.kind == FoldKind::Collect { at } else { at_filter }, what);
        }
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Type::Bool,
            FoldKind::Collect => Type::list(transform.unwrap_or(first)),
            FoldKind::CollectEntries => match transform.unwrap_or(Type::Dyn) {
                made @ (Type::Map(..) | Type::Dyn | Type::Open) => made,
                other => {
                    let applied = format!("(map(dyn, dyn), {other})");
                    self.wrong(at, format!("found no matching overload for 'cel.@mapInsert' applied to '{applied}'"))
                }
            },
            FoldKind::CollectMap => {
                Type::map(if matches!(range, Type::List(_)) { Type::Int } else { key }, transform.unwrap_or(Type::Dyn))
            }
        }
    }
}

fn literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Dyn,
    }
}
