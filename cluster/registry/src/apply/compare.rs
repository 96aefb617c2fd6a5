//! Two versions of an object, told apart field by field; and the fields that one version has.

use serde_json::{Map, Value};

use super::element::Element;
use super::place::{Form, Place, unset};
use super::set::Set;

/// What became of the fields from one version to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) added: Set,
    pub(crate) modified: Set,
    pub(crate) removed: Set,
}

/// What became of a place as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Added,
    Modified,
    Removed,
}

impl Comparison {
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Fields that have a new value.
    pub(crate) fn written(&self) -> Set {
        self.modified.union(&self.added)
    }

    /// Without `ignored` fields and all below them.
    pub(crate) fn without(self, ignored: &Set) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            added: self.added.without(ignored),
            modified: self.modified.without(ignored),
            removed: self.removed.without(ignored),
        }
    }

    fn put(&mut self, element: Element, mark: Mark, below: Self) {
        let Self { added, modified, removed } = below;
        self.added.put(element.clone(), mark == Mark::Added, added);
        self.modified.put(element.clone(), mark == Mark::Modified, modified);
        self.removed.put(element, mark == Mark::Removed, removed);
    }

    fn sort(&mut self) {
        self.added.sort();
        self.modified.sort();
        self.removed.sort();
    }
}

/// How `new` differs from `old`. Either may hold an associative list with the same key twice, which counts as one atomic item.
pub(crate) fn compare(root: Place<'_>, old: &Value, new: &Value) -> Comparison {
    let mut out = Comparison::default();
    place(root, Some(old), Some(new), &mut out);
    out
}

fn place(at: Place<'_>, old: Option<&Value>, new: Option<&Value>, out: &mut Comparison) -> Mark {
    match at.form_of_both(old, new) {
        form @ (Form::Struct(_) | Form::Map(_)) => match (object(old), object(new)) {
            (None, None) => leaf(old, new),
            (a, b) if a.is_none_or(Map::is_empty) && b.is_none_or(Map::is_empty) => leaf(old, new),
            (a, b) => {
                members(form, a, b, out);
                presence(old, new)
            }
        },
        form @ (Form::Keyed(item, _) | Form::Set(item)) => match (list(old), list(new)) {
            ([], []) => leaf(old, new),
            // Most are: then no keys need be made of their items.
            (a, b) if a == b => Mark::None,
            (a, b) => {
                items(form, item, a, b, out);
                presence(old, new)
            }
        },
        Form::Scalar(_) | Form::AtomicStruct(_) | Form::AtomicMap(_) | Form::AtomicList(_) | Form::Opaque => {
            leaf(old, new)
        }
    }
}

