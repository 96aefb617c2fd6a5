//! Field selectors.

use super::SelectorError;

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

impl FieldTerm {
    /// As a selector is written.
    pub fn text(&self) -> String {
        let escaped = self.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        format!("{}{}{escaped}", self.field, if self.equal { "=" } else { "!=" })
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
    use proptest::prelude::*;

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

    fn term() -> impl Strategy<Value = FieldTerm> {
        ("[a-c](\\.[a-c]){0,2}", any::<bool>(), "[ab,=!\\\\ é]{0,5}").prop_map(|(field, equal, value)| FieldTerm {
            field,
            equal,
            value,
        })
    }

    proptest! {
        /// What is written is what is read, whatever a value holds.
        #[test]
        fn terms_come_back_as_they_were_written(terms in prop::collection::vec(term(), 0..5), twice: bool) {
            let written = |term: &FieldTerm| {
                let text = term.text();
                if twice && term.equal { text.replacen('=', "==", 1) } else { text }
            };
            let text = terms.iter().map(written).collect::<Vec<_>>().join(",");
            prop_assert_eq!(FieldSelector::parse(&text).unwrap().terms, terms, "{}", text);
        }

        /// Each term alone decides, and a term and its opposite never agree.
        #[test]
        fn all_terms_must_hold(terms in prop::collection::vec(term(), 0..5), found in term()) {
            let of = |name: &str| (name == found.field).then_some(found.value.as_str());
            let one = |term: &FieldTerm| FieldSelector { terms: vec![term.clone()] }.matches(of);
            prop_assert_eq!(FieldSelector { terms: terms.clone() }.matches(of), terms.iter().all(one));
            for term in &terms {
                prop_assert_ne!(one(term), one(&FieldTerm { equal: !term.equal, ..term.clone() }));
            }
        }
    }
}
