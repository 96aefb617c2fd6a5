//! The real kubectl's exec, attach, cp, logs and port-forward, through the API server to an agent's door: over WebSocket and over SPDY.
#![cfg(test)]

#[path = "streams/agent.rs"]
mod agent;
mod support;
#[path = "streams/with_kube.rs"]
mod with_kube;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use base64::Engine;
use futures::StreamExt;
use kedge_serve::pki::{Profile, Signer};
use kedge_serve::tls;
use rustls::pki_types::ServerName;
use serde_json::json;
use support::World;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// What the client is told to speak.
#[derive(Clone, Copy, Debug)]
enum Over {
    WebSocket,
    Spdy,
}

/// A cluster with one pod on one node.
struct Cluster {
    world: World,
    over: Over,
}

impl Cluster {
    async fn start(over: Over) -> Self {
        let world = World::start().await;
        let kubelet = agent::start(&world.server, world.dir.path()).await;
        let status = json!({
            "addresses": [{"type": "InternalIP", "address": kubelet.ip().to_string()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port()}},
        });
        for object in [
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {
                "nodeName": "n1", "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "none", "stdin": true}],
            }}),
        ] {
            let said = world.feed(&["create"], &object.to_string());
            assert!(said.good, "{}", said.err);
        }
        for (what, status) in [("node/n1", status), ("pod/web", json!({"phase": "Running"}))] {
            let patch = json!({"status": status}).to_string();
            world.run(&["patch", what, "--subresource=status", "--type=merge", "-p", &patch]);
        }
        Self { world, over }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        let websockets = matches!(self.over, Over::WebSocket).to_string();
        command
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", &websockets)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", &websockets);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit code, output and what went to standard error.
    fn say(&self, args: &[&str], stdin: Option<&[u8]>) -> (i32, Vec<u8>, String) {
        tokio::task::block_in_place(|| {
            let mut command = self.command(args);
            let mut child =
                command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() }).spawn().unwrap();
            let output = thread::scope(|scope| {
                if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
                    // A command may end without reading all of it.
                    scope.spawn(move || drop(pipe.write_all(text)));
                }
                child.wait_with_output().unwrap()
            });
            (output.status.code().unwrap(), output.stdout, String::from_utf8(output.stderr).unwrap())
        })
    }
}

