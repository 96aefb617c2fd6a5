//! Reviews: questions about identity and permission, answered here and never stored.
//!
//! `authentication.k8s.io/v1` TokenReview, SelfSubjectReview; `authorization.k8s.io/v1` the access reviews.

mod access;

use kedge_api::rbac::Rule;
use kedge_api::request::Payload;
use kedge_api::{Answer, GroupResource, Request, Resource, Status, User, Verb};
use serde_json::{Map, Value, json};

use crate::authn::Authenticator;
use crate::authn::token::ISSUER;
use crate::authz::Authorizer;
use crate::clock::Clock;
use crate::wire::set;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// What a review is answered from.
pub struct Reviewer<'a> {
    pub authenticator: &'a Authenticator,
    pub authorizer: &'a Authorizer,
    pub clock: &'a Clock,
}

/// What is asked.
#[derive(Clone, Copy)]
enum Question {
    WhoAmI,
    WhoseToken,
    MayI,
    MayOther,
    WhatMayI,
}

/// One review: where it is served, under what kind, and who answers it.
struct Review {
    id: GroupResource,
    kind: &'static str,
    singular: &'static str,
    namespaced: bool,
    asks: Question,
}

const REVIEWS: &[Review] = &[
    Review {
        id: GroupResource::of(AUTHENTICATION, "selfsubjectreviews"),
        kind: "SelfSubjectReview",
        singular: "selfsubjectreview",
        namespaced: false,
        asks: Question::WhoAmI,
    },
    Review {
        id: GroupResource::of(AUTHENTICATION, "tokenreviews"),
        kind: "TokenReview",
        singular: "tokenreview",
        namespaced: false,
        asks: Question::WhoseToken,
    },
    Review {
        id: GroupResource::of(AUTHORIZATION, "localsubjectaccessreviews"),
        kind: "LocalSubjectAccessReview",
        singular: "localsubjectaccessreview",
        namespaced: true,
        asks: Question::MayOther,
    },
    Review {
        id: GroupResource::of(AUTHORIZATION, "selfsubjectaccessreviews"),
        kind: "SelfSubjectAccessReview",
        singular: "selfsubjectaccessreview",
        namespaced: false,
        asks: Question::MayI,
    },
    Review {
        id: GroupResource::of(AUTHORIZATION, "selfsubjectrulesreviews"),
        kind: "SelfSubjectRulesReview",
        singular: "selfsubjectrulesreview",
        namespaced: false,
        asks: Question::WhatMayI,
    },
    Review {
        id: GroupResource::of(AUTHORIZATION, "subjectaccessreviews"),
        kind: "SubjectAccessReview",
        singular: "subjectaccessreview",
        namespaced: false,
        asks: Question::MayOther,
    },
];

/// The reviews as rows of the catalog.
pub fn rows() -> Vec<Resource> {
    REVIEWS.iter().map(Review::row).collect()
}

impl Review {
    fn row(&self) -> Resource {
        let package = self.id.group.as_str().split('.').next().unwrap_or_default();
        Resource {
            id: self.id.clone(),
            version: "v1".into(),
            kind: self.kind.into(),
            singular: self.singular.into(),
            short_names: (&[]).into(),
            categories: (&[]).into(),
            namespaced: self.namespaced,
            verbs: &[Verb::Create],
            subresources: &[],
            columns: &[],
            selectable: &[],
            schema: format!("io.k8s.api.{package}.v1.{}", self.kind).into(),
            volatile: true,
            deprecated: None,
            stored_in: None,
            made_annotations: &[],
            custom: None,
        }
    }
}

impl Reviewer<'_> {
    /// Answers the review that a request creates.
    pub async fn answer(&self, mut request: Request) -> Result<Answer, Status> {
        let resource = &request.target.resource;
        let review = REVIEWS.iter().find(|review| review.id == *resource);
        let review = review.ok_or_else(|| Status::not_found(resource, &request.target.name))?;
        let (object, warnings) = kedge_registry::body(&review.row(), &mut request)?;
        let Value::Object(mut object) = object else { return Err(Status::bad_request("a review is an object")) };
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        if review.namespaced {
            let given = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
            if !given.is_empty() && given != request.target.namespace {
                let why = "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Status::bad_request(why));
            }
            set(metadata, "namespace", request.target.namespace.as_str());
        }
        let status = match review.asks {
            Question::WhoAmI => whoami(self, &request, &mut object),
            Question::WhoseToken => token(self, &object).await,
            Question::MayI => access::of_self(self, &request, &object).await,
            Question::MayOther => access::of_other(self, &request, &object).await,
            Question::WhatMayI => rules(self, &request, &mut object),
        }?;
        object.insert("status".to_owned(), status);
        Ok(Answer { code: 201, warnings, payload: Payload::Value(object.into()) })
    }
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": &*user.name, "groups": &*user.groups});
    if !user.uid.is_empty() {
        set(&mut info, "uid", &*user.uid);
    }
    if !user.extra.is_empty() {
        set(&mut info, "extra", json!(*user.extra));
    }
    info
}

fn whoami(reviewer: &Reviewer<'_>, request: &Request, object: &mut Map<String, Value>) -> Result<Value, Status> {
    object.insert("metadata".to_owned(), json!({"creationTimestamp": reviewer.clock.text(std::time::Duration::ZERO)}));
    Ok(json!({"userInfo": user_info(&request.who)}))
}

async fn token(reviewer: &Reviewer<'_>, object: &Map<String, Value>) -> Result<Value, Status> {
    let spec = object.get("spec").cloned().unwrap_or_default();
    let token = spec.get("token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let asked = strings(spec.get("audiences"));
    let audiences = if asked.is_empty() { vec![ISSUER.to_owned()] } else { asked };
    let known: Vec<&str> = audiences.iter().map(String::as_str).collect();
    Ok(match reviewer.authenticator.token(token, &known).await {
        Ok((user, mut named)) => {
            named.retain(|audience| audiences.contains(audience));
            json!({"authenticated": true, "user": user_info(&user), "audiences": named})
        }
        Err(why) => json!({"user": {}, "error": why.for_review(&audiences)}),
    })
}

fn rules(reviewer: &Reviewer<'_>, request: &Request, object: &mut Map<String, Value>) -> Result<Value, Status> {
    let namespace =
        object.get("spec").and_then(|spec| spec.get("namespace")).and_then(Value::as_str).unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = reviewer.authorizer.rules(&request.who, namespace);
    // The question is not repeated in the answer.
    object.insert("spec".to_owned(), json!({}));
    let (paths, resources): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.resources.is_empty());
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    // What depends on objects cannot be listed: a node's permissions do.
    if crate::authz::node::node_of(&request.who).is_some() {
        set(&mut status, "incomplete", true);
        set(&mut status, "evaluationError", "node authorizer does not support user rule resolution");
    }
    if reviewer.authorizer.asks_outside() {
        set(&mut status, "incomplete", true);
        set(&mut status, "evaluationError", "webhook authorizer does not support user rule resolution");
    }
    Ok(status)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
