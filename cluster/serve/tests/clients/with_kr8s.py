"""kr8s: objects that know how to change themselves, and watches as generators."""
import kr8s
from kr8s.objects import ConfigMap, Deployment, Namespace, Service, new_class

api = kr8s.api()
assert api.version()["minor"] == "36"
Namespace({"metadata": {"name": "kr8s"}}).create()

config = ConfigMap({"metadata": {"name": "c", "namespace": "kr8s"}, "data": {"a": "1"}})
config.create()
assert config.exists() and config.metadata.uid
config.patch({"data": {"b": "2"}})
assert config.data == {"a": "1", "b": "2"}, config.data
config.label({"colour": "red"})
config.annotate({"note": "x"})
assert [c.name for c in kr8s.get("configmaps", namespace="kr8s", label_selector={"colour": "red"})] == ["c"]
assert config.labels == {"colour": "red"}

deployment = Deployment({
    "metadata": {"name": "d", "namespace": "kr8s"},
    "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
             "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
deployment.create()
deployment.patch({"status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}}, subresource="status")
deployment.wait("jsonpath='{.status.readyReplicas}'=1", timeout=30)
assert deployment.ready()
assert deployment.replicas == 1

service = Service({"metadata": {"name": "s", "namespace": "kr8s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}})
service.create()
assert service.spec.clusterIP

events = []
for kind, item in api.watch("configmaps", namespace="kr8s"):
    events.append((kind, item.name))
    if kind == "ADDED" and item.name == "c":
        item.delete()
    if kind == "DELETED":
        break
assert events[-1] == ("DELETED", "c"), events
config.wait("delete", timeout=30)
assert not config.exists()
print("done")
