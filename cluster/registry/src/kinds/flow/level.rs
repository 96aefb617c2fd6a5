//! PriorityLevelConfiguration: how many requests of a level are worked on at once, and how others wait.

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{EXEMPT, GROUP, STRATEGY, bootstrap, validate_conditions};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::kinds::{STATUS, cluster_resource, columns};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Type", |o| o.text("spec.type").into()),
    columns::text("NominalConcurrencyShares", |o| {
        let held = if o.has("spec.limited") { "limited" } else { "exempt" };
        number(o, &format!("spec.{held}.nominalConcurrencyShares"))
    }),
    columns::text("Queues", |o| number(o, "spec.limited.limitResponse.queuing.queues")),
    columns::text("HandSize", |o| number(o, "spec.limited.limitResponse.queuing.handSize")),
    columns::text("QueueLengthLimit", |o| number(o, "spec.limited.limitResponse.queuing.queueLengthLimit")),
    columns::AGE,
];

const TYPES: &[&str] = &["Exempt", "Limited"];
const RESPONSES: &[&str] = &["Queue", "Reject"];
const MOST_QUEUES: i64 = 10_000_000;
/// Hands are dealt by a hash of so many bits.
const HASH_BITS: i64 = 60;

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration";
    let (plural, singular) = ("prioritylevelconfigurations", "prioritylevelconfiguration");
    let base = cluster_resource(GROUP, plural, singular, "PriorityLevelConfiguration", schema, COLUMNS);
    Row::new(Resource { subresources: &[STATUS], ..base }, Strategy { default, validate, ..STRATEGY })
}

fn number(level: &Value, path: &str) -> Value {
    level.int(path).map_or_else(|| columns::or_none("").into(), Value::from)
}

fn default(level: &mut Value) {
    super::default(level);
    for (held, shares) in [("limited", 30), ("exempt", 0)] {
        if let Some(held) = level.find_mut(&format!("spec.{held}")) {
            held.fill("nominalConcurrencyShares", shares);
            held.fill("lendablePercent", 0);
        }
    }
    if let Some(limited) = level.find_mut("spec.limited") {
        limited.fill("limitResponse", json!({"type": ""}));
    }
    if let Some(queuing) = level.find_mut("spec.limited.limitResponse.queuing") {
        for (field, number) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
            if queuing.int(field).unwrap_or(0) == 0 {
                queuing.set(field, number);
            }
        }
    }
}

/// By which an older version of this kind kept zero shares apart from none.
const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

