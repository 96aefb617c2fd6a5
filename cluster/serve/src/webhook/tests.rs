//! Calls over loopback TLS to a webhook that does as its path says.

use kedge_registry::Webhooks as _;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::clock::Clock;
use crate::fixture::{Objects, outside};
use crate::pki::{Names, Pki, Signer};

async fn webhook(pki: &Pki) -> u16 {
    outside(pki, |request| async move {
        let uri = request.uri().clone();
        let mut response = http::Response::new(request.into_body());
        match uri.path() {
            "/slow" => tokio::time::sleep(Duration::from_secs(60)).await,
            "/broken" => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
            "/missing" => *response.status_mut() = StatusCode::NOT_FOUND,
            _ => assert_eq!(uri.query(), Some("timeout=1s")),
        }
        response
    })
    .await
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
