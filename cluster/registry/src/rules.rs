//! Rules of custom resources that whoever runs the registry brings along, beyond what their schema says.

use kedge_api::Resource;
use serde_json::Value;

use crate::errors::{Errors, Path};

/// Purely decides: it is asked again for a write that is tried again.
pub trait Rules: std::fmt::Debug + Send + Sync {
    /// What is wrong with an object, new or in the place of `old`: the dotted path of a field, and why.
    fn check(&self, resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<(&'static str, String)>;
}

pub(crate) fn check(
    rules: Option<&dyn Rules>,
    resource: &Resource,
    new: &Value,
    old: Option<&Value>,
    errors: &mut Errors,
) {
    for (path, why) in rules.into_iter().flat_map(|rules| rules.check(resource, new, old)) {
        errors.invalid_unshown(&Path::root(path), &why);
    }
}
