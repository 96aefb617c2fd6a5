//! The variable `authorizer` of expressions.

use std::sync::Arc;

use kedge_api::User;
use kedge_cel::Value as Cel;
use kedge_cel::authorizer::{Asking, Authorizer, Check, Decision};

use super::Writer;
use super::matching::Asked;
use crate::{Permissions, Registry};

/// Answers for who makes the request, or for the service account that an expression names.
struct Asker {
    who: User,
    permissions: Arc<dyn Permissions>,
}

impl Authorizer for Asker {
    fn decide(&self, check: &Check) -> Decision {
        let account = check.account.as_ref().map(|(namespace, name)| {
            let groups = format!("system:serviceaccounts:{namespace}");
            let groups = ["system:serviceaccounts", &groups, "system:authenticated"];
            User::new(&format!("system:serviceaccount:{namespace}:{name}"), &groups)
        });
        match self.permissions.may(account.as_ref().unwrap_or(&self.who), check) {
            Ok(reason) => Decision { allowed: true, reason, ..Decision::default() },
            Err(reason) => Decision { reason, ..Decision::default() },
        }
    }
}

/// None where there is nobody to ask.
pub(super) fn asking(registry: &Registry, writer: &Writer<'_>, asked: &Asked<'_>) -> Option<Cel> {
    let permissions = registry.options.permissions.clone()?;
    let id = &asked.attributes.resource.id;
    let request = Check {
        group: id.group.to_string(),
        resource: id.resource.to_string(),
        subresource: asked.attributes.subresource.to_owned(),
        namespace: asked.namespace().to_owned(),
        name: asked.name().to_owned(),
        ..Check::default()
    };
    Some(Asking::start(Arc::new(Asker { who: writer.who.clone(), permissions }), request))
}
