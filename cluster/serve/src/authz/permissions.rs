//! What expressions of policies ask about users.

use kedge_api::User;
use kedge_registry::{Check, Permissions};

use super::{Attributes, Authorizer, Selectors};

impl Permissions for Authorizer {
    fn may(&self, who: &User, check: &Check) -> Result<String, String> {
        let attributes = match &check.path {
            Some(path) => Attributes::path(who, &check.verb, path),
            None => Attributes {
                subresource: &check.subresource,
                namespace: &check.namespace,
                name: &check.name,
                selectors: Selectors { fields: &check.field_selector, labels: &check.label_selector },
                ..Attributes::resource(who, &check.verb, &check.group, &check.resource)
            },
        };
        self.decide_here(&attributes)
            .map_err(|refusal| if refusal.failed.is_empty() { refusal.why } else { refusal.failed })
    }
}
