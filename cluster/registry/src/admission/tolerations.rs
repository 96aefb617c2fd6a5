//! A pod that says nothing about it is patient with a node in trouble for a while.

use kedge_api::Status;
use serde_json::Value;

use super::Attributes;
use crate::kinds::pod::default::tolerate;
use crate::strategy::Scope;

pub(super) fn default(_: &Scope<'_>, _: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    tolerate(pod);
    Ok(())
}
