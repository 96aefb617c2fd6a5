//! Label and field selectors: what a list, a watch, a Service or a controller chooses objects by.
//!
//! Owns their grammar and their error texts, which are upstream's; never knows which fields a resource has.
//! Source: "Labels and Selectors" and "Field Selectors" of Kubernetes' documentation.

mod fields;
mod keys;
mod parse;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub use fields::{FieldSelector, FieldTerm};
use keys::check_key;
pub use keys::{label_key_error, label_value_error};

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
        const ALL: [Operator; 6] =
            [Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist, Operator::Gt, Operator::Lt];
        ALL.into_iter().find(|operator| operator.as_str() == text)
    }

    /// As `matchExpressions` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
            Self::Gt => "Gt",
            Self::Lt => "Lt",
        }
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

    pub fn key(&self) -> &str {
        &self.key
    }

    pub const fn operator(&self) -> Operator {
        self.operator
    }

    /// In their order, each once.
    pub fn values(&self) -> &[String] {
        &self.values
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

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The string form: `a=b,c!=d,e in (x,y),!f,g`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::selector(text)
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

    /// One condition, as it is meant and as it may be written.
    #[derive(Clone, Debug)]
    struct Wish {
        key: String,
        operator: Operator,
        values: Vec<String>,
        text: String,
    }

    impl Wish {
        /// The plainest reading of the documentation.
        fn holds(&self, value: Option<&String>) -> bool {
            let number = |text: &String| text.parse::<i64>().ok();
            match (self.operator, value) {
                (Operator::In, Some(value)) => self.values.contains(value),
                (Operator::NotIn, Some(value)) => !self.values.contains(value),
                (Operator::Exists, value) => value.is_some(),
                (Operator::DoesNotExist, value) => value.is_none(),
                (Operator::Gt, Some(value)) => number(value).is_some_and(|n| n > number(&self.values[0]).unwrap()),
                (Operator::Lt, Some(value)) => number(value).is_some_and(|n| n < number(&self.values[0]).unwrap()),
                (Operator::NotIn, None) => true,
                (Operator::In | Operator::Gt | Operator::Lt, None) => false,
            }
        }

        fn requirement(&self) -> Requirement {
            Requirement::new(&self.key, self.operator, self.values.clone()).unwrap()
        }
    }

    fn key() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "in", "notin", "e.com/a", "x-y_z.0"]).prop_map(str::to_owned)
    }

    fn value() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["", "x", "in", "notin", "5", "-3", "12", "v-1_a.b"])
            .prop_filter("a label's value", |text| label_value_error(text).is_none())
            .prop_map(str::to_owned)
    }

    fn wish() -> impl Strategy<Value = Wish> {
        let blank = prop::sample::select(vec!["", " ", "\t"]);
        (key(), 0usize..7, prop::collection::vec(value(), 1..4), -9i64..13, blank).prop_map(
            |(key, form, values, bound, s)| {
                let one = values[0].clone();
                let (operator, values, text) = match form {
                    0 => (Operator::In, vec![one.clone()], format!("{s}{key}{s}={s}{one}{s}")),
                    1 => (Operator::In, vec![one.clone()], format!("{key}{s}=={one}")),
                    2 => (Operator::NotIn, vec![one.clone()], format!("{key}{s}!={s}{one}")),
                    3 => (
                        Operator::In,
                        values.clone(),
                        format!("{key} in{s}({s}{}{s}){s}", values.join(&format!("{s},"))),
                    ),
                    4 => (Operator::NotIn, values.clone(), format!("{s}{key} notin ({})", values.join(","))),
                    5 if bound < 0 => (Operator::DoesNotExist, vec![], format!("{s}!{s}{key}")),
                    5 => (Operator::Exists, vec![], format!("{key}{s}")),
                    // A negative number is no label's value.
                    _ if bound % 2 == 0 => {
                        (Operator::Gt, vec![bound.abs().to_string()], format!("{key}{s}>{s}{}", bound.abs()))
                    }
                    _ => (Operator::Lt, vec![bound.abs().to_string()], format!("{key}<{}", bound.abs())),
                };
                Wish { key, operator, values, text }
            },
        )
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,40}") {
            let _ = (Selector::parse(&text), FieldSelector::parse(&text));
        }

        /// What is written means what its parts mean, however it is spelled.
        #[test]
        fn a_selector_means_what_it_says(
            wishes in prop::collection::vec(wish(), 0..5),
            on in prop::collection::btree_map(key(), value(), 0..4),
        ) {
            let text = wishes.iter().map(|wish| wish.text.as_str()).collect::<Vec<_>>().join(",");
            let selector = Selector::parse(&text).unwrap();
            let meant = wishes.iter().all(|wish| wish.holds(on.get(&wish.key)));
            prop_assert_eq!(selector.matches(&on), meant, "{} on {:?}", text, on);
            prop_assert_eq!(selector.is_everything(), wishes.is_empty());
            let parts: Vec<Requirement> = wishes.iter().map(Wish::requirement).collect();
            prop_assert_eq!(&selector.requirements, &parts, "{}", text);
        }

        /// The order of terms means nothing, and to say a thing twice changes nothing.
        #[test]
        fn terms_commute(
            wishes in prop::collection::vec(wish(), 1..5),
            on in prop::collection::btree_map(key(), value(), 0..4),
        ) {
            let texts: Vec<&str> = wishes.iter().map(|wish| wish.text.as_str()).collect();
            let mut turned = texts.clone();
            turned.reverse();
            turned.push(texts[0]);
            let matches = |texts: &[&str]| Selector::parse(&texts.join(",")).unwrap().matches(&on);
            prop_assert_eq!(matches(&texts), matches(&turned));
        }

        /// The string form and the object form of the same wishes choose the same.
        #[test]
        fn an_object_selector_chooses_as_its_text_does(
            wishes in prop::collection::vec(wish(), 0..4),
            on in prop::collection::btree_map(key(), value(), 0..4),
        ) {
            let wishes: Vec<Wish> = wishes.into_iter().filter(|w| !matches!(w.operator, Operator::Gt | Operator::Lt)).collect();
            let expression = |wish: &Wish| LabelSelectorRequirement {
                key: wish.key.clone(),
                operator: format!("{:?}", wish.operator),
                values: Some(wish.values.clone()),
            };
            let object = LabelSelector { match_labels: None, match_expressions: Some(wishes.iter().map(expression).collect()) };
            let text = wishes.iter().map(|wish| wish.text.as_str()).collect::<Vec<_>>().join(",");
            let by_object = Selector::from_label_selector(Some(&object)).unwrap();
            prop_assert_eq!(by_object, Selector::parse(&text).unwrap());
            prop_assert!(!Selector::nothing().matches(&on));
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
