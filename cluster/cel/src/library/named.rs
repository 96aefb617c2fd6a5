//! Named formats: `format.dns1123Label().validate(text)`, which gives what is wrong, or nothing.

use regex::Regex;
use std::sync::LazyLock;

use super::url;
use crate::eval::Evaluated;
use crate::value::Value;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
                     alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and \
                         end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and \
                          end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                          '[a-z]([-a-z0-9]*[a-z0-9])?')";

struct Format {
    name: &'static str,
    check: fn(&str) -> Vec<String>,
}

const FORMATS: &[Format] = &[
    Format { name: "dns1123Label", check: |t| limited(t, 63, is(&LABELS, t), LABEL) },
    Format {
        name: "dns1123Subdomain",
        check: |t| limited(t, 253, t.split('.').all(|part| is(&LABELS, part)), SUBDOMAIN),
    },
    Format { name: "dns1035Label", check: |t| limited(t, 63, is(&LABELS_1035, t), LABEL_1035) },
    Format { name: "qualifiedName", check: |t| kedge_api::selector::label_key_error(t).into_iter().collect() },
    Format { name: "labelValue", check: |t| kedge_api::selector::label_value_error(t).into_iter().collect() },
    Format { name: "dns1123LabelPrefix", check: |t| limited(t, 63, is(&LABELS, &prefix(t)), LABEL) },
    Format {
        name: "dns1123SubdomainPrefix",
        check: |t| limited(t, 253, prefix(t).split('.').all(|p| is(&LABELS, p)), SUBDOMAIN),
    },
    Format { name: "dns1035LabelPrefix", check: |t| limited(t, 63, is(&LABELS_1035, &prefix(t)), LABEL_1035) },
    Format {
        name: "uri",
        check: |t| {
            told(matches!(url::call("isURL", &[t.into()]), Some(Ok(Value::Bool(true)))), "invalid URI for request")
        },
    },
    Format { name: "uuid", check: |t| told(is(&UUID, t), "does not match the UUID format") },
    Format {
        name: "byte",
        check: |t| {
            told(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, t).is_ok(), "invalid base64")
        },
    },
    Format { name: "date", check: |t| told(t.parse::<jiff::civil::Date>().is_ok() && t.len() == 10, "invalid date") },
    Format { name: "datetime", check: |t| told(t.parse::<jiff::Timestamp>().is_ok(), "invalid datetime") },
];

type Lazy = LazyLock<Option<Regex>>;

static LABELS: Lazy = LazyLock::new(|| Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").ok());
static LABELS_1035: Lazy = LazyLock::new(|| Regex::new("^[a-z]([-a-z0-9]*[a-z0-9])?$").ok());
static UUID: Lazy =
    LazyLock::new(|| Regex::new("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$").ok());

fn is(regex: &Lazy, text: &str) -> bool {
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}

fn told(fine: bool, what: &str) -> Vec<String> {
    if fine { Vec::new() } else { vec![what.to_owned()] }
}

fn limited(text: &str, most: usize, fine: bool, what: &str) -> Vec<String> {
    let mut wrong = told(text.len() <= most, &format!("must be no more than {most} characters"));
    wrong.extend(told(fine, what));
    wrong
}

/// A prefix may end with what a whole name may not.
fn prefix(text: &str) -> String {
    text.strip_suffix('-').map_or_else(|| text.to_owned(), |head| format!("{head}a"))
}

fn named(name: &str) -> Option<Value> {
    FORMATS.iter().find(|format| format.name == name).map(|format| Value::Format(format.name))
}

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    Some(match (function, args) {
        ("format.named", [Value::String(name)]) => Ok(Value::optional(named(name))),
        ("validate", [Value::Format(name), Value::String(text)]) => {
            let format = FORMATS.iter().find(|format| format.name == *name)?;
            let wrong: Vec<Value> = (format.check)(text).into_iter().map(Value::from).collect();
            Ok(Value::optional(Some(wrong).filter(|wrong| !wrong.is_empty()).map(Value::from)))
        }
        (function, []) => Ok(named(function.strip_prefix("format.")?)?),
        _ => return None,
    })
}
