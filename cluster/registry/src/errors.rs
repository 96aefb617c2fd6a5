//! Field errors, worded as upstream words them, and the `Status` they become.

use std::fmt;

use kedge_api::status::{Cause, Details};
use kedge_api::{Reason, Resource, Status};
use serde_json::Value;

/// Where in an object: built on the stack on the way down, written out only for an error.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    /// One field, or several with dots between.
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// As upstream names what is wrong with no field.
    pub(crate) const NOWHERE: Self = Self { parent: None, step: Step::Key("") };

    pub(crate) const fn root(field: &'a str) -> Self {
        Self { parent: None, step: Step::Field(field) }
    }

    pub(crate) const fn child(&'a self, field: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(field) }
    }

    pub(crate) const fn index(&'a self, at: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(at) }
    }

    pub(crate) const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field(field) if self.parent.is_some() => write!(f, ".{field}"),
            Step::Field(field) => f.write_str(field),
            Step::Index(at) => write!(f, "[{at}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
}

impl Kind {
    /// The text, the cause's reason, and whether the value is shown.
    const fn words(self) -> (&'static str, &'static str, bool) {
        match self {
            Self::NotFound => ("Not found", "FieldValueNotFound", true),
            Self::Required => ("Required value", "FieldValueRequired", false),
            Self::Duplicate => ("Duplicate value", "FieldValueDuplicate", true),
            Self::Invalid => ("Invalid value", "FieldValueInvalid", true),
            Self::NotSupported => ("Unsupported value", "FieldValueNotSupported", true),
            Self::Forbidden => ("Forbidden", "FieldValueForbidden", false),
            Self::TooLong => ("Too long", "FieldValueTooLong", false),
            Self::TooMany => ("Too many", "FieldValueTooMany", true),
            Self::TypeInvalid => ("Invalid value", "FieldValueTypeInvalid", true),
        }
    }
}

/// A rule that came when objects that break it were stored already: one that broke it before may go on breaking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// The values that a selector compares labels with are values that labels can have.
    SelectedValues,
    SelectedNodeValues,
    SpreadSelector,
    TokenPath,
    WholePages,
    SharedParameters,
    /// Users of its own do not go with devices.
    OwnUsersDevices,
    /// A container that comes first is not started again for an amount.
    InitRestart,
    DeletionCost,
    SourceGroup,
    TargetVersion,
    MetricVersion,
    SomeReplicas,
}

/// All that is wrong with one object, as far as it is told: a small object may be wrong in very many places, or in one of a very long name.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    causes: Vec<Cause>,
    /// Of the causes' texts.
    bytes: usize,
    /// Counted, and kept no more.
    more: usize,
    broken: Vec<Late>,
    tolerated: Vec<Late>,
}

const MOST: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

impl Errors {
    pub(crate) fn is_empty(&self) -> bool {
        self.causes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.causes.len() + self.more
    }

    /// Each as it stands in the message.
    #[cfg(test)]
    pub(crate) fn told(&self) -> Vec<String> {
        self.causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    /// For the successor of what was found to be wrong: it may break the late rules that were broken.
    pub(crate) fn tolerating(before: Self) -> Self {
        Self { tolerated: before.broken, ..Self::default() }
    }

    pub(crate) const fn breaks_late_rules(&self) -> bool {
        !self.broken.is_empty()
    }

    /// What `check` tells is against a late rule.
    pub(crate) fn late(&mut self, rule: Late, check: impl FnOnce(&mut Self)) {
        if self.tolerated.contains(&rule) {
            return;
        }
        let before = self.len();
        check(self);
        if self.len() > before {
            self.broken.push(rule);
        }
    }

    fn has_room(&self) -> bool {
        self.causes.len() < MOST && self.bytes < MOST_BYTES
    }

    fn keep(&mut self, cause: Cause) {
        if self.has_room() {
            self.bytes += cause.message.len() + cause.field.len();
            self.causes.push(cause);
        } else {
            self.more += 1;
        }
    }

    fn add(&mut self, kind: Kind, path: &dyn fmt::Display, value: &Value, detail: &str) {
        let shown = if self.has_room() { show(value) } else { String::new() };
        self.add_shown(kind, path, &shown, detail);
    }

    fn add_shown(&mut self, kind: Kind, path: &dyn fmt::Display, value: &str, detail: &str) {
        if !self.has_room() {
            self.more += 1;
            return;
        }
        let (text, reason, shown) = kind.words();
        let mut message = text.to_owned();
        for part in [if shown { value } else { "" }, detail] {
            if !part.is_empty() {
                message.push_str(": ");
                message.push_str(part);
            }
        }
        self.keep(Cause { reason: reason.into(), message, field: path.to_string() });
    }

    pub(crate) fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.add(Kind::Required, path, &Value::Null, detail);
    }

