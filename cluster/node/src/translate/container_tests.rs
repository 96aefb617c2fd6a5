use std::path::Path;
use std::sync::Arc;

use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Object, Revision, Snapshot};
use serde_json::{Value, json};

use super::*;

pub fn object(resource: GroupResource, value: Value) -> Arc<Object> {
    let meta: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta =
        serde_json::from_value(value["metadata"].clone()).unwrap();
    let key = Key::new(resource, meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap());
    Arc::new(Object { key, revision: Revision(1), meta, json: serde_json::to_vec(&value).unwrap().into() })
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.insert(object(
        known::CONFIG_MAPS,
        json!({"metadata": {"namespace": "shop", "name": "settings"}, "data": {"COLOR": "blue", "SIZE": "3"}}),
    ));
    snapshot.insert(object(
        known::SECRETS,
        json!({"metadata": {"namespace": "shop", "name": "key"}, "data": {"token": "aGVsbG8="}}),
    ));
    snapshot.insert(object(
        known::SERVICES,
        json!({"metadata": {"namespace": "default", "name": "kubernetes"},
            "spec": {"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}),
    ));
    snapshot
}

fn image() -> ImageFacts {
    ImageFacts {
        digest: "sha256:1".into(),
        layers: vec!["/images/a".into()],
        entrypoint: vec!["/bin/app".into()],
        cmd: vec!["serve".into()],
        env: vec!["COLOR=red".into(), "LANG=C".into()],
        working_dir: "/srv".into(),
        user: "app".into(),
        stop_signal: None,
    }
}

fn translate(container: Value) -> Result<ContainerSpec, Error> {
    let mut container = container;
    container["name"] = json!("main");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "0a-1b"},
        "spec": {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}}))
    .unwrap();
    let snapshot = snapshot();
    let places = Places {
        volumes: [("data".to_owned(), (PathBuf::from("/v/data"), false))].into(),
        hosts: "/p/hosts".into(),
        resolv_conf: "/p/resolv.conf".into(),
        hostname: "/p/hostname".into(),
        termination: "/p/words".into(),
    };
    let path = |p: &str| Some(PathBuf::from(p));
    let shared = Sandbox { net: path("/ns/net"), ipc: path("/ns/ipc"), uts: None, shm: path("/ns/shm") };
    of(Ingredients {
        pod: &pod,
        slot: SlotId::Main(0),
        attempt: 2,
        image: &image(),
        objects: Objects { snapshot: &snapshot, namespace: "shop" },
        facts: &Facts::default(),
        places: &places,
        shared: &shared,
        user: &User { uid: 7, gid: 8, groups: vec![] },
        hostname: "web",
        log: Path::new("/log/2.log"),
    })
    .map(|(spec, _)| spec)
}

#[test]
fn a_container_with_nothing_said_is_what_its_image_says() {
    let spec = translate(json!({})).unwrap();
    assert_eq!(spec.id, "0a1b-c0-2");
    assert_eq!(spec.cgroup, "/kubepods/besteffort/pod0a-1b/0a1b-c0-2");
    assert_eq!(spec.args, ["/bin/app", "serve"]);
    assert_eq!((spec.user.uid, spec.user.gid, spec.cwd.as_str()), (7, 8, "/srv"));
    let env: BTreeMap<_, _> = spec.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!((env["COLOR"], env["HOSTNAME"]), ("red", "web"));
    assert_eq!((env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_PORT_443_TCP"]), ("10.43.0.1", "tcp://10.43.0.1:443"));
    assert_eq!((&spec.namespaces.net, &spec.namespaces.uts), (&Namespace::Path("/ns/net".into()), &Namespace::Host));
    assert_eq!((spec.capabilities, spec.privileged, spec.oom_score_adj), (None, false, Some(1000)));
    let targets: Vec<_> = spec.mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!(targets, ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/dev/termination-log", "/dev/shm"]);
}

#[test]
fn standard_input_is_open_to_the_first_session_or_to_all() {
    let of = |container| translate(container).map(|spec| (spec.stdin, spec.stdin_once, spec.tty)).unwrap();
    assert_eq!(of(json!({})), (false, false, false));
    assert_eq!(of(json!({"stdin": true, "tty": true})), (true, false, true));
    assert_eq!(of(json!({"stdin": true, "stdinOnce": true})), (true, true, false));
}

#[test]
fn environment_is_collected_in_order_and_expanded() {
    let spec = translate(json!({
        "command": ["sh", "-c", "echo $(GREETING) $$(X) $(NONE)"],
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "none", "optional": true}}],
        "env": [
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}},
            {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "none", "optional": true}}},
            {"name": "COLOR", "value": "green"},
            {"name": "GREETING", "value": "$(TOKEN) $(WHO) $(P_SIZE) $(KUBERNETES_SERVICE_PORT)"}],
    }))
    .unwrap();
    assert_eq!(spec.args, ["sh", "-c", "echo hello web 3 443 $(X) $(NONE)"]);
    let env: BTreeMap<_, _> = spec.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!((env["COLOR"], env["P_COLOR"], env["LANG"], env.get("MAYBE")), ("green", "blue", "C", None));
}

#[test]
fn what_is_missing_is_named_as_upstream_names_it() {
    for (container, message) in [
        (json!({"envFrom": [{"configMapRef": {"name": "none"}}]}), "configmap \"none\" not found"),
        (
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "none"}}}]}),
            "couldn't find key none in Secret shop/key",
        ),
        (
            json!({"volumeMounts": [{"name": "none", "mountPath": "/x"}]}),
            "volume \"none\" of a volumeMount is not a volume of the pod",
        ),
        (
            json!({"volumeMounts": [{"name": "data", "mountPath": "/x", "subPath": "a/../../b"}]}),
            "subPath \"a/../../b\" must be relative and must not contain '..'",
        ),
    ] {
        assert_eq!(translate(container).unwrap_err().to_string(), message);
    }
}

#[test]
fn mounts_of_volumes() {
    let spec = translate(json!({"env": [{"name": "W", "value": "w"}], "volumeMounts": [
        {"name": "data", "mountPath": "/data", "readOnly": true},
        {"name": "data", "mountPath": "/etc/hosts", "subPathExpr": "x/$(W)", "mountPropagation": "Bidirectional"}]}))
    .unwrap();
    let mounts: Vec<_> =
        spec.mounts.iter().map(|m| (m.source.as_str(), m.target.as_str(), m.options.join(","))).collect();
    assert!(mounts.contains(&("/v/data", "/data", "rbind,rprivate,ro".into())));
    assert!(mounts.contains(&("/v/data/x/w", "/etc/hosts", "rbind,rshared,rw".into())));
    assert!(!mounts.iter().any(|m| m.0 == "/p/hosts"));
}

#[test]
fn ids_are_read_back() {
    for slot in [SlotId::Init(0), SlotId::Main(12)] {
        assert_eq!(parse_id(&id("0a-1b", slot, 7)), Some(("0a1b", slot, 7)));
    }
    for bad in ["", "x", "a-b-c", "a-x0-1", "a-c0-", "a-c-1"] {
        assert_eq!(parse_id(bad), None, "{bad}");
    }
}
