//! The node that runs the control plane bears the label that says so: a node may not give itself a role, so its server gives it.

use std::sync::Arc;

use futures::StreamExt as _;
use kedge_api::resource::known::NODES;
use kedge_api::{Body, Client, Informer, Key, Object, Options, PatchType, Request, Status, Target, Verb};
use serde_json::{Value, json};

const ROLE: &str = "node-role.kubernetes.io/control-plane";

/// Whether the node has just come without it. One that is taken off later stays off.
fn is_bare(node: &Object) -> bool {
    node.meta.labels.as_ref().is_none_or(|labels| !labels.contains_key(ROLE))
}

/// Labels the node `name` whenever it registers. Never ends.
pub async fn label(client: Arc<dyn Client>, informer: Arc<dyn Informer>, name: String) {
    let key = Key::new(NODES, "", &name);
    loop {
        let (snapshot, mut changes) = informer.subscribe(&[NODES]);
        if snapshot.get(&key).is_some_and(|node| is_bare(node)) {
            tell(give(&*client, &name).await);
        }
        drop(snapshot);
        while let Some(change) = changes.next().await {
            let came = change.key == key && change.before.is_none();
            if came && change.after.as_ref().is_some_and(|node| is_bare(node)) {
                tell(give(&*client, &name).await);
            }
        }
    }
}

async fn give(client: &dyn Client, name: &str) -> Result<(), Status> {
    let patch: Value = json!({"metadata": {"labels": {ROLE: ""}}});
    let target = Target {
        resource: NODES,
        version: String::new(),
        namespace: String::new(),
        name: name.to_owned(),
        subresource: String::new(),
    };
    let (who, options) = (client.user(), Options::default());
    let body = Body::Patch(PatchType::Merge, patch);
    client.call(Request { who, verb: Verb::Patch, target, options, body }).await.map(drop)
}

fn tell(given: Result<(), Status>) {
    if let Err(status) = given {
        tracing::warn!(error = status.message, "this node's role could not be told");
    }
}
