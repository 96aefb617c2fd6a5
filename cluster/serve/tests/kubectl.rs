//! The real kubectl against the whole server.
#![cfg(test)]

mod aggregate;
mod audit;
mod flow;
mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use support::{World, said};

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n";
const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"app":"web"}},
 "spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},
  "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"nginx:1"}]}}}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_out_what_there_is() {
    let world = World::start().await;
    has(&world.run(&["version"]), &["Server Version: v1.36.", "kedge"]);
    let resources = world.run(&["api-resources"]);
    for line in [
        &["configmaps", "cm", "v1", "true", "ConfigMap"][..],
        &["deployments", "deploy", "apps/v1", "true", "Deployment"],
        &["nodes", "no", "v1", "false", "Node"],
        &["selfsubjectreviews", "authentication.k8s.io/v1", "false"],
    ] {
        assert!(
            resources.lines().any(|l| line.iter().all(|word| l.split_whitespace().any(|w| w == *word))),
            "{line:?} is not in:\n{resources}"
        );
    }
    has(&world.run(&["api-versions"]), &["apps/v1\n", "authorization.k8s.io/v1\n", "v1\n"]);
    let ready = world.run(&["get", "--raw", "/readyz?verbose"]);
    has(&ready, &["[+]ping ok\n[+]log ok\n[+]poststarthook/start-", "ok\n[+]shutdown ok\nreadyz check passed"]);
    has(&world.run(&["get", "--raw", "/metrics/slis"]), &["kubernetes_healthcheck{name=\"ping\",type=\"readyz\"} 1\n"]);
    has(
        &world.run(&["get", "--raw", "/metrics"]),
        &[
            "apiserver_request_total{code=\"200\",component=\"\",dry_run=\"\",group=\"\",resource=\"\",scope=\"\",subresource=\"/readyz\"",
        ],
    );
    has(&world.run(&["cluster-info"]), &["Kubernetes control plane", "is running at"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_explains_kinds() {
    let world = World::start().await;
    has(
        &world.run(&["explain", "pod.spec.containers"]),
        &[
            "FIELD: containers <[]Container>",
            "  image\t<string>",
            "  name\t<string> -required-",
            "  readinessProbe\t<Probe>",
        ],
    );
    has(
        &world.run(&["explain", "deployment", "--recursive"]),
        &["GROUP:      apps", "VERSION:    v1", "maxSurge\t<IntOrString>"],
    );
    has(
        &world.run(&["explain", "pod.spec.containers.livenessProbe"]),
        &["FIELD: livenessProbe <Probe>", "    Periodic probe of container liveness.", "  httpGet\t<HTTPGetAction>"],
    );
    has(&world.run(&["explain", "service.spec.type"]), &["ENUM:\n    ClusterIP\n    ExternalName\n", "DESCRIPTION:"]);
    let resources = world.run(&["api-resources", "--no-headers"]);
    let rows = resources.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut explained = 0;
    for row in rows {
        let [name, .., version, _, kind] = row[..] else { panic!("{row:?}") };
        let text = world.run(&["explain", name, "--api-version", version, "--recursive"]);
        has(&text, &[&format!("KIND:       {kind}\n"), "FIELDS:\n", "  metadata\t<"]);
        let text = world.run(&["explain", name, "--api-version", version]);
        has(&text, &[&format!("KIND:       {kind}\n"), "DESCRIPTION:\n    ", "FIELDS:\n"]);
        assert!(!text.contains("<empty>"), "{text}");
        explained += 1;
    }
    assert!(explained > 60, "{resources}");
    // This one is read from the second edition, as protobuf.
    has(
        &world.run(&[
            "explain",
            "deployment.spec.template.spec.containers",
            "--output=plaintext-openapiv2",
            "--recursive",
        ]),
        &[
            "KIND:     Deployment\nVERSION:  apps/v1\n\nRESOURCE: containers <[]Object>\n",
            "      exec\t<Object>\n",
            "            optional\t<boolean>\n",
        ],
    );
    has(&world.fail(&["explain", "pod.spec.nope"]), &["field \"nope\" does not exist"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_applies_and_edits_and_deletes() {
    let world = World::start().await;
    let apply = |manifest: &str| world.feed(&["apply"], manifest).out;
    assert_eq!(apply(CONFIG_MAP), "configmap/a created\n");
    assert_eq!(apply(CONFIG_MAP), "configmap/a unchanged\n");
    assert_eq!(apply(&CONFIG_MAP.replace("k: v", "k: w")), "configmap/a configured\n");
    assert_eq!(world.run(&["get", "cm", "a", "-o", "jsonpath={.data.k}"]), "w");
    has(&world.run(&["get", "cm"]), &["NAME", "DATA", "AGE", "a      1"]);
    has(&world.run(&["get", "cm", "a", "-o", "yaml"]), &["apiVersion: v1\n", "kind: ConfigMap\n", "  k: w\n"]);
    assert_eq!(world.run(&["get", "cm", "-o", "name"]), "configmap/a\n");
    world.run(&["label", "cm", "a", "tier=front"]);
    world.run(&["annotate", "cm", "a", "note=x"]);
    has(&world.run(&["get", "cm", "-l", "tier=front", "--show-labels"]), &["a ", "tier=front"]);
    world.run(&["label", "cm", "a", "tier-"]);
    assert!(!world.run(&["get", "cm", "a", "-o", "json"]).contains("tier"));
    world.run(&["patch", "cm", "a", "--type=json", "-p", r#"[{"op":"add","path":"/data/j","value":"1"}]"#]);
    world.run(&["patch", "cm", "a", "--type=merge", "-p", r#"{"data":{"m":"2"}}"#]);
    let data: Value = serde_json::from_str(&world.run(&["get", "cm", "a", "-o", "jsonpath={.data}"])).unwrap();
    assert_eq!(data, json!({"k": "w", "j": "1", "m": "2"}));
    let mut edit = world.command(&["edit", "cm", "a"]);
    edit.env("KUBE_EDITOR", "sed -i s/w/edited/");
    has(&said(tokio::task::block_in_place(|| edit.output().unwrap())).out, &["configmap/a edited"]);
    assert_eq!(world.run(&["get", "cm", "a", "-o", "jsonpath={.data.k}"]), "edited");
    has(&world.run(&["describe", "cm", "a"]), &["Name:         a", "edited"]);
    assert_eq!(world.run(&["delete", "cm", "a", "--wait"]), "configmap \"a\" deleted from default namespace\n");
    has(&world.fail(&["get", "cm", "a"]), &["Error from server (NotFound): configmaps \"a\" not found"]);
    has(&world.fail(&["create", "-f", "/dev/null"]), &["error"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_handles_deployments_and_namespaces() {
    let world = World::start().await;
    world.run(&["create", "namespace", "team"]);
    has(&world.run(&["get", "ns"]), &["team", "Active", "kube-system"]);
    assert!(world.feed(&["-n", "team", "apply"], DEPLOYMENT).good);
    has(
        &world.run(&["-n", "team", "get", "deploy", "-o", "wide"]),
        &["READY", "UP-TO-DATE", "CONTAINERS", "nginx:1", "app=web", "0/2"],
    );
    world.run(&["-n", "team", "scale", "deploy", "web", "--replicas=5"]);
    assert_eq!(world.run(&["-n", "team", "get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"]), "5");
    world.run(&["-n", "team", "set", "image", "deploy/web", "c=nginx:2"]);
    has(&world.run(&["-n", "team", "get", "deploy", "-o", "wide"]), &["nginx:2", "0/5"]);
    let wait = ["-n", "team", "wait", "deploy/web", "--for=jsonpath={.spec.replicas}=5", "--timeout=10s"];
    has(&world.run(&wait), &["condition met"]);
    has(&world.run(&["get", "all", "-A"]), &["deployment.apps/web"]);
    world.run(&["-n", "team", "delete", "deploy", "web"]);
    has(&world.fail(&["-n", "team", "get", "deploy", "web"]), &["deployments.apps \"web\" not found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_validated() {
    let world = World::start().await;
    let wrong = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, labls: {}}\ndata: {k: v}\nnope: 1\n";
    has(
        &world.feed(&["apply"], wrong).err,
        &["strict decoding error", "unknown field \"metadata.labls\"", "unknown field \"nope\""],
    );
    let warned = world.feed(&["apply", "--validate=warn"], wrong);
    assert!(warned.good, "{warned:?}");
    has(&warned.err, &["Warning: unknown field \"nope\""]);
    assert!(world.feed(&["apply", "--validate=false"], wrong).good);
    let typed = DEPLOYMENT.replace("\"replicas\":2", "\"replicas\":\"two\"");
    has(
        &world.feed(&["create"], &typed).err,
        &["cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"],
    );
    let invalid = DEPLOYMENT.replace("\"name\":\"web\"", "\"name\":\"Web_\"");
    has(&world.feed(&["create"], &invalid).err, &["is invalid: metadata.name: Invalid value: \"Web_\""]);
}

const DEFINITION: &str = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"boats.e.com"},
    "spec":{"group":"e.com","scope":"Namespaced","names":{"plural":"boats","kind":"Boat","shortNames":["bt"],"categories":["all"]},
    "versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{},"scale":{"specReplicasPath":".spec.replicas",
    "statusReplicasPath":".status.replicas"}},"additionalPrinterColumns":[{"name":"Sails","type":"integer","jsonPath":".spec.sails"}],
    "schema":{"openAPIV3Schema":{"type":"object","description":"A boat.","properties":{
    "spec":{"type":"object","description":"What it is.","x-kubernetes-validations":[{"rule":"self.sails < 9","message":"too many sails"}],
    "properties":{"sails":{"type":"integer","default":1,"description":"How many sails."},"replicas":{"type":"integer"}}},
    "status":{"type":"object","properties":{"replicas":{"type":"integer"}}}}}}}]}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn it_uses_kinds_that_were_just_defined() {
    let world = World::start().await;
    world.feed(&["create"], DEFINITION);
    // kubectl gives up at once where it finds no conditions yet, as those of a definition are in its first moment.
    let wait = ["wait", "--for=condition=Established", "crd/boats.e.com", "--timeout=10s"];
    let established = (0..100).any(|_| {
        let met = world.say(&wait).good;
        if !met {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        met
    });
    assert!(established, "{}", world.fail(&wait));
    let boat = r#"{"apiVersion":"e.com/v1","kind":"Boat","metadata":{"name":"a"},"spec":{}}"#;
    has(&world.feed(&["create"], boat).out, &["boat.e.com/a created"]);
    has(&world.run(&["get", "bt"]), &["NAME", "SAILS", "a ", "1"]);
    has(&world.run(&["get", "all"]), &["boat.e.com/a"]);
    has(&world.run(&["explain", "boats.spec.sails"]), &["KIND:", "Boat", "sails <integer>", "How many sails."]);
    let older = world.run(&["explain", "boats.spec", "--output=plaintext-openapiv2"]);
    has(&older, &["KIND:     Boat\nVERSION:  e.com/v1\n", "   sails\t<integer>", "How many sails."]);
    has(
        &world.run(&["explain", "boats", "--recursive"]),
        &["  metadata\t<ObjectMeta>\n    annotations\t<map[string]string>\n", "    sails\t<integer>\n"],
    );
    has(
        &world.run(&["patch", "boat", "a", "--type=merge", "-p", r#"{"spec":{"sails":3}}"#]),
        &["boat.e.com/a patched"],
    );
    has(
        &world.fail(&["patch", "boat", "a", "--type=merge", "-p", r#"{"spec":{"sails":9}}"#]),
        &["spec: Invalid value: too many sails"],
    );
    world.run(&["scale", "boat", "a", "--replicas=4"]);
    has(&world.run(&["get", "boat", "a", "-o", "jsonpath={.spec.replicas}"]), &["4"]);
    let odd = boat.replace("\"spec\":{}", "\"spec\":{\"sail\":1}").replace("\"a\"", "\"b\"");
    has(&world.feed(&["create"], &odd).err, &["strict decoding error: unknown field \"spec.sail\""]);
    world.run(&["delete", "crd", "boats.e.com"]);
    has(&world.fail(&["get", "boats"]), &["the server could not find the requested resource"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_watches() {
    let world = World::start().await;
    let mut command = world.command(&["get", "cm", "-w", "--output-watch-events"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || tokio::task::block_in_place(|| lines.next().unwrap().unwrap());
    // Give the watch time to be there: what it does not see begin it sees as changed.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    world.feed(&["create"], CONFIG_MAP);
    world.run(&["label", "cm", "a", "x=y"]);
    world.run(&["delete", "cm", "a"]);
    has(&next(), &["EVENT", "NAME", "DATA"]);
    has(&next(), &["ADDED", "a "]);
    has(&next(), &["MODIFIED", "a "]);
    has(&next(), &["DELETED", "a "]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_who_its_credentials_say() {
    let world = World::start().await;
    has(&world.run(&["auth", "whoami"]), &["admin", "system:masters", "system:authenticated"]);
    assert_eq!(world.run(&["auth", "can-i", "create", "pods"]), "yes\n");
    assert_eq!(world.say(&["auth", "can-i", "create", "pods", "--as", "jane"]).out, "no\n");
    has(
        &world.run(&["auth", "can-i", "--list", "--as", "jane"]),
        &["selfsubjectaccessreviews.authorization.k8s.io", "/healthz"],
    );
    has(
        &world.fail(&["get", "pods", "--as", "jane"]),
        &[r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#],
    );

    let ask = |name: &str, user: Value, args: &[&str]| {
        let mut command = world.command_with(&world.kubeconfig(name, &user), args);
        said(tokio::task::block_in_place(|| command.output().unwrap()))
    };
    has(&ask("garbage", json!({"token": "garbage"}), &["get", "--raw", "/healthz"]).err, &["Unauthorized"]);

    world.run(&["create", "serviceaccount", "robot"]);
    let token = world.run(&["create", "token", "robot", "--duration=10m"]);
    let robot = json!({"token": token.trim()});
    has(
        &ask("robot", robot.clone(), &["auth", "whoami"]).out,
        &["system:serviceaccount:default:robot", "system:serviceaccounts:default"],
    );
    has(
        &ask("robot", robot.clone(), &["get", "pods"]).err,
        &["pods is forbidden: User \"system:serviceaccount:default:robot\""],
    );
    world.run(&["delete", "serviceaccount", "robot"]);
    has(&ask("robot", robot, &["auth", "whoami"]).err, &["Unauthorized"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_grants_and_is_kept_to_what_was_granted() {
    let world = World::start().await;
    world.run(&["create", "serviceaccount", "bot"]);
    world.run(&["create", "role", "reader", "--verb=get,list", "--resource=configmaps"]);
    world.run(&["create", "rolebinding", "bots", "--role=reader", "--serviceaccount=default:bot"]);
    world.run(&["create", "clusterrolebinding", "granters", "--clusterrole=system:aggregate-to-admin", "--user=jane"]);
    has(&world.run(&["get", "rolebinding", "bots", "-o", "wide"]), &["Role/reader", "default/bot"]);
    let token = world.run(&["create", "token", "bot"]);
    let bot = world.kubeconfig("bot", &json!({"token": token.trim()}));
    let may = |as_whom: &[&str], verb: &str, what: &str| {
        let args: Vec<&str> = ["auth", "can-i", verb, what].iter().chain(as_whom).copied().collect();
        world.say(&args).out.trim() == "yes"
    };
    let account = ["--as=system:serviceaccount:default:bot"];
    assert!(may(&account, "list", "configmaps") && !may(&account, "delete", "configmaps"));
    assert!(may(&[], "delete", "nodes") && !may(&account, "list", "nodes"));
    let own = |args: &[&str]| said(tokio::task::block_in_place(|| world.command_with(&bot, args).output().unwrap()));
    assert!(own(&["get", "configmaps"]).good);
    let refused = own(&["delete", "configmap", "a"]);
    has(
        &refused.err,
        &["User \"system:serviceaccount:default:bot\" cannot delete resource \"configmaps\" in API group \"\""],
    );
    has(
        &own(&["auth", "can-i", "--list"]).out,
        &["configmaps", "[get list]", "selfsubjectreviews.authentication.k8s.io"],
    );
    // Jane may write roles, but gives away no more than she has.
    let escalates = ["create", "role", "r", "--verb=get", "--resource=secrets", "--as=jane"];
    has(
        &world.fail(&escalates),
        &["is attempting to grant RBAC permissions not currently held", "Resources:[\"secrets\"]"],
    );
    has(&world.feed(&["auth", "reconcile"], ROLE).out, &["role.rbac.authorization.k8s.io/reader reconciled"]);
    assert!(may(&account, "watch", "configmaps"));
}

const ROLE: &str = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"reader","namespace":"default"},
 "rules":[{"verbs":["watch"],"apiGroups":[""],"resources":["configmaps"]}]}"#;
