//! The tree of an expression. Macros are already what they stand for.

use crate::value::Value;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expr {
    /// The byte that errors point to: an operator's, a bracket's, or the first.
    pub(crate) at: usize,
    /// Levels below and with this one: what walks a tree needs stack for each.
    pub(crate) depth: usize,
    pub(crate) node: Node,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Literal(Value),
    Ident(String),
    Select(Box<Select>),
    /// Operators are functions whose names no one can write: `_+_`.
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    /// With a flag for `?element`.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    Fold(Box<Fold>),
    Bind(Box<Bind>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Select {
    pub(crate) of: Expr,
    pub(crate) field: String,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Plain,
    /// `has(a.b)`
    Test,
    /// `a.?b`
    Optional,
}

/// A walk over a list's elements or a map's keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fold {
    pub(crate) kind: FoldKind,
    pub(crate) range: Expr,
    pub(crate) variable: String,
    /// With two variables: the index or key is the first, the element or value the second.
    pub(crate) second: Option<String>,
    /// What must hold of an element.
    pub(crate) filter: Option<Expr>,
    /// What becomes of it.
    pub(crate) transform: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// `map` and `filter`: a list.
    Collect,
    /// `transformMap`: a map of the same keys.
    CollectMap,
    /// `transformMapEntry`: a map of the entries that were made.
    CollectEntries,
}

/// What `optMap` holds, and what `sortBy` sorts: names that no one can write.
pub(crate) const HELD: &str = "@optional";
pub(crate) const SORTED: &str = "@__sortBy_input__";

/// `cel.bind(variable, value, body)`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bind {
    /// Where `cel` stands, if that is how it is written.
    pub(crate) written: Option<usize>,
    pub(crate) variable: String,
    pub(crate) value: Expr,
    pub(crate) body: Expr,
}

impl Expr {
    pub(crate) fn new(at: usize, node: Node) -> Self {
        let mut expr = Self { at, depth: 0, node };
        expr.depth = 1 + expr.children().into_iter().map(|child| child.depth).max().unwrap_or(0);
        expr
    }

    pub(crate) fn call(at: usize, function: &str, args: Vec<Self>) -> Self {
        Self::new(at, Node::Call { function: function.to_owned(), target: None, args })
    }

    /// A text that is written out.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Node::Literal(Value::String(text)) = &self.node { Some(text) } else { None }
    }

    pub(crate) fn children(&self) -> Vec<&Self> {
        match &self.node {
            Node::Literal(_) | Node::Ident(_) => Vec::new(),
            Node::Select(select) => vec![&select.of],
            Node::Call { target, args, .. } => target.iter().map(|t| &**t).chain(args).collect(),
            Node::List(items) => items.iter().map(|(item, _)| item).collect(),
            Node::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
            Node::Fold(fold) => {
                [Some(&fold.range), fold.filter.as_ref(), fold.transform.as_ref()].into_iter().flatten().collect()
            }
            Node::Bind(bind) => vec![&bind.value, &bind.body],
        }
    }

    /// How a type is written: `Object.spec`.
    pub(crate) fn path(&self) -> String {
        match &self.node {
            Node::Ident(name) => name.clone(),
            Node::Select(select) => format!("{}.{}", select.of.path(), select.field),
            _ => String::new(),
        }
    }

    /// An object whose name is not the one that its place asks for, and that one. `wanted` is what this place asks for, if anything.
    pub(crate) fn misnamed(&self, wanted: Option<&str>) -> Option<(String, String)> {
        match &self.node {
            Node::Call { function, args, .. } if function == "@new" => {
                let (name, fields) = (args.first()?.path(), args.get(1)?);
                if let Some(wanted) = wanted.filter(|wanted| *wanted != name) {
                    return Some((name, wanted.to_owned()));
                }
                let Node::Map(entries) = &fields.node else { return None };
                entries.iter().find_map(|(key, value, _)| {
                    let below = key.text().filter(|_| name.starts_with("Object")).map(|key| format!("{name}.{key}"));
                    value.misnamed(below.as_deref())
                })
            }
            Node::Call { function, args, .. } if function == "_?_:_" => {
                args.iter().skip(1).find_map(|branch| branch.misnamed(wanted))
            }
            Node::List(items) => items.iter().find_map(|(item, _)| item.misnamed(wanted)),
            Node::Map(entries) => entries.iter().find_map(|(_, value, _)| value.misnamed(wanted)),
            Node::Fold(fold) => fold.transform.as_ref().and_then(|made| made.misnamed(wanted)),
            Node::Bind(bind) => bind.body.misnamed(wanted),
            Node::Literal(_) | Node::Ident(_) | Node::Select(_) | Node::Call { .. } => {
                self.children().into_iter().find_map(|child| child.misnamed(None))
            }
        }
    }

    pub(crate) fn names(&self, variable: &str) -> bool {
        matches!(&self.node, Node::Ident(name) if name == variable)
            || self.children().into_iter().any(|e| e.names(variable))
    }
}
