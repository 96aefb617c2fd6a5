// The JavaScript client of the Kubernetes project: typed calls, an informer, patches, errors.
import assert from 'node:assert/strict';
import * as k8s from '@kubernetes/client-node';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const namespace = 'node';

await core.createNamespace({ body: { metadata: { name: namespace } } });
const made = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'c' }, data: { a: '1' } } });
assert.equal(made.data.a, '1');
assert.ok(made.metadata.creationTimestamp instanceof Date);

const patched = await core.patchNamespacedConfigMap(
  { name: 'c', namespace, body: [{ op: 'add', path: '/data/b', value: '2' }] },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.JsonPatch),
);
assert.deepEqual(patched.data, { a: '1', b: '2' });
await assert.rejects(core.readNamespacedConfigMap({ name: 'none', namespace }), (error) => error.code === 404);
const list = await core.listNamespacedConfigMap({ namespace, fieldSelector: 'metadata.name=c' });
assert.equal(list.items.length, 1);

const seen = [];
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/secrets`, () => core.listNamespacedSecret({ namespace }));
const told = new Promise((resolve, reject) => {
  informer.on('add', (o) => seen.push(`add ${o.metadata.name}`));
  informer.on('update', (o) => seen.push(`update ${o.metadata.labels.x}`));
  informer.on('delete', (o) => { seen.push(`delete ${o.metadata.name}`); resolve(); });
  informer.on('error', reject);
});
await informer.start();
await core.createNamespacedSecret({ namespace, body: { metadata: { name: 's' }, stringData: { k: 'v' } } });
await core.patchNamespacedSecret(
  { name: 's', namespace, body: { metadata: { labels: { x: 'y' } } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
);
await core.deleteNamespacedSecret({ name: 's', namespace });
await told;
await informer.stop();
assert.deepEqual(seen, ['add s', 'update y', 'delete s']);

const deployment = {
  apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd', namespace },
  spec: { selector: { matchLabels: { a: 'b' } }, template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i' }] } } },
};
const created = await objects.create(deployment);
assert.equal(created.spec.replicas, 1);
const applied = await objects.patch(
  { ...deployment, spec: { ...deployment.spec, replicas: 2 } }, undefined, undefined, 'node', true, k8s.PatchStrategy.ServerSideApply,
);
assert.equal(applied.spec.replicas, 2);
const scale = await apps.readNamespacedDeploymentScale({ name: 'd', namespace });
assert.equal(scale.spec.replicas, 2);
await objects.delete(created);
await assert.rejects(apps.readNamespacedDeployment({ name: 'd', namespace }), (error) => error.code === 404);
await core.deleteNamespace({ name: namespace });
console.log('done');
