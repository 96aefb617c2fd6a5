//! What a policy's expressions get wrong about the kinds that the policy is for: fields that these do not have, values of other types.
//!
//! Only told, never refused: the policy may stand before the kinds do. Source: "Type checking" of Kubernetes' page on validating
//! admission policies; which kinds and expressions are looked at is as upstream's controller has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use kedge_api::schema::{self, Shape};
use kedge_cel::{Environment, Program, Type, names};
use serde_json::{Value, json};

use super::{Sees, composed, environment};
use crate::custom::rules::declare;
use crate::table::{Row, Table};
use crate::value::Look as _;

/// So many kinds of one rule are looked at.
const MOST_KINDS: usize = 10;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Group, version and kind.
type Kind = (String, String, String);

/// The `expressionWarnings` of a ValidatingAdmissionPolicy.
pub(crate) fn warnings(policy: &Value, table: &Table) -> Vec<Value> {
    let environments: Vec<(String, Environment)> =
        kinds(policy, table).into_iter().filter_map(|kind| typed(policy, table, &kind)).collect();
    let mut warnings = Vec::new();
    for (at, validation) in policy.items("spec.validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let text = validation.text(field);
            if field == "messageExpression" && text.is_empty() {
                continue;
            }
            let said = |(kind, environment): &(String, Environment)| {
                Program::compile(text, environment).err().map(|error| format!("{kind}: {error}\n"))
            };
            let said: Vec<String> = environments.iter().filter_map(said).collect();
            if !said.is_empty() {
                let place = format!("spec.validations[{at}].{field}");
                warnings.push(json!({"fieldRef": place, "warning": said.join("\n")}));
            }
        }
    }
    warnings
}

