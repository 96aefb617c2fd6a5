//! The Common Expression Language as Kubernetes has it: parsed, type-checked, and evaluated at a bounded cost.
//!
//! Owns the language and the libraries that Kubernetes adds to it (strings, lists, regex, URLs, addresses, quantities, versions, format,
//! sets, optionals, time). Never knows what an expression is for: rules of custom resources and admission policies bring their variables.
//! Start reading at [`Program::compile`].
//!
//! ```text
//! text ─▶ lex ─▶ parse (macros become comprehensions) ─▶ check (types, overloads) ─▶ Program
//!                                                        Program + variables ─▶ eval ─▶ Value, at a cost
//! ```
//! Source: the language definition of cel-spec; "Common Expression Language in Kubernetes" of Kubernetes' documentation.
#![forbid(unsafe_code)]

mod ast;
pub mod authorizer;
mod check;
mod cost;
mod estimate;
mod eval;
mod lex;
mod library;
pub mod names;
mod parse;
mod source;
pub mod types;
pub mod value;

use std::collections::BTreeMap;

pub use estimate::Sizes;
pub use eval::{Failure, Variables};
pub use types::Type;
pub use value::Value;

/// The variables that an expression may name, by type.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub(crate) variables: BTreeMap<String, Type>,
    pub(crate) binds: bool,
}

impl Environment {
    pub fn with(mut self, name: &str, of: Type) -> Self {
        self.variables.insert(name.to_owned(), of);
        self
    }

    /// Expressions may have variables of their own, by `cel.bind`.
    pub fn with_bindings(mut self) -> Self {
        self.binds = true;
        self
    }
}

/// What is wrong with an expression, as upstream's compiler prints it: a line for each, and below it the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(pub String);

/// An expression that is known to be well-typed.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) root: ast::Expr,
    /// Of each expression, in the order in which they are walked: the first is that of all.
    types: Box<[Type]>,
}

impl Program {
    pub fn compile(text: &str, environment: &Environment) -> Result<Self, CompileError> {
        let root = parse::parse(text).map_err(|errors| CompileError(source::render(text, errors)))?;
        let types = check::check(&root, environment).map_err(|errors| CompileError(source::render(text, errors)))?;
        Ok(Self { root, types })
    }

    /// The type of what it evaluates to.
    pub fn result(&self) -> &Type {
        self.types.first().unwrap_or(&Type::Dyn)
    }

    /// The first object that is written under another type's name than its place asks for, and that name: below `Object.spec` stands
    /// `Object.spec.selector`, whatever lists and maps are between.
    pub fn misnamed(&self) -> Option<(String, String)> {
        self.root.misnamed(None)
    }

    /// Whether the expression names a variable.
    pub fn names(&self, variable: &str) -> bool {
        self.root.names(variable)
    }

    /// What it evaluates to; `budget` is what it may cost, and is reduced by what it did.
    pub fn evaluate(&self, variables: &Variables, budget: &mut u64) -> Result<Value, Failure> {
        eval::evaluate(&self.root, variables, budget)
    }

    /// What an evaluation costs at most, given how large the variables can be.
    pub fn cost(&self, sizes: &BTreeMap<String, Sizes>) -> u64 {
        estimate::estimate(&self.root, &self.types, sizes)
    }
}

#[cfg(test)]
mod tests;
