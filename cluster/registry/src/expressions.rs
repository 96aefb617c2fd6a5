//! Policies with their expressions compiled, and the variables that expressions may name.

use std::collections::BTreeMap;

use kedge_cel::authorizer::AUTHORIZER;
use kedge_cel::{Environment, Program, Type};
use serde_json::Value;

use crate::value::Look as _;

pub(crate) mod typed;

/// What an expression may name beside the object, the old one, the request and the namespace.
#[derive(Clone, Copy)]
pub(crate) struct Sees {
    pub(crate) params: bool,
    pub(crate) authorizer: bool,
    /// The types that patches are made of.
    pub(crate) patches: bool,
}

impl Sees {
    /// What a condition may.
    pub(crate) const fn condition(params: bool) -> Self {
        Self { params, authorizer: true, patches: false }
    }
}

fn texts(names: &[&str]) -> BTreeMap<String, Type> {
    names.iter().map(|name| ((*name).to_owned(), Type::String)).collect()
}

fn request() -> Type {
    let kind = Type::object("kubernetes.GroupVersionKind", texts(&["group", "version", "kind"]));
    let resource = Type::object("kubernetes.GroupVersionResource", texts(&["group", "version", "resource"]));
    let mut user = texts(&["username", "uid"]);
    user.insert("groups".into(), Type::list(Type::String));
    user.insert("extra".into(), Type::map(Type::String, Type::list(Type::String)));
    let mut fields = texts(&["subResource", "requestSubResource", "name", "namespace", "operation"]);
    for (name, of) in [
        ("kind", kind.clone()),
        ("requestKind", kind),
        ("resource", resource.clone()),
        ("requestResource", resource),
        ("userInfo", Type::object("kubernetes.UserInfo", user)),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ] {
        fields.insert(name.to_owned(), of);
    }
    Type::object("kubernetes.AdmissionRequest", fields)
}

fn namespace() -> Type {
    let mut meta = texts(&["name", "generateName", "namespace", "UID", "resourceVersion"]);
    for field in ["labels", "annotations"] {
        meta.insert(field.to_owned(), Type::map(Type::String, Type::String));
    }
    for field in ["creationTimestamp", "deletionTimestamp"] {
        meta.insert(field.to_owned(), Type::Timestamp);
    }
    for field in ["generation", "deletionGracePeriodSeconds"] {
        meta.insert(field.to_owned(), Type::Int);
    }
    meta.insert("finalizers".to_owned(), Type::list(Type::String));
    let spec = BTreeMap::from([("finalizers".to_owned(), Type::list(Type::String))]);
    let mut condition = texts(&["status", "type", "message", "reason"]);
    condition.insert("lastTransitionTime".to_owned(), Type::Timestamp);
    let mut status = texts(&["phase"]);
    status.insert("conditions".to_owned(), Type::list(Type::object("kubernetes.NamespaceCondition", condition)));
    let fields = BTreeMap::from([
        ("metadata".to_owned(), Type::object("kubernetes.NamespaceMetadata", meta)),
        ("spec".to_owned(), Type::object("kubernetes.NamespaceSpec", spec)),
        ("status".to_owned(), Type::object("kubernetes.NamespaceStatus", status)),
    ]);
    Type::object("kubernetes.Namespace", fields)
}

/// `variables` are those that stand before, by name and type; none where there can be none.
pub(crate) fn environment(sees: Sees, variables: Option<BTreeMap<String, Type>>) -> Environment {
    let mut full = Environment::default()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("request", request())
        .with("namespaceObject", namespace());
    if let Some(variables) = variables {
        full = full.with("variables", Type::object("kubernetes.variables", variables));
    }
    if sees.params {
        full = full.with("params", Type::Dyn);
    }
    if sees.authorizer {
        full = full.with("authorizer", AUTHORIZER);
    }
    if sees.patches { full.with("JSONPatch", Type::Dyn).with("Object", Type::Dyn) } else { full }
}

