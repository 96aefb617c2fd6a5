//! Whether servers that extend the API are there: told in their APIServices' condition `Available`, in upstream's words.
//!
//! Looked at when an APIService, its Service or its endpoints change; beyond that only the server itself is asked from time to time, since
//! nothing tells when it stops to answer. Where no APIService names a server, nothing wakes up.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, header};
use kedge_api::resource::known::{API_SERVICES, ENDPOINT_SLICES, SERVICES};
use kedge_api::{Client, ClientExt as _, Key, Snapshot, Status, User};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Aggregator, Learned, Remote, Service, discovery, published, say_who};
use crate::clock::Clock;
use crate::describe::openapi::others::Spec;
use crate::http::respond::full;
use crate::reach::Server;
use crate::reach::service::{self, items, text};

/// Between questions to a server that answers, and at most to one that does not.
const AGAIN: Duration = Duration::from_secs(30);
/// After the first failure; doubled with each that follows.
const SOON: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    good: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn bad(reason: &'static str, message: String) -> Self {
        Self { good: false, reason, message }
    }

    fn good(reason: &'static str, message: &str) -> Self {
        Self { good: true, reason, message: message.to_owned() }
    }
}

/// What a server was last looked at with, and when it is again.
struct Looked {
    inputs: String,
    /// What was found.
    good: bool,
    failures: u32,
    again: Instant,
}

/// Follows APIServices until dropped.
pub async fn run(aggregator: Arc<Aggregator>, client: Arc<dyn Client>, clock: Clock) {
    while let Err(error) = published::publish(&*client, &aggregator.pki).await {
        tracing::warn!(error = error.message, "how other servers know this one cannot be published");
        tokio::time::sleep(AGAIN).await;
    }
    let mut looked: HashMap<String, Looked> = HashMap::new();
    loop {
        let (_, mut changes) = aggregator.informer.subscribe(&[API_SERVICES, SERVICES, ENDPOINT_SLICES]);
        loop {
            look(&aggregator, &*client, &clock, &mut looked).await;
            let due = looked.values().map(|looked| looked.again).min();
            let due = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.next() => match change {
                    // What came meanwhile is looked at once.
                    Some(_) => while let Some(Some(_)) = changes.next().now_or_never() {},
                    None => break,
                },
                () = due => {}
            }
        }
        tokio::time::sleep(SOON).await;
    }
}

/// Looks at every server that is due or not as it was.
async fn look(
    aggregator: &Aggregator,
    client: &(dyn Client + 'static),
    clock: &Clock,
    looked: &mut HashMap<String, Looked>,
) {
    let snapshot = aggregator.informer.snapshot();
    let services = aggregator.services_in(&snapshot);
    looked.retain(|name, _| services.iter().any(|s| s.remote.is_some() && s.name == *name));
    aggregator.learned.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| looked.contains_key(name));
    let (now, snapshot) = (Instant::now(), &snapshot);
    let work = services.iter().filter_map(|service| {
        let inputs = service.remote.as_ref().map(|remote| inputs(remote, snapshot));
        let due = match (&inputs, looked.get(&service.name)) {
            (Some(inputs), Some(before)) => {
                // Someone else may have written another state than was found.
                before.inputs != *inputs || before.again <= now || before.good != service.available
            }
            (Some(_), None) => true,
            (None, _) => !service.available,
        };
        due.then_some((service, inputs))
    });
    let verdicts = join_all(work.map(|(service, inputs)| async move {
        let verdict = match &service.remote {
            Some(remote) => aggregator.check(service, remote, snapshot).await,
            None => Verdict::good("Local", "Local APIServices are always available"),
        };
        if let Err(error) = tell(client, &aggregator.informer.snapshot(), service, &verdict, clock).await {
            tracing::warn!(
                service = service.name,
                error = error.message,
                "the state of an APIService cannot be written"
            );
        }
        (service, inputs, verdict.good)
    }))
    .await;
    for (service, inputs, good) in verdicts {
        let Some(inputs) = inputs else { continue };
        let before = looked.remove(&service.name).filter(|before| before.inputs == inputs);
        let failures = if good { 0 } else { before.map_or(0, |before| before.failures) + 1 };
        let wait = if good { AGAIN } else { AGAIN.min(SOON.saturating_mul(1 << failures.min(10))) };
        looked.insert(service.name.clone(), Looked { inputs, good, failures, again: Instant::now() + wait });
    }
}

