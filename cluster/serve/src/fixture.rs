//! For unit tests: an informer over objects made by hand, and servers outside.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use kedge_api::{Change, GroupResource, Informer, Key, Object, Resource, Revision, Snapshot};
use kedge_registry::Registry;
use kedge_store::{Memory, Store};
use kedge_watch::Cache;
use serde_json::Value;

use crate::pki::{Pki, Profile, Signer};

/// Serves on loopback over TLS, with a certificate of `pki`; gives the port.
pub async fn outside<R>(pki: &Pki, answer: impl Fn(http::Request<Bytes>) -> R + Clone + Send + Sync + 'static) -> u16
where
    R: Future<Output = http::Response<Bytes>> + Send + 'static,
{
    let verifier = crate::tls::client_verifier(pki.authority(Signer::Client)).unwrap();
    let mut config = crate::tls::server_config(pki.resolver(&Profile::ApiServer).unwrap(), &[&*verifier]).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let response = answer(http::Request::from_parts(parts, body)).await;
                        Ok::<_, std::convert::Infallible>(response.map(Full::new))
                    }
                });
                let _broken =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    port
}

/// The way to a server on loopback that `pki` has certified.
pub fn kubeconfig(pki: &Pki, port: u16, path: &str) -> String {
    pki.kubeconfig(&Profile::Admin, &format!("https://127.0.0.1:{port}{path}")).unwrap()
}

/// The row of a built-in resource.
pub async fn row(resource: &GroupResource) -> Arc<Resource> {
    let registry = registry().await;
    Arc::new(registry.table().find(resource, "").unwrap().resource.clone())
}

async fn registry() -> Registry {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let cache = Cache::start(Arc::clone(&store)).await.unwrap();
    Registry::new(store, cache, kedge_registry::Options::default())
}

#[derive(Default)]
pub struct Objects(Mutex<Snapshot>);

impl Objects {
    /// What every cluster has, roles above all.
    pub async fn bootstrapped() -> Self {
        let registry = registry().await;
        kedge_registry::bootstrap(&registry).await.unwrap();
        Self(Mutex::new(registry.cache().snapshot()))
    }

    pub fn put(&self, resource: GroupResource, mut value: Value) {
        let mut snapshot = self.0.lock().unwrap();
        let revision = Revision(snapshot.revision.0 + 1);
        value["metadata"]["resourceVersion"] = revision.to_string().into();
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = Key::new(resource, &text("/metadata/namespace"), &text("/metadata/name"));
        let meta = serde_json::from_value(value["metadata"].clone()).unwrap();
        snapshot.insert(Arc::new(Object { key, revision, meta, json: value.to_string().into() }));
    }

    pub fn remove(&self, resource: GroupResource, namespace: &str, name: &str) {
        let mut snapshot = self.0.lock().unwrap();
        let revision = Revision(snapshot.revision.0 + 1);
        snapshot.remove(&Key::new(resource, namespace, name), revision).unwrap();
    }
}

impl Informer for Objects {
    fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap().clone()
    }

    fn subscribe(&self, _: &[GroupResource]) -> (Snapshot, BoxStream<'static, Change>) {
        (self.snapshot(), futures::stream::pending().boxed())
    }
}