    pub(crate) fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.add(Kind::Invalid, path, &value.into(), detail);
    }

    /// As `invalid`, for a value whose fields upstream shows in another order than ours: its JSON.
    pub(crate) fn invalid_json(&mut self, path: &Path<'_>, json: &str, detail: &str) {
        self.add_shown(Kind::Invalid, path, json, detail);
    }

    pub(crate) fn duplicate_json(&mut self, path: &Path<'_>, json: &str, detail: &str) {
        self.add_shown(Kind::Duplicate, path, json, detail);
    }

    pub(crate) fn not_supported_json(&mut self, path: &Path<'_>, json: &str, supported: &[&str]) {
        self.add_shown(Kind::NotSupported, path, json, &listed(supported));
    }

    /// With nothing of the value shown.
    pub(crate) fn invalid_unshown(&mut self, path: &Path<'_>, detail: &str) {
        self.add_shown(Kind::Invalid, path, "", detail);
    }

    pub(crate) fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.add(Kind::Duplicate, path, &value.into(), "");
    }

    pub(crate) fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.not_found_because(path, value, "");
    }

    pub(crate) fn not_found_because(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.add(Kind::NotFound, path, &value.into(), detail);
    }

    pub(crate) fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.add(Kind::Forbidden, path, &Value::Null, detail);
    }

    pub(crate) fn too_long(&mut self, path: &Path<'_>, bytes: usize) {
        self.add(
            Kind::TooLong,
            path,
            &Value::Null,
            &format!("may not be more than {bytes} {}", if bytes == 1 { "byte" } else { "bytes" }),
        );
    }

    pub(crate) fn too_many(&mut self, path: &Path<'_>, count: usize, most: usize) {
        self.add(
            Kind::TooMany,
            path,
            &count.into(),
            &format!("must have at most {most} {}", if most == 1 { "item" } else { "items" }),
        );
    }

    pub(crate) fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        self.add(Kind::NotSupported, path, &value.into(), &listed(supported));
    }

    pub(crate) fn type_invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.add(Kind::TypeInvalid, path, &value.into(), detail);
    }

    /// As `invalid`, with the reason that a rule of a custom resource names.
    pub(crate) fn because(&mut self, reason: &str, path: &Path<'_>, value: &Value, detail: &str) {
        let (kind, detail) = match reason {
            "FieldValueRequired" => (Kind::Required, detail),
            "FieldValueForbidden" => (Kind::Forbidden, detail),
            "FieldValueDuplicate" => (Kind::Duplicate, ""),
            _ => (Kind::Invalid, detail),
        };
        // What is large is not shown.
        let shown = if value.is_object() || value.is_array() { String::new() } else { show(value) };
        self.add_shown(kind, path, &shown, detail);
    }

    /// Whether one is of the kind after which nothing further is worth checking: the object has not the form of its schema.
    pub(crate) fn is_malformed(&self) -> bool {
        const KINDS: [&str; 5] = [
            "FieldValueNotSupported",
            "FieldValueRequired",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueTypeInvalid",
        ];
        self.more > 0 || self.causes.iter().any(|cause| KINDS.contains(&cause.reason.as_str()))
    }

    /// Takes those of another walk over.
    pub(crate) fn append(&mut self, other: Self) {
        other.causes.into_iter().for_each(|cause| self.keep(cause));
        self.more += other.more;
        self.broken.extend(other.broken);
    }

    /// The same, with the path to the root in front of their own.
    pub(crate) fn below(mut self, path: &Path<'_>) -> Self {
        for cause in &mut self.causes {
            cause.field = match cause.field.as_str() {
                "<nil>" => path.to_string(),
                field => format!("{path}.{field}"),
            };
        }
        self
    }

    /// Puts in front what `tell` adds.
    pub(crate) fn first(&mut self, tell: impl FnOnce(&mut Self)) {
        let rest = std::mem::take(&mut self.causes);
        tell(self);
        self.causes.extend(rest);
    }

    /// By their text, where upstream's order is of no meaning either.
    pub(crate) fn sort(&mut self) {
        self.causes.sort_by_cached_key(|cause| format!("{}: {}", cause.field, cause.message));
    }

    /// One `Invalid` for each text.
    pub(crate) fn all_invalid(&mut self, path: &Path<'_>, value: &str, details: impl IntoIterator<Item = String>) {
        for detail in details {
            self.invalid(path, value, &detail);
        }
    }

    /// All of them as one sentence, each text once.
    pub(crate) fn summary(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for cause in &self.causes {
            let text = format!("{}: {}", cause.field, cause.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }
    }

    /// `Ok` if there are none, else `422`. `kind` and `group` are the object's, e.g. `Deployment` and `apps`.
    pub(crate) fn into_result(self, group: &str, kind: &str, name: &str) -> Result<(), Status> {
        if self.is_empty() {
            return Ok(());
        }
        let text = self.summary();
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let details = Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes: self.causes,
            ..Details::default()
        };
        Err(Status {
            reason: Reason::Invalid,
            message: format!("{qualified} {} is invalid: {text}", quote(name)),
            details: Some(Box::new(details)),
        })
    }

    pub(crate) fn of(self, resource: &Resource, name: &str) -> Result<(), Status> {
        self.into_result(resource.id.group.as_str(), &resource.kind, name)
    }
}