/// All that what can be told without asking depends on.
fn inputs(remote: &Remote, snapshot: &Snapshot) -> String {
    let key = Key::new(SERVICES, &remote.namespace, &remote.name);
    let service = snapshot.get(&key).map(|object| object.revision);
    let slices: Vec<Value> = service::slices(snapshot, &remote.namespace, &remote.name);
    let slices: Vec<&str> = slices.iter().map(|slice| text(slice, "/metadata/resourceVersion")).collect();
    format!("{remote:?} {service:?} {slices:?}")
}

/// What objects tell, before the server is asked.
fn found(remote: &Remote, snapshot: &Snapshot) -> Result<(), Verdict> {
    let Remote { namespace, name, port, .. } = remote;
    let Some(service) = service::find(snapshot, namespace, name) else {
        let why = format!("service/{name} in {namespace:?} is not present");
        return Err(Verdict::bad("ServiceNotFound", why));
    };
    if !matches!(text(&service, "/spec/type"), "ClusterIP" | "") {
        return Ok(());
    }
    let Some(port_name) = service::port_name(&service, u64::from(*port)) else {
        let why = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(Verdict::bad("ServicePortError", why));
    };
    let slices = service::slices(snapshot, namespace, name);
    if slices.is_empty() {
        let why = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(Verdict::bad("EndpointsNotFound", why));
    }
    if service::ready(&slices, port_name).is_empty() {
        let why = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Err(Verdict::bad("MissingEndpoints", why));
    }
    Ok(())
}

impl Aggregator {
    async fn check(&self, service: &Service, remote: &Remote, snapshot: &Snapshot) -> Verdict {
        let asked = match found(remote, snapshot) {
            Ok(()) => self.discover(service, remote, snapshot).await,
            Err(verdict) => Err(verdict),
        };
        let mut learned = self.learned(service);
        let verdict = match asked {
            Ok(new) => {
                learned = new;
                Verdict::good("Passed", "all checks passed")
            }
            Err(verdict) => {
                learned.fresh = false;
                verdict
            }
        };
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).insert(service.name.clone(), learned);
        verdict
    }

    /// Asks the server for what it must serve.
    async fn discover(&self, service: &Service, remote: &Remote, snapshot: &Snapshot) -> Result<Learned, Verdict> {
        let path = format!("/apis/{}/{}", service.group, service.version);
        let bad = |url: &str, why: String| {
            Verdict::bad("FailedDiscoveryCheck", format!("failing or missing response from {url}: {why}"))
        };
        let server =
            self.server(remote, snapshot).map_err(|why| Verdict::bad("FailedDiscoveryCheck", why.to_string()))?;
        let (host, port) = server.dial.first().cloned().unwrap_or_default();
        let url = format!("https://{host}:{port}{path}");
        match get(&server, &path, "system:kube-aggregator").await {
            Ok((code, body)) if (200..300).contains(&code) => {
                let list: Value = serde_json::from_slice(&body).unwrap_or_default();
                let openapi = get(&server, "/openapi/v3", "system:aggregator").await;
                let openapi: Option<Value> = openapi.ok().and_then(|(_, body)| serde_json::from_slice(&body).ok());
                let document = openapi.as_ref().and_then(|index| index.get("paths")?.get(path.trim_start_matches('/')));
                let openapi = document.map(|document| text(document, "/serverRelativeURL").to_owned());
                let before = self.learned(service);
                // Documents of version 3 are named by their content: where that is the same, so is version 2.
                let spec = match before.spec {
                    Some(spec) if openapi.is_some() && openapi == before.openapi => Some(spec),
                    spec => self::spec(&server, &path, spec).await,
                };
                Ok(Learned { resources: discovery::resources(&list).into(), openapi, spec, fresh: list.is_object() })
            }
            Ok((code, _)) => Err(bad(&url, format!("bad status from {url}: {code}"))),
            Err(why) => Err(bad(&url, format!("Get {url:?}: {why}"))),
        }
    }
}

