//! The same through kube, the client of Rust's programs.

use futures::TryStreamExt as _;
use futures::io::AsyncBufReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, LogParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Cluster, Over};

#[tokio::test(flavor = "multi_thread")]
async fn kube_runs_reads_and_forwards() {
    let cluster = Cluster::start(Over::WebSocket).await;
    let logs = cluster.world.dir.path().join("logs/default_web_u-1/main");
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(logs.join("0.log"), "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n")
        .unwrap();
    let text = std::fs::read_to_string(cluster.world.dir.path().join("admin.kubeconfig")).unwrap();
    let (kubeconfig, options) = (Kubeconfig::from_yaml(&text).unwrap(), KubeConfigOptions::default());
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(Client::try_from(config).unwrap());

    let params = AttachParams::default().stdin(true);
    let mut process = pods.exec("web", ["sh", "-c", "tr a-z A-Z; echo bad >&2; exit 7"], &params).await.unwrap();
    let (status, mut stdin) = (process.take_status().unwrap(), process.stdin().unwrap());
    let (mut out, mut err) = (process.stdout().unwrap(), process.stderr().unwrap());
    stdin.write_all(b"hello\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let (mut said, mut complained) = (String::new(), String::new());
    let (said_all, complained_all) = tokio::join!(out.read_to_string(&mut said), err.read_to_string(&mut complained));
    said_all.unwrap();
    complained_all.unwrap();
    let status = status.await.unwrap();
    assert_eq!((&*said, &*complained, status.reason.as_deref()), ("HELLO\n", "bad\n", Some("NonZeroExitCode")));
    process.join().await.unwrap();

    assert_eq!(pods.logs("web", &LogParams::default()).await.unwrap(), "one\ntwo\n");
    let last = LogParams { tail_lines: Some(1), timestamps: true, ..LogParams::default() };
    let lines: Vec<String> = pods.log_stream("web", &last).await.unwrap().lines().try_collect().await.unwrap();
    assert_eq!(lines, ["2026-01-01T00:00:01Z two"]);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = [0; 5];
        stream.read_exact(&mut text).await.unwrap();
        text.reverse();
        stream.write_all(&text).await.unwrap();
    });
    let mut forward = pods.portforward("web", &[port]).await.unwrap();
    let mut stream = forward.take_stream(port).unwrap();
    stream.write_all(b"kedge").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"egdek");
    forward.abort();
}
