//! Calls over loopback TLS to a webhook that does as its path says.

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use kedge_registry::Webhooks as _;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::clock::Clock;
use crate::fixture::Objects;
use crate::pki::{Names, Pki, Profile, Signer};

async fn webhook(pki: &Pki) -> u16 {
    let verifier = tls::client_verifier(pki.authority(Signer::Client)).unwrap();
    let mut config = tls::server_config(pki.resolver(&Profile::ApiServer).unwrap(), &[&*verifier]).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let uri = request.uri().clone();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let mut response = http::Response::new(Full::new(body));
                    match uri.path() {
                        "/slow" => tokio::time::sleep(Duration::from_secs(60)).await,
                        "/broken" => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
                        "/missing" => *response.status_mut() = StatusCode::NOT_FOUND,
                        _ => assert_eq!(uri.query(), Some("timeout=1s")),
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
async fn a_webhook_is_asked_and_its_failures_told() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| Pki::open(&dir.path().join(name), Names::new("n1", vec![]), Clock::system()).unwrap();
    let (pki, other) = (open("a"), open("b"));
    let port = webhook(&pki).await;
    let webhooks = Webhooks::new(Arc::new(Objects::default()));
    let call = async |pki: &Pki, port: u16, path: &str| {
        use base64::Engine as _;
        let bundle = base64::engine::general_purpose::STANDARD.encode(pki.authority_pem(Signer::Server));
        let config = json!({"url": format!("https://127.0.0.1:{port}{path}"), "caBundle": bundle});
        webhooks.call(&config, Duration::from_secs(1), &json!({"a": 1})).await
    };
    assert_eq!(call(&pki, port, "/x").await, Ok(json!({"a": 1})));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let post = |port: u16, path: &str| format!("Post \"https://127.0.0.1:{port}{path}?timeout=1s\": ");
    for (pki, port, path, why) in [
        (&pki, free, "/x", format!("{}dial tcp 127.0.0.1:{free}: connect: connection refused", post(free, "/x"))),
        (&pki, port, "/slow", format!("{}context deadline exceeded", post(port, "/slow"))),
        (&pki, port, "/missing", "the server could not find the requested resource".to_owned()),
        (
            &pki,
            port,
            "/broken",
            "an error on the server (\"{\\\"a\\\":1}\") has prevented the request from succeeding".to_owned(),
        ),
        (
            &other,
            port,
            "/x",
            format!(
                "{}tls: failed to verify certificate: x509: certificate signed by unknown authority",
                post(port, "/x")
            ),
        ),
    ] {
        assert_eq!(call(pki, port, path).await, Err(why), "{path}");
    }
}