/// As upstream's `NewInternalError`, which names the error twice.
pub(crate) fn internal(why: String) -> Status {
    let cause = Cause { reason: String::new(), message: why.clone(), field: String::new() };
    let details = Details { causes: vec![cause], ..Default::default() };
    Status {
        reason: Reason::InternalError,
        message: format!("Internal error occurred: {why}"),
        details: Some(Box::new(details)),
    }
}

fn listed(values: &[&str]) -> String {
    let values: Vec<_> = values.iter().map(|v| quote(v)).collect();
    format!("supported values: {}", values.join(", "))
}

/// An object's JSON with its fields in the given order, as upstream's types declare them.
pub(crate) fn ordered(object: &Value, fields: &[&str]) -> String {
    let present = fields.iter().filter_map(|name| object.get(name).map(|value| format!("{}:{value}", quote(name))));
    format!("{{{}}}", present.collect::<Vec<_>>().join(","))
}

/// As Go's `%q` for a string, the number itself for a number, JSON for anything else.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => crate::golang::escaped(other.to_string()),
    }
}

/// What Go does not print as it is: controls, spaces other than the plain one, and what only says how others are shown.
pub(crate) fn is_hidden(c: char) -> bool {
    const FORMATS: [std::ops::RangeInclusive<char>; 6] = [
        '\u{ad}'..='\u{ad}',
        '\u{200b}'..='\u{200f}',
        '\u{202a}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{e000}'..='\u{f8ff}',
        '\u{feff}'..='\u{feff}',
    ];
    c.is_control() || (c.is_whitespace() && c != ' ') || FORMATS.iter().any(|range| range.contains(&c))
}

/// Go's `%q`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_hidden(c) && u32::from(c) > 0xffff => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c if is_hidden(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_paths_are_upstreams() {
        let mut errors = Errors::default();
        let spec = Path::root("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        errors.required(&first.child("name"), "");
        errors.invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0");
        errors.not_supported(&first.child("imagePullPolicy"), "Never\"", &["Always", "IfNotPresent"]);
        let data = Path::root("data");
        errors.required(&data.key("tls.key"), "");
        let status = errors.into_result("apps", "Deployment", "d").unwrap_err();
        assert_eq!(
            status.message,
            "Deployment.apps \"d\" is invalid: [spec.containers[0].name: Required value, \
             spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
             spec.containers[0].imagePullPolicy: Unsupported value: \"Never\\\"\": supported values: \"Always\", \"IfNotPresent\", \
             data[tls.key]: Required value]"
        );
        let details = status.details.unwrap();
        assert_eq!(details.causes[1].reason, "FieldValueInvalid");
        assert_eq!(details.causes[1].field, "spec.replicas");
    }

    #[test]
    fn the_same_message_is_said_once_but_counted_twice() {
        let mut errors = Errors::default();
        let path = Path::root("metadata.finalizers");
        errors.forbidden(&path, "no");
        errors.forbidden(&path, "no");
        let status = errors.into_result("", "Pod", "p").unwrap_err();
        assert_eq!(status.message, "Pod \"p\" is invalid: metadata.finalizers: Forbidden: no");
        assert_eq!(status.details.unwrap().causes.len(), 2);
        assert!(Errors::default().into_result("", "Pod", "p").is_ok());
    }

    #[test]
    fn what_is_wrong_in_very_many_places_is_told_of_some() {
        let mut errors = Errors::default();
        let labels = Path::root("metadata.labels");
        for n in 0..200_000 {
            errors.invalid(&labels, format!("{n}!"), "no");
        }
        assert_eq!(errors.len(), 200_000);
        assert_eq!(errors.into_result("", "Pod", "p").unwrap_err().details.unwrap().causes.len(), MOST);
        let (mut errors, name) = (Errors::default(), "x".repeat(1 << 19));
        (0..200_000).for_each(|_| errors.required(&Path::root(&name), ""));
        assert_eq!(errors.into_result("", "Pod", "p").unwrap_err().details.unwrap().causes.len(), 2);
    }
}
