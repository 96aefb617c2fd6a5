//! A server that answers as it is told, well and badly, and what becomes of it here.
#![cfg(test)]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use kedge_fetch::{FetchError, File, Resolve, trusting};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// A request's head: the path, and the rest in lower case.
#[derive(Debug, Clone)]
struct Asked {
    path: String,
    headers: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn range(&self) -> (usize, usize) {
        let (start, end) = self.header("range").unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        (start.parse().unwrap(), end.parse().unwrap())
    }
}

type Answers = Arc<dyn Fn(&Asked) -> Vec<u8> + Send + Sync>;

async fn talk(io: impl AsyncRead + AsyncWrite + Unpin, answers: Answers) {
    let mut io = BufReader::new(io);
    loop {
        let (mut head, mut line) = (String::new(), String::new());
        while io.read_line(&mut line).await.unwrap_or(0) > 2 {
            head.push_str(&std::mem::take(&mut line));
        }
        let Some(path) = head.split(' ').nth(1) else { return };
        let asked = Asked { path: path.to_owned(), headers: head.to_lowercase().replace('\r', "") };
        let answer = answers(&asked);
        // Nothing at all is a connection that breaks.
        if answer.is_empty() || io.get_mut().write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn serve(answers: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers: Answers = Arc::new(answers);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(talk(tcp, Arc::clone(&answers)));
        }
    });
    port
}

fn with(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn part(whole: &[u8], asked: &Asked, headers: &str) -> Vec<u8> {
    let (start, end) = asked.range();
    let end = end.min(whole.len() - 1);
    let range = format!("content-range: bytes {start}-{end}/{}\r\n{headers}", whole.len());
    match whole.get(start..=end) {
        Some(bytes) => with("206 Partial Content", &range, bytes),
        None => with("416 Range Not Satisfiable", "", b""),
    }
}

fn nobody() -> Resolve {
    Arc::new(|name| {
        Box::pin(async move {
            match name.as_str() {
                "files.example" => Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)]),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        })
    })
}

