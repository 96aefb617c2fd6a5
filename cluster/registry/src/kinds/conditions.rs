//! The rules of conditions of the common type (`metav1.Condition`).

use std::collections::HashMap;

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::names;
use crate::value::Look as _;

const STATUSES: &[&str] = &["False", "True", "Unknown"];
const LONGEST_REASON: usize = 1024;
const LONGEST_MESSAGE: usize = 32 << 10;
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', \
     and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or \
     'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

pub(crate) fn validate(conditions: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut first = HashMap::new();
    for (at, condition) in conditions.iter().enumerate() {
        let item = path.index(at);
        let kind = condition.text("type");
        if first.insert(kind, at).is_some() {
            errors.duplicate(&item.child("type"), kind);
        }
        one(condition, &item, errors);
    }
}

fn one(condition: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (kind, status) = (condition.text("type"), condition.text("status"));
    errors.all_invalid(&path.child("type"), kind, names::qualified(kind));
    if !STATUSES.contains(&status) {
        errors.not_supported(&path.child("status"), status, STATUSES);
    }
    if let Some(number) = condition.int("observedGeneration").filter(|n| *n < 0) {
        errors.invalid(&path.child("observedGeneration"), number, "must be greater than or equal to zero");
    }
    if condition.text("lastTransitionTime").is_empty() {
        errors.required(&path.child("lastTransitionTime"), "");
    }
    let reason = condition.text("reason");
    let here = path.child("reason");
    if reason.is_empty() {
        errors.required(&here, "");
    } else {
        if !is_reason(reason) {
            errors.invalid(&here, reason, REASON);
        }
        if reason.len() > LONGEST_REASON {
            errors.too_long(&here, LONGEST_REASON);
        }
    }
    if condition.text("message").len() > LONGEST_MESSAGE {
        errors.too_long(&path.child("message"), LONGEST_MESSAGE);
    }
}

fn is_reason(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(word)
        && text.chars().all(|c| word(c) || c == ',' || c == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words() {
        for right in ["A", "my_name", "ReasonA,ReasonB", "a:b", "a_"] {
            assert!(is_reason(right), "{right}");
        }
        for wrong in ["", "1a", "a,", "a b", "_a"] {
            assert!(!is_reason(wrong), "{wrong}");
        }
    }
}
