//! What a user may do. Authorities are asked in order; the first that allows or denies ends it, and nobody's silence allows.
//!
//! ```text
//! Attributes ─▶ masters ─▶ node ─▶ rbac            or, as a configuration says, outside (webhooks) and these in any order
//! Guard ─▶ restrict: what may a node write?
//!       ├▶ signers: may a user approve, or sign, for a signer?
//!       └▶ escalate: may a user hand on what a role grants? ─▶ rbac
//! ```

mod escalate;
pub mod masters;
pub mod node;
mod outside;
mod permissions;
pub mod rbac;
mod restrict;
mod signers;

use std::pin::pin;
use std::sync::Arc;

use futures::FutureExt as _;
use kedge_api::rbac::{GROUP, Rule};
use kedge_api::resource::known;
use kedge_api::{GroupResource, Informer, Reason, Status, Target, User, Verb};
use kedge_registry::Guard;
use serde_json::Value;

use crate::clock::Clock;
use crate::document::{Given, Mistakes, Watched};
use crate::wire::path::{About, Asked, selected_name};
use crate::wire::query::Query;
use masters::Masters;
use node::Nodes;
use outside::{Webhook, config};
use rbac::Rbac;

/// One thing someone wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a User,
    pub verb: &'a str,
    pub what: What<'a>,
    pub group: &'a str,
    /// Empty where it is not told.
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty for cluster scope, or for all namespaces.
    pub namespace: &'a str,
    pub name: &'a str,
    pub selectors: Selectors<'a>,
}

/// What a list, watch or deletion of many is kept to, as it is written. An authority may allow a part of what it does not allow whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selectors<'a> {
    pub fields: &'a str,
    pub labels: &'a str,
}

