//! Admission by what users configure: quotas, webhooks and policies, against the memory store.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests and their helpers")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use kedge_api::client::User;
use kedge_api::request::{Body, Options, Payload, Request, Target};
use kedge_api::resource::known;
use kedge_api::{GroupResource, Reason, Status, Verb};
use kedge_registry::{Check, Permissions, Registry, Webhooks, bootstrap};
use kedge_store::{Memory, Store};
use kedge_watch::Cache;
use serde_json::{Value, json};

const GROUP: &str = "admissionregistration.k8s.io";

fn of(plural: &'static str) -> GroupResource {
    GroupResource::of(GROUP, plural)
}

/// Answers by the path of the webhook's URL, and remembers who was asked.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Webhooks for Fake {
    async fn call(&self, config: &Value, _: Duration, review: &Value) -> Result<Value, String> {
        let path = config["url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let request = &review["request"];
        self.asked.lock().unwrap().push(format!("{path} {}", request["operation"].as_str().unwrap()));
        let mut response = json!({"uid": request["uid"], "allowed": true});
        match path.as_str() {
            "down" => return Err("Post \"https://x\": dial tcp: connect: connection refused".to_owned()),
            "deny" => {
                response["allowed"] = false.into();
                response["status"] = json!({"message": "no", "code": 418});
            }
            "warn" => response["warnings"] = json!(["careful"]),
            label => {
                let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {label: "yes"}}]);
                let labels = &request["object"]["metadata"]["labels"];
                if labels[label].is_null() {
                    let one = json!([{"op": "add", "path": format!("/metadata/labels/{label}"), "value": "yes"}]);
                    let patch = if labels.is_null() { patch } else { one };
                    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
                    response["patchType"] = "JSONPatch".into();
                    response["patch"] = patch.into();
                }
            }
        }
        Ok(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
    }
}

/// Lets the user `jane` do everything.
struct Jane;

impl Permissions for Jane {
    fn may(&self, who: &User, _: &Check) -> Result<String, String> {
        if &*who.name == "jane" { Ok(String::new()) } else { Err(String::new()) }
    }
}

#[derive(Clone)]
struct World {
    registry: Arc<Registry>,
    fake: Arc<Fake>,
}

