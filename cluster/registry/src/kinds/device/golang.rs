//! A claim's specification as upstream's internal types show it in errors.

use crate::golang::{Field, Go};

const EXPRESSION: &[Field] = &[("Expression", "expression", Go::Plain("\"\""))];
const SELECTOR: &[Field] = &[("CEL", "cel", Go::Pointer(EXPRESSION))];
const TOLERATION: &[Field] = &[
    ("Key", "key", Go::Plain("\"\"")),
    ("Operator", "operator", Go::Plain("\"\"")),
    ("Value", "value", Go::Plain("\"\"")),
    ("Effect", "effect", Go::Plain("\"\"")),
    ("TolerationSeconds", "tolerationSeconds", Go::Plain("null")),
];
const CAPACITY: &[Field] = &[("Requests", "requests", Go::Plain("null"))];
const EXACTLY: &[Field] = &[
    ("DeviceClassName", "deviceClassName", Go::Plain("\"\"")),
    ("Selectors", "selectors", Go::List(SELECTOR)),
    ("AllocationMode", "allocationMode", Go::Plain("\"\"")),
    ("Count", "count", Go::Plain("0")),
    ("AdminAccess", "adminAccess", Go::Plain("null")),
    ("Tolerations", "tolerations", Go::List(TOLERATION)),
    ("Capacity", "capacity", Go::Pointer(CAPACITY)),
];
const ALTERNATIVE: &[Field] = &[
    ("Name", "name", Go::Plain("\"\"")),
    ("DeviceClassName", "deviceClassName", Go::Plain("\"\"")),
    ("Selectors", "selectors", Go::List(SELECTOR)),
    ("AllocationMode", "allocationMode", Go::Plain("\"\"")),
    ("Count", "count", Go::Plain("0")),
    ("Tolerations", "tolerations", Go::List(TOLERATION)),
    ("Capacity", "capacity", Go::Pointer(CAPACITY)),
];
const REQUEST: &[Field] = &[
    ("Name", "name", Go::Plain("\"\"")),
    ("Exactly", "exactly", Go::Pointer(EXACTLY)),
    ("FirstAvailable", "firstAvailable", Go::List(ALTERNATIVE)),
];
const CONSTRAINT: &[Field] = &[
    ("Requests", "requests", Go::Plain("null")),
    ("MatchAttribute", "matchAttribute", Go::Plain("null")),
    ("DistinctAttribute", "distinctAttribute", Go::Plain("null")),
];
const OPAQUE: &[Field] = &[("Driver", "driver", Go::Plain("\"\"")), ("Parameters", "parameters", Go::Plain("null"))];
const CONFIG: &[Field] = &[("Requests", "requests", Go::Plain("null")), ("Opaque", "opaque", Go::Pointer(OPAQUE))];
const CLAIM: &[Field] = &[
    ("Requests", "requests", Go::List(REQUEST)),
    ("Constraints", "constraints", Go::List(CONSTRAINT)),
    ("Config", "config", Go::List(CONFIG)),
];
pub(super) const SPEC: &[Field] = &[("Devices", "devices", Go::Struct(CLAIM))];
/// The metadata of what is made from it stands among its own fields.
pub(super) const TEMPLATE: &[Field] = &[("Spec", "spec", Go::Struct(SPEC))];