async fn both(test: impl AsyncFn(&Cluster)) {
    for over in [Over::WebSocket, Over::Spdy] {
        test(&Cluster::start(over).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec() {
    both(async |cluster| {
        let over = cluster.over;
        // With its protocol's fallback told, were there one.
        let (code, out, err) =
            cluster.say(&["exec", "web", "-v=4", "--", "sh", "-c", "echo out; echo err >&2; exit 7"], None);
        assert_eq!((code, &out[..]), (7, &b"out\n"[..]), "{over:?}: {err}");
        assert!(err.contains("err\n") && err.contains("command terminated with exit code 7"), "{over:?}: {err}");
        assert!(!err.to_lowercase().contains("fallback"), "{over:?}: {err}");
        // The command sees the end of its input.
        let text = vec![b'x'; 3 << 20];
        let (code, out, err) = cluster.say(&["exec", "-i", "web", "--", "wc", "-c"], Some(&text));
        assert_eq!((code, &out[..]), (0, &b"3145728\n"[..]), "{over:?}: {err}");
        let (code, out, err) = cluster.say(&["exec", "-i", "web", "--", "cat"], Some(&text));
        assert!(code == 0 && out == text, "{over:?}: {} bytes, {err}", out.len());
        // It may go without reading it.
        let (code, out, err) = cluster.say(&["exec", "-i", "web", "--", "echo", "enough"], Some(&text));
        assert_eq!((code, &out[..]), (0, &b"enough\n"[..]), "{over:?}: {err}");
        let (code, _, err) = cluster.say(&["exec", "web", "--", "/no/such/program"], None);
        assert!(code == 1 && err.contains("error executing command in container"), "{over:?}: {code} {err}");
        let (code, _, err) = cluster.say(&["exec", "web", "-c", "other", "--", "true"], None);
        assert!(code == 1 && err.contains("container other is not valid for pod web"), "{over:?}: {code} {err}");
        let said = cluster.world.fail(&["exec", "none", "--", "true"]);
        assert!(said.contains("pods \"none\" not found"), "{said}");
        let stranger = cluster.world.kubeconfig("stranger", &json!({"token": "made-up"}));
        let output = cluster.command(&["exec", "web", "--", "true"]).env("KUBECONFIG", stranger).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("You must be logged in to the server"), "{said}");
    })
    .await;
}

/// The texts and bytes that a WebSocket of the API server carries until it is closed.
async fn messages(world: &World, path: &str, protocol: &str) -> Vec<Message> {
    let identity = world.server.pki.identity(&Profile::Admin).unwrap();
    let config = tls::client_config(&identity, world.server.pki.authority(Signer::Server)).unwrap();
    let tcp = tokio::net::TcpStream::connect(world.server.address).await.unwrap();
    let name = ServerName::try_from("kubernetes.default.svc").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let mut request = format!("wss://{}{path}", world.server.address).into_client_request().unwrap();
    if !protocol.is_empty() {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    }
    let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let spoken = response.headers().get("sec-websocket-protocol").map(|v| v.to_str().unwrap());
    assert_eq!(spoken.unwrap_or_default(), protocol);
    let content =
        socket.take_while(|message| std::future::ready(matches!(message, Ok(Message::Binary(_) | Message::Text(_)))));
    content.map(Result::unwrap).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_over_all_channel_protocols() {
    let cluster = Cluster::start(Over::WebSocket).await;
    let path = "/api/v1/namespaces/default/pods/web/exec?command=sh&command=-c&command=echo+hi;exit+3&stdout=true";
    let (text, status) = (
        "command terminated with non-zero exit code: error executing command [sh -c echo hi;exit 3], exit code 3",
        "ExitCode",
    );
    for (protocol, hi, end) in [
        ("", &b"\x01hi\n"[..], text),
        ("channel.k8s.io", b"\x01hi\n", text),
        ("base64.channel.k8s.io", b"1aGkK", "3Y29tbWFuZCB0ZXJtaW5hdGVk"),
        ("v4.base64.channel.k8s.io", b"1aGkK", "3eyJk"),
        ("v4.channel.k8s.io", b"\x01hi\n", status),
        ("v5.channel.k8s.io", b"\x01hi\n", status),
    ] {
        let said = messages(&cluster.world, path, protocol).await;
        let said: Vec<_> = said.into_iter().map(Message::into_data).collect();
        let [_, first, last] = said.as_slice() else { panic!("{protocol}: {said:?}") };
        assert!(first == hi && String::from_utf8_lossy(last).contains(end), "{protocol}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attach() {
    both(async |cluster| {
        let over = cluster.over;
        let (code, out, err) = cluster.say(&["attach", "-i", "web", "-c", "main"], Some(b"one\ntwo\n"));
        assert_eq!((code, &out[..]), (0, &b"got one\ngot two\n"[..]), "{over:?}: {err}");
        assert!(err.contains("end\n"), "{over:?}: {err}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cp() {
    both(async |cluster| {
        let over = cluster.over;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let text: Vec<u8> = (0..2_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        std::fs::write(path("here"), &text).unwrap();
        for (from, to) in
            [(path("here"), format!("web:{}", path("there"))), (format!("web:{}", path("there")), path("back"))]
        {
            let (code, _, err) = cluster.say(&["cp", &from, &to], None);
            assert_eq!(code, 0, "{over:?}: {from} to {to}: {err}");
        }
        assert!(std::fs::read(path("back")).unwrap() == text, "{over:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_over_websocket() {
    let cluster = Cluster::start(Over::WebSocket).await;
    let log = cluster.world.dir.path().join("logs/default_web_u-1/main/0.log");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(log, "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n").unwrap();
    assert_eq!(cluster.world.run(&["logs", "web"]), "one\ntwo\n");
    let path = "/api/v1/namespaces/default/pods/web/log";
    for (protocol, binary) in [("", true), ("binary.k8s.io", true), ("base64.binary.k8s.io", false)] {
        let said = messages(&cluster.world, path, protocol).await;
        assert!(said.iter().all(|message| message.is_binary() == binary), "{protocol}: {said:?}");
        let [first, rest @ ..] = said.as_slice() else { panic!("{protocol}: nothing was said") };
        let decode = |message: &Message| match binary {
            true => message.clone().into_data().to_vec(),
            false => base64::engine::general_purpose::STANDARD.decode(message.to_text().unwrap()).unwrap(),
        };
        assert_eq!((first.len(), rest.iter().flat_map(decode).collect()), (0, b"one\ntwo\n".to_vec()), "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_over_websocket() {
    let cluster = Cluster::start(Over::WebSocket).await;
    for path in ["/api/v1/namespaces/default/pods?watch=true", "/api/v1/watch/namespaces/default/pods"] {
        let separator = if path.contains('?') { '&' } else { '?' };
        let said = messages(&cluster.world, &format!("{path}{separator}timeoutSeconds=1"), "").await;
        let [Message::Text(event)] = said.as_slice() else { panic!("{said:?}") };
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("web")));
    }
}

/// `kubectl port-forward`, and the port it listens on.
struct Forward {
    child: Child,
    port: u16,
}

impl Forward {
    fn start(cluster: &Cluster, to: u16) -> Self {
        let mut child =
            cluster.command(&["port-forward", "web", &format!(":{to}")]).stdin(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port =
            line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next()?.parse().ok());
        if port.is_none() {
            let _ = child.kill();
            panic!(
                "{:?}: {line:?}, {}",
                cluster.over,
                String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr)
            );
        }
        Self { child, port: port.unwrap() }
    }

    /// Ends it; gives what it complained of.
    fn end(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

/// Says back what it heard when it has heard all.
fn echo(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        thread::spawn(move || {
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            text.reverse();
            stream.write_all(&text).unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn port_forward() {
    both(async |cluster| {
        tokio::task::block_in_place(|| {
            let over = cluster.over;
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let served = listener.local_addr().unwrap().port();
            thread::spawn(move || echo(&listener));
            let forward = Forward::start(cluster, served);
            thread::scope(|scope| {
                for n in 0..8u8 {
                    let port = forward.port;
                    scope.spawn(move || {
                        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                        let mut text: Vec<u8> = (0..400_000u32).map(|i| (i >> 8) as u8 ^ n).collect();
                        stream.write_all(&text).unwrap();
                        stream.shutdown(Shutdown::Write).unwrap();
                        let mut back = Vec::new();
                        stream.read_to_end(&mut back).unwrap();
                        text.reverse();
                        assert!(back == text, "{over:?}: {n}: {} bytes", back.len());
                    });
                }
            });
            let said = forward.end();
            assert!(!said.contains("error"), "{over:?}: {said}");

            let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let forward = Forward::start(cluster, unused);
            let mut stream = TcpStream::connect(("127.0.0.1", forward.port)).unwrap();
            let mut back = Vec::new();
            stream.write_all(b"anybody?").unwrap();
            // Closed or cut off, as the client has it.
            let _ = stream.read_to_end(&mut back);
            let said = forward.end();
            let why = format!("error forwarding port {unused} to pod web, uid ");
            assert!(back.is_empty() && said.contains(&why) && said.contains("onnection refused"), "{over:?}: {said}");
        });
    })
    .await;
}
