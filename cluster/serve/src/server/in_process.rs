//! The client of this process's own controllers, scheduler and agent: no HTTP, but the same authorization.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_api::rbac::MASTERS;
use kedge_api::{Answer, Client, Options, Request, Status, User};

use super::course::Course;
use super::front::Front;
use crate::aggregate::availability;
use crate::authz::{Attributes, Selectors};
use crate::flow::dangling;

/// Calls the registry as one user.
#[derive(Clone)]
pub struct InProcess {
    front: Arc<Front>,
    user: User,
}

impl InProcess {
    pub fn new(front: Arc<Front>, user: User) -> Self {
        Self { front, user }
    }
}

#[async_trait]
impl Client for InProcess {
    async fn call(&self, request: Request) -> Result<Answer, Status> {
        let verb = request.verb;
        let answer = self.answer(request).await;
        self.front.metrics.called(verb, &self.front.address, &answer);
        answer
    }

    fn user(&self) -> User {
        self.user.clone()
    }
}

impl InProcess {
    async fn answer(&self, mut request: Request) -> Result<Answer, Status> {
        // Whoever holds this client is this user, whatever the request says.
        request.who = self.user.clone();
        request.options.field_manager.get_or_insert_with(|| manager(&self.user).to_owned());
        let Options { field_selector, label_selector, .. } = request.options.clone();
        let (fields, labels) = (field_selector.unwrap_or_default(), label_selector.unwrap_or_default());
        let selectors = Selectors { fields: &fields, labels: &labels };
        let mut attributes = Attributes::request(&self.user, request.verb, &request.target, selectors);
        attributes.count_selected_name();
        let mut trail = self.front.begin_own_trail(&attributes, &request.target, manager(&self.user));
        let decision = self.front.authorizer.decide(&attributes).await;
        if let Some(trail) = &mut trail {
            trail.request(&request.body);
        }
        let mut course = Course { trail, ..Course::default() };
        course.decided(&decision);
        let answer = match decision {
            Ok(_) => self.carry_out(request, &mut course).await,
            Err(refusal) => Err(refusal.status(&attributes)),
        };
        course.own(&answer);
        answer
    }

    async fn carry_out(&self, request: Request, course: &mut Course) -> Result<Answer, Status> {
        let resource = &request.target.resource;
        let review = self.front.catalog.find(resource.group.as_str(), "v1", resource.resource.as_str());
        if review.is_some_and(|row| self.front.catalog.is_own(&row)) {
            return self.front.reviewer().answer(request).await;
        }
        course.carry_out(&*self.front.backend, request).await
    }
}

/// What is started with [`follow`], as upstream's checks name the parts of it.
pub(super) const STARTED: &[&str] = &[
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-discovery-controller",
];

/// What the server does without being asked: servers that extend it are told how to know it, and looked after; documents about who is
/// let in are read again when they change; seats are lent from priority level to priority level. Never ends.
pub async fn follow(front: Arc<Front>) {
    STARTED.iter().for_each(|name| front.health.done(name));
    let own = Arc::new(InProcess::new(Arc::clone(&front), User::new("system:apiserver", &[MASTERS])));
    let extended = availability::run(Arc::clone(&front.aggregator), own.clone(), front.clock.clone());
    let conditions = dangling::run(&*front.informer, &*own, &front.clock);
    let access = async { tokio::join!(front.authenticator.follow(), front.authorizer.follow()) };
    tokio::join!(extended, access, conditions, front.flow.run());
}

/// Who is noted as the owner of what this process writes: the component as its own program is called upstream.
fn manager(user: &User) -> &str {
    match user.name.strip_prefix("system:") {
        Some("apiserver") => "kube-apiserver",
        Some(name) if name.starts_with("node:") => "kubelet",
        Some(name) if name.starts_with("serviceaccount:kube-system:") => "kube-controller-manager",
        Some(name) => name,
        None => &user.name,
    }
}
