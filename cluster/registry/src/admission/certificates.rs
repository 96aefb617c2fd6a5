//! Nobody asks for a certificate that makes its bearer all-powerful.

use kedge_api::Status;
use serde_json::Value;

use super::Attributes;
use crate::kinds::certificate::organizations;
use crate::strategy::Scope;
use crate::value::Look as _;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";

pub(super) fn restrict_subject(
    _: &Scope<'_>,
    attributes: &Attributes<'_>,
    csr: &Value,
    _: &mut Vec<String>,
) -> Result<(), Status> {
    let restricted = csr.text("spec.signerName") == SIGNER;
    if restricted && organizations(csr.text("spec.request")).iter().any(|o| o == MASTERS) {
        let why = format!("use of {SIGNER} signer with {MASTERS} group is not allowed");
        return Err(attributes.forbidden(csr, &why));
    }
    Ok(())
}