/// What a server describes in OpenAPI 2, or did when it last could.
async fn spec(server: &Server, path: &str, before: Option<Arc<Spec>>) -> Option<Arc<Spec>> {
    match get(server, "/openapi/v2", "system:aggregator").await {
        Ok((200, body)) => Spec::read(&body, &format!("{path}/")).map(Arc::new).or(before),
        // It has none.
        Ok((404, _)) => None,
        Ok(_) | Err(_) => before,
    }
}

/// As one who may read anything there.
async fn get(server: &Server, path: &str, user: &str) -> Result<(u16, Vec<u8>), String> {
    let request = Request::get(path).header(header::ACCEPT, "application/json").body(full(""));
    let mut request = request.map_err(|error| error.to_string())?;
    say_who(request.headers_mut(), &User::new(user, &["system:masters"]));
    server.ask(request, TIMEOUT).await.map(|(code, body)| (code.as_u16(), body)).map_err(|error| error.to_string())
}

/// Writes the condition, if it is not so already.
async fn tell(
    client: &(dyn Client + 'static),
    snapshot: &Snapshot,
    service: &Service,
    verdict: &Verdict,
    clock: &Clock,
) -> Result<(), Status> {
    let Some(object) = snapshot.get(&Key::new(API_SERVICES, "", &service.name)) else { return Ok(()) };
    let value: Value = object.decode()?;
    let mut conditions = items(&value, "/status/conditions").to_vec();
    let status = if verdict.good { "True" } else { "False" };
    let old = conditions.iter().position(|c| text(c, "/type") == "Available");
    let before = old.and_then(|at| conditions.get(at)).cloned().unwrap_or_default();
    let since = if text(&before, "/status") == status {
        text(&before, "/lastTransitionTime").to_owned()
    } else {
        clock.text(Duration::ZERO)
    };
    let condition = json!({"type": "Available", "status": status, "reason": verdict.reason, "message": verdict.message, "lastTransitionTime": since});
    if condition == before {
        return Ok(());
    }
    match old.and_then(|at| conditions.get_mut(at)) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
    let patch = json!({"metadata": {"uid": object.uid()}, "status": {"conditions": conditions}});
    match client.merge(&API_SERVICES, ("", &service.name, "status"), patch).await {
        // It is gone, or another one.
        Err(status) if status.is(kedge_api::Reason::NotFound) || status.is(kedge_api::Reason::Conflict) => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Objects;
    use kedge_api::Informer as _;

    #[test]
    fn objects_tell_why_a_server_cannot_be_there() {
        let objects = Objects::default();
        let remote =
            Remote { namespace: "n".into(), name: "s".into(), port: 443, ca_bundle: Vec::new(), insecure: false };
        let told = |objects: &Objects| found(&remote, &objects.snapshot()).map_err(|v| (v.reason, v.message));
        let service = |port: u16| json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": port}]}});
        let slice = |port: &str, ready: bool| {
            json!({"metadata": {"namespace": "n", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
                "ports": [{"name": port, "port": 8443}], "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]})
        };
        let missing = "endpointslices for service/s in \"n\" have no addresses with port name \"https\"";
        assert_eq!(told(&objects), Err(("ServiceNotFound", "service/s in \"n\" is not present".to_owned())));
        objects.put(SERVICES, service(80));
        assert_eq!(
            told(&objects),
            Err(("ServicePortError", "service/s in \"n\" is not listening on port 443".to_owned()))
        );
        objects.put(SERVICES, service(443));
        assert_eq!(
            told(&objects),
            Err(("EndpointsNotFound", "cannot find endpointslices for service/s in \"n\"".to_owned()))
        );
        objects.put(ENDPOINT_SLICES, slice("http", true));
        assert_eq!(told(&objects), Err(("MissingEndpoints", missing.to_owned())));
        objects.put(ENDPOINT_SLICES, slice("https", false));
        assert_eq!(told(&objects), Err(("MissingEndpoints", missing.to_owned())));
        objects.put(ENDPOINT_SLICES, slice("https", true));
        assert_eq!(told(&objects), Ok(()));
        let before = inputs(&remote, &objects.snapshot());
        objects.put(ENDPOINT_SLICES, slice("https", true));
        assert_ne!(inputs(&remote, &objects.snapshot()), before);
        objects.put(SERVICES, json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"type": "ExternalName", "externalName": "e.com"}}));
        assert_eq!(told(&objects), Ok(()));
    }
}
