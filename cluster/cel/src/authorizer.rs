//! What a user may do, asked within an expression: `authorizer.group('apps').resource('deployments').check('create').allowed()`.
//!
//! Source: "Kubernetes authorizer library" of Kubernetes' documentation.

use std::fmt;
use std::sync::Arc;

use crate::eval::Evaluated;
use crate::types::Type;
use crate::value::Value;

pub const AUTHORIZER: Type = Type::Library("kubernetes.authorization.Authorizer");
pub(crate) const PATH_CHECK: Type = Type::Library("kubernetes.authorization.PathCheck");
pub(crate) const GROUP_CHECK: Type = Type::Library("kubernetes.authorization.GroupCheck");
pub(crate) const RESOURCE_CHECK: Type = Type::Library("kubernetes.authorization.ResourceCheck");
pub(crate) const DECISION: Type = Type::Library("kubernetes.authorization.Decision");

/// The field of an authorizer that is a check of what the request itself is about.
pub(crate) const OF_REQUEST: &str = "requestResource";

/// One question: about a path, or else about a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub verb: String,
    pub field_selector: String,
    pub label_selector: String,
    /// Namespace and name of the service account that is asked about instead of who makes the request.
    pub account: Option<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: String,
}

/// Whoever answers.
pub trait Authorizer: Send + Sync {
    fn decide(&self, check: &Check) -> Decision;
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
    Decided(Decision),
}

/// A question in the making, or its answer.
#[derive(Clone)]
pub struct Asking {
    by: Arc<dyn Authorizer>,
    request: Check,
    check: Check,
    stage: Stage,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.stage, self.check)
    }
}

impl Asking {
    /// The variable `authorizer`; `request` is what its field `requestResource` asks about.
    pub fn start(by: Arc<dyn Authorizer>, request: Check) -> Value {
        Value::Asking(Arc::new(Self { by, request, check: Check::default(), stage: Stage::Authorizer }))
    }

    pub(crate) const fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
            Stage::Decided(_) => "kubernetes.authorization.Decision",
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<Value> {
        let of_request = self.stage == Stage::Authorizer && name == OF_REQUEST;
        of_request.then(|| self.next(Stage::Resource, |check| *check = self.request.clone()))
    }

    fn next(&self, stage: Stage, change: impl FnOnce(&mut Check)) -> Value {
        let mut check = self.check.clone();
        change(&mut check);
        Value::Asking(Arc::new(Self { check, stage, by: self.by.clone(), request: self.request.clone() }))
    }
}

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    let (Value::Asking(asking), rest) = args.split_first()? else { return None };
    let texts: Option<Vec<String>> =
        rest.iter().map(|arg| if let Value::String(text) = arg { Some(text.to_string()) } else { None }).collect();
    let texts = texts?;
    let one = || texts.first().cloned().unwrap_or_default();
    Some(Ok(match (&asking.stage, function, texts.as_slice()) {
        (Stage::Authorizer, "path", [_]) => asking.next(Stage::Path, |check| check.path = Some(one())),
        (Stage::Authorizer, "group", [_]) => asking.next(Stage::Group, |check| check.group = one()),
        (Stage::Authorizer, "serviceAccount", [namespace, name]) => {
            asking.next(Stage::Authorizer, |check| check.account = Some((namespace.clone(), name.clone())))
        }
        (Stage::Group, "resource", [_]) => asking.next(Stage::Resource, |check| check.resource = one()),
        (Stage::Resource, "subresource", [_]) => asking.next(Stage::Resource, |check| check.subresource = one()),
        (Stage::Resource, "namespace", [_]) => asking.next(Stage::Resource, |check| check.namespace = one()),
        (Stage::Resource, "name", [_]) => asking.next(Stage::Resource, |check| check.name = one()),
        (Stage::Resource, "fieldSelector", [_]) => asking.next(Stage::Resource, |check| check.field_selector = one()),
        (Stage::Resource, "labelSelector", [_]) => asking.next(Stage::Resource, |check| check.label_selector = one()),
        (Stage::Path | Stage::Resource, "check", [_]) => {
            let check = Check { verb: one(), ..asking.check.clone() };
            asking.next(Stage::Decided(asking.by.decide(&check)), |_| {})
        }
        (Stage::Decided(decision), "allowed", []) => decision.allowed.into(),
        (Stage::Decided(decision), "reason", []) => decision.reason.as_str().into(),
        (Stage::Decided(decision), "errored", []) => (!decision.error.is_empty()).into(),
        (Stage::Decided(decision), "error", []) => decision.error.as_str().into(),
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Environment, Program, Variables};

    /// Lets through who asks to get pods, or `/healthz`.
    struct Pods;

    impl Authorizer for Pods {
        fn decide(&self, check: &Check) -> Decision {
            let fine = check.path.as_deref() == Some("/healthz")
                || (check.resource == "pods" && check.verb == "get" && check.account.is_none());
            Decision { allowed: fine, reason: format!("{}/{}", check.namespace, check.name), ..Decision::default() }
        }
    }

    fn run(text: &str) -> Value {
        let environment = Environment::default().with("authorizer", AUTHORIZER);
        let program = Program::compile(text, &environment).unwrap();
        let request = Check { resource: "pods".into(), ..Check::default() };
        let variables = Variables::default().with("authorizer", Asking::start(Arc::new(Pods), request));
        program.evaluate(&variables, &mut 1_000_000).unwrap()
    }

    #[test]
    fn questions_are_put_together_and_answered() {
        for (text, expected) in [
            ("authorizer.group('').resource('pods').check('get').allowed()", Value::Bool(true)),
            ("authorizer.group('').resource('pods').check('list').allowed()", Value::Bool(false)),
            (
                "authorizer.serviceAccount('n', 'a').group('').resource('pods').check('get').allowed()",
                Value::Bool(false),
            ),
            ("authorizer.path('/healthz').check('get').allowed()", Value::Bool(true)),
            ("authorizer.requestResource.check('get').allowed()", Value::Bool(true)),
            ("authorizer.group('').resource('x').namespace('n').name('m').check('get').reason()", "n/m".into()),
            ("authorizer.path('/x').check('get').errored()", Value::Bool(false)),
        ] {
            assert_eq!(run(text), expected, "{text}");
        }
        let environment = Environment::default().with("authorizer", AUTHORIZER);
        assert!(Program::compile("authorizer.check('get')", &environment).is_err());
    }
}
