"""The Python client of the Kubernetes project: typed and dynamic clients, watches, server-side apply, errors."""
import threading

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

config.load_kube_config()
core, apps, auth = client.CoreV1Api(), client.AppsV1Api(), client.AuthorizationV1Api()
NS = "python"

core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NS)))
core.create_namespaced_service_account(NS, client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="default")))

# Typed objects there and back.
made = core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="c"), data={"a": "1"}))
assert made.metadata.uid and made.data == {"a": "1"}, made
core.patch_namespaced_config_map("c", NS, {"data": {"b": "2"}})
made = core.read_namespaced_config_map("c", NS)
assert made.data == {"a": "1", "b": "2"}, made
made.data = {"only": "this"}
assert core.replace_namespaced_config_map("c", NS, made).data == {"only": "this"}
try:
    core.replace_namespaced_config_map("c", NS, made)
    raise AssertionError("a stale version was taken")
except ApiException as error:
    assert error.status == 409 and "the object has been modified" in error.body, error
try:
    core.read_namespaced_config_map("none", NS)
    raise AssertionError("there is no such thing")
except ApiException as error:
    assert error.status == 404 and error.reason == "Not Found", error

# A list, then a watch from its version.
start = core.list_namespaced_secret(NS).metadata.resource_version


def change():
    core.create_namespaced_secret(NS, client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"k": "v"}))
    core.patch_namespaced_secret("s", NS, {"metadata": {"labels": {"x": "y"}}})
    core.delete_namespaced_secret("s", NS)


threading.Timer(0.2, change).start()
seen = []
for event in watch.Watch().stream(core.list_namespaced_secret, NS, resource_version=start, timeout_seconds=30):
    seen.append(event["type"])
    assert event["object"].metadata.name == "s"
    if event["type"] == "DELETED":
        break
assert seen == ["ADDED", "MODIFIED", "DELETED"], seen

# A manifest, its scale, and deleting many.
utils.create_from_dict(client.ApiClient(), {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": NS, "labels": {"all": "go"}},
    "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
assert apps.read_namespaced_deployment("d", NS).spec.replicas == 1
apps.patch_namespaced_deployment_scale("d", NS, {"spec": {"replicas": 3}})
assert apps.read_namespaced_deployment_scale("d", NS).spec.replicas == 3
apps.delete_collection_namespaced_deployment(NS, label_selector="all=go")
assert apps.list_namespaced_deployment(NS).items == []

# Pages.
for n in range(5):
    core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{n}", labels={"page": "y"})))
names, more = [], None
while True:
    page = core.list_namespaced_config_map(NS, label_selector="page", limit=2, _continue=more)
    names += [item.metadata.name for item in page.items]
    more = page.metadata._continue
    if not more:
        break
assert names == [f"page-{n}" for n in range(5)], names

# What discovery tells the dynamic client, and server-side apply through it.
world = dynamic.DynamicClient(client.ApiClient())
services = world.resources.get(api_version="v1", kind="Service")
body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": NS}, "spec": {"ports": [{"port": 80, "protocol": "TCP"}]}}
applied = services.server_side_apply(body=body, name="s", namespace=NS, field_manager="python")
assert applied.spec.clusterIP and applied.spec.ports[0].targetPort == 80, applied
conflict = dict(body, spec={"ports": [{"port": 80, "protocol": "TCP", "targetPort": 81}]})
services.server_side_apply(body=conflict, name="s", namespace=NS, field_manager="other")
try:
    services.server_side_apply(body=dict(body, spec={"ports": [{"port": 80, "protocol": "TCP", "targetPort": 82}]}), name="s", namespace=NS, field_manager="python")
    raise AssertionError("no conflict")
except dynamic.exceptions.ConflictError as error:
    assert "conflict with" in str(error.body), error.body

# Questions.
review = auth.create_self_subject_access_review(client.V1SelfSubjectAccessReview(
    spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=client.V1ResourceAttributes(verb="get", resource="pods"))))
assert review.status.allowed
token = core.create_namespaced_service_account_token("default", NS, client.AuthenticationV1TokenRequest(
    spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600)))
assert token.status.token.count(".") == 2
assert client.VersionApi().get_code().minor == "36"
core.delete_namespace(NS)
print("done")
