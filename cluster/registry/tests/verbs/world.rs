//! A registry over the memory store, and the least that each kind needs.

use std::sync::Arc;

use kedge_api::client::User;
use kedge_api::request::{Answer, Body, Options, PatchType, Payload, Request, Target};
use kedge_api::resource::known;
use kedge_api::{GroupResource, Status, Verb};
use kedge_registry::{Registry, bootstrap};
use kedge_store::{Memory, Store};
use kedge_watch::Cache;
use serde_json::{Value, json};

pub struct World {
    pub registry: Arc<Registry>,
    pub store: Arc<dyn Store>,
}

#[derive(Clone)]
pub struct At<'a> {
    pub resource: GroupResource,
    /// Empty: the preferred one.
    pub version: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub subresource: &'a str,
}

pub fn at<'a>(resource: &GroupResource, namespace: &'a str, name: &'a str) -> At<'a> {
    At { resource: resource.clone(), version: "", namespace, name, subresource: "" }
}

impl World {
    pub async fn new() -> Self {
        Self::over(Arc::new(Memory::new())).await
    }

    pub async fn over(store: Arc<dyn Store>) -> Self {
        let cache = Cache::start(store.clone()).await.unwrap();
        let registry = Arc::new(Registry::new(store.clone(), cache, kedge_registry::Options::default()));
        bootstrap(&registry).await.unwrap();
        let world = Self { registry, store };
        let account = json!({"metadata": {"name": "default"}});
        world.create(&known::SERVICE_ACCOUNTS, "default", account).await.unwrap();
        world
    }

    pub async fn call(&self, verb: Verb, at: At<'_>, options: Options, body: Body) -> Result<Answer, Status> {
        let target = Target {
            resource: at.resource,
            version: at.version.into(),
            namespace: at.namespace.into(),
            name: at.name.into(),
            subresource: at.subresource.into(),
        };
        let who = User::new("admin", &["system:masters"]);
        self.registry.carry_out(Request { who, verb, target, options, body }).await
    }

    pub async fn value(&self, verb: Verb, at: At<'_>, body: Body) -> Result<Value, Status> {
        value(self.call(verb, at, Options::default(), body).await?)
    }

    pub async fn create(&self, resource: &GroupResource, namespace: &str, object: Value) -> Result<Value, Status> {
        self.value(Verb::Create, at(resource, namespace, ""), object.into()).await
    }

    pub async fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Result<Value, Status> {
        self.value(Verb::Get, at(resource, namespace, name), Body::None).await
    }

    pub async fn merge(&self, place: At<'_>, patch: Value) -> Result<Value, Status> {
        self.value(Verb::Patch, place, Body::Patch(PatchType::Merge, patch)).await
    }

    pub async fn delete(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
        wish: Value,
    ) -> Result<Value, Status> {
        self.value(Verb::Delete, at(resource, namespace, name), wish.into()).await
    }
}

pub fn value(answer: Answer) -> Result<Value, Status> {
    match answer.payload {
        Payload::Stored(object) => object.decode(),
        Payload::Value(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

pub fn revision(world: &World) -> String {
    world.registry.cache().snapshot().revision.to_string()
}

/// A certificate request of `CN=joe, O=team`.
pub const REQUEST: &str = concat!(
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIWU1IOENBUUF3SFRFTU1Bb0dBMVVFQXd3RGFtOWxNUTB3Q3dZRFZRUUtEQVIw",
    "WldGdE1Ga3dFd1lIS29aSQp6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUV1N29lU3JaaUF1SElsVm9oeDJKdmpLdi9uM2F1M2pwcDFwR3VMMkVNCnRw",
    "WHkzQ0RoUmRRYTlRSGNKU01Nc0MzeHlueTNsdkJpZ0Y0TUJ0dEdHU1M2aWFBQU1Bb0dDQ3FHU000OUJBTUMKQTBrQU1FWUNJUUQxZU9MMkYrOTI1",
    "cVVZYXg1UVB5T2RMUE16emhCUGhlcDZnWE4vc2JWYlJ3SWhBSTVrUXAyVgp4YUIycHQvSnB0TStEZUhyMUgzWSs3K2Rua3B2K1d1TXJjMFQKLS0t",
    "LS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg=="
);

/// Which requests an admission policy is about.
pub fn matched() -> Value {
    let rule = json!({"apiGroups": ["g"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["foos"]});
    json!({ "resourceRules": [rule] })
}

/// The least that each kind can be made of.
pub fn least(kind: &str) -> Value {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let workload = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    match kind {
        "Pod" => json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => workload,
        "ReplicationController" => json!({"spec": {"template": template}}),
        "PodTemplate" => json!({"template": template}),
        "ControllerRevision" => json!({"revision": 1, "data": {}}),
        "CronJob" => {
            let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}})
        }
        "HorizontalPodAutoscaler" => {
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}})
        }
        "PersistentVolumeClaim" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        "PersistentVolume" => {
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}})
        }
        "RuntimeClass" => json!({"handler": "h"}),
        "PriorityClass" => json!({"value": 1}),
        "StorageClass" => json!({"provisioner": "p"}),
        "CSIStorageCapacity" => json!({"storageClassName": "s"}),
        "VolumeAttributesClass" => json!({"driverName": "d", "parameters": {"a": "b"}}),
        "VolumeAttachment" => {
            json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "Job" => {
            json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})
        }
        "CertificateSigningRequest" => {
            json!({"spec": {"request": REQUEST, "signerName": "example.com/s", "usages": ["client auth"]}})
        }
        "FlowSchema" => json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}}}),
        "PriorityLevelConfiguration" => {
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})
        }
        "APIService" => {
            let service = json!({"name": "s", "namespace": "n"});
            json!({"spec": {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1, "service": service}})
        }
        "ResourceSlice" => {
            let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
            json!({"spec": {"driver": "d.example.com", "nodeName": "n", "pool": pool, "devices": [{"name": "d"}]}})
        }
        "Ingress" => json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        "IngressClass" => json!({"spec": {"controller": "example.com/c"}}),
        "IPAddress" => json!({"spec": {"parentRef": {"resource": "services", "name": "s"}}}),
        "ServiceCIDR" => json!({"spec": {"cidrs": ["198.18.0.0/24"]}}),
        "ValidatingAdmissionPolicy" => {
            json!({"spec": {"matchConstraints": matched(), "validations": [{"expression": "true"}]}})
        }
        "MutatingAdmissionPolicy" => {
            let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
            json!({"spec": {"matchConstraints": matched(), "reinvocationPolicy": "Never", "mutations": [mutation]}})
        }
        "ValidatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        "MutatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p"}}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": []}),
        "Event" => {
            json!({"regarding": {"namespace": "default"}, "involvedObject": {"namespace": "default"}, "reason": "R", "note": "n",
            "type": "Normal", "action": "A", "reportingController": "e.com/c", "reportingComponent": "e.com/c", "reportingInstance": "i", "eventTime": "2024-01-01T00:00:00.000001Z"})
        }
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": {"kind": "ClusterRole", "name": "r"}}),
        _ => json!({}),
    }
}

/// Some kinds' names mean something.
pub fn name_of(kind: &str) -> &'static str {
    match kind {
        "IPAddress" => "198.51.100.7",
        "APIService" => "v1.example.com",
        _ => "thing",
    }
}