impl<'a> Selectors<'a> {
    pub fn of(query: &'a Query) -> Self {
        let text = |name| query.first(name).unwrap_or_default();
        Self { fields: text("fieldSelector"), labels: text("labelSelector") }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    Resource,
    Path(&'a str),
}

impl<'a> Attributes<'a> {
    pub fn resource(user: &'a User, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self {
            user,
            verb,
            what: What::Resource,
            group,
            version: "",
            resource,
            subresource: "",
            namespace: "",
            name: "",
            selectors: Selectors::default(),
        }
    }

    pub fn path(user: &'a User, verb: &'a str, path: &'a str) -> Self {
        Self { what: What::Path(path), ..Self::resource(user, verb, "", "") }
    }

    /// Of a request inside this process.
    pub fn request(user: &'a User, verb: Verb, target: &'a Target, selectors: Selectors<'a>) -> Self {
        // A connection is got or created; in-process callers make none.
        let verb = if verb == Verb::Connect { "create" } else { verb.as_str() };
        let of_many = matches!(verb, "list" | "watch" | "deletecollection");
        Self {
            version: &target.version,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name: &target.name,
            selectors: if of_many { selectors } else { Selectors::default() },
            ..Self::resource(user, verb, target.resource.group.as_str(), target.resource.resource.as_str())
        }
    }

    /// Takes the name that a list or watch selects for its name.
    pub fn count_selected_name(&mut self) {
        if self.name.is_empty() && matches!(self.verb, "list" | "watch" | "deletecollection") {
            self.name = selected_name(self.selectors.fields).unwrap_or_default();
        }
    }

    /// Of a request that came over HTTP.
    pub fn asked(user: &'a User, asked: &'a Asked, selectors: Selectors<'a>) -> Self {
        match &asked.about {
            About::Path { verb } => Self::path(user, verb, &asked.path),
            About::Resource(resource) => {
                let mut attributes = Self::request(user, resource.verb, &resource.target, selectors);
                // A namespace itself is in itself, as upstream has it.
                if attributes.resource == "namespaces" && attributes.group.is_empty() && attributes.namespace.is_empty()
                {
                    attributes.namespace = attributes.name;
                }
                attributes.count_selected_name();
                attributes
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// With who or what allows it; may be empty.
    Allow(String),
    /// Whatever those that come after would say.
    Deny(String),
    /// With what upstream would append to its message; may be empty.
    NoOpinion(String),
    /// It could not be asked.
    Failed { why: String, denies: bool },
}

/// Why something is not allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    pub why: String,
    /// Somebody said so, rather than nobody the contrary.
    pub denied: bool,
    /// Why one of those who could have allowed it was not asked; empty if all were.
    pub failed: String,
}

impl Refusal {
    /// What the client sees.
    pub fn status(&self, attributes: &Attributes<'_>) -> Status {
        match self.failed.as_str() {
            "" => forbidden(attributes, &self.why),
            failed => Status::internal(failed.to_owned()),
        }
    }
}

/// Someone in this process who may know that a thing is allowed.
pub trait Source: Send + Sync {
    fn decide(&self, attributes: &Attributes<'_>) -> Decision;

    /// The rules that apply to a user in a namespace, as far as they can be listed.
    fn rules(&self, user: &User, namespace: &str) -> Vec<Rule>;
}

enum Authority {
    Here(Arc<dyn Source>),
    Outside(Box<Webhook>),
}

/// All authorities together.
pub struct Authorizer {
    order: Watched<Vec<Authority>>,
    /// Also asked what a role grants.
    roles: Arc<Rbac>,
    informer: Arc<dyn Informer>,
}

impl Guard for Authorizer {
    fn may_write(&self, who: &User, target: &Target, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        if old.is_none() && !target.name.is_empty() && target.subresource.is_empty() {
            self.may_create(who, target)?;
        }
        if let Some(node) = node::node_of(who) {
            restrict::check(node, &self.informer.snapshot(), target, new, old)?;
        }
        if let Some(old) = old.filter(|_| target.resource == known::CERTIFICATE_SIGNING_REQUESTS) {
            self.may_certify(who, target, new, old)?;
        }
        if target.resource.group.as_str() == GROUP { self.may_grant(who, target, new, old) } else { Ok(()) }
    }
}

impl Authorizer {
    /// Upstream's order: masters, nodes, roles.
    pub fn new(informer: Arc<dyn Informer>) -> Self {
        let roles = Arc::new(Rbac::new(informer.clone()));
        let nodes = Arc::new(Nodes::new(informer.clone()));
        let order: [Arc<dyn Source>; 3] = [Arc::new(Masters), nodes, roles.clone()];
        let order = Watched::fixed(order.into_iter().map(Authority::Here).collect());
        Self { order, roles, informer }
    }

    /// As an `AuthorizationConfiguration` says, if there is one. Masters come first, whatever it says.
    pub fn open(informer: Arc<dyn Informer>, given: Option<Given>, clock: Clock) -> Result<Self, Mistakes> {
        let base = Self::new(informer.clone());
        let Some(given) = given else { return Ok(base) };
        let (nodes, roles) = (Arc::new(Nodes::new(informer)), base.roles.clone());
        let order = Watched::open(given, move |document| {
            let told = config::parse(document)?.into_iter().map(|asked| match asked {
                config::Asked::Node => Authority::Here(nodes.clone()),
                config::Asked::Rbac => Authority::Here(roles.clone()),
                config::Asked::Webhook(settings) => {
                    Authority::Outside(Box::new(Webhook::new(*settings, clock.clone())))
                }
            });
            Ok(std::iter::once(Authority::Here(Arc::new(Masters))).chain(told).collect())
        })?;
        Ok(Self { order, ..base })
    }

    /// Goes by the configuration as it changes. Never ends.
    pub async fn follow(&self) {
        self.order.follow().await;
    }

    /// Why it is allowed, or why not, as far as anyone said.
    pub async fn decide(&self, attributes: &Attributes<'_>) -> Result<String, Refusal> {
        let (mut reasons, mut failures) = (Vec::new(), Vec::new());
        for authority in self.order.current().iter() {
            let decision = match authority {
                Authority::Here(source) => source.decide(attributes),
                Authority::Outside(webhook) => webhook.decide(attributes).await,
            };
            match decision {
                Decision::Allow(why) => return Ok(why),
                Decision::Deny(why) => return Err(Refusal { why, denied: true, failed: String::new() }),
                Decision::Failed { why, denies: true } => {
                    return Err(Refusal { why: String::new(), denied: true, failed: why });
                }
                Decision::Failed { why, denies: false } => failures.push(why),
                Decision::NoOpinion(why) if why.is_empty() => {}
                Decision::NoOpinion(why) => reasons.push(why),
            }
        }
        Err(Refusal { why: reasons.join("\n"), denied: false, failed: failures.join("\n") })
    }

    /// The same where nobody can wait but the thread: within an expression, or a write.
    fn decide_here(&self, attributes: &Attributes<'_>) -> Result<String, Refusal> {
        let mut decision = pin!(self.decide(attributes));
        // Nothing waits unless somebody outside is asked.
        match decision.as_mut().now_or_never() {
            Some(decided) => decided,
            None => tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(decision)),
        }
    }

    /// Whether what a user may do cannot be told in advance, for somebody outside is asked.
    pub fn asks_outside(&self) -> bool {
        self.order.current().iter().any(|authority| matches!(authority, Authority::Outside(_)))
    }

    /// A PUT or an apply that finds nothing creates, which is more than to change.
    fn may_create(&self, who: &User, target: &Target) -> Result<(), Status> {
        let attributes = Attributes::request(who, Verb::Create, target, Selectors::default());
        self.decide_here(&attributes).map(drop).map_err(|Refusal { why, .. }| {
            let (resource, name) = (&target.resource, &target.name);
            Status::about(Reason::Forbidden, resource, name, format!("{resource} {name:?} is forbidden: {why}"))
        })
    }

    /// Allowed, or the `Forbidden` that the client sees.
    pub async fn check(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        self.decide(attributes).await.map(drop).map_err(|refusal| refusal.status(attributes))
    }

    /// As far as they can be listed.
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let rules = |authority: &Authority| match authority {
            Authority::Here(source) => source.rules(user, namespace),
            Authority::Outside(_) => Vec::new(),
        };
        self.order.current().iter().flat_map(rules).collect()
    }
}

/// What the client sees who may not.
fn forbidden(a: &Attributes<'_>, why: &str) -> Status {
    let (user, verb) = (&a.user.name, a.verb);
    let mut text = match a.what {
        What::Path(path) => format!("User {user:?} cannot {verb} path {path:?}"),
        What::Resource => {
            let slash = if a.subresource.is_empty() { "" } else { "/" };
            let scope = match a.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            format!(
                "User {user:?} cannot {verb} resource \"{}{slash}{}\" in API group {:?} {scope}",
                a.resource, a.subresource, a.group
            )
        }
    };
    if !why.is_empty() {
        text = format!("{text}: {why}");
    }
    match a.what {
        What::Path(_) => {
            Status { details: Some(Box::default()), ..Status::new(Reason::Forbidden, format!("forbidden: {text}")) }
        }
        What::Resource => {
            let resource = GroupResource { group: a.group.into(), resource: a.resource.into() };
            let name = if a.name.is_empty() { String::new() } else { format!(" {:?}", a.name) };
            Status::about(Reason::Forbidden, &resource, a.name, format!("{resource}{name} is forbidden: {text}"))
        }
    }
}

#[cfg(test)]
mod tests;
