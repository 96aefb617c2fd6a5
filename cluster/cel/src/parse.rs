//! From tokens to the tree; macros become folds on the way. Depth is bounded, so that no text can exhaust the stack.

use crate::ast::{Bind, Expr, Fold, FoldKind, HELD, How, Node, SORTED, Select};
use crate::lex::{Spot, Token, lex};
use crate::library::overloads;
use crate::source::Wrong;
use crate::value::Value;

/// Deeper than anyone writes, and shallow enough for the stack of a thread (upstream, whose stacks grow, has 250).
const DEPTH: usize = 120;
/// Upstream's limit, too.
const LONGEST: usize = 100_000;

const EXPECTING: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Operators from the weakest to the strongest: sign, function.
const BINARY: [&[(&str, &str)]; 5] = [
    &[("||", "_||_")],
    &[("&&", "_&&_")],
    &[("==", "_==_"), ("!=", "_!=_"), ("<=", "_<=_"), (">=", "_>=_"), ("<", "_<_"), (">", "_>_"), ("in", "@in")],
    &[("+", "_+_"), ("-", "_-_")],
    &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
];

pub(crate) fn parse(text: &str) -> Result<Expr, Vec<Wrong>> {
    if text.len() > LONGEST {
        return Err(vec![Wrong::new(
            0,
            format!("expression code point size exceeds limit: size: {}, limit {LONGEST}", text.len()),
        )]);
    }
    let spots = lex(text).map_err(|wrong| vec![wrong])?;
    let mut parser = Parser { spots, next: 0, depth: 0 };
    let parsed = parser.expression().and_then(|expr| parser.end().map(|()| expr));
    parsed.map_err(|wrong| vec![wrong])
}

struct Parser {
    spots: Vec<Spot>,
    next: usize,
    depth: usize,
}

type Parsed<T = Expr> = Result<T, Wrong>;

impl Parser {
    fn spot(&self) -> Spot {
        self.spots.get(self.next).or(self.spots.last()).cloned().unwrap_or(Spot {
            token: Token::End,
            at: 0,
            text: String::new(),
        })
    }

    fn sees(&self, sign: &str) -> bool {
        matches!(self.spots.get(self.next), Some(Spot { token: Token::Sign(s), .. }) if *s == sign)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let sees = self.sees(sign);
        self.next += usize::from(sees);
        sees
    }

    fn needs(&mut self, sign: &str) -> Parsed<()> {
        if self.takes(sign) {
            return Ok(());
        }
        let spot = self.spot();
        let what = if spot.token == Token::End {
            format!("Syntax error: missing '{sign}' at '<EOF>'")
        } else {
            format!("Syntax error: mismatched input '{}' expecting '{sign}'", spot.text)
        };
        Err(Wrong::new(spot.at, what))
    }

    fn end(&mut self) -> Parsed<()> {
        let spot = self.spot();
        if spot.token == Token::End {
            return Ok(());
        }
        let last = self.spots.len() == self.next + 2;
        let how = if last { "extraneous" } else { "mismatched" };
        Err(Wrong::new(spot.at, format!("Syntax error: {how} input '{}' expecting <EOF>", spot.text)))
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Wrong::new(self.spot().at, format!("expression recursion limit exceeded: {DEPTH}")));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn expression(&mut self) -> Parsed {
        self.deeper(|parser| {
            let condition = parser.binary(0)?;
            let at = parser.spot().at;
            if !parser.takes("?") {
                return Ok(condition);
            }
            let then = parser.binary(0)?;
            parser.needs(":")?;
            let other = parser.expression()?;
            Ok(Expr::call(at, "_?_:_", vec![condition, then, other]))
        })
    }

    /// Operators of this level and stronger ones.
    fn binary(&mut self, level: usize) -> Parsed {
        let mut left = self.unary()?;
        while let Some((strength, sign, function)) = self.operator().filter(|(strength, ..)| *strength >= level) {
            let at = self.spot().at;
            if ["&&", "||"].contains(&sign) {
                left = self.chain(left, strength, sign, function)?;
                continue;
            }
            self.takes(sign);
            let right = self.deeper(|parser| parser.binary(strength + 1))?;
            left = self.bounded(Expr::call(at, function, vec![left, right]))?;
        }
        Ok(left)
    }