impl World {
    async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let cache = Cache::start(store.clone()).await.unwrap();
        let fake = Arc::new(Fake::default());
        let options = kedge_registry::Options {
            webhooks: Some(fake.clone()),
            permissions: Some(Arc::new(Jane)),
            ..kedge_registry::Options::default()
        };
        let registry = Arc::new(Registry::new(store, cache, options));
        bootstrap(&registry).await.unwrap();
        Self { registry, fake }
    }

    async fn call(
        &self,
        who: &str,
        verb: Verb,
        resource: &GroupResource,
        name: &str,
        body: Value,
        dry_run: bool,
    ) -> Result<(Value, Vec<String>), Status> {
        let row = self.registry.table().get(resource).unwrap().clone();
        let namespace = if row.resource.namespaced { "default" } else { "" };
        let target = Target {
            resource: resource.clone(),
            version: String::new(),
            namespace: namespace.into(),
            name: name.into(),
            subresource: String::new(),
        };
        let dry_run = if dry_run { vec!["All".to_owned()] } else { Vec::new() };
        let options = Options { dry_run, ..Options::default() };
        let body = if body.is_null() { Body::None } else { body.into() };
        let request = Request { who: User::new(who, &["system:masters"]), verb, target, options, body };
        let answer = self.registry.carry_out(request).await?;
        let value = match answer.payload {
            Payload::Stored(object) => object.decode().unwrap(),
            Payload::Value(value) => value,
            other => panic!("{other:?}"),
        };
        Ok((value, answer.warnings))
    }

    async fn create(&self, resource: &GroupResource, object: Value) -> Result<(Value, Vec<String>), Status> {
        self.call("admin", Verb::Create, resource, "", object, false).await
    }

    async fn config_map(&self, name: &str, data: Value) -> Result<(Value, Vec<String>), Status> {
        self.create(&known::CONFIG_MAPS, json!({"metadata": {"name": name}, "data": data})).await
    }

    /// A configuration of webhooks, each at a path, with what is set on top of the usual.
    async fn hooks(&self, plural: &'static str, name: &str, hooks: &[(&str, Value)]) {
        let hooks: Vec<Value> = hooks
            .iter()
            .map(|(path, more)| {
                let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]});
                let mut hook = json!({"name": format!("{path}.example.com"), "clientConfig": {"url": format!("https://h/{path}")},
                    "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"]});
                hook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                hook
            })
            .collect();
        self.create(&of(plural), json!({"metadata": {"name": name}, "webhooks": hooks})).await.unwrap();
    }

    async fn policy(&self, kind: &'static str, spec: Value, binding: Value) {
        let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]});
        let mut whole = json!({"matchConstraints": {"resourceRules": [rule]}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let (policies, bindings) = match kind {
            "validating" => ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
            _ => ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
        };
        self.create(&of(policies), json!({"metadata": {"name": "p"}, "spec": whole})).await.unwrap();
        let mut bound = json!({"policyName": "p"});
        bound.as_object_mut().unwrap().extend(binding.as_object().unwrap().clone());
        self.create(&of(bindings), json!({"metadata": {"name": "b"}, "spec": bound})).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_side_by_side_cannot_take_more_than_there_is() {
    let world = World::new().await;
    let hard = json!({"count/configmaps": "150"});
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    let (mut quota, _) = world.create(&known::RESOURCE_QUOTAS, quota).await.unwrap();
    quota["status"] = json!({"hard": hard, "used": {"count/configmaps": "0"}});
    let target = Target {
        resource: known::RESOURCE_QUOTAS,
        version: String::new(),
        namespace: "default".into(),
        name: "q".into(),
        subresource: "status".into(),
    };
    let who = User::new("admin", &["system:masters"]);
    let request = Request { who, verb: Verb::Update, target, options: Options::default(), body: quota.into() };
    world.registry.carry_out(request).await.unwrap();
    let creations = (0..200).map(|n| {
        let world = world.clone();
        tokio::spawn(async move { world.config_map(&format!("c{n}"), json!({})).await })
    });
    let results: Vec<_> = futures::future::join_all(creations).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 150);
    let refused = results.into_iter().find_map(Result::err).unwrap();
    assert!(
        refused.is(Reason::Forbidden) && refused.message.contains("exceeded quota: q, requested: count/configmaps=1")
    );
    let (quota, _) = world.call("admin", Verb::Get, &known::RESOURCE_QUOTAS, "q", Value::Null, false).await.unwrap();
    assert_eq!(quota["status"]["used"], json!({"count/configmaps": "150"}));
}

#[tokio::test]
async fn mutating_webhooks_see_what_others_made() {
    let world = World::new().await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    world.hooks("mutatingwebhookconfigurations", "m", &[("one", again), ("two", json!({})), ("warn", json!({}))]).await;
    let (made, warnings) = world.config_map("a", json!({"k": "v"})).await.unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"one": "yes", "two": "yes"}));
    assert_eq!(warnings, ["careful"]);
    assert_eq!(*world.fake.asked.lock().unwrap(), ["one CREATE", "two CREATE", "warn CREATE", "one CREATE"]);
    world.call("admin", Verb::Delete, &known::CONFIG_MAPS, "a", Value::Null, false).await.unwrap();
    assert_eq!(world.fake.asked.lock().unwrap()[4..], ["one DELETE", "two DELETE", "warn DELETE"]);
}

#[tokio::test]
async fn validating_webhooks_refuse_by_word_silence_or_side_effect() {
    for (path, more, dry_run, expected) in [
        ("deny", json!({}), false, Err((418, "admission webhook \"deny.example.com\" denied the request: no"))),
        (
            "down",
            json!({}),
            false,
            Err((
                500,
                "Internal error occurred: failed calling webhook \"down.example.com\": failed to call webhook: Post \"https://x\": dial \
                 tcp: connect: connection refused",
            )),
        ),
        ("down", json!({"failurePolicy": "Ignore"}), false, Ok(())),
        ("deny", json!({"objectSelector": {"matchLabels": {"a": "b"}}}), false, Ok(())),
        (
            "deny",
            json!({"matchConditions": [{"name": "c", "expression": "object.metadata.name != 'a'"}]}),
            false,
            Ok(()),
        ),
        (
            "deny",
            json!({"matchConditions": [{"name": "c", "expression": "object.nope == 1"}]}),
            false,
            Err((
                403,
                "configmaps \"a\" is forbidden: expression 'object.nope == 1' resulted in error: no such key: nope",
            )),
        ),
        ("warn", json!({"sideEffects": "NoneOnDryRun"}), true, Ok(())),
    ] {
        let world = World::new().await;
        world.hooks("validatingwebhookconfigurations", "v", &[(path, more.clone())]).await;
        let object = json!({"metadata": {"name": "a"}});
        let result = world.call("admin", Verb::Create, &known::CONFIG_MAPS, "", object, dry_run).await;
        let said = result.as_ref().map(drop).map_err(|status| (status.reason.code(), status.message.as_str()));
        assert_eq!(said, expected, "{path} {more}");
    }
}

