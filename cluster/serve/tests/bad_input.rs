//! What a server is sent that nobody should send: it says what is wrong, or closes, and others do not notice.
#![cfg(test)]

#[path = "support/server.rs"]
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kedge_serve::pki::{Profile, Signer};
use kedge_serve::server::Bounds;
use kedge_serve::tls;
use rustls::pki_types::ServerName;
use serde_json::Value;
use server::{At, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Ends a hang; what is waited for comes at once, or after the bounds' few hundred milliseconds.
const LIMIT: Duration = Duration::from_secs(60);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"map-"},"data":{"k":"v"}}"#;

struct World {
    server: Server,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start(bounds: Bounds) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = server::start(dir.path(), At { address: SocketAddr::from(([127, 0, 0, 1], 0)), bounds }, None)
            .await
            .unwrap();
        Self { server, _dir: dir }
    }

    /// A connection of the administrator's.
    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let identity = self.server.pki.identity(&Profile::Admin).unwrap();
        let config = tls::client_config(&identity, self.server.pki.authority(Signer::Server)).unwrap();
        let tcp = TcpStream::connect(self.server.address).await?;
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    async fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Reply {
        ask(&mut self.connect().await.unwrap(), method, path, kind, body).await
    }

    /// Others are served as ever.
    async fn works(&self) {
        let reply = self.ask("POST", MAPS, "application/json", MAP.as_bytes()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.stop.cancel();
    }
}

/// Status 0: closed without an answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    text: String,
}

impl Reply {
    fn reason(&self) -> String {
        let status: Value = serde_json::from_str(&self.text).unwrap_or_default();
        status["reason"].as_str().unwrap_or_default().to_owned()
    }
}

fn head(method: &str, path: &str, kind: &str, length: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: k\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")
}

/// On a connection that may be used again, if the server leaves it open.
async fn ask(stream: &mut TlsStream<TcpStream>, method: &str, path: &str, kind: &str, body: &[u8]) -> Reply {
    // The server may close before it has read all.
    let _ = stream.write_all(&[head(method, path, kind, body.len()).as_bytes(), body].concat()).await;
    let _ = stream.flush().await;
    read(stream).await
}

async fn read(stream: &mut TlsStream<TcpStream>) -> Reply {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
                return Reply { status, text: body.to_owned() };
            }
        }
        let read = tokio::time::timeout(LIMIT, stream.read_buf(&mut bytes)).await.expect("no answer and no end");
        if read.unwrap_or(0) == 0 {
            return Reply { status: 0, text };
        }
    }
}