fn validate(level: &Value, errors: &mut Errors) {
    if level.look("metadata.annotations").get(PRESERVE_ZERO).is_some() {
        let why = format!("annotation '{PRESERVE_ZERO}' is forbidden");
        errors.forbidden(&Path::root("metadata.annotations"), &why);
    }
    let path = Path::root("spec");
    let spec = level.look("spec");
    let (name, kind) = (level.text("metadata.name"), spec.text("type"));
    let here = path.child("type");
    if (name == EXEMPT) != (kind == "Exempt") {
        errors.invalid(&here, kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    let (exempt, limited) = (path.child("exempt"), path.child("limited"));
    match kind {
        "Exempt" => {
            if spec.has("limited") {
                errors.forbidden(&limited, "must be nil if the type is not Limited");
            }
            validate_shares(spec.look("exempt"), &exempt, errors);
            validate_lendable(spec.look("exempt"), &exempt, errors);
        }
        "Limited" => {
            if spec.has("exempt") {
                errors.forbidden(&exempt, "must be nil if the type is Limited");
            }
            match spec.look("limited") {
                Value::Null => errors.required(&limited, "must not be empty when type is Limited"),
                held => validate_limited(held, &limited, errors),
            }
        }
        other => errors.not_supported(&here, other, TYPES),
    }
    let same = |fixed: &Value| ["type", "limited"].iter().all(|field| fixed.look("spec").get(field) == spec.get(field));
    let also = if name == EXEMPT { " except the 'spec.exempt' field" } else { "" };
    if bootstrap::mandatory_level(name).is_some_and(|fixed| !same(&fixed) || (also.is_empty() && spec.has("exempt"))) {
        let why = format!("spec of '{name}'{also} must equal the fixed value");
        errors.invalid_json(&path, &golang::show(spec, "PriorityLevelConfigurationSpec"), &why);
    }
    validate_conditions(level, errors);
}

fn validate_shares(held: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(shares) = held.int("nominalConcurrencyShares").filter(|n| *n < 0) {
        errors.invalid(&path.child("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
}

fn validate_lendable(held: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(percent) = held.int("lendablePercent").filter(|n| !(0..=100).contains(n)) {
        errors.invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn validate_limited(limited: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_shares(limited, path, errors);
    validate_response(limited.look("limitResponse"), &path.child("limitResponse"), errors);
    validate_lendable(limited, path, errors);
    if let Some(percent) = limited.int("borrowingLimitPercent").filter(|n| *n < 0) {
        let why = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, why);
    }
}

fn validate_response(response: &Value, path: &Path<'_>, errors: &mut Errors) {
    let here = path.child("queuing");
    match (response.text("type"), response.look("queuing")) {
        ("Reject", Value::Null) => {}
        ("Reject", _) => errors.forbidden(&here, "must be nil if limited.limitResponse.type is not Limited"),
        ("Queue", Value::Null) => {
            errors.required(&here, "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Queue", queuing) => validate_queuing(queuing, &here, errors),
        (other, _) => errors.not_supported(&path.child("type"), other, RESPONSES),
    }
}

fn validate_queuing(queuing: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (queues, hand) = (columns::count(queuing, "queues"), columns::count(queuing, "handSize"));
    for field in ["queueLengthLimit", "queues"] {
        let number = columns::count(queuing, field);
        if number <= 0 {
            errors.invalid(&path.child(field), number, "must be positive");
        }
    }
    if queues > MOST_QUEUES {
        errors.invalid(&path.child("queues"), queues, &format!("must not be greater than {MOST_QUEUES}"));
    }
    let here = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&here, hand, "must be positive");
    } else if hand > queues {
        errors.invalid(&here, hand, &format!("should not be greater than queues ({queues})"));
    } else if needs_more_bits(queues, hand) {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.invalid(&here, hand, &why);
    }
}

/// Whether `queues` to the power of `hand` is more than the hash can tell apart.
fn needs_more_bits(queues: i64, hand: i64) -> bool {
    let base = u128::try_from(queues).unwrap_or(u128::MAX);
    let power = u32::try_from(hand).ok().and_then(|hand| base.checked_pow(hand));
    power.is_none_or(|power| power > 1 << HASH_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_are_dealt_by_sixty_bits() {
        for (queues, hand, too_many) in
            [(64, 8, false), (64, 10, false), (64, 11, true), (1 << 20, 3, false), (1 << 20, 4, true), (2, 61, true)]
        {
            assert_eq!(needs_more_bits(queues, hand), too_many, "{queues} {hand}");
        }
    }

    #[test]
    fn the_fixed_levels_are_right_and_stay_as_they_are() {
        for mut fixed in bootstrap::levels() {
            default(&mut fixed);
            let mut errors = Errors::default();
            validate(&fixed, &mut errors);
            assert!(errors.is_empty(), "{fixed}: {errors:?}");
        }
        let mut changed = bootstrap::mandatory_level("exempt").unwrap();
        changed.set("spec.exempt.lendablePercent", 10);
        let mut errors = Errors::default();
        validate(&changed, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        let mut changed = bootstrap::mandatory_level("catch-all").unwrap();
        changed.set("spec.limited.nominalConcurrencyShares", 6);
        validate(&changed, &mut errors);
        assert_eq!(errors.len(), 1);
    }
}
