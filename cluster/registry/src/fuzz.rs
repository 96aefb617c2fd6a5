//! What must hold of engines that requests reach through much else, whatever comes: what fuzzers throw at them.

use std::sync::{Arc, LazyLock};

use kedge_api::PatchType;
use serde_json::{Value, json};

use crate::apply::place;
use crate::custom::json_path::JsonPath;
use crate::custom::schema::Schema;
use crate::custom::{rules, shape, validate};
use crate::errors::Errors;
use crate::table::{Row, Table};
use crate::value::{DEEPEST, Look as _, is_deeper};
use crate::{patch, structure};

fn row(kind: &str) -> Option<&'static Arc<Row>> {
    static TABLE: LazyLock<Table> = LazyLock::new(crate::kinds::table);
    TABLE.rows().find(|row| row.resource.kind == kind)
}

/// `{"of": KIND, "type": …, "current": …, "patch": …}`: what a patch of each type makes of an object.
pub fn patched(input: &Value) {
    let Some(row) = row(input.text("of")) else { return };
    let types = [("json", PatchType::Json), ("merge", PatchType::Merge), ("strategic", PatchType::Strategic)];
    let Some((_, kind)) = types.into_iter().find(|(name, _)| *name == input.text("type")) else { return };
    let (current, change) = (input.look("current"), input.look("patch"));
    let Ok(once) = patch::patch(kind, &row.resource, current, change) else { return };
    let again = |on: &Value| patch::patch(kind, &row.resource, on, change).ok();
    assert_eq!(again(current).as_ref(), Some(&once), "it is not decided by what it is given");
    match kind {
        PatchType::Json => assert!(is_deeper(current, DEEPEST) || !is_deeper(&once, DEEPEST)),
        // What merges is there when it has merged.
        PatchType::Merge => assert_eq!(again(&once).as_ref(), Some(&once)),
        PatchType::Strategic | PatchType::Apply => {}
    }
}

/// `{"schema": …, "value": …, "old": …}`: a schema is checked; values are brought into its form and held against it.
pub fn schema(input: &Value) {
    let mut crd = json!({"spec": {"group": "e.com", "scope": "Namespaced", "names": {"plural": "ts", "singular": "t", "kind": "T", "listKind": "TList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": input.look("schema")}}]}});
    let Some(row) = row("CustomResourceDefinition") else { return };
    let conformed = kedge_api::schema::get(&row.resource.schema).map(|of| structure::conform(of, &mut crd));
    if !matches!(conformed, Some(Ok(_))) {
        return;
    }
    let strategy = &row.strategy;
    (strategy.default)(&mut crd);
    let mut errors = Errors::default();
    (strategy.validate)(&crd, &mut errors);
    if !errors.is_empty() {
        return;
    }
    let versions = crd.items("spec.versions");
    let Some(version) = versions.first() else { return };
    let schema = Schema::of(version.look("schema.openAPIV3Schema"));
    let formed = |value: &Value| {
        let mut value = value.clone();
        shape::metadata(&mut value, &schema, true).ok()?;
        shape::prune(&mut value, &schema, true);
        shape::default(&mut value, &schema);
        Some(value)
    };
    let Some(new) = formed(input.look("value")) else { return };
    // What has the form of the schema keeps it.
    assert_eq!(formed(&new).as_ref(), Some(&new));
    let old = formed(input.look("old"));
    for old in [None, old.as_ref(), Some(&new)] {
        let mut errors = Errors::default();
        validate::value(&new, old, &schema, None, &mut errors);
        validate::lists(&new, &schema, None, &mut errors);
        validate::embedded(&new, &schema, None, true, &mut errors);
        rules::check(&new, old, &schema, &mut errors);
    }
    // An update that changes nothing is let be, however strict the schema has become.
    let mut errors = Errors::default();
    validate::value(&new, Some(&new), &schema, None, &mut errors);
    assert!(errors.is_empty());
    let _place: place::Place<'_> = schema.place();
}

/// A column's path, and what it finds.
pub fn json_path(text: &str, on: &Value) {
    let Ok(path) = JsonPath::parse(text) else { return };
    let found = path.find(on);
    assert!(found.len() <= 1 << 20, "{} values", found.len());
    if let Some(names) = path.simple() {
        assert!(found.len() <= 1, "{names:?}");
    }
}
