//! How much of something a device has, and in which portions it may be asked for.

use kedge_api::quantity::Quantity;
use serde_json::Value;

use super::each;
use crate::errors::{Errors, Path};
use crate::value::Look as _;

const MOST_VALUES: usize = 10;

fn quantity(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

/// Only what several may use has portions.
pub(super) fn validate(capacity: &Value, shared: bool, path: &Path<'_>, errors: &mut Errors) {
    let policy = capacity.look("requestPolicy");
    let here = path.child("requestPolicy");
    if policy.is_null() {
        return;
    }
    if !shared {
        errors.forbidden(&here, "allowMultipleAllocations must be true");
        return;
    }
    let Some(whole) = quantity(capacity.look("value")) else { return };
    let (values, range) = (policy.items("validValues"), policy.look("validRange"));
    let default = policy.look("default");
    match (values.is_empty(), range.is_null()) {
        (false, false) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.forbidden(&here, why);
        }
        (true, true) => {}
        (false, true) => match quantity(default) {
            None => errors.required(&here.child("default"), "required when validValues is defined"),
            Some(default) => validate_values(values, default, whole, &here.child("validValues"), errors),
        },
        (true, false) => match quantity(default) {
            None => errors.required(&here.child("default"), "required when validRange is defined"),
            Some(default) => validate_range(range, default, whole, &here.child("validRange"), errors),
        },
    }
}

fn validate_values(values: &[Value], default: Quantity, whole: Quantity, path: &Path<'_>, errors: &mut Errors) {
    let parsed: Vec<_> = values.iter().filter_map(quantity).collect();
    let pairs = parsed.iter().zip(parsed.iter().skip(1)).enumerate();
    for (at, (_, next)) in pairs.filter(|(_, (one, next))| one > next) {
        errors.invalid(&path.index(at + 1), next.to_string(), "values must be sorted in ascending order");
    }
    each(values, MOST_VALUES, path, errors, |value, path, errors| {
        if quantity(value).is_some_and(|value| value > whole) {
            let why = format!("option is larger than capacity value: {whole}");
            errors.invalid(path, value.clone(), &why);
        }
    });
    let seen = |at: usize| parsed.get(at).map(|q| q.value());
    for at in (0..parsed.len()).filter(|at| (0..*at).any(|before| seen(before) == seen(*at))) {
        errors.duplicate(&path.index(at), seen(at).unwrap_or_default().to_string());
    }
    if !parsed.contains(&default) {
        errors.invalid(path, default.to_string(), "default value is not valid according to the requestPolicy");
    }
}

fn validate_range(range: &Value, default: Quantity, whole: Quantity, path: &Path<'_>, errors: &mut Errors) {
    let Some(least) = quantity(range.look("min")) else {
        errors.required(&path.child("min"), "required when validRange is defined");
        return;
    };
    let most = quantity(range.look("max"));
    let mut refuse = |wrong: bool, field: &str, value: Quantity, why: String| {
        if wrong {
            errors.invalid(&path.child(field), value.to_string(), &why);
        }
    };
    refuse(least > whole, "min", least, format!("min is larger than capacity value: {whole}"));
    refuse(default < least, "default", default, format!("default is less than min: {least}"));
    if let Some(most) = most {
        refuse(least > most, "max", least, format!("min is larger than max: {most}"));
        refuse(most > whole, "max", most, format!("max is larger than capacity value: {whole}"));
        refuse(default > most, "default", default, format!("default is more than max: {most}"));
    }
    let Some(step) = quantity(range.look("step")) else { return };
    if step.value() <= 0 {
        refuse(true, "step", step, "must be greater than zero".into());
        return;
    }
    let added = least.value().saturating_add(step.value());
    refuse(added > whole.value(), "step", step, format!("one step {added} is larger than capacity value: {whole}"));
    for value in [Some(default), most].into_iter().flatten() {
        let off = value.value().saturating_sub(least.value()).checked_rem(step.value()).is_some_and(|rest| rest != 0);
        refuse(off, "step", value, format!("value is not a multiple of a given step ({step}) from ({least})"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::count;
    use super::*;
    use serde_json::json;

    #[test]
    fn portions_fit_into_the_whole() {
        for (policy, shared, wrong) in [
            (json!({"default": "1", "validValues": ["1", "2"]}), true, 0),
            (json!({"default": "3", "validValues": ["2", "1", "20"]}), true, 3),
            (json!({"default": "1", "validValues": ["1", "1"]}), true, 1),
            (json!({"validValues": ["1"]}), true, 1),
            (json!({"default": "2", "validRange": {"min": "2", "max": "10", "step": "4"}}), true, 0),
            (json!({"default": "3", "validRange": {"min": "2", "max": "12", "step": "4"}}), true, 3),
            (json!({"default": "1", "validRange": {"min": "2"}}), true, 1),
            (json!({"default": "1", "validRange": {"min": "1"}, "validValues": ["1"]}), true, 1),
            (json!({"default": "1"}), true, 0),
            (json!({"default": "1"}), false, 1),
        ] {
            let capacity = json!({"value": "10", "requestPolicy": policy});
            assert_eq!(count(|path, errors| validate(&capacity, shared, path, errors)), wrong, "{capacity}");
        }
    }
}
