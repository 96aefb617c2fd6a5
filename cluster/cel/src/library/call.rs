//! Finds who carries a call out: each library is asked in turn, and knows what it has by name and arguments.

use super::{address, format, lists, named, operators, quantity, semver, strings, time, url};
use crate::authorizer;
use crate::eval::{Evaluated, Failure};
use crate::value::Value;

type Library = fn(&str, &[Value]) -> Option<Evaluated>;

const LIBRARIES: [Library; 11] = [
    operators::call,
    strings::call,
    lists::call,
    time::call,
    quantity::call,
    url::call,
    address::call,
    semver::call,
    format::call,
    named::call,
    authorizer::call,
];

pub(crate) fn call(function: &str, args: &[Value]) -> Evaluated {
    LIBRARIES.iter().find_map(|library| library(function, args)).unwrap_or(Err(Failure::NoOverload))
}
