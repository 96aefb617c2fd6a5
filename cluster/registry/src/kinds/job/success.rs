//! When an indexed job is done although not all of it is.

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::value::Look as _;

const MOST_RULES: usize = 20;
const LONGEST: usize = 64 << 10;

pub(super) fn policy(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !spec.has("successPolicy") || spec.text("completionMode") != "Indexed" {
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

/// How many indexes a text such as `0,2-4` names. Upstream's words for what is wrong with it.
fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = |part: &str| {
        let number: i64 = part.parse().map_err(|_| format!("cannot convert string to integer for index: {part:?}"))?;
        if number < completions { Ok(number) } else { Err(format!("too large index: {part:?}")) }
    };
    let (mut total, mut last) = (0, None);
    for interval in text.split(',') {
        let parts: Vec<&str> = interval.split('-').collect();
        let (from, to) = match parts.as_slice() {
            [one] => (number(one)?, None),
            [from, to] => (number(from)?, Some(number(to)?)),
            _ => {
                return Err(format!(
                    "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
        };
        for (previous, current) in [(last, Some(from)), (to.map(|_| from), to)] {
            if let Some((previous, current)) = previous.zip(current).filter(|(previous, current)| previous >= current) {
                return Err(format!("non-increasing order, previous: {previous}, current: {current}"));
            }
        }
        total += to.unwrap_or(from) - from + 1;
        last = Some(to.unwrap_or(from));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_or_refused() {
        assert_eq!(count("0,2-4", 5), Ok(4));
        assert_eq!(count("", 5), Ok(0));
        for (text, why) in [
            ("5", "too large index: \"5\""),
            ("a", "cannot convert string to integer for index: \"a\""),
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            ("3-2", "non-increasing order, previous: 3, current: 2"),
        ] {
            assert_eq!(count(text, 5).unwrap_err(), why);
        }
        assert!(count("0-1-2", 5).unwrap_err().contains("at most two parts"));
    }
}
