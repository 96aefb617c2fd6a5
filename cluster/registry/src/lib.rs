//! The API machinery: a table of resources, and the verbs that work on any row of it.
//!
//! Owns what a request does to an object: decoding, defaulting, admission, validation, patching, the write. Never knows HTTP, TLS or who
//! may do what: requests arrive authenticated and authorized. Start reading at [`Registry::carry_out`].
//!
//! ```text
//! carry_out ─▶ get · list · watch ───────────────────────────────────────────────▶ Cache
//!           └▶ create · update · patch · delete · subresource
//!                └▶ structure::conform ─▶ Strategy::default ─▶ admission ─▶ Strategy::allocate, validate ─▶ Store::commit ─▶ Cache::reach
//! ```
#![forbid(unsafe_code)]

mod admission;
mod age;
mod allocation;
mod apply;
mod custom;
mod diff;
mod errors;
mod expressions;
#[doc(hidden)]
pub mod fuzz;
pub mod gojson;
mod golang;
mod kinds;
mod metadata;
mod names;
mod networks;
mod notes;
mod patch;
mod pick;
pub mod print;
mod rules;
mod select;
mod settings;
mod strategy;
mod structure;
mod table;
mod tasks;
mod value;
mod verbs;
mod webhooks;

use std::sync::Arc;

use async_trait::async_trait;
use kedge_api::{Answer, Reason, Request, Resource, Status, Target, User, Verb};
pub use kedge_cel::authorizer::Check;
use kedge_store::Store;
use kedge_watch::Cache;
use serde_json::Value;
use tokio::sync::watch;

pub use admission::Counted;
pub use kinds::volatile;
pub use notes::noting;
pub use rules::Rules;
pub use settings::Settings;
pub use table::{Row, Table};
pub use tasks::follow;
pub use verbs::bootstrap::bootstrap;
pub use webhooks::Webhooks;

/// Signs tokens of service accounts.
#[async_trait]
pub trait TokenIssuer: Send + Sync {
    /// Fills `status` of a defaulted and checked `TokenRequest` for the service account.
    async fn issue(&self, namespace: &str, name: &str, uid: &str, request: Value) -> Result<Value, Status>;
}

/// Knows what users may do; expressions of policies ask it.
pub trait Permissions: Send + Sync {
    /// Why, or why not.
    fn may(&self, who: &User, check: &Check) -> Result<String, String>;
}

/// Says whether someone may write an object as it is to become, where only the object tells: who has a role may not grant more than that,
/// and a node is kept to what is its own. Asked before the object is prepared and checked; an error is the client's answer.
pub trait Guard: Send + Sync {
    /// `old` is what is there already.
    fn may_write(&self, who: &User, target: &Target, new: &Value, old: Option<&Value>) -> Result<(), Status>;
}

#[derive(Clone)]
pub struct Options {
    pub settings: Settings,
    /// Without one, requests for tokens are refused.
    pub tokens: Option<Arc<dyn TokenIssuer>>,
    /// Without it, no admission webhook is asked.
    pub webhooks: Option<Arc<dyn Webhooks>>,
    /// Without one, policies cannot ask what a user may do.
    pub permissions: Option<Arc<dyn Permissions>>,
    /// Without one, whoever may write an object may write anything into it.
    pub guard: Option<Arc<dyn Guard>>,
    /// Rules of custom resources that are the server's own.
    pub rules: Option<Arc<dyn Rules>>,
    /// The wall clock.
    pub now: fn() -> jiff::Timestamp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            tokens: None,
            webhooks: None,
            permissions: None,
            guard: None,
            rules: None,
            now: jiff::Timestamp::now,
        }
    }
}

pub struct Registry {
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    /// Swapped whole when custom resources come or go; read at the begin of each request.
    table: watch::Sender<Arc<Table>>,
    options: Options,
    admission: Arc<admission::Counted>,
    policies: admission::policy::Compiled,
    queues: admission::quota::Queues,
    pending: allocation::Pending,
}

impl Registry {
    pub fn new(store: Arc<dyn Store>, cache: Arc<Cache>, options: Options) -> Self {
        let table = custom::rows::table(&kinds::table(), &cache.snapshot(), options.webhooks.as_ref());
        let table = watch::Sender::new(Arc::new(table));
        Self {
            store,
            cache,
            table,
            options,
            admission: Arc::default(),
            pending: Default::default(),
            policies: Default::default(),
            queues: Default::default(),
        }
    }

    /// The table of this moment.
    pub fn table(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    fn set_table(&self, table: Table) {
        self.table.send_replace(Arc::new(table));
    }

    /// What the expressions of a ValidatingAdmissionPolicy get wrong about the kinds that it is for: the `expressionWarnings` of its status.
    pub fn expression_warnings(&self, policy: &Value) -> Vec<Value> {
        expressions::typed::warnings(policy, &self.table())
    }

    /// What admission counts.
    pub fn admission(&self) -> &Arc<admission::Counted> {
        &self.admission
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Does what an authenticated and authorized request asks for. An empty `target.version` means the preferred one.
    pub async fn carry_out(&self, request: Request) -> Result<Answer, Status> {
        let target = &request.target;
        let row = self.table().find(&target.resource, &target.version).ok_or_else(no_resource)?.clone();
        let mut answer = self.dispatch(&row, request).await?;
        answer.warnings.splice(0..0, row.resource.deprecation());
        Ok(answer)
    }

    fn guard(&self, request: &Request, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        match &self.options.guard {
            Some(guard) => guard.may_write(&request.who, &request.target, new, old),
            None => Ok(()),
        }
    }

    async fn dispatch(&self, row: &Arc<Row>, request: Request) -> Result<Answer, Status> {
        if !request.target.subresource.is_empty() {
            return verbs::subresource::carry_out(self, row, request).await;
        }
        if !row.resource.verbs.contains(&request.verb) {
            return Err(no_method());
        }
        if let Some(made) = row.strategy.made {
            return verbs::made::read(row, &request, &made()).await;
        }
        match request.verb {
            Verb::Get => verbs::get::get(self, row, &request).await,
            Verb::List => verbs::list::list(self, row, &request).await,
            Verb::Watch => verbs::watch::watch(self, row, &request).await,
            Verb::Create if row.resource.kind == "Binding" => {
                verbs::subresource::create_binding(self, row, request).await
            }
            Verb::Create => verbs::create::create(self, row, request).await,
            Verb::Update => verbs::update::update(self, row, request).await,
            Verb::Patch => verbs::update::patch(self, row, request).await,
            Verb::Delete => verbs::delete::delete(self, row, request).await,
            Verb::DeleteCollection => verbs::delete::collection(self, row, request).await,
            Verb::Connect => Err(no_method()),
        }
    }
}

/// Takes the body out of a request that creates an object of `resource`: of its kind and structure, with what there is to warn of in it. For
/// kinds that are answered and not kept.
pub fn body(resource: &Resource, request: &mut Request) -> Result<(Value, Vec<String>), Status> {
    use verbs::incoming::{self, Expected, Incoming, Strictness};
    verbs::options::write(&request.options, "CreateOptions")?;
    let (value, duplicates) = incoming::body(request);
    let strictness = Strictness::of(&request.options);
    let Incoming { value, warnings, .. } = incoming::conform(value, duplicates, &Expected::of(resource), strictness)?;
    Ok((value, warnings))
}

fn no_resource() -> Status {
    Status::new(Reason::NotFound, "the server could not find the requested resource")
}

fn no_method() -> Status {
    Status::new(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
}
