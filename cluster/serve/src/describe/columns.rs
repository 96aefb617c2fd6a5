//! What columns of Tables show, as the fields that they are made of are described. Columns that are made of several have no description.
//!
//! `columns.txt` says which field is whose: kind, column, type (below `io.k8s.api`) and field.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::openapi::texts::Texts;

const FIELDS: &str = include_str!("columns.txt");
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// Columns of any kind.
const COMMON: [(&str, &str); 3] = [("Name", "name"), ("Age", "creationTimestamp"), ("Created At", "creationTimestamp")];

/// By kind and column, `Pod: IP`; those of any kind by no kind. Made when the first Table is asked for.
static DESCRIBED: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let texts = Texts::unpack();
    let own = fields().filter_map(|(kind, column, of, field)| {
        Some((key(kind, column), texts.of_field(&format!("io.k8s.api.{of}"), field)?))
    });
    let common = COMMON.iter().filter_map(|(column, field)| Some((key("", column), texts.of_field(META, field)?)));
    own.chain(common).collect()
});

fn key(kind: &str, column: &str) -> String {
    format!("{kind}: {column}")
}

fn fields() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    FIELDS.lines().filter_map(|line| {
        let (kind, rest) = line.split_once(": ")?;
        let (column, rest) = rest.split_once(" = ")?;
        let (of, field) = rest.split_once(' ')?;
        Some((kind, column, of, field))
    })
}

/// What a column of a kind shows.
pub fn describe(kind: &str, column: &str) -> &'static str {
    let found = DESCRIBED.get(&key(kind, column)).or_else(|| DESCRIBED.get(&key("", column)));
    found.map(String::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_table_is_one() {
        assert_eq!(fields().count(), FIELDS.lines().count());
        for (kind, column, of, field) in fields() {
            assert!(!describe(kind, column).is_empty(), "{kind} {column}: {of} has no {field}");
        }
        assert!(describe("Pod", "Age").starts_with("CreationTimestamp is a timestamp"));
        assert!(describe("Thing", "Name").starts_with("Name must be unique within a namespace. "));
        assert_eq!(describe("Pod", "Ready"), "");
    }
}