#[tokio::test]
async fn connections_are_judged_by_their_options() {
    let world = World::new().await;
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/exec"]});
    let conditions = json!([{"name": "c", "expression": "object.kind == 'PodExecOptions' && 'sh' in object.command"}]);
    let more = json!({"rules": [rule], "matchConditions": conditions});
    world.hooks("validatingwebhookconfigurations", "v", &[("deny", more)]).await;
    let connect = async |subresource: &str, command: &str| {
        let target = Target {
            resource: known::PODS,
            version: String::new(),
            namespace: "default".into(),
            name: "p".into(),
            subresource: subresource.into(),
        };
        let body = json!({"kind": "PodExecOptions", "apiVersion": "v1", "command": [command]}).into();
        let who = User::new("admin", &["system:masters"]);
        let request = Request { who, verb: Verb::Connect, target, options: Options::default(), body };
        world.registry.carry_out(request).await.map(drop).map_err(|status| status.message)
    };
    let refused = "admission webhook \"deny.example.com\" denied the request: no".to_owned();
    assert_eq!(connect("exec", "sh").await, Err(refused));
    assert_eq!(connect("exec", "ls").await, Ok(()));
    assert_eq!(connect("attach", "sh").await, Ok(()));
}

#[tokio::test]
async fn validating_policies_judge() {
    let deny = json!({"validationActions": ["Deny"]});
    let denied = "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
    for (spec, binding, expected) in [
        (
            json!({"validations": [{"expression": "size(object.data) < 2", "message": "too many"}]}),
            deny.clone(),
            "too many",
        ),
        (json!({"validations": [{"expression": "size(object.data) < 3"}]}), deny.clone(), ""),
        (json!({"validations": [{"expression": "false"}]}), deny.clone(), "failed expression: false"),
        (
            json!({"variables": [{"name": "n", "expression": "size(object.data)"}],
                "validations": [{"expression": "variables.n == 0", "messageExpression": "'there are ' + string(variables.n)"}]}),
            deny.clone(),
            "there are 2",
        ),
        (
            json!({"variables": [{"name": "n", "expression": "object.nope"}], "validations": [{"expression": "variables.n == 0"}]}),
            deny.clone(),
            "expression 'variables.n == 0' resulted in error: composited variable \"n\" fails to evaluate: expression 'object.nope' \
             resulted in error: no such key: nope",
        ),
        (json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.nope == 1"}]}), deny.clone(), ""),
        (
            json!({"matchConditions": [{"name": "c", "expression": "request.userInfo.username != 'admin'"}],
                "validations": [{"expression": "false"}]}),
            deny.clone(),
            "",
        ),
        (
            json!({"validations": [{"expression": "authorizer.group('').resource('x').check('get').allowed()", "message": "not jane"}]}),
            deny.clone(),
            "not jane",
        ),
        (
            json!({"validations": [{"expression": "namespaceObject.metadata.name == 'other'", "message": "elsewhere"}]}),
            deny.clone(),
            "elsewhere",
        ),
        (
            json!({"validations": [{"expression": "false"}]}),
            json!({"validationActions": ["Deny"], "matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}),
            "",
        ),
        (
            json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [{"expression": "params.data.most == '1'"}]}),
            json!({"validationActions": ["Deny"], "paramRef": {"name": "none", "parameterNotFoundAction": "Deny"}}),
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
        ),
    ] {
        let world = World::new().await;
        world.policy("validating", spec.clone(), binding).await;
        let result = world.config_map("a", json!({"k": "v", "l": "w"})).await.map(drop);
        let expected = if expected.is_empty() { Ok(()) } else { Err(format!("{denied}{expected}")) };
        assert_eq!(result.map_err(|status| status.message), expected, "{spec}");
    }
    let world = World::new().await;
    world
        .policy("validating", json!({"validations": [{"expression": "false"}]}), json!({"validationActions": ["Warn"]}))
        .await;
    let (_, warnings) = world.config_map("a", json!({})).await.unwrap();
    let warned = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: false";
    assert_eq!(warnings, [warned]);
}

#[tokio::test]
async fn mutating_policies_change() {
    let patch = |expression: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    let apply =
        |expression: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    for (mutations, expected) in [
        (
            json!([patch("[JSONPatch{op: 'add', path: '/data/x', value: object.data.k + '!'}]")]),
            json!({"k": "v", "x": "v!"}),
        ),
        (
            json!([patch("[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('a/b'), value: ''}]")]),
            json!({"k": "v"}),
        ),
        (json!([apply("Object{data: {'x': 'y'}}")]), json!({"k": "v", "x": "y"})),
        (
            json!([apply("Object{data: {'x': 'y'}}"), patch("[JSONPatch{op: 'remove', path: '/data/k'}]")]),
            json!({"x": "y"}),
        ),
    ] {
        let world = World::new().await;
        let spec = json!({"reinvocationPolicy": "Never", "failurePolicy": "Ignore", "mutations": mutations});
        world.policy("mutating", spec, json!({})).await;
        let result = world.config_map("a", json!({"k": "v"})).await;
        match result {
            Ok((made, _)) => assert_eq!(made["data"], expected, "{mutations}"),
            // The second case makes a key that config maps do not take: the change came through.
            Err(status) => assert!(status.message.contains("a/b"), "{mutations}: {status}"),
        }
    }
}

#[tokio::test]
async fn a_policy_changes_what_it_may_and_says_what_it_may_not() {
    let patch = |expression: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    let apply =
        |expression: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    let denied = |why: &str| Err(format!("policy 'p' with binding 'b' denied request: {why}"));
    let envs = "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', env: [Object.spec.containers.env{name: 'n', value: 'v'}]}]}}";
    for (mutations, expected) in [
        (json!([apply(envs)]), Ok(json!([{"name": "o", "value": "x"}, {"name": "n", "value": "v"}]))),
        (
            json!([apply("Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', args: ['x']}]}}")]),
            denied(
                "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args",
            ),
        ),
        (
            json!([apply("Object{spec: Object.spec{nope: 1}}")]),
            denied(
                "error applying patch: failed to convert patch object to typed object: .spec.nope: field not declared in schema",
            ),
        ),
        (
            json!([apply("Object{spec: Object.specx{}}")]),
            denied(
                "type mismatch: unexpected type name \"Object.specx\", expected \"Object.spec\", which matches field name path from root Object type",
            ),
        ),
        (
            json!([patch(
                "[JSONPatch{op: 'test', path: '/spec/hostPID', value: true}, JSONPatch{op: 'remove', path: '/spec/containers/0/env'}]"
            )]),
            Ok(json!([{"name": "o", "value": "x"}])),
        ),
        // The condition was true of what came, and is not asked again.
        (
            json!([
                patch("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'l': ''}}]"),
                patch("[JSONPatch{op: 'remove', path: '/spec/containers/0/env'}]")
            ]),
            Ok(Value::Null),
        ),
    ] {
        let world = World::new().await;
        world.create(&known::SERVICE_ACCOUNTS, json!({"metadata": {"name": "default"}})).await.unwrap();
        let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
        let conditions = json!([{"name": "c", "expression": "!has(object.metadata.labels)"}]);
        let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "reinvocationPolicy": "Never",
            "matchConditions": conditions, "mutations": mutations});
        world.policy("mutating", spec, json!({})).await;
        let container = json!({"name": "c", "image": "i", "env": [{"name": "o", "value": "x"}]});
        let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [container]}});
        let result = world.create(&known::PODS, pod).await;
        let said = result.map(|(made, _)| made["spec"]["containers"][0]["env"].clone());
        let said = said.map_err(|status| {
            let told = status.to_value();
            assert_eq!((&told["reason"], &told["code"]), (&json!("Invalid"), &json!(403)));
            status.message
        });
        assert_eq!(said, expected, "{mutations}");
    }
}

