//! What a request must be like for a webhook to be asked about it: expressions over the review that it would be sent.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kedge_cel::{Environment, Failure, Program, Type, Value as Cel, Variables};
use serde_json::Value;

/// What one expression may cost.
const CALL: u64 = 1_000_000;

/// `request` is the `spec` of a SubjectAccessReview.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let texts = |names: &[&str]| -> BTreeMap<String, Type> {
        names.iter().map(|name| ((*name).to_owned(), Type::String)).collect()
    };
    let strings = || Type::list(Type::String);
    let mut requirement = texts(&["key", "operator"]);
    requirement.insert("values".to_owned(), strings());
    let requirement = Type::object("kubernetes.SelectorRequirement", requirement);
    let mut selector = texts(&["rawSelector"]);
    selector.insert("requirements".to_owned(), Type::list(requirement));
    let mut resource = texts(&["namespace", "verb", "group", "version", "resource", "subresource", "name"]);
    for (field, name) in [("fieldSelector", "FieldSelectorAttributes"), ("labelSelector", "LabelSelectorAttributes")] {
        resource.insert(field.to_owned(), Type::object(&format!("kubernetes.{name}"), selector.clone()));
    }
    let mut spec = texts(&["user", "uid"]);
    for (field, of) in [
        ("groups", strings()),
        ("extra", Type::map(Type::String, strings())),
        ("resourceAttributes", Type::object("kubernetes.ResourceAttributes", resource)),
        ("nonResourceAttributes", Type::object("kubernetes.NonResourceAttributes", texts(&["path", "verb"]))),
    ] {
        spec.insert(field.to_owned(), of);
    }
    Environment::default().with("request", Type::object("kubernetes.SubjectAccessReviewSpec", spec))
});

#[derive(Debug)]
pub struct Condition {
    program: Program,
    expression: String,
}

impl Condition {
    pub fn compile(text: &str) -> Result<Self, String> {
        let program = Program::compile(text, &ENVIRONMENT).map_err(|error| format!("compilation failed: {error}"))?;
        match program.result() {
            Type::Bool => Ok(Self { program, expression: text.to_owned() }),
            _ => Err("must evaluate to bool".to_owned()),
        }
    }
}

/// Whether all of them hold of a review's `spec`; one that does not counts more than one that cannot be told.
pub fn hold(conditions: &[Condition], spec: &Value) -> Result<bool, String> {
    if conditions.is_empty() {
        return Ok(true);
    }
    let variables = Variables::default().with("request", Cel::of_json(spec));
    let mut broken = None;
    for Condition { program, expression } in conditions {
        let mut budget = CALL;
        match program.evaluate(&variables, &mut budget) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(why) => _ = broken.get_or_insert_with(|| told(expression, &why)),
        }
    }
    broken.map_or(Ok(true), Err)
}

fn told(expression: &str, why: &Failure) -> String {
    format!("cel evaluation error: expression '{expression}' resulted in error: {why}")
}