/// The kinds that the rules name without wildcards. Where a rule names more than are looked at, the rules after it are not looked at.
fn kinds(policy: &Value, table: &Table) -> BTreeSet<Kind> {
    let mut kinds = BTreeSet::new();
    for rule in policy.items("spec.matchConstraints.resourceRules") {
        let texts = |field: &str| -> BTreeSet<String> {
            rule.items(field).iter().filter_map(Value::as_str).map(str::to_lowercase).collect()
        };
        let (groups, versions) = (texts("apiGroups"), texts("apiVersions"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        let mut count = 0;
        for (group, version) in groups.iter().flat_map(|group| versions.iter().map(move |version| (group, version))) {
            for name in texts("resources").iter().filter(|name| !name.contains(['*', '/'])) {
                // The core group has no name: what is of any group and called so is meant, too.
                let fits = |row: &&std::sync::Arc<Row>| {
                    let r = &row.resource;
                    (r.id.resource.as_str() == name || r.singular == name.as_str())
                        && r.version == version.as_str()
                        && (group.is_empty() || r.id.group.as_str() == group)
                };
                for row in table.rows().filter(fits) {
                    let r = &row.resource;
                    kinds.insert((r.id.group.to_string(), r.version.to_string(), r.kind.to_string()));
                    count += 1;
                    if count == MOST_KINDS {
                        return kinds;
                    }
                }
            }
        }
    }
    kinds
}

/// A kind's name, and what expressions may name where objects are of it.
fn typed(policy: &Value, table: &Table, kind: &Kind) -> Option<(String, Environment)> {
    let object = of_kind(table, kind)?;
    let params = policy.has("spec.paramKind");
    let param = policy.look("spec.paramKind");
    let (group, version) = param.text("apiVersion").split_once('/').unwrap_or(("", param.text("apiVersion")));
    let param = of_kind(table, &(group.to_owned(), version.to_owned(), param.text("kind").to_owned()));
    let typed = |variables: BTreeMap<String, Type>| {
        let base = environment(Sees::condition(params), Some(variables))
            .with("object", object.clone())
            .with("oldObject", object.clone());
        if params { base.with("params", param.clone().unwrap_or(Type::Dyn)) } else { base }
    };
    let mut variables = BTreeMap::new();
    for variable in policy.items("spec.variables") {
        let found = Program::compile(variable.text("expression"), &typed(variables.clone()));
        let found = found.map_or(Type::Dyn, |program| composed(program.result()));
        variables.insert(variable.text("name").to_owned(), found);
    }
    let (group, version, kind) = kind;
    let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
    Some((format!("{api_version}, Kind={kind}"), typed(variables)))
}

fn of_kind(table: &Table, (group, version, kind): &Kind) -> Option<Type> {
    let row = table.rows().find(|row| {
        let r = &row.resource;
        r.kind == kind.as_str() && r.version == version.as_str() && r.id.group.as_str() == group
    })?;
    let found = match &row.custom {
        Some(version) => declare(&version.schema, true, &META)?,
        None => of_type(schema::get(&row.resource.schema)?, &mut Vec::new())?,
    };
    Some(named(&found, kind))
}

static META: LazyLock<Type> =
    LazyLock::new(|| schema::get(OBJECT_META).and_then(|meta| of_type(meta, &mut Vec::new())).unwrap_or(Type::Dyn));

/// `within` are the types around: one that holds itself is known to no more depth.
fn of_type(of: schema::Type, within: &mut Vec<schema::Type>) -> Option<Type> {
    if within.contains(&of) {
        return Some(Type::object("object", BTreeMap::new()));
    }
    within.push(of);
    let fields = of.fields().filter_map(|field| {
        let found = of_shape(field.shape(), within)?;
        Some((names::escape(field.name())?, found))
    });
    let fields = fields.collect();
    within.pop();
    Some(Type::object("object", fields))
}

/// None where upstream's schema names no type: there, expressions find no field.
fn of_shape(shape: Shape, within: &mut Vec<schema::Type>) -> Option<Type> {
    Some(match shape.resolve() {
        Shape::String => Type::String,
        Shape::Bytes => Type::Bytes,
        Shape::Time => Type::Timestamp,
        Shape::Int32 | Shape::Int64 => Type::Int,
        Shape::Number => Type::Double,
        Shape::Boolean => Type::Bool,
        Shape::Any | Shape::Quantity => return None,
        Shape::Object => Type::object("object", BTreeMap::new()),
        Shape::IntOrString => Type::Dyn,
        Shape::Type(of) => of_type(of, within)?,
        Shape::List(item) => Type::list(of_shape(item.shape(), within)?),
        Shape::Map(item) => Type::map(Type::String, of_shape(item.shape(), within)?),
    })
}

/// Objects are named by where they stand.
fn named(of: &Type, name: &str) -> Type {
    match of {
        Type::Object(object) => {
            let fields = object.fields.iter();
            let fields = fields.map(|(field, of)| (field.clone(), named(of, &format!("{name}.{field}")))).collect();
            Type::object(name, fields)
        }
        Type::List(of) => Type::list(named(of, &format!("{name}.@idx"))),
        Type::Map(key, value) => Type::map((**key).clone(), named(value, &format!("{name}.@elem"))),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(resources: &[(&str, &str, &str)], more: &Value, expression: &str) -> Vec<(String, String)> {
        let rule = |(group, version, name): &(&str, &str, &str)| json!({"apiGroups": [group], "apiVersions": [version], "resources": [name]});
        let rules: Vec<Value> = resources.iter().map(rule).collect();
        let mut spec =
            json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": expression}]});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let found = warnings(&json!({"spec": spec}), &crate::kinds::table());
        found.iter().map(|w| (w.text("fieldRef").to_owned(), w.text("warning").to_owned())).collect()
    }

    #[test]
    fn what_a_kind_does_not_have_is_told() {
        const DEPLOYMENTS: &[(&str, &str, &str)] = &[("apps", "v1", "deployments")];
        for (expression, wrong) in [
            ("object.spec.replicas > 1", ""),
            ("has(object.metadata.labels) && object.metadata.labels['a'] == 'b' && oldObject == null", ""),
            ("object.spec.strategy.rollingUpdate.maxSurge == '25%'", ""),
            ("object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')", ""),
            ("object.spec.template.spec.containers.all(c, c.image.startsWith('a'))", ""),
            ("authorizer.group('').resource('pods').check('create').allowed()", ""),
            ("object.replicas > 1", "1:7: undefined field 'replicas'"),
            ("has(object.spec.size)", "1:16: undefined field 'size'"),
            ("object.spec.replicas > '1'", "1:22: found no matching overload for '_>_' applied to '(int, string)'"),
            ("object.spec > 1", "1:13: found no matching overload for '_>_' applied to '(Deployment.spec, int)'"),
            // Amounts have no type in the schema that upstream looks into.
            ("object.spec.template.spec.containers.all(c, has(c.resources.limits))", "1:60: undefined field 'limits'"),
        ] {
            let found = said(DEPLOYMENTS, &Value::Null, expression);
            if wrong.is_empty() {
                assert_eq!(found, [], "{expression}");
            } else {
                let (place, warning) = &found[0];
                assert_eq!(place, "spec.validations[0].expression");
                assert!(
                    warning.starts_with(&format!("apps/v1, Kind=Deployment: ERROR: <input>:{wrong}\n | ")),
                    "{warning}"
                );
                assert!(warning.ends_with("^\n"), "{warning}");
            }
        }
    }

    #[test]
    fn kinds_are_those_that_rules_name() {
        for (resources, kinds) in [
            (vec![("apps", "v1", "deployments"), ("", "v1", "pods")], vec!["v1, Kind=Pod", "apps/v1, Kind=Deployment"]),
            (vec![("apps", "v1", "Deployment")], vec!["apps/v1, Kind=Deployment"]),
            (vec![("", "v1", "events")], vec!["v1, Kind=Event", "events.k8s.io/v1, Kind=Event"]),
            (vec![("apps", "*", "deployments"), ("*", "v1", "pods"), ("apps", "v1", "*")], vec![]),
            (vec![("", "v1", "pods/status"), ("none.io", "v1", "things")], vec![]),
        ] {
            let found = said(&resources, &Value::Null, "object.nothing");
            let found: Vec<&str> = found.iter().flat_map(|(_, warning)| warning.split("\n\n")).collect();
            let found: Vec<&str> =
                found.iter().filter_map(|part| part.split_once(": ERROR").map(|(kind, _)| kind)).collect();
            assert_eq!(found, kinds, "{resources:?}");
        }
        let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "replicasets", "daemonsets"]});
        let policy = json!({"spec": {"matchConstraints": {"resourceRules": [rule]}}});
        assert_eq!(kinds(&policy, &crate::kinds::table()).len(), 3);
    }

    #[test]
    fn parameters_variables_and_messages_are_looked_at() {
        const PODS: &[(&str, &str, &str)] = &[("", "v1", "pods")];
        for (more, expression, wrong) in [
            (json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}), "params.data['a'] == 'b'", None),
            (json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}), "params.spec.a", Some("'spec'")),
            (json!({"paramKind": {"apiVersion": "x.io/v1", "kind": "None"}}), "params.spec.a", None),
            (json!({"variables": [{"name": "n", "expression": "1"}]}), "variables.n == 1", None),
            (json!({"variables": [{"name": "n", "expression": "1"}]}), "variables.m == 1", Some("'m'")),
            (json!({"variables": [{"name": "n", "expression": "1"}]}), "variables.n == 'a'", Some("'_==_'")),
            // What holds fields is anything once it is a variable; and what is wrong with a variable is not told.
            (json!({"variables": [{"name": "n", "expression": "object.spec"}]}), "variables.n.none", None),
            (json!({"variables": [{"name": "n", "expression": "object.none"}]}), "variables.n == 1", None),
        ] {
            let found = said(PODS, &more, expression);
            assert_eq!(!found.is_empty(), wrong.is_some(), "{more} {expression}: {found:?}");
            assert!(wrong.is_none_or(|wrong| found[0].1.contains(wrong)), "{found:?}");
        }
        let more = json!({"validations": [{"expression": "true", "messageExpression": "object.foo + 114514"}]});
        assert_eq!(said(PODS, &more, "")[0].0, "spec.validations[0].messageExpression");
    }
}
