//! Label and field selectors: what a list, a watch, a Service or a controller chooses objects by.
//!
//! Owns their grammar and their error texts, which are upstream's; never knows which fields a resource has.
//! Source: "Labels and Selectors" and "Field Selectors" of Kubernetes' documentation.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The text of a refused selector, as upstream words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("found '{found}', expected: {expected}")]
    Unexpected { found: String, expected: &'static str },
    /// Without the comma, as upstream has it in this one place.
    #[error("found '{0}' expected: '('")]
    NoList(String),
    #[error("unable to parse requirement: {0}")]
    Requirement(Box<SelectorError>),
    #[error("{path}: Invalid value: {value}: {why}")]
    Invalid { path: String, value: String, why: String },
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    #[error("invalid field selector: unescaped character in value: {0:?}")]
    Unescaped(char),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    /// Integer comparison; node affinity and the string form only.
    Gt,
    Lt,
}

impl Operator {
    /// As `matchExpressions` and node affinity spell it.
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: &[(&str, Operator)] = &[
            ("In", Operator::In),
            ("NotIn", Operator::NotIn),
            ("Exists", Operator::Exists),
            ("DoesNotExist", Operator::DoesNotExist),
            ("Gt", Operator::Gt),
            ("Lt", Operator::Lt),
        ];
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, operator)| *operator)
    }

    /// Whether a label's value (`None`: no such label) satisfies the operator.
    pub fn holds(self, value: Option<&str>, values: &[String]) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let compare = |order: fn(&i64, &i64) -> bool| {
            let bound = values.first().and_then(|v| number(v));
            value.and_then(number).zip(bound).is_some_and(|(v, b)| order(&v, &b))
        };
        match self {
            Self::In => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Self::NotIn => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::Gt => compare(i64::gt),
            Self::Lt => compare(i64::lt),
        }
    }
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        check_key(key)?;
        let invalid = |why: &str| SelectorError::Invalid {
            path: "values".into(),
            value: format!("[{}]", values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(",")),
            why: why.into(),
        };
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err(invalid("for 'in', 'notin' operators, values set can't be empty"));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return Err(invalid("values set must be empty for exists and does not exist"));
            }
            Operator::Gt | Operator::Lt if values.len() != 1 => {
                return Err(invalid("for 'Gt', 'Lt' operators, exactly one value is required"));
            }
            Operator::Gt | Operator::Lt if values.iter().any(|v| v.parse::<i64>().is_err()) => {
                return Err(SelectorError::Invalid {
                    path: "values[0]".into(),
                    value: values.iter().map(|v| format!("{v:?}")).collect(),
                    why: "for 'Gt', 'Lt' operators, the value must be an integer".into(),
                });
            }
            Operator::In
            | Operator::NotIn
            | Operator::Exists
            | Operator::DoesNotExist
            | Operator::Gt
            | Operator::Lt => {}
        }
        for (i, value) in values.iter().enumerate() {
            if let Some(why) = label_value_error(value) {
                let path = format!("values[{i}][{key}]");
                return Err(SelectorError::Invalid { path, value: format!("{value:?}"), why });
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(Self { key: key.to_owned(), operator, values })
    }

    pub fn matches(&self, labels: &impl Labels) -> bool {
        self.operator.holds(labels.label(&self.key), &self.values)
    }
}

/// Where a selector looks labels up.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Option<BTreeMap<String, String>> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.label(key)
    }
}

/// All requirements must hold. None at all selects everything; [`Selector::nothing`] selects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The string form: `a=b,c!=d,e in (x,y),!f,g`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser { tokens: lex(text), at: 0 }.selector()
    }

    /// A Service's or ReplicationController's map: every pair must be there. Values are taken as they are.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let equal = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        };
        Self { requirements: labels.iter().map(equal).collect(), nothing: false }
    }

    /// As upstream: no selector selects nothing, an empty one everything.
    pub fn from_label_selector(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::In, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = Operator::parse(&expression.operator)
                .filter(|operator| !matches!(operator, Operator::Gt | Operator::Lt))
                .ok_or_else(|| SelectorError::Operator(expression.operator.clone()))?;
            requirements.push(Requirement::new(
                &expression.key,
                operator,
                expression.values.clone().unwrap_or_default(),
            )?);
        }
        Ok(Self { requirements, nothing: false })
    }

    pub fn matches(&self, labels: &impl Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    Bad(String),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Bad(text) => text,
            Self::Symbol(text) => text,
        }
    }
}