    /// A chain of one logical operator, whose order of evaluation is free: as flat a tree as can be.
    fn chain(&mut self, first: Expr, strength: usize, sign: &str, function: &str) -> Parsed {
        let (mut terms, mut places) = (vec![first], Vec::new());
        loop {
            let at = self.spot().at;
            if !self.takes(sign) {
                break;
            }
            places.push(at);
            terms.push(self.deeper(|parser| parser.binary(strength + 1))?);
        }
        let balanced = balance(terms, &places, function);
        self.bounded(balanced.ok_or_else(|| Wrong::new(self.spot().at, "Syntax error: an operator without a term"))?)
    }

    fn operator(&self) -> Option<(usize, &'static str, &'static str)> {
        let of = |(level, operators): (usize, &&'static [(&'static str, &'static str)])| {
            operators.iter().find(|(sign, _)| self.sees(sign)).map(|(sign, function)| (level, *sign, *function))
        };
        BINARY.iter().enumerate().find_map(of)
    }

    /// A chain leans to the left, and so is as deep as it is long.
    fn bounded(&self, expr: Expr) -> Parsed {
        if expr.depth > DEPTH {
            return Err(Wrong::new(self.spot().at, format!("expression recursion limit exceeded: {DEPTH}")));
        }
        Ok(expr)
    }

    fn unary(&mut self) -> Parsed {
        let spot = self.spot();
        for (sign, function) in [("!", "!_"), ("-", "-_")] {
            if self.takes(sign) {
                let negative = match (sign, self.spot().token) {
                    ("-", Token::Int(n)) => Some(Value::Int(-n)),
                    ("-", Token::IntMin) => Some(Value::Int(i64::MIN)),
                    ("-", Token::Double(n)) => Some(Value::Double(-n)),
                    _ => None,
                };
                if let Some(value) = negative {
                    self.next += 1;
                    return self.members(Expr::new(spot.at, Node::Literal(value)));
                }
                let inner = self.deeper(Self::unary)?;
                return Ok(Expr::call(spot.at, function, vec![inner]));
            }
        }
        let first = self.primary()?;
        self.members(first)
    }

    fn primary(&mut self) -> Parsed {
        let spot = self.spot();
        let literal = |value| Ok(Expr::new(spot.at, Node::Literal(value)));
        self.next += 1;
        match &spot.token {
            Token::Int(n) => literal(Value::Int(*n)),
            Token::IntMin => Err(Wrong::new(spot.at, "invalid int literal")),
            Token::Uint(n) => literal(Value::Uint(*n)),
            Token::Double(n) => literal(Value::Double(*n)),
            Token::Text(text) => literal(Value::from(text.as_str())),
            Token::Bytes(bytes) => literal(Value::Bytes(bytes.as_slice().into())),
            Token::Sign("true") => literal(Value::Bool(true)),
            Token::Sign("false") => literal(Value::Bool(false)),
            Token::Sign("null") => literal(Value::Null),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.needs(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.list(spot.at),
            Token::Sign("{") => self.map(spot.at),
            // A name from the root: there are no containers, so it means the same.
            Token::Sign(".") => self.name(),
            Token::Ident(_) => {
                self.next -= 1;
                self.name()
            }
            Token::Sign(_) | Token::End => {
                self.next -= 1;
                let what = format!("Syntax error: mismatched input '{}' expecting {EXPECTING}", spot.text);
                Err(Wrong::new(spot.at, what))
            }
        }
    }

    fn name(&mut self) -> Parsed {
        let (name, at) = self.ident()?;
        let open = self.spot().at;
        if !self.takes("(") {
            return Ok(Expr::new(at, Node::Ident(name)));
        }
        let args = self.arguments()?;
        if name == "has" {
            return has(open, args);
        }
        Ok(Expr::new(open, Node::Call { function: name, target: None, args }))
    }

    fn ident(&mut self) -> Parsed<(String, usize)> {
        let spot = self.spot();
        match spot.token {
            Token::Ident(name) => {
                self.next += 1;
                Ok((name, spot.at))
            }
            // Words are no variables, but may be fields.
            Token::Sign(word @ ("in" | "true" | "false" | "null")) => {
                self.next += 1;
                Ok((word.to_owned(), spot.at))
            }
            _ => {
                let what = format!("Syntax error: mismatched input '{}' expecting IDENTIFIER", spot.text);
                Err(Wrong::new(
                    spot.at,
                    if spot.token == Token::End {
                        "Syntax error: no viable alternative at input '.'".to_owned()
                    } else {
                        what
                    },
                ))
            }
        }
    }

    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        let mut args = Vec::new();
        if self.takes(")") {
            return Ok(args);
        }
        let first = self.spot().at;
        loop {
            // The first argument may be none at all.
            let or_none = |wrong: Wrong| match wrong.at == first {
                true => Wrong::new(wrong.at, wrong.what.replace("'(', '.'", "'(', ')', '.'")),
                false => wrong,
            };
            args.push(self.expression().map_err(or_none)?);
            if !self.takes(",") {
                self.needs(")")?;
                return Ok(args);
            }
        }
    }

