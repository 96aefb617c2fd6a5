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
    /// Some term is about more than the object's key.
    by_content: bool,
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
        let by_content = fields.terms.iter().any(|term| !term.field.starts_with("metadata."));
        Ok(Self { labels, fields, namespace: namespace.to_owned(), row: row.clone(), by_content })
    }

    /// All objects of the resource.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.terms.is_empty()
    }

    /// The one name that can match.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.required("metadata.name")
    }

    pub(crate) fn matches(&self, object: &Arc<Object>) -> bool {
        if !self.namespace.is_empty() && *object.key.namespace != *self.namespace {
            return false;
        }
        if !self.labels.is_everything() {
            static NONE: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
            if !self.labels.matches(object.meta.labels.as_ref().unwrap_or(&NONE)) {
                return false;
            }
        }
        // What cannot be shown is not left out, so that who shows it says why.
        let Ok(shown) = self.shown(object) else { return true };
        self.fields.terms.iter().all(|term| {
            let equal = match term.field.as_str() {
                "metadata.name" => *object.key.name == *term.value,
                "metadata.namespace" => *object.key.namespace == *term.value,
                field => (self.row.strategy.field)(&shown.json, field) == term.value,
            };
            equal == term.equal
        })
    }

    /// The object in the form that its selectable fields are of: other versions of a custom resource have other fields, or other defaults.
    fn shown(&self, object: &Arc<Object>) -> Result<Arc<Object>, Status> {
        match &self.row.custom {
            Some(custom) if self.by_content => custom.shown_here(&self.row.resource, object.clone()),
            _ => Ok(object.clone()),
        }
    }

    /// How this selection sees a change: what leaves it is deleted, what enters it is new.
    pub(crate) fn see(&self, change: Arc<Change>) -> Option<Arc<Change>> {
        if self.is_everything() && (self.namespace.is_empty() || *change.key.namespace == *self.namespace) {
            return Some(change);
        }
        let before = change.before.as_ref().filter(|o| self.matches(o));
        let after = change.after.as_ref().filter(|o| self.matches(o));
        if (before.is_some(), after.is_some()) == (change.before.is_some(), change.after.is_some()) {
            return Some(change);
        }
        let seen = || Change { before: before.cloned(), after: after.cloned(), ..Change::clone(&change) };
        (before.is_some() || after.is_some()).then(|| Arc::new(seen()))
    }
}