/// Longest first, so that `!=` is not `!` and `=`.
const SYMBOLS: &[&str] = &["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn lex(text: &str) -> Vec<Token> {
    let special = |c: char| "=!(),><".contains(c);
    let blank = |c: char| " \t\r\n".contains(c);
    let mut rest = text.trim_start_matches(blank);
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
        let length = match symbol {
            Some(symbol) => symbol.len(),
            None => rest.find(|c| special(c) || blank(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(match symbol {
            Some(symbol) => Token::Symbol(symbol),
            None if token.is_empty() => Token::Bad(rest.to_owned()),
            None => Token::Word(token.to_owned()),
        });
        rest = after.trim_start_matches(blank);
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn peek_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Token::Symbol(s)) if *s == symbol)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn unexpected<T>(token: Option<&Token>, expected: &'static str) -> Result<T, SelectorError> {
        let found = token.map(Token::text).unwrap_or_default().to_owned();
        Err(SelectorError::Unexpected { found, expected })
    }

    fn selector(mut self) -> Result<Selector, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                None => break,
                Some(Token::Word(_) | Token::Symbol("!")) => {}
                other => return Self::unexpected(other, "!, identifier, or 'end of string'"),
            }
            requirements.push(self.requirement().map_err(|e| SelectorError::Requirement(Box::new(e)))?);
            match self.take() {
                None => break,
                Some(Token::Symbol(",")) => {
                    if !matches!(self.peek(), Some(Token::Word(_) | Token::Symbol("!"))) {
                        return Self::unexpected(self.peek(), "identifier after ','");
                    }
                }
                other => return Self::unexpected(other.as_ref(), "',' or 'end of string'"),
            }
        }
        Ok(Selector { requirements, nothing: false })
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek_symbol("!");
        if absent {
            self.at += 1;
        }
        let key = match self.take() {
            Some(Token::Word(key)) => key,
            other => return Self::unexpected(other.as_ref(), "identifier"),
        };
        check_key(&key)?;
        if absent || self.peek().is_none() || self.peek_symbol(",") {
            let operator = if absent { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement::new(&key, operator, Vec::new());
        }
        let (operator, many) = match self.take() {
            Some(Token::Symbol("=" | "==")) => (Operator::In, false),
            Some(Token::Symbol("!=")) => (Operator::NotIn, false),
            Some(Token::Symbol(">")) => (Operator::Gt, false),
            Some(Token::Symbol("<")) => (Operator::Lt, false),
            Some(Token::Word(word)) if word == "in" => (Operator::In, true),
            Some(Token::Word(word)) if word == "notin" => (Operator::NotIn, true),
            other => return Self::unexpected(other.as_ref(), "in, notin, =, ==, !=, gt, lt"),
        };
        let values = if many { self.values()? } else { vec![self.value()?] };
        Requirement::new(&key, operator, values)
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        if self.peek().is_none() || self.peek_symbol(",") {
            return Ok(String::new());
        }
        match self.take() {
            Some(Token::Word(value)) => Ok(value),
            other => Self::unexpected(other.as_ref(), "identifier"),
        }
    }

    /// `(x,y)`; an empty place between commas is the empty value.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.take() {
            Some(Token::Symbol("(")) => {}
            other => {
                return Err(SelectorError::NoList(other.as_ref().map(Token::text).unwrap_or_default().to_owned()));
            }
        }
        match self.peek() {
            // `()` holds one empty value, as `(,)` does.
            Some(Token::Word(_) | Token::Symbol("," | ")")) => {}
            other => return Self::unexpected(other, "',', ')' or identifier"),
        }
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Word(word)) => {
                    values.push(word.clone());
                    self.at += 1;
                }
                Some(Token::Symbol("," | ")")) => values.push(String::new()),
                other => return Self::unexpected(other, "',', or identifier"),
            }
            match self.take() {
                Some(Token::Symbol(")")) => return Ok(values),
                Some(Token::Symbol(",")) => {}
                other => return Self::unexpected(other.as_ref(), "',' or ')'"),
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    match label_key_error(key) {
        None => Ok(()),
        // "<nil>" is what upstream prints for a key without a path.
        Some(why) => Err(SelectorError::Invalid { path: "<nil>".into(), value: format!("{key:?}"), why }),
    }
}