async fn open(source: &str) -> Result<File, FetchError> {
    File::open(source, trusting(&[]).unwrap(), nobody()).await
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn ranges_come_by_one_connection_and_a_broken_one_is_made_anew() {
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let port = serve(move |asked| {
        let mut count = count.lock().unwrap();
        *count += 1;
        // The third time it hangs up, as servers do that kept a connection for long enough.
        if *count == 3 { Vec::new() } else { part(&bytes(10_000), asked, "etag: \"1\"\r\n") }
    })
    .await;
    let mut file = open(&format!("http://files.example:{port}/f.kedge")).await.unwrap();
    for (at, length) in [(0, 512), (512, 9000), (9999, 1), (5, 5)] {
        let read = file.read(at, length).await.unwrap();
        assert_eq!(read, bytes(10_000)[at as usize..(at + length) as usize]);
    }
    assert_eq!(*asked.lock().unwrap(), 5);
    assert!(file.read(7, 0).await.unwrap().is_empty());
}

/// What a server does wrong, what is said of it, and whether it may pass.
#[tokio::test]
async fn what_a_server_does_wrong_is_told() {
    type Wrong = fn(&Asked) -> Vec<u8>;
    let table: &[(Wrong, &str, bool)] = &[
        (|_| with("200 OK", "", &[0; 100]), "no ranges", false),
        (
            |_| with("404 Not Found", "content-type: text/plain\r\n", b"no  such\nfile"),
            "404 Not Found (no such file)",
            true,
        ),
        (|_| with("503 Service Unavailable", "content-type: text/html\r\n", b"<p>"), "503 Service Unavailable", true),
        (|_| with("403 Forbidden", "", b""), "403 Forbidden", false),
        (|asked| part(&[0; 50], asked, ""), "ends after byte 49", false),
        (|asked| part(&[0; 5], asked, ""), "ends before byte 10", false),
        (|_| with("206 Partial Content", "content-range: bytes 0-89/100\r\n", &[0; 90]), "it gives 0 to 89", false),
        (
            |_| with("206 Partial Content", "content-range: bytes 10-99/100\r\n", &[0; 89]),
            "90 bytes were announced, 89 came",
            false,
        ),
        (|_| with("206 Partial Content", "content-range: bytes 10-99/100\r\n", &[0; 91]), "more than 90 bytes", false),
        (|_| with("206 Partial Content", "", &[0; 90]), "Content-Range", false),
        (|_| with("302 Found", "", b""), "does not say where", false),
        (|_| with("302 Found", "location: /again\r\n", b""), "on and on", false),
        (
            |_| {
                b"HTTP/1.1 206 Partial Content\r\ncontent-length: 90\r\ncontent-range: bytes 10-99/100\r\n\r\nshort"
                    .to_vec()
            },
            "Connection",
            true,
        ),
        (|_| b"nonsense\r\n\r\n".to_vec(), "waiting for its answer", true),
        (|_| Vec::new(), "waiting for its answer", true),
    ];
    for (wrong, told, passes) in table {
        let wrong = *wrong;
        let shut = *told == "Connection";
        let port = if shut {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(async move {
                while let Ok((mut tcp, _)) = listener.accept().await {
                    let _gone = tcp.write_all(&wrong(&Asked { path: String::new(), headers: String::new() })).await;
                }
            });
            port
        } else {
            serve(wrong).await
        };
        let mut file = open(&format!("http://127.0.0.1:{port}/f")).await.unwrap();
        let error = file.read(10, 90).await.unwrap_err();
        assert!(shut || error.to_string().contains(told), "{error}, expected {told}");
        assert_eq!(error.may_pass(), *passes, "{error}");
    }
    let error = open("http://nobody.example/").await.unwrap().read(0, 1).await.unwrap_err();
    assert!(error.may_pass() && error.to_string().contains("its name is not known"), "{error}");
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_another() {
    let turn = Mutex::new(0);
    let port = serve(move |asked| {
        let mut turn = turn.lock().unwrap();
        *turn += 1;
        let tag = format!("\"{}\"", *turn / 2);
        match asked.header("if-match") {
            Some(wanted) if wanted != tag && asked.path == "/minds" => with("412 Precondition Failed", "", b""),
            _ => part(&bytes(100), asked, &format!("etag: {tag}\r\n")),
        }
    })
    .await;
    for path in ["minds", "minds-not"] {
        let mut file = open(&format!("http://127.0.0.1:{port}/{path}")).await.unwrap();
        let mut results = Vec::new();
        for _ in 0..3 {
            results.push(file.read(0, 10).await);
        }
        let changed = results.iter().any(|result| matches!(result, Err(FetchError::Changed { .. })));
        assert!(changed, "{results:?}");
    }
}

#[tokio::test]
async fn a_redirect_leads_to_another_server_and_its_secret_stays() {
    let other = serve(|asked| {
        assert_eq!(asked.header("authorization"), None);
        part(&bytes(1000), asked, "")
    })
    .await;
    let digest = "sha256:".to_owned() + &"7".repeat(64);
    let port = serve(move |asked| match asked.path.as_str() {
        "/token?service=reg&scope=repository:fleet/kedge:pull" => with("200 OK", "", br#"{"token": "t"}"#),
        _ if asked.header("authorization") != Some("bearer t") => {
            let port = asked.header("host").unwrap().rsplit_once(':').unwrap().1;
            let realm = format!("http://127.0.0.1:{port}/token");
            let challenge = format!(
                r#"www-authenticate: Bearer realm="{realm}",service="reg",scope="repository:fleet/kedge:pull""#
            );
            with("401 Unauthorized", &(challenge + "\r\n"), b"")
        }
        "/v2/fleet/kedge/manifests/v2" => {
            assert!(asked.header("accept").unwrap().contains("application/vnd.oci.image.manifest.v1+json"));
            let manifest = r#"{"layers": [{"mediaType": "application/vnd.kedge.bundle.v1", "digest": "D"}]}"#;
            with("200 OK", "", manifest.replace('D', &digest).as_bytes())
        }
        "/v2/fleet/kedge/manifests/other" => {
            with("200 OK", "", br#"{"layers": [{"mediaType": "application/gzip", "digest": "x"}]}"#)
        }
        path if path == format!("/v2/fleet/kedge/blobs/{digest}") => {
            with("307 Temporary Redirect", &format!("location: http://127.0.0.1:{other}/storage\r\n"), b"")
        }
        _ => with("404 Not Found", "", br#"{"errors": [{"code": "MANIFEST_UNKNOWN"}]}"#),
    })
    .await;
    let source = |version: &str| format!("oci+http://127.0.0.1:{port}/fleet/kedge{version}");
    let mut file = open(&source(":v2")).await.unwrap();
    assert_eq!(file.read(10, 900).await.unwrap(), bytes(1000)[10..910]);
    let told = |result: Result<File, FetchError>| result.err().unwrap().to_string();
    assert!(told(open(&source(":v3")).await).contains("MANIFEST_UNKNOWN"));
    assert!(told(open(&source(":other")).await).contains("no layer of the type"));
    let wrong = told(open(&source(&format!("@sha256:{}", "0".repeat(64)))).await);
    assert!(wrong.contains("404"), "{wrong}");
}

#[tokio::test]
async fn only_who_is_trusted_is_read_by_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["files.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let down = |port: u16| format!("location: http://127.0.0.1:{port}/f\r\n");
                talk(
                    tls,
                    Arc::new(move |asked: &Asked| match asked.path.as_str() {
                        "/down" => with("302 Found", &down(port), b""),
                        _ => part(&bytes(100), asked, ""),
                    }),
                )
                .await;
            });
        }
    });
    let pem = made.cert.pem();
    let at = |path: &str| format!("https://files.example:{port}/{path}");
    let trusted = trusting(&[b"junk", pem.as_bytes()]).unwrap();
    let mut file = File::open(&at("f"), trusted.clone(), nobody()).await.unwrap();
    assert_eq!(file.read(3, 5).await.unwrap(), bytes(100)[3..8]);
    let error = File::open(&at("down"), trusted, nobody()).await.unwrap().read(0, 1).await.unwrap_err().to_string();
    assert!(error.contains("not protected"), "{error}");
    let error = open(&at("f")).await.unwrap().read(0, 1).await.unwrap_err().to_string();
    assert!(error.contains("TLS"), "{error}");
}
