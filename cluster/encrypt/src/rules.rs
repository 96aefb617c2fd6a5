//! Which providers a resource has: its own rule's, else its group's, else everyone's.

use std::fmt;
use std::sync::Arc;

use kedge_api::GroupResource;

use crate::Provider;

/// What a rule is about: `secrets`, `widgets.example.com`, `*.` or `*.apps` (a group), `*.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub resource: String,
    pub group: String,
}

impl Pattern {
    pub fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { resource: resource.to_owned(), group: group.to_owned() }
    }

    pub fn everything() -> Self {
        Self { resource: "*".to_owned(), group: "*".to_owned() }
    }

    fn matches(&self, resource: &str, group: &str) -> bool {
        (self.resource == "*" || self.resource == resource) && (self.group == "*" || self.group == group)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, group } = self;
        if group.is_empty() && resource != "*" { f.write_str(resource) } else { write!(f, "{resource}.{group}") }
    }
}

/// A rule that would never be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("resource \"{rule}\" is masked by earlier rule \"{by}\"")]
pub struct Masked {
    pub rule: Pattern,
    pub by: Pattern,
}

/// A narrow rule never stands behind a wider one: the first that matches is the narrowest.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<(Pattern, Vec<Arc<Provider>>)>);

impl Rules {
    pub(crate) fn new(rules: impl IntoIterator<Item = (Pattern, Vec<Arc<Provider>>)>) -> Result<Self, Masked> {
        let mut known: Vec<(Pattern, Vec<Arc<Provider>>)> = Vec::new();
        for (rule, providers) in rules {
            match known.iter_mut().find(|(earlier, _)| earlier.matches(&rule.resource, &rule.group)) {
                None => known.push((rule, providers)),
                // The same once more: as if its providers stood behind those of the first.
                Some((earlier, has)) if *earlier == rule => has.extend(providers),
                Some((by, _)) => return Err(Masked { rule, by: by.clone() }),
            }
        }
        Ok(Self(known))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Pattern, &[Arc<Provider>])> {
        self.0.iter().map(|(rule, providers)| (rule, providers.as_slice()))
    }

    pub(crate) fn of(&self, resource: &GroupResource) -> Option<&[Arc<Provider>]> {
        let (name, group) = (resource.resource.as_str(), resource.group.as_str());
        self.0.iter().find(|(rule, _)| rule.matches(name, group)).map(|(_, providers)| providers.as_slice())
    }
}