fn name_shaped(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn subdomain_shaped(text: &str) -> bool {
    text.split('.').all(|label| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = label.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    })
}

/// Why a text is no label key (a "qualified name"), in upstream's words.
pub fn label_key_error(key: &str) -> Option<String> {
    const SHAPE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
        character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let mut parts = key.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            return Some(format!(
                "a valid label key {SHAPE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
    };
    match prefix {
        Some("") => return Some("prefix part must be non-empty".into()),
        Some(prefix) if prefix.len() > 253 => return Some("prefix part must be no more than 253 bytes".into()),
        Some(prefix) if !subdomain_shaped(prefix) => {
            return Some(
                "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
                 start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                    .into(),
            );
        }
        Some(_) | None => {}
    }
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 bytes".into());
    }
    (!name_shaped(name)).then(|| format!("name part {SHAPE}"))
}

/// Why a text is no label value, in upstream's words.
pub fn label_value_error(value: &str) -> Option<String> {
    if value.len() > 63 {
        return Some("must be no more than 63 bytes".into());
    }
    (!value.is_empty() && !name_shaped(value)).then(|| {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end \
         with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
         '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            .into()
    })
}

/// `metadata.name=x,status.phase!=Running`. Which fields there are is for the resource's row to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    pub equal: bool,
    pub value: String,
}

