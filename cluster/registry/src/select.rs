//! Which objects a list or watch is about.

use std::sync::Arc;

use kedge_api::selector::{FieldSelector, Selector};
use kedge_api::{Change, Object, Options, Resource, Status};

use crate::strategy::is_common_field;
use crate::table::Row;

/// What is said of a field by which objects cannot be chosen; some kinds have words of their own.
fn unknown(resource: &Resource, field: &str) -> String {
    match &*resource.kind {
        "Job" if !resource.selectable.is_empty() => format!("field label {field:?} not supported for Job"),
        "ResourceSlice" if !resource.selectable.is_empty() => {
            let api_version = resource.api_version();
            format!("field label not supported for {api_version}, Kind=ResourceSlice: {field}")
        }
        _ if resource.selectable.is_empty() && resource.custom.is_none() => {
            format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {field}"),
    }
}

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
        let fields = match options.field_selector.as_deref() {
            Some(text) => FieldSelector::parse(text).map_err(refused)?,
            None => FieldSelector::default(),
        };
        let resource = &row.resource;
        for term in &fields.terms {
            let field = term.field.as_str();
            // Where upstream has no rule of a kind's own, the namespace is a field of any: of the cluster's objects it is empty.
            let plain = resource.selectable.is_empty() && resource.custom.is_none();
            let any = plain && field == "metadata.namespace";
            if !any && !is_common_field(resource, field) && !resource.selects(field) {
                return Err(Status::bad_request(unknown(resource, field)));
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