/// The expression, or what is wrong with it in upstream's words. Any type of `wanted` will do, but no other: what shows only when it is
/// evaluated is compared with one, or made one.
pub(crate) fn compile(text: &str, environment: &Environment, wanted: &[Type]) -> Result<Program, String> {
    let program = Program::compile(text, environment).map_err(|e| format!("compilation failed: {e}"))?;
    let found = program.result();
    if wanted.is_empty() || wanted.contains(found) {
        return Ok(program);
    }
    let name = |of: &Type| if *of == Type::Null { "null_type".to_owned() } else { of.to_string() };
    let names: Vec<String> = wanted.iter().map(name).collect();
    Err(match names.as_slice() {
        [one] => format!("must evaluate to {one} but got {found}"),
        many => format!("must evaluate to one of [{}] but got {found}", many.join(" ")),
    })
}

/// The type of a variable that an expression makes: what holds fields is anything from then on.
pub(crate) fn composed(of: &Type) -> Type {
    match of {
        Type::List(of) => Type::list(composed(of)),
        Type::Map(key, value) => Type::map(composed(key), composed(value)),
        Type::Object(_) | Type::Optional(_) | Type::Library(_) | Type::Type | Type::Param(_) | Type::Open => Type::Dyn,
        plain => plain.clone(),
    }
}

/// What a mutation of a type must give.
pub(crate) fn mutation(patch_type: &str) -> Type {
    match patch_type {
        "JSONPatch" => Type::list(Type::object("JSONPatch", BTreeMap::new())),
        _ => Type::object("Object", BTreeMap::new()),
    }
}

pub(crate) type Compiled = Result<Program, String>;

pub(crate) struct Validation {
    pub(crate) expression: String,
    pub(crate) program: Compiled,
    pub(crate) message_program: Option<Program>,
    pub(crate) message: String,
    pub(crate) reason: String,
}

/// A condition, variable or mutation.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) expression: String,
    pub(crate) program: Compiled,
}

/// A policy, ready to be asked.
pub(crate) struct Policy {
    pub(crate) value: Value,
    pub(crate) conditions: Vec<Named>,
    pub(crate) variables: Vec<Named>,
    pub(crate) validations: Vec<Validation>,
    pub(crate) mutations: Vec<Named>,
}

impl Policy {
    pub(crate) fn name(&self) -> &str {
        self.value.text("metadata.name")
    }

    pub(crate) fn ignores_failures(&self) -> bool {
        self.value.text("spec.failurePolicy") == "Ignore"
    }

    pub(crate) fn compile(value: Value) -> Self {
        let sees = Sees::condition(value.has("spec.paramKind"));
        let mut types = BTreeMap::new();
        let mut variables = Vec::new();
        for variable in value.items("spec.variables") {
            let named = named(variable, "expression", &environment(sees, Some(types.clone())), &[]);
            if let Ok(program) = &named.program {
                types.insert(named.name.clone(), composed(program.result()));
            }
            variables.push(named);
        }
        let of = |sees| environment(sees, Some(types.clone()));
        let (full, messages, patches) =
            (of(sees), of(Sees { authorizer: false, ..sees }), of(Sees { patches: true, ..sees }));
        let conditions = value.items("spec.matchConditions").iter();
        let conditions = conditions.map(|c| named(c, "expression", &full, &[Type::Bool])).collect();
        let validations = value.items("spec.validations").iter().map(|v| {
            let message = v.text("messageExpression");
            let compiled = compile(message, &messages, &[Type::String]);
            Validation {
                expression: v.text("expression").trim().to_owned(),
                program: compile(v.text("expression"), &full, &[Type::Bool]),
                message_program: compiled.ok().filter(|_| !message.is_empty()),
                message: v.text("message").trim().to_owned(),
                reason: v.text("reason").to_owned(),
            }
        });
        let validations = validations.collect();
        let mutations = value.items("spec.mutations").iter();
        let mutations = mutations
            .map(|mutation| {
                let path = if mutation.text("patchType") == "JSONPatch" { "jsonPatch" } else { "applyConfiguration" };
                let wanted = self::mutation(mutation.text("patchType"));
                named(mutation.look(path), "expression", &patches, &[wanted])
            })
            .collect();
        Self { conditions, variables, validations, mutations, value }
    }
}

