//! Batches over loopback TLS to a webhook that fails at first.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::clock::Clock;
use crate::pki::{Names, Pki, Profile, Signer};
use crate::tls;

/// What it was sent: who sent it, and how many events.
type Told = Arc<Mutex<Vec<(String, usize)>>>;

async fn webhook(pki: &Pki, told: Told) -> u16 {
    let verifier = tls::client_verifier(pki.authority(Signer::Client)).unwrap();
    let mut config = tls::server_config(pki.resolver(&Profile::ApiServer).unwrap(), &[&*verifier]).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, told) = (acceptor.clone(), Arc::clone(&told));
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let shown = tls.get_ref().1.peer_certificates().map(|chain| crate::pki::Seen::of(&chain[0]).unwrap());
                let client = shown.map(|seen| seen.common_name).unwrap_or_default();
                let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
                    let token = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
                    let path = request.uri().to_string();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let list: Value = serde_json::from_slice(&body).unwrap();
                    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EventList"), &json!("audit.k8s.io/v1")));
                    let mut told = told.lock().unwrap();
                    told.push((format!("{client} {token} {path}"), list["items"].as_array().unwrap().len()));
                    let mut response = http::Response::new(Full::new(Bytes::new()));
                    if told.len() == 1 {
                        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                    }
                    Ok::<_, std::convert::Infallible>(response)
                });
                let _broken =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn events_are_sent_in_batches_and_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(&dir.path().join("pki"), Names::new("n1", vec![]), Clock::system()).unwrap();
    let told = Told::default();
    let port = webhook(&pki, Arc::clone(&told)).await;
    let identity = pki.identity(&Profile::Admin).unwrap();
    std::fs::write(dir.path().join("client.key"), identity.key_pem()).unwrap();
    let base64 = |text: &str| STANDARD.encode(text);
    let config = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "other", "cluster": {}}, {"name": "k", "cluster": {"server": format!("https://127.0.0.1:{port}/events?x=1"),
            "certificate-authority-data": base64(pki.authority_pem(Signer::Server))}}],
        "users": [{"name": "u", "user": {"client-certificate-data": base64(identity.certificate_pem()),
            "client-key": "client.key", "token": "secret"}}],
    });
    let path = dir.path().join("webhook.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    let webhook = Webhook { retry: Duration::from_millis(1), ..Webhook::of_kubeconfig(&path).unwrap() };
    let outlet = webhook.start();
    for _ in 0..BATCH + 1 {
        outlet.offer(Bytes::from_static(b"{}"));
    }
    outlet.flush().await;
    let who = "admin Bearer secret /events?x=1".to_owned();
    assert_eq!(*told.lock().unwrap(), [(who.clone(), BATCH), (who.clone(), BATCH), (who, 1)]);
    assert_eq!(outlet.counts.failed.load(Ordering::Relaxed), 0);
    assert!(Webhook::of_kubeconfig(&dir.path().join("none")).err().unwrap().contains("none: No such file"));
}
