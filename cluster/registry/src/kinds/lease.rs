//! Lease: a heartbeat, or who leads. Rewritten every few seconds, so it never touches the disk.

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{columns, resource};
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[columns::text("Holder", |o| o.text("spec.holderIdentity").into()), columns::AGE];

pub(crate) fn row() -> Row {
    let base = resource("coordination.k8s.io", "leases", "lease", "Lease", "io.k8s.api.coordination.v1.Lease", COLUMNS);
    let resource = Resource { volatile: true, ..base };
    let strategy =
        Strategy { create_on_update: true, unconditional_update: false, default, validate, ..Strategy::PLAIN };
    Row::new(resource, strategy)
}

fn default(lease: &mut Value) {
    lease.fill("spec", json!({}));
    // Both belong to coordinated leader election, which is off by default upstream, where they are then dropped.
    lease.cut("spec.strategy");
    lease.cut("spec.preferredHolder");
}

fn validate(lease: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    if let Some(seconds) = lease.int("spec.leaseDurationSeconds").filter(|s| *s <= 0) {
        errors.invalid(&spec.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    if let Some(count) = lease.int("spec.leaseTransitions").filter(|n| *n < 0) {
        errors.invalid(&spec.child("leaseTransitions"), count, "must be greater than or equal to 0");
    }
}