#[tokio::test]
async fn conditions_that_cannot_be_told_keep_all_mutations_off() {
    let label = json!({"patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'l': 'v'}}}"}});
    for (policy, expected) in [
        ("Ignore", Ok(Value::Null)),
        (
            "Fail",
            Err(
                "policy 'p' with binding 'b' denied request: expression 'object.nope == 1' resulted in error: no such key: nope",
            ),
        ),
    ] {
        let world = World::new().await;
        let spec = json!({"reinvocationPolicy": "Never", "failurePolicy": policy, "mutations": [label, label],
            "matchConditions": [{"name": "c", "expression": "object.nope == 1"}]});
        world.policy("mutating", spec, json!({})).await;
        let result = world.config_map("a", json!({})).await;
        let said = result.as_ref().map(|(made, _)| made["metadata"]["labels"].clone());
        assert_eq!(said.map_err(|status| status.message.as_str()), expected, "{policy}");
    }
}

#[tokio::test]
async fn subresources_are_judged_by_what_they_take() {
    let world = World::new().await;
    let selector = json!({"app": "d"});
    let pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let template = json!({"metadata": {"labels": selector}, "spec": pod});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": selector}, "template": template});
    world.create(&known::DEPLOYMENTS, json!({"metadata": {"name": "d"}, "spec": spec})).await.unwrap();
    for name in ["default", "other"] {
        world.create(&known::SERVICE_ACCOUNTS, json!({"metadata": {"name": name}})).await.unwrap();
    }
    world.create(&known::PODS, json!({"metadata": {"name": "p"}, "spec": pod})).await.unwrap();
    let rule = json!({"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
        "resources": ["*/scale", "pods/eviction", "pods/binding", "serviceaccounts/token"]});
    let expression = "request.kind.kind == 'Scale' ? object.spec.replicas < 5 && oldObject.spec.replicas == 1 : false";
    let validation = json!({"expression": expression, "messageExpression": "request.kind.group + '/' + request.kind.kind + ' of ' + \
         request.resource.resource + '/' + request.subResource"});
    let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "validations": [validation]});
    world.policy("validating", spec, json!({"validationActions": ["Deny"]})).await;
    let call = async |verb, resource: GroupResource, name: &str, subresource: &str, body: Value| {
        let (version, namespace) = (String::new(), "default".to_owned());
        let target = Target { resource, version, namespace, name: name.into(), subresource: subresource.into() };
        let who = User::new("admin", &["system:masters"]);
        let options = Options::default();
        let answer = world.registry.carry_out(Request { who, verb, target, options, body: body.into() }).await;
        answer.map(drop).map_err(|status| status.message)
    };
    let scale = |replicas: i64| json!({"metadata": {"name": "d"}, "spec": {"replicas": replicas}});
    let denied = |plural: &str, kind: &str, name: &str| {
        let head =
            format!("{plural} {name:?} is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ");
        Err(format!("{head}{kind} of {}", kind_place(kind)))
    };
    fn kind_place(kind: &str) -> &'static str {
        match kind {
            "autoscaling/Scale" => "deployments/scale",
            "policy/Eviction" => "pods/eviction",
            "/Binding" => "pods/binding",
            _ => "serviceaccounts/token",
        }
    }
    let apps = "deployments.apps";
    assert_eq!(
        call(Verb::Update, known::DEPLOYMENTS, "d", "scale", scale(9)).await,
        denied(apps, "autoscaling/Scale", "d")
    );
    assert_eq!(call(Verb::Update, known::DEPLOYMENTS, "d", "scale", scale(2)).await, Ok(()));
    let (scaled, _) = world.call("admin", Verb::Get, &known::DEPLOYMENTS, "d", Value::Null, false).await.unwrap();
    assert_eq!((&scaled["spec"]["replicas"], &scaled["metadata"]["generation"]), (&json!(2), &json!(2)));
    let named = json!({"metadata": {"name": "p"}});
    assert_eq!(
        call(Verb::Create, known::PODS, "p", "eviction", named.clone()).await,
        denied("pods", "policy/Eviction", "p")
    );
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(call(Verb::Create, known::PODS, "p", "binding", binding).await, denied("pods", "/Binding", "p"));
    assert_eq!(
        call(Verb::Create, known::SERVICE_ACCOUNTS, "other", "token", json!({"spec": {"audiences": ["a"]}})).await,
        denied("serviceaccounts", "authentication.k8s.io/TokenRequest", "other")
    );
}
