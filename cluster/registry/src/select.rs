//! Which objects a list or watch is about.

use std::sync::Arc;

use kedge_api::selector::{FieldSelector, Selector};
use kedge_api::{Change, Object, Options, Status};

use crate::strategy::is_common_field;
use crate::table::Row;

pub(crate) struct Selection {
    labels: Selector,
    fields: FieldSelector,
    namespace: String,
    row: Arc<Row>,
}

impl Selection {
    pub(crate) fn parse(row: &Arc<Row>, namespace: &str, options: &Options) -> Result<Self, Status> {
        let refused = |e: kedge_api::selector::SelectorError| Status::bad_request(e.to_string());
        let labels = match options.label_selector.as_deref() {
            Some(text) => Selector::parse(text).map_err(refused)?,
            None => Selector::everything(),
        };
        let mut fields = match options.field_selector.as_deref() {
            Some(text) => FieldSelector::parse(text).map_err(refused)?,
            None => FieldSelector::default(),
        };
        let resource = &row.resource;
        for term in &mut fields.terms {
            let field = term.field.as_str();
            // Cluster-scoped built-ins take the term, too: it just never matches anything but the empty text.
            let known = is_common_field(resource, field) || field == "metadata.namespace" || resource.selects(field);
            if !known {
                return Err(Status::bad_request(if resource.selectable.is_empty() && resource.custom.is_none() {
                    format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
                } else {
                    format!("field label not supported: {field}")
                }));
            }
        }
        Ok(Self { labels, fields, namespace: namespace.to_owned(), row: row.clone() })
    }

    /// All objects of the resource.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.terms.is_empty()
    }

    /// The one name that can match.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.required("metadata.name")
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        if !self.namespace.is_empty() && *object.key.namespace != *self.namespace {
            return false;
        }
        if !self.labels.is_everything() {
            static NONE: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
            if !self.labels.matches(object.meta.labels.as_ref().unwrap_or(&NONE)) {
                return false;
            }
        }
        self.fields.terms.iter().all(|term| {
            let equal = match term.field.as_str() {
                "metadata.name" => *object.key.name == *term.value,
                "metadata.namespace" => *object.key.namespace == *term.value,
                field => (self.row.strategy.field)(&object.json, field) == term.value,
            };
            equal == term.equal
        })
    }

    /// How this selection sees a change: what leaves it is deleted, what enters it is new.
    pub(crate) fn see(&self, change: Change) -> Option<Change> {
        if self.is_everything() && self.namespace.is_empty() {
            return Some(change);
        }
        let before = change.before.filter(|o| self.matches(o));
        let after = change.after.filter(|o| self.matches(o));
        (before.is_some() || after.is_some()).then_some(Change { before, after, ..change })
    }
}