    fn list(&mut self, at: usize) -> Parsed {
        let mut items = Vec::new();
        while !self.takes("]") {
            let optional = self.takes("?");
            items.push((self.expression()?, optional));
            if !self.takes(",") {
                self.needs("]")?;
                break;
            }
        }
        Ok(Expr::new(at, Node::List(items)))
    }

    fn map(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while !self.takes("}") {
            let optional = self.takes("?");
            let key = self.expression()?;
            self.needs(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.takes(",") {
                self.needs("}")?;
                break;
            }
        }
        Ok(Expr::new(at, Node::Map(entries)))
    }

    /// Of an object that is made of a type.
    fn fields(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while !self.takes("}") {
            let optional = self.takes("?");
            let (name, at) = self.ident()?;
            self.needs(":")?;
            let key = Expr::new(at, Node::Literal(Value::from(name)));
            entries.push((key, self.expression()?, optional));
            if !self.takes(",") {
                self.needs("}")?;
                break;
            }
        }
        Ok(Expr::new(at, Node::Map(entries)))
    }

    fn members(&mut self, mut of: Expr) -> Parsed {
        loop {
            of = self.bounded(of)?;
            let at = self.spot().at;
            if self.takes(".") {
                let how = if self.takes("?") { How::Optional } else { How::Plain };
                let (field, _) = self.ident()?;
                let open = self.spot().at;
                if how == How::Plain && self.takes("(") {
                    let args = self.arguments()?;
                    of = member(open, of, field, args)?;
                } else {
                    of = Expr::new(at, Node::Select(Box::new(Select { of, field, how })));
                }
            } else if self.takes("[") {
                let function = if self.takes("?") { "_[?_]" } else { "_[_]" };
                let index = self.expression()?;
                self.needs("]")?;
                of = Expr::call(at, function, vec![of, index]);
            } else if self.sees("{") && matches!(of.node, Node::Ident(_) | Node::Select(_)) {
                self.takes("{");
                let fields = self.fields(at)?;
                // An object stands where its fields begin.
                of.at = at;
                of = Expr::call(at, "@new", vec![of, fields]);
            } else {
                return Ok(of);
            }
        }
    }
}

fn balance(mut terms: Vec<Expr>, places: &[usize], function: &str) -> Option<Expr> {
    if terms.len() < 2 {
        return terms.pop();
    }
    let half = terms.len() / 2;
    let right = terms.split_off(half);
    let (before, after) = places.split_at_checked(half - 1)?;
    let (at, after) = after.split_first()?;
    let sides = vec![balance(terms, before, function)?, balance(right, after, function)?];
    Some(Expr::call(*at, function, sides))
}

fn has(at: usize, args: Vec<Expr>) -> Parsed {
    match <[Expr; 1]>::try_from(args) {
        Ok([Expr { at: inner, node: Node::Select(mut select), .. }]) if select.how == How::Plain => {
            select.how = How::Test;
            Ok(Expr::new(inner, Node::Select(select)))
        }
        _ => Err(Wrong::new(at, "invalid argument to has() macro")),
    }
}

/// A call on something: a macro, or what it says.
fn member(at: usize, of: Expr, function: String, args: Vec<Expr>) -> Parsed {
    if function == "bind" && matches!(&of.node, Node::Ident(name) if name == "cel") && args.len() == 3 {
        return bind(at, of.at, args);
    }
    // A function that is called on nothing, with a dot in its name.
    if let Node::Ident(space) = &of.node
        && let qualified = format!("{space}.{function}")
        && overloads(&qualified).is_some()
    {
        return Ok(Expr::new(at, Node::Call { function: qualified, target: None, args }));
    }
    let (kind, least) = match function.as_str() {
        "all" => (FoldKind::All, 2),
        "exists" => (FoldKind::Exists, 2),
        "exists_one" | "existsOne" => (FoldKind::ExistsOne, 2),
        "map" | "filter" => (FoldKind::Collect, 2),
        "transformList" => (FoldKind::Collect, 3),
        "transformMap" => (FoldKind::CollectMap, 3),
        "transformMapEntry" => (FoldKind::CollectEntries, 3),
        "sortBy" if args.len() == 2 => return sort_by(at, of, args),
        "optMap" | "optFlatMap" if args.len() == 2 => return optional(at, of, &function, args),
        _ => return Ok(Expr::new(at, Node::Call { function, target: Some(Box::new(of)), args })),
    };
    let most = match function.as_str() {
        "filter" => 2,
        "transformList" | "transformMap" | "transformMapEntry" => 4,
        _ => 3,
    };
    if !(least..=most).contains(&args.len()) {
        return Ok(Expr::new(at, Node::Call { function, target: Some(Box::new(of)), args }));
    }
    let pairs = match function.as_str() {
        "map" | "filter" => false,
        "transformList" | "transformMap" | "transformMapEntry" => true,
        _ => args.len() == 3,
    };
    let unnamed = match function.as_str() {
        "map" | "filter" => "argument is not an identifier",
        _ => "argument must be a simple name",
    };
    let mut args = args.into_iter();
    let mut variable = || match args.next().map(|arg| (arg.at, arg.node)) {
        Some((at, Node::Ident(name))) => Ok((name, at)),
        Some((at, _)) => Err(Wrong::new(at, unnamed)),
        None => Err(Wrong::new(at, unnamed)),
    };
    let (first, _) = variable()?;
    let second = match pairs.then(&mut variable).transpose()? {
        Some((name, at)) if name == first => return Err(Wrong::new(at, format!("duplicate variable name: {name}"))),
        other => other.map(|(name, _)| name),
    };
    let (one, two) = (args.next(), args.next());
    let (filter, transform) = match (function.as_str(), one, two) {
        ("filter" | "all" | "exists" | "exists_one" | "existsOne", filter, _) => (filter, None),
        (_, Some(filter), Some(transform)) => (Some(filter), Some(transform)),
        (_, transform, _) => (None, transform),
    };
    let fold = Fold { kind, range: of, variable: first, second, filter, transform };
    Ok(Expr::new(at, Node::Fold(Box::new(fold))))
}

fn bind(at: usize, written: usize, args: Vec<Expr>) -> Parsed {
    match <[Expr; 3]>::try_from(args) {
        Ok([Expr { node: Node::Ident(variable), .. }, value, body]) => {
            Ok(Expr::new(at, Node::Bind(Box::new(Bind { written: Some(written), variable, value, body }))))
        }
        _ => Err(Wrong::new(at, "cel.bind() variable names must be simple identifiers")),
    }
}

/// `l.sortBy(v, e)` sorts a list as the list of its keys is sorted.
fn sort_by(at: usize, of: Expr, args: Vec<Expr>) -> Parsed {
    if matches!(of.node, Node::Literal(_) | Node::Map(_)) {
        let why = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return Err(Wrong::new(of.at, why));
    }
    let input = || Expr::new(at, Node::Ident(SORTED.to_owned()));
    let keys = member(at, input(), "map".to_owned(), args)?;
    let function = "@sortByAssociatedKeys".to_owned();
    let body = Expr::new(at, Node::Call { function, target: Some(Box::new(input())), args: vec![keys] });
    Ok(Expr::new(at, Node::Bind(Box::new(Bind { written: None, variable: SORTED.to_owned(), value: of, body }))))
}

/// `o.optMap(v, e)` is `o.hasValue() ? optional.of(e with v = o.value()) : optional.none()`.
fn optional(at: usize, of: Expr, function: &str, args: Vec<Expr>) -> Parsed {
    let Ok([Expr { node: Node::Ident(variable), .. }, body]) = <[Expr; 2]>::try_from(args) else {
        return Err(Wrong::new(at, format!("{function}() variable name must be a simple identifier")));
    };
    let held = || Expr::new(at, Node::Ident(HELD.to_owned()));
    let on = |function: &str| {
        Expr::new(at, Node::Call { function: function.to_owned(), target: Some(Box::new(held())), args: Vec::new() })
    };
    let bound = Expr::new(at, Node::Bind(Box::new(Bind { written: None, variable, value: on("value"), body })));
    let some = if function == "optMap" { Expr::call(at, "optional.of", vec![bound]) } else { bound };
    let body = Expr::call(at, "_?_:_", vec![on("hasValue"), some, Expr::call(at, "optional.none", Vec::new())]);
    Ok(Expr::new(at, Node::Bind(Box::new(Bind { written: None, variable: HELD.to_owned(), value: of, body }))))
}
