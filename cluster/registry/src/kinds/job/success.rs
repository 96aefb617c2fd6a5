//! When an indexed job is done although not all of it is.

use serde_json::Value;

use super::indexes::count;
use crate::errors::{Errors, Path};
use crate::golang;
use crate::value::Look as _;

const MOST_RULES: usize = 20;
const LONGEST: usize = 64 << 10;

pub(super) fn policy(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let policy = spec.look("successPolicy");
    if policy.is_null() {
        return;
    }
    if spec.text("completionMode") != "Indexed" {
        errors.invalid_json(path, &golang::show(policy, "SuccessPolicy"), "requires indexed completion mode");
        return;
    }
    let list = path.child("rules");
    let rules = spec.items("successPolicy.rules");
    if rules.is_empty() {
        errors.required(&list, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > MOST_RULES {
        errors.too_many(&list, rules.len(), MOST_RULES);
    }
    let completions = spec.int("completions").unwrap_or(0);
    for (at, rule) in rules.iter().enumerate() {
        one(rule, completions, &list.index(at), errors);
    }
}

fn one(rule: &Value, completions: i64, path: &Path<'_>, errors: &mut Errors) {
    let indexes = rule.look("succeededIndexes").as_str();
    let mut total = None;
    if indexes.is_none() && !rule.has("succeededCount") {
        errors.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    if let Some(text) = indexes {
        let here = path.child("succeededIndexes");
        if text.len() > LONGEST {
            errors.too_long(&here, LONGEST);
        }
        match count(text, completions) {
            Ok(number) => total = Some(number),
            Err(why) => errors.invalid(&here, text, &format!("error parsing succeededIndexes: {why}")),
        }
    }
    let Some(wanted) = rule.int("succeededCount") else { return };
    let here = path.child("succeededCount");
    if wanted < 0 {
        errors.invalid(&here, wanted, "must be greater than or equal to 0");
    }
    if wanted > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.invalid(&here, wanted, &why);
    }
    if let Some(total) = total.filter(|total| wanted > *total) {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.invalid(&here, wanted, &why);
    }
}