/// A webhook's conditions, which see less than a policy's.
pub(crate) fn conditions(webhook: &Value) -> Vec<Named> {
    let conditions = webhook.items("matchConditions");
    if conditions.is_empty() {
        return Vec::new();
    }
    let environment = environment(Sees::condition(false), None);
    conditions.iter().map(|condition| named(condition, "expression", &environment, &[Type::Bool])).collect()
}

fn named(value: &Value, field: &str, environment: &Environment, wanted: &[Type]) -> Named {
    let expression = value.text(field);
    Named {
        name: value.text("name").to_owned(),
        expression: expression.trim().to_owned(),
        program: compile(expression, environment, wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_give_patches() {
        let sees = Sees { patches: true, ..Sees::condition(false) };
        for (text, patch_type, wrong) in [
            ("[JSONPatch{op: 'remove', path: '/a'}]", "JSONPatch", None),
            ("[]", "JSONPatch", Some("must evaluate to list(JSONPatch) but got list(dyn)")),
            ("has(object.a) ? [JSONPatch{op: 'remove', path: '/a'}] : []", "JSONPatch", None),
            ("(has(object.a) ? [] : [JSONPatch{op: 'remove', path: '/a'}]) + []", "JSONPatch", None),
            (
                "has(object.a) ? object.b : [JSONPatch{}]",
                "JSONPatch",
                Some("must evaluate to list(JSONPatch) but got dyn"),
            ),
            ("object", "ApplyConfiguration", Some("must evaluate to Object but got dyn")),
            ("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'m': '1'}}]", "JSONPatch", None),
            ("Object{a: Object.a{b: 1}}", "ApplyConfiguration", None),
            ("true", "ApplyConfiguration", Some("must evaluate to Object but got bool")),
            ("['a']", "JSONPatch", Some("must evaluate to list(JSONPatch) but got list(string)")),
        ] {
            let said = compile(text, &environment(sees, Some(BTreeMap::new())), &[mutation(patch_type)]);
            assert_eq!(said.err().as_deref(), wrong, "{text}");
        }
    }

    #[test]
    fn expressions_name_what_they_may() {
        let policy = |params| (Sees::condition(params), Some(BTreeMap::from([("n".to_owned(), Type::Int)])));
        let webhook = || (Sees::condition(false), None);
        for (text, (sees, variables), wrong) in [
            ("object.a == oldObject.b && request.operation == 'CREATE'", webhook(), None),
            ("params.x == 1", policy(true), None),
            ("params.x == 1", policy(false), Some("undeclared reference to 'params'")),
            ("variables.n == 1", policy(false), None),
            ("variables.m == 1", policy(false), Some("undefined field 'm'")),
            ("namespaceObject.metadata.name == 'x'", policy(false), None),
            ("namespaceObject.metadata.name == 'x'", webhook(), None),
            ("namespaceObject.status.conditions.all(c, c.status == 'True')", webhook(), None),
            ("variables.n == 1", webhook(), Some("undeclared reference to 'variables'")),
            ("authorizer.path('/').check('get').allowed()", webhook(), None),
            (
                "authorizer.path('/').check('get').allowed()",
                (Sees { authorizer: false, ..Sees::condition(false) }, None),
                Some("undeclared reference to 'authorizer'"),
            ),
            ("'str'", policy(false), Some("must evaluate to bool but got string")),
            ("object.a", policy(false), Some("must evaluate to bool but got dyn")),
            ("object.?a.orValue(true)", policy(false), Some("must evaluate to bool but got dyn")),
            ("object.?a.orValue(true) == true", policy(false), None),
            ("has(object.a) ? object.a : true", policy(false), Some("must evaluate to bool but got dyn")),
            ("!has(object.a) || object.a", policy(false), None),
            ("object.l.all(x, x) && object.l.exists(x, x.y)", policy(false), None),
            ("!object.a", policy(false), None),
            ("Object{}", policy(false), Some("undeclared reference to 'Object'")),
        ] {
            let compiled = compile(text, &environment(sees, variables), &[Type::Bool]);
            match wrong {
                None => assert!(compiled.is_ok(), "{text}: {compiled:?}"),
                Some(wrong) => assert!(compiled.unwrap_err().contains(wrong), "{text}"),
            }
        }
    }
}