fn object(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

pub(super) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn presence(old: Option<&Value>, new: Option<&Value>) -> Mark {
    match (old, new) {
        (None, Some(_)) => Mark::Added,
        (Some(_), None) => Mark::Removed,
        (Some(_), Some(_)) | (None, None) => Mark::None,
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Mark {
    if old.is_some() && new.is_some() && old != new { Mark::Modified } else { presence(old, new) }
}

fn members(form: Form<'_>, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>, out: &mut Comparison) {
    let (mut left, mut right) = (old.into_iter().flatten().peekable(), new.into_iter().flatten().peekable());
    loop {
        // The name that comes next on either side, and its value on each.
        let name = match (left.peek(), right.peek()) {
            (Some((a, _)), Some((b, _))) => (*a).min(*b),
            (Some((name, _)), None) | (None, Some((name, _))) => *name,
            (None, None) => return,
        };
        let mut before = left.next_if(|(other, _)| *other == name).map(|(_, value)| value);
        let mut after = right.next_if(|(other, _)| *other == name).map(|(_, value)| value);
        let field = if let Form::Struct(members) = form { members.field(name) } else { None };
        if let Some(field) = field
            && old.is_some()
            && new.is_some()
        {
            before = before.or_else(|| unset(field, after));
            after = after.or_else(|| unset(field, before));
        }
        let Some(at) = form.member(name) else { continue };
        let mut below = Comparison::default();
        let mark = place(at, before, after, &mut below);
        if mark != Mark::None || !below.is_empty() {
            out.put(Element::Field(field.map_or_else(|| name.clone().into(), |f| f.name().into())), mark, below);
        }
    }
}

/// The items of a list under each key, in order of appearance.
fn keyed<'v>(form: Form<'_>, items: &'v [Value]) -> Vec<(Element, Vec<&'v Value>)> {
    let mut out: Vec<(Element, Vec<&'v Value>)> = Vec::with_capacity(items.len());
    for item in items {
        // What has no key is in no one's set.
        let Ok(element) = form.element(item) else { continue };
        match out.iter_mut().find(|(other, _)| *other == element) {
            Some((_, same)) => same.push(item),
            None => out.push((element, vec![item])),
        }
    }
    out
}

fn items(form: Form<'_>, item: Place<'_>, old: &[Value], new: &[Value], out: &mut Comparison) {
    let (old, mut new) = (keyed(form, old), keyed(form, new));
    let mut put = |element: &Element, mark: Option<Mark>, before: Option<&Value>, after: Option<&Value>| {
        let mut below = Comparison::default();
        let found =
            if before.is_some() || after.is_some() { place(item, before, after, &mut below) } else { Mark::None };
        // Where duplicates come or go, the item is told apart both as one and as several.
        for (mark, below) in [(mark.unwrap_or(Mark::None), Comparison::default()), (found, below)] {
            if mark != Mark::None || !below.is_empty() {
                out.put(element.clone(), mark, below);
            }
        }
    };
    for (element, before) in old {
        let at = new.iter().position(|(other, _)| *other == element);
        let after = at.map(|at| new.remove(at).1).unwrap_or_default();
        match (before.as_slice(), after.as_slice()) {
            ([one], []) => put(&element, None, Some(one), None),
            ([one], [other]) => put(&element, None, Some(one), Some(other)),
            ([one], _) => put(&element, Some(Mark::Added), Some(one), None),
            (_, []) => put(&element, Some(Mark::Removed), None, None),
            (_, [one]) => put(&element, Some(Mark::Removed), None, Some(one)),
            (before, after) => put(&element, (before != after).then_some(Mark::Modified), None, None),
        }
    }
    for (element, after) in new {
        match after.as_slice() {
            [one] => put(&element, None, None, Some(one)),
            _ => put(&element, Some(Mark::Added), None, None),
        }
    }
    out.sort();
}

/// The fields that `value` has: what applying it owns.
pub(crate) fn fields(root: Place<'_>, value: &Value) -> Set {
    let mut out = Set::default();
    owned(root, value, &mut out);
    out
}

/// Whether the place itself is owned; what is below goes to `out`.
fn owned(at: Place<'_>, value: &Value, out: &mut Set) -> bool {
    let form = at.form(Some(value));
    match (form, value) {
        (Form::Struct(_) | Form::Map(_), Value::Object(members)) => {
            for (name, value) in members {
                let Some(at) = form.member(name) else { continue };
                let mut below = Set::default();
                let whole = owned(at, value, &mut below);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                out.put(Element::Field(name.clone().into()), whole || empty || matches!(form, Form::Map(_)), below);
            }
            false
        }
        (Form::Keyed(item, _) | Form::Set(item), Value::Array(items)) => {
            for (element, same) in keyed(form, items) {
                let mut below = Set::default();
                if let [one] = same.as_slice() {
                    owned(item, one, &mut below);
                }
                out.put(element, true, below);
            }
            out.sort();
            false
        }
        (Form::Struct(_) | Form::Map(_) | Form::Keyed(..) | Form::Set(_), _) => false,
        (Form::Scalar(_), _) | (Form::AtomicStruct(_) | Form::AtomicMap(_) | Form::AtomicList(_) | Form::Opaque, _) => {
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn t(kind: &str) -> Place<'static> {
        Place::root(kedge_api::schema::get(&format!("io.k8s.api.{kind}")).unwrap())
    }

    #[test]
    fn what_is_written_on_creation_is_what_upstreams_encoder_would_not_have_written() {
        let created = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d", "labels": {"a": "b"}},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "updateStrategy": {"rollingUpdate": {"maxSurge": 0}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "resources": {}}]}}}, "status": {}});
        let diff = compare(t("apps.v1.DaemonSet"), &json!({}), &created);
        assert_eq!(
            Value::Object(diff.written().encode()),
            json!({"f:apiVersion": {}, "f:kind": {}, "f:metadata": {"f:name": {}, "f:labels": {".": {}, "f:a": {}}},
                "f:spec": {"f:selector": {}, "f:updateStrategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
                    "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {}}}}}}})
        );
    }

    #[test]
    fn what_is_always_written_is_no_change_when_it_comes_empty() {
        let created = json!({"metadata": {"name": "e"}, "involvedObject": {"name": "x"}, "eventTime": null, "firstTimestamp": null,
            "reportingComponent": "", "count": 1});
        let diff = compare(t("core.v1.Event"), &json!({}), &created);
        assert_eq!(diff.written().paths(), [".count", ".involvedObject", ".metadata.name"]);
    }

    #[test]
    fn changes_are_told_apart() {
        let old = json!({"data": {"a": "1", "b": "2"}, "metadata": {"finalizers": ["x"]}});
        let new = json!({"data": {"a": "1", "b": "3", "c": "4"}, "binaryData": {}, "metadata": {}});
        let diff = compare(t("core.v1.ConfigMap"), &old, &new);
        assert_eq!(diff.added, Set::of_fields(&["binaryData", "data.c"]));
        assert_eq!(diff.modified, Set::of_fields(&["data.b"]));
        assert_eq!(diff.removed.paths(), [".metadata.finalizers", ".metadata.finalizers[=\"x\"]"]);
        assert!(compare(t("core.v1.ConfigMap"), &new, &new).is_empty());
    }

    #[test]
    fn a_key_that_stands_twice_is_one_item() {
        let spec = |ports: Value| json!({"spec": {"ports": ports}});
        let (one, two) = (json!({"port": 80}), json!({"port": 80, "name": "b"}));
        let diff = |a: Value, b: Value| compare(t("core.v1.Service"), &spec(a), &spec(b));
        let twice = json!([one, two]);
        assert!(diff(twice.clone(), twice.clone()).is_empty());
        assert_eq!(diff(twice.clone(), json!([two, one])).modified.paths(), [".spec.ports[port=80,protocol=\"TCP\"]"]);
        let less = diff(twice, json!([one]));
        assert_eq!(less.removed.paths(), [".spec.ports[port=80,protocol=\"TCP\"]"]);
        let item = ".spec.ports[port=80,protocol=\"TCP\"]";
        assert_eq!(less.added.paths(), [item.to_owned(), format!("{item}.port")]);
    }

    #[test]
    fn an_applied_object_owns_its_leaves_and_items() {
        let config = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}, "externalIPs": []},
            "status": {}});
        assert_eq!(
            Value::Object(fields(t("core.v1.Service"), &config).encode()),
            json!({"f:metadata": {"f:name": {}}, "f:status": {}, "f:spec": {"f:selector": {},
                "f:externalIPs": {}, "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}})
        );
    }
}
