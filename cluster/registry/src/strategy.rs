//! How one resource behaves: functions that the verbs call, each with a default that does nothing.

use std::sync::Arc;

use kedge_api::{Resource, Snapshot, Status, User};
use serde_json::Value;

use crate::errors::Errors;
use crate::names;
use crate::settings::Settings;

/// What admission may look at beside the object: the state at the moment.
pub(crate) struct Scope<'a> {
    pub(crate) snapshot: &'a Snapshot,
}

/// Among whom is chosen, and by what rules.
pub(crate) struct Others<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// Objects that are not in the snapshot yet, but have chosen already.
    pub(crate) pending: &'a [Arc<Value>],
    pub(crate) settings: &'a Settings,
    /// Nothing will be stored.
    pub(crate) dry_run: bool,
}

/// What is wrong with a field is one of the errors; what else goes wrong, a status.
pub(crate) type Allocate = fn(&Others<'_>, new: &mut Value, old: Option<&Value>, &mut Errors) -> Result<(), Status>;

#[derive(Clone, Copy)]
pub(crate) struct Strategy {
    pub(crate) name: names::Check,
    /// How often a kind's own rules look at the metadata of a changed object, after the rules of every store: at what changed, and at the whole.
    pub(crate) metadata_checks: (usize, usize),
    /// The group that validation errors name, if not the row's.
    pub(crate) error_group: Option<&'static str>,
    /// `metadata.generation` counts changes of the specification.
    pub(crate) generation: bool,
    /// … and of annotations, or labels.
    pub(crate) counts_annotations: bool,
    pub(crate) counts_labels: bool,
    /// There is a `status`, written through its subresource only.
    pub(crate) status: bool,
    /// What a write of the status cannot change: its fields have no new owner.
    pub(crate) status_resets: &'static [&'static str],
    /// A new object may bring its status along.
    pub(crate) keeps_status_on_create: bool,
    /// A PUT without `resourceVersion` replaces whatever is there.
    pub(crate) unconditional_update: bool,
    /// A PUT of what is not there creates it.
    pub(crate) create_on_update: bool,
    /// A DELETE answers the object instead of a Status.
    pub(crate) returns_deleted: bool,
    /// Dependents are orphaned unless the request says otherwise.
    pub(crate) orphans: bool,
    pub(crate) default: fn(&mut Value),
    /// A new object's first part, where it is empty, is the second until the object is stored: what is added to one is added to both.
    pub(crate) borrows: Option<(&'static str, &'static str)>,
    /// Notes on a new object who asks for it.
    pub(crate) stamp: fn(&User, &mut Value),
    /// Server-owned fields of a new object; runs before validation.
    pub(crate) prepare_create: fn(&mut Value),
    pub(crate) prepare_update: fn(new: &mut Value, old: &Value),
    /// For the status subresource; status itself is already in place, all else is the old object's.
    pub(crate) prepare_status: fn(new: &mut Value, old: &Value),
    /// What a new object needs beside it.
    pub(crate) validate_within: fn(&Snapshot, &Value, &mut Errors),
    /// What only a new object must not have.
    pub(crate) validate_create: fn(&Value, &mut Errors),
    /// The whole object, new or changed.
    pub(crate) validate: fn(&Value, &mut Errors),
    pub(crate) validate_update: fn(new: &Value, old: &Value, &mut Errors),
    pub(crate) validate_status: fn(new: &Value, old: &Value, &mut Errors),
    pub(crate) warnings: fn(new: &Value, old: Option<&Value>) -> Vec<String>,
    /// For the status subresource.
    pub(crate) status_warnings: fn(&Value) -> Vec<String>,
    /// Objects that are not kept, but made when asked for.
    pub(crate) made: Option<fn() -> Vec<Value>>,
    /// Chooses what must be unique in the cluster: addresses and ports. Runs alone, between preparation and validation.
    pub(crate) allocate: Option<Allocate>,
    /// How long a deletion waits: seconds from the request's wish.
    pub(crate) grace: Option<fn(&Value, Option<i64>) -> i64>,
    /// Held back from deletion by something else than finalizers: a namespace by its content.
    pub(crate) held: fn(&Value) -> bool,
    /// Further marks of an object that waits for its deletion.
    pub(crate) on_delete: fn(&mut Value),
    /// Such an object says that it has no grace period, and counts its deletion as a change.
    pub(crate) marks_grace: bool,
    /// Some objects may never be deleted, and say why.
    pub(crate) may_delete: fn(&str) -> Result<(), String>,
    /// The value of a selectable field of an encoded object; empty if it has none.
    pub(crate) field: fn(&[u8], &str) -> String,
}

impl Strategy {
    /// What is wrong with an object that takes another's place.
    pub(crate) fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let check = |object: &Value, mut errors: Errors| {
            (self.validate)(object, &mut errors);
            (self.validate_update)(object, old, &mut errors);
            errors
        };
        let mut found = check(new, Errors::default());
        if found.breaks_late_rules() {
            let before = check(old, Errors::default());
            if before.breaks_late_rules() {
                found = check(new, Errors::tolerating(before));
            }
        }
        errors.append(found);
    }

    pub(crate) const PLAIN: Self = Self {
        name: names::subdomain,
        metadata_checks: (1, 0),
        error_group: None,
        generation: false,
        counts_annotations: false,
        counts_labels: false,
        status: false,
        status_resets: &["spec"],
        keeps_status_on_create: false,
        unconditional_update: true,
        create_on_update: false,
        returns_deleted: false,
        orphans: false,
        default: |_| {},
        borrows: None,
        stamp: |_, _| {},
        prepare_create: |_| {},
        prepare_update: |_, _| {},
        prepare_status: |_, _| {},
        validate_within: |_, _, _| {},
        validate_create: |_, _| {},
        validate: |_, _| {},
        validate_update: |_, _, _| {},
        validate_status: |_, _, _| {},
        warnings: |_, _| Vec::new(),
        status_warnings: |_| Vec::new(),
        made: None,
        allocate: None,
        grace: None,
        held: |_| false,
        on_delete: |_| {},
        marks_grace: true,
        may_delete: |_| Ok(()),
        field: crate::pick::pick,
    };

    /// A resource with `spec`, `status` and generation.
    pub(crate) const SPEC: Self = Self { generation: true, status: true, ..Self::PLAIN };
}

/// The fields of a selector that every resource has.
pub(crate) fn is_common_field(resource: &Resource, field: &str) -> bool {
    field == "metadata.name" || (resource.namespaced && field == "metadata.namespace")
}