impl FieldSelector {
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for term in split_unescaped(text).filter(|term| !term.is_empty()) {
            let unknown = || SelectorError::Term { selector: text.to_owned(), term: term.to_owned() };
            let (field, operator, value) = split_term(term).ok_or_else(unknown)?;
            terms.push(FieldTerm { field: field.to_owned(), equal: operator != "!=", value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// `field` answers a field's value; an absent one is the empty text.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (field(&term.field).unwrap_or_default() == term.value) == term.equal)
    }

    /// The one value that a field must have, if the selector demands one: lets a list by name be a get.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

/// Splits at commas that no backslash escapes.
fn split_unescaped(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let cut = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        cut
    })
}

fn split_term(term: &str) -> Option<(&str, &str, &str)> {
    let mut escaped = false;
    for (i, c) in term.char_indices() {
        let rest = term.get(i..)?;
        if !escaped && let Some(operator) = ["!=", "==", "="].into_iter().find(|operator| rest.starts_with(operator)) {
            return Some((term.get(..i)?, operator, rest.get(operator.len()..)?));
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(SelectorError::Escape(format!("\\{c}"))),
                None => return Err(SelectorError::Escape("\\".into())),
            },
            ',' | '=' => return Err(SelectorError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    use proptest::prelude::*;

    fn labels(pairs: &str) -> BTreeMap<String, String> {
        pairs.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn string_selectors_choose() {
        for (selector, objects, expected) in [
            ("", "", true),
            ("a", "a=", true),
            ("a", "b=1", false),
            ("!a", "a=", false),
            ("!a", "", true),
            ("a=b", "a=b", true),
            ("a==b", "a=c", false),
            ("a!=b", "", true),
            ("a!=b", "a=b", false),
            ("a in (x,y)", "a=y", true),
            ("a in (x,y)", "a=z", false),
            ("a notin (x)", "", true),
            ("a notin (x)", "a=x", false),
            ("a in (,x)", "a=", true),
            ("a in ()", "a=", true),
            ("a in ()", "a=x", false),
            ("a=", "a=", true),
            ("a=,b", "a=,b=1", true),
            ("a>5", "a=6", true),
            ("a>5", "a=5", false),
            ("a<5", "a=4", true),
            ("a<5", "a=x", false),
            (" a = b , !c ", "a=b", true),
            ("in in (in)", "in=in", true),
            ("example.com/x=1", "example.com/x=1", true),
        ] {
            assert_eq!(
                Selector::parse(selector).unwrap().matches(&labels(objects)),
                expected,
                "{selector} on {objects}"
            );
        }
    }

    #[test]
    fn string_selectors_are_refused_as_upstream_does() {
        for (selector, message) in [
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in x", "unable to parse requirement: found 'x' expected: '('"),
            ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a=(", "unable to parse requirement: found '(', expected: identifier"),
            ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
        ] {
            assert_eq!(Selector::parse(selector).unwrap_err().to_string(), message, "{selector}");
        }
        let message = Selector::parse("a=@").unwrap_err().to_string();
        assert!(
            message
                .starts_with("unable to parse requirement: values[0][a]: Invalid value: \"@\": a valid label must be"),
            "{message}"
        );
        let message = Selector::parse("a@=b").unwrap_err().to_string();
        assert!(
            message.starts_with("unable to parse requirement: <nil>: Invalid value: \"a@\": name part must consist"),
            "{message}"
        );
    }

    #[test]
    fn label_selector_objects() {
        assert!(!Selector::from_label_selector(None).unwrap().matches(&labels("")));
        assert!(Selector::from_label_selector(Some(&LabelSelector::default())).unwrap().matches(&labels("a=b")));
        let expression = |operator: &str, values: &[&str]| LabelSelector {
            match_labels: Some(labels("app=web")),
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "tier".into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
        };
        let select = |s: &LabelSelector, on: &str| Selector::from_label_selector(Some(s)).unwrap().matches(&labels(on));
        assert!(select(&expression("In", &["a", "b"]), "app=web,tier=b"));
        assert!(!select(&expression("In", &["a", "b"]), "tier=b"));
        assert!(select(&expression("DoesNotExist", &[]), "app=web"));
        let refused = Selector::from_label_selector(Some(&expression("Gt", &["1"]))).unwrap_err();
        assert_eq!(refused.to_string(), "\"Gt\" is not a valid label selector operator");
    }

    #[test]
    fn field_selectors() {
        let pod = |field: &str| match field {
            "metadata.name" => Some("web"),
            "status.phase" => Some("Running"),
            "spec.odd" => Some("a,b=c"),
            _ => None,
        };
        for (selector, expected) in [
            ("", true),
            ("metadata.name=web", true),
            ("metadata.name==web,status.phase!=Running", false),
            ("spec.nodeName=", true),
            ("spec.nodeName!=", false),
            ("spec.odd=a\\,b\\=c", true),
            (",metadata.name=web,", true),
        ] {
            assert_eq!(FieldSelector::parse(selector).unwrap().matches(pod), expected, "{selector}");
        }
        assert_eq!(FieldSelector::parse("a=1,metadata.name=web").unwrap().required("metadata.name"), Some("web"));
        assert_eq!(FieldSelector::parse("metadata.name!=web").unwrap().required("metadata.name"), None);
        let message = FieldSelector::parse("a=b,c").unwrap_err().to_string();
        assert_eq!(message, "invalid selector: 'a=b,c'; can't understand 'c'");
        assert!(FieldSelector::parse("a=b\\x").is_err());
        assert!(FieldSelector::parse("a=b=c").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,40}") {
            let _ = (Selector::parse(&text), FieldSelector::parse(&text));
        }

        #[test]
        fn not_in_is_the_opposite_of_in(value in "[a-c]?", set in proptest::collection::vec("[a-c]", 1..4), present: bool) {
            let on = if present { BTreeMap::from([("k".to_owned(), value)]) } else { BTreeMap::new() };
            let list = set.join(",");
            let inside = Selector::parse(&format!("k in ({list})")).unwrap().matches(&on);
            let outside = Selector::parse(&format!("k notin ({list})")).unwrap().matches(&on);
            prop_assert_eq!(inside, !outside);
        }

        #[test]
        fn both_forms_agree(pairs in proptest::collection::btree_map("[a-c]", "[x-z]", 0..3), on in proptest::collection::btree_map("[a-c]", "[x-z]", 0..3)) {
            let text = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
            let by_map = Selector::from_map(&pairs);
            prop_assert_eq!(Selector::parse(&text).unwrap().matches(&on), by_map.matches(&on));
        }
    }
}
