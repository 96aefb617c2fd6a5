//! For the tables of the kinds' tests: a whole object, changed in one place, and all that is told of it then.

use serde_json::Value;

use crate::errors::Errors;
use crate::table::Row;

/// Replaces what stands at a JSON pointer, or adds to the end of a list.
pub(crate) fn put(object: &mut Value, at: &str, value: Value) {
    let (parent, name) = at.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap_or_else(|| panic!("{at}")) {
        Value::Array(list) if name == "-" => list.push(value),
        Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
        other => other[name] = value,
    }
}

pub(crate) fn told(check: impl FnOnce(&mut Errors)) -> Vec<String> {
    let mut errors = Errors::default();
    check(&mut errors);
    errors.told()
}

fn changed(row: &Row, object: &Value, at: &str, value: Value) -> Value {
    let mut object = object.clone();
    (row.strategy.default)(&mut object);
    put(&mut object, at, value);
    (row.strategy.default)(&mut object);
    object
}

/// A row of a table: where, what, and what is told of it.
pub(crate) type Case<'a> = (&'a str, Value, &'a [&'a str]);

/// The object is right, and wrong as told with each of the changes.
pub(crate) fn created(row: &Row, object: &Value, cases: &[Case<'_>]) {
    let mut whole = object.clone();
    (row.strategy.default)(&mut whole);
    let check = |object: &Value| {
        told(|errors| {
            (row.strategy.validate)(object, errors);
            (row.strategy.validate_create)(object, errors);
        })
    };
    assert_eq!(check(&whole), [""; 0]);
    for (at, value, expected) in cases {
        assert_eq!(check(&changed(row, object, at, value.clone())), *expected, "{at} {value}");
    }
}

/// The same of changes to one that is there. Of what is told only the first line counts: what follows shows what is different.
pub(crate) fn updated(row: &Row, old: &Value, cases: &[Case<'_>]) {
    let strategy = &row.strategy;
    let mut before = old.clone();
    (strategy.default)(&mut before);
    for (at, value, expected) in cases {
        let mut new = changed(row, old, at, value.clone());
        (strategy.prepare_update)(&mut new, &before);
        let told = told(|errors| strategy.validate_change(&new, &before, errors));
        let lines: Vec<&str> = told.iter().map(|text| text.lines().next().unwrap_or_default()).collect();
        assert_eq!(lines, *expected, "{at} {value}");
    }
}

/// … and to its status.
pub(crate) fn reported(row: &Row, old: &Value, cases: &[Case<'_>]) {
    let mut before = old.clone();
    (row.strategy.default)(&mut before);
    for (at, value, expected) in cases {
        let new = changed(row, old, at, value.clone());
        assert_eq!(told(|errors| (row.strategy.validate_status)(&new, &before, errors)), *expected, "{at} {value}");
    }
}
