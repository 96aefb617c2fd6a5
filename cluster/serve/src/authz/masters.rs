//! The group `system:masters`: may do anything, whatever roles say, so that nobody can lock the administrator out.

use kedge_api::User;
use kedge_api::rbac::{MASTERS, Rule};

use super::{Attributes, Decision, Source};

#[derive(Debug)]
pub struct Masters;

/// Whether the user is one of them.
pub fn is_master(user: &User) -> bool {
    user.groups.iter().any(|group| group == MASTERS)
}

impl Source for Masters {
    fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        // As upstream: masters are not asked for a reason.
        if is_master(attributes.user) { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) }
    }

    fn rules(&self, _: &User, _: &str) -> Vec<Rule> {
        Vec::new()
    }
}