/// Until the server has closed the connection.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) {
    let end = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(LIMIT, end).await.expect("the connection stays open");
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MERGE: &str = "application/merge-patch+json";
const PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_body_is_told() {
    let world = World::start(Bounds::default()).await;
    let one = &format!("{MAPS}/one");
    let made = MAP.replace(r#""generateName":"map-""#, r#""name":"one""#);
    assert_eq!(world.ask("POST", MAPS, JSON, made.as_bytes()).await.status, 201);
    let deep = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat().into_bytes();
    let nested = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{}1{}}}"#,
        r#"{"a":"#.repeat(50_000),
        "}".repeat(50_000)
    );
    let laughs = (b'b'..=b'z').fold("a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, name| {
        let (name, before) = (char::from(name), char::from(name - 1));
        text + &format!(
            "{name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n"
        )
    });
    let wide = format!("[{}]", ["{}"; 900_000].join(","));
    let unknown = [b"k8s\0\x0a\x0e\x0a\x02v1\x12\x09ConfigMap\x12".as_slice(), &[0xff; 64]].concat();
    let recursive = (0..5000).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut length = inner.len();
        let mut field = vec![0x0a];
        while length > 0x7f {
            field.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        [field, inner].concat()
    });
    let recursive = [b"k8s\0".as_slice(), &recursive].concat();
    for (name, method, path, kind, body, status, reason) in [
        ("cut off", "POST", MAPS, JSON, br#"{"kind":"#.as_slice(), 400, "BadRequest"),
        ("empty", "POST", MAPS, JSON, b"", 400, "BadRequest"),
        ("a list", "POST", MAPS, JSON, b"[1]", 400, "BadRequest"),
        ("two documents", "POST", MAPS, JSON, b"{}{}", 400, "BadRequest"),
        ("bytes", "POST", MAPS, JSON, &[0; 1000], 400, "BadRequest"),
        ("no UTF-8 in YAML", "POST", MAPS, YAML, b"kind: \xff", 400, "BadRequest"),
        (
            "wrong type",
            "POST",
            MAPS,
            JSON,
            br#"{"kind":"ConfigMap","apiVersion":"v1","data":{"k":1}}"#,
            400,
            "BadRequest",
        ),
        (
            "wrong type of metadata",
            "POST",
            MAPS,
            JSON,
            br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":[]}"#,
            400,
            "BadRequest",
        ),
        (
            "a number too large",
            "POST",
            MAPS,
            JSON,
            br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"generation":1e999}}"#,
            400,
            "BadRequest",
        ),
        ("deep lists", "POST", MAPS, JSON, &deep("[", "]"), 400, "BadRequest"),
        ("deep objects", "POST", MAPS, JSON, nested.as_bytes(), 400, "BadRequest"),
        ("many objects", "POST", MAPS, JSON, wide.as_bytes(), 400, "BadRequest"),
        ("deep lists in YAML", "POST", MAPS, YAML, &deep("[", "]"), 400, "BadRequest"),
        ("deep maps in YAML", "POST", MAPS, YAML, &deep("{a: ", "}"), 400, "BadRequest"),
        ("deep lists of lines in YAML", "POST", MAPS, YAML, &deep("- ", ""), 400, "BadRequest"),
        ("deep keys in YAML", "POST", MAPS, YAML, &deep("? ", ""), 400, "BadRequest"),
        ("tags and anchors in YAML", "POST", MAPS, YAML, &deep("!a &a {a: ", ""), 400, "BadRequest"),
        ("references to references", "POST", MAPS, YAML, laughs.as_bytes(), 400, "BadRequest"),
        ("a tab in YAML", "POST", MAPS, YAML, b"a:\n\t- b", 400, "BadRequest"),
        ("no protobuf", "POST", MAPS, PROTOBUF, b"protobuf", 400, "BadRequest"),
        ("protobuf cut off", "POST", MAPS, PROTOBUF, &unknown, 400, "BadRequest"),
        ("protobuf in protobuf", "POST", MAPS, PROTOBUF, &recursive, 400, "BadRequest"),
        ("no type of ours", "POST", MAPS, "text/plain", b"x", 415, "UnsupportedMediaType"),
        ("no patch", "PATCH", one, MERGE, b"{", 400, "BadRequest"),
        ("deep patch", "PATCH", one, MERGE, &deep(r#"{"a":"#, "}"), 400, "BadRequest"),
        ("patch of a patch", "PATCH", one, PATCH, br#"{"op":"add"}"#, 400, "BadRequest"),
        ("deep strategic patch", "PATCH", one, STRATEGIC, &deep(r#"{"$patch":"#, "}"), 400, "BadRequest"),
        ("applied nonsense", "PATCH", one, APPLY, b"}{", 400, "BadRequest"),
        ("options that are none", "DELETE", one, JSON, b"[]", 400, "BadRequest"),
    ] {
        let reply = world.ask(method, path, kind, body).await;
        assert_eq!((reply.status, reply.reason().as_str()), (status, reason), "{name}: {reply:.300?}");
    }
    world.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_upstreams_words() {
    let world = World::start(Bounds::default()).await;
    let one = &format!("{MAPS}/one");
    let made = MAP.replace(r#""generateName":"map-""#, r#""name":"one""#);
    assert_eq!(world.ask("POST", MAPS, JSON, made.as_bytes()).await.status, 201);
    for (method, path, kind, body, said) in [
        (
            "POST",
            MAPS,
            JSON,
            r#"{"kind":3}"#,
            "json: cannot unmarshal number into Go struct field .kind of type string",
        ),
        ("POST", MAPS, YAML, "a: b\n- c\n", "(must be of type ConfigMap): yaml: line 1: did not find expected key ("),
        ("PATCH", one, PATCH, "[3]", "json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
        (
            "PATCH",
            one,
            PATCH,
            r#"[{"op":"add","path":[]}]"#,
            "json: cannot unmarshal array into Go struct field jsonPatchOp.path of type string",
        ),
        ("PATCH", one, STRATEGIC, r#"{"metadata":{"$retainKeys":3}}"#, "invalid patch format of retainKeys"),
        (
            "PATCH",
            one,
            STRATEGIC,
            r#"{"metadata":{"$retainKeys":["name"],"labels":{}}}"#,
            "invalid patch format of retainKeys",
        ),
        ("GET", &format!("{MAPS}?limit=99999999999999999999"), JSON, "", "value out of range"),
        ("GET", &format!("{MAPS}?limit=1&continue=a!"), JSON, "", "illegal base64 data at input byte 1"),
    ] {
        let reply = world.ask(method, path, kind, body.as_bytes()).await;
        let status: Value = serde_json::from_str(&reply.text).unwrap_or_default();
        let message = status["message"].as_str().unwrap_or_default();
        assert!(reply.status == 400 && message.contains(said), "{method} {path} {body}: {reply:?}");
    }
    for kind in [PATCH, STRATEGIC] {
        let reply = world.ask("PATCH", one, kind, b"null").await;
        assert_eq!(reply.status, 200, "{kind}: {reply:?}");
    }
    // A watch that is to be over before it began.
    let reply = world.ask("GET", &format!("{MAPS}?watch=1&timeoutSeconds=-1"), JSON, b"").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    world.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_line_or_a_header_is_told() {
    let world = World::start(Bounds::default()).await;
    let (wide, wider) = ("a=b,".repeat(12_000), "x".repeat(200_000));
    let many = format!("a in ({})", ["b"; 12_000].join(","));
    let many = many.replace(' ', "%20");
    for (name, path, status) in [
        ("a selector of many terms", format!("{MAPS}?labelSelector={}", wide.trim_end_matches(',')), 200),
        ("a selector of many values", format!("{MAPS}?labelSelector={many}"), 200),
        ("a selector that is none", format!("{MAPS}?labelSelector={}", "(".repeat(20_000)), 400),
        ("a field selector that is none", format!("{MAPS}?fieldSelector={}", "%3D".repeat(9_000)), 400),
        ("a field that there is not", format!("{MAPS}?fieldSelector=a%3Db"), 400),
        ("a limit that is none", format!("{MAPS}?limit=-x"), 400),
        ("a place that is none", format!("{MAPS}?continue={}", "A".repeat(30_000)), 400),
        ("a line longer than any", format!("{MAPS}?labelSelector={wider}"), 431),
        ("a path that is no text", format!("{MAPS}/%ff%fe"), 400),
        ("a path of many parts", "/api".repeat(10_000), 404),
        ("a name that is none", format!("{MAPS}/{}", "%2e%2e%2f".repeat(100)), 404),
    ] {
        let reply = world.ask("GET", &path, JSON, b"").await;
        assert_eq!(reply.status, status, "{name}: {reply:.300?}");
    }
    for (name, text, status) in [
        ("a header longer than any", format!("GET /version HTTP/1.1\r\nHost: k\r\nX: {wider}\r\n\r\n"), 431),
        ("more headers than any", format!("GET /version HTTP/1.1\r\nHost: k\r\n{}\r\n", "X: y\r\n".repeat(5_000)), 431),
        ("no HTTP", "\0\0\0\0 nonsense\r\n\r\n".to_owned(), 400),
        (
            "two lengths",
            "POST /version HTTP/1.1\r\nHost: k\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
            400,
        ),
    ] {
        let mut stream = world.connect().await.unwrap();
        let _ = stream.write_all(text.as_bytes()).await;
        let reply = read(&mut stream).await;
        assert_eq!(reply.status, status, "{name}: {reply:.300?}");
    }
    world.works().await;
}

/// Of this process, the clients' part with it.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_100_mb_are_refused_and_take_no_memory() {
    const SIZE: usize = 100 << 20;
    let world = World::start(Bounds::default()).await;
    world.works().await;
    let before = resident();
    let send = async |sized: bool| {
        let mut stream = world.connect().await.unwrap();
        let piece = vec![b' '; 64 << 10];
        let head = match sized {
            true => head("POST", MAPS, JSON, SIZE),
            false => {
                format!("POST {MAPS} HTTP/1.1\r\nHost: k\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n")
            }
        };
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut from, mut to) = tokio::io::split(&mut stream);
        let writing = async {
            for _ in 0..SIZE / piece.len() {
                let chunk = if sized { piece.clone() } else { [b"10000\r\n".as_slice(), &piece, b"\r\n"].concat() };
                // The server does not take it all.
                if to.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        let reading = async {
            while !answer.ends_with(b"}") && !answer.ends_with(b"}\n") {
                if from.read_buf(&mut answer).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        };
        tokio::select! {
            () = writing => {}
            () = reading => {}
            () = tokio::time::sleep(LIMIT) => panic!("neither an answer nor an end"),
        }
        String::from_utf8(answer).unwrap()
    };
    let answers = futures::future::join_all((0..8).map(|n| send(n % 2 == 0))).await;
    let more = resident().saturating_sub(before);
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("RequestEntityTooLarge"), "{answer:?}");
        assert!(answer.contains("Request entity too large: limit is 3145728"), "{answer}");
    }
    println!("eight bodies of 100 MB took {} KB", more >> 10);
    // Eight times the 3 MB that may be sent, twice for what grows, and the clients' own buffers.
    assert!(more < 64 << 20, "{more} bytes more");
    world.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_come_hold_up_nobody() {
    let world = World::start(Bounds::default()).await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = world.connect().await.unwrap();
        stream.write_all(head("POST", MAPS, JSON, 3_000_000).as_bytes()).await.unwrap();
        stream.write_all(&[b' '; 1000]).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..5 {
        world.works().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_bring_nothing_are_closed() {
    let short = Duration::from_millis(300);
    let world =
        World::start(Bounds { handshake: short, headers: short, idle: Duration::from_secs(5), ..Bounds::default() })
            .await;
    let mut silent = TcpStream::connect(world.server.address).await.unwrap();
    let mut handshaken = world.connect().await.unwrap();
    let mut half = world.connect().await.unwrap();
    half.write_all(b"GET /version HTTP/1.1\r\nHo").await.unwrap();
    let mut preface = world.connect().await.unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut kept = world.connect().await.unwrap();
    assert_eq!(ask(&mut kept, "GET", "/version", JSON, b"").await.status, 200);
    let dripping = world.connect().await.unwrap();
    let (mut from, mut to) = tokio::io::split(dripping);
    let drip = async {
        for byte in b"GET /version HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            if to.write_all(&[*byte]).await.is_err() || to.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    world.works().await;
    closed(&mut silent).await;
    closed(&mut handshaken).await;
    closed(&mut half).await;
    closed(&mut preface).await;
    // Longer than for headers it is kept between requests, but not for ever.
    assert_eq!(ask(&mut kept, "GET", "/version", JSON, b"").await.status, 200);
    closed(&mut kept).await;
    tokio::select! {
        () = drip => {}
        () = closed(&mut from) => {}
    }
    world.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_may_be_wait() {
    let world = World::start(Bounds { connections: 3, ..Bounds::default() }).await;
    let watch = format!("{MAPS}?watch=true");
    // One of them is a WebSocket by now, which is a connection still.
    let mut socket = world.connect().await.unwrap();
    let upgrade = format!(
        "GET {watch} HTTP/1.1\r\nHost: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(upgrade.as_bytes()).await.unwrap();
    assert_eq!(read(&mut socket).await.status, 101);
    let (mut one, mut two) = (world.connect().await.unwrap(), world.connect().await.unwrap());
    assert_eq!(ask(&mut one, "GET", "/version", JSON, b"").await.status, 200);
    let mut waiting = std::pin::pin!(world.connect());
    for _ in 0..3 {
        assert_eq!(ask(&mut two, "POST", MAPS, JSON, MAP.as_bytes()).await.status, 201);
        let early = tokio::time::timeout(Duration::from_millis(100), waiting.as_mut()).await;
        assert!(early.is_err(), "a fourth connection was served");
    }
    drop(socket);
    let mut third = tokio::time::timeout(LIMIT, waiting).await.expect("it waits for ever").unwrap();
    assert_eq!(ask(&mut third, "GET", "/version", JSON, b"").await.status, 200);
}
