//! A small HTTP/2 client that costs little itself: one thread, many connections, no header compression, no flow control on what it reads.
//!
//! It sees frames. What an answer says is read from its body, so that HPACK needs no decoder.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustix::event::epoll;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest that a window may be (RFC 9113, 6.9.1): a benchmark ends before it is used up.
const WINDOW: u32 = 0x7fff_ffff;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Ends a hang.
const LIMIT: Duration = Duration::from_secs(120);

/// The administrator, as the server's kubeconfig has him.
pub fn identity(kubeconfig: &Path) -> Arc<ClientConfig> {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let config: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    let pem = |pointer: &str| {
        let text = config.pointer(pointer).and_then(serde_json::Value::as_str).unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let mut roots = RootCertStore::empty();
    let authority = pem("/clusters/0/cluster/certificate-authority-data");
    roots.add(CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
    let certificate = CertificateDer::from_pem_slice(&pem("/users/0/user/client-certificate-data")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem("/users/0/user/client-key-data")).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub accept: &'a str,
    pub body: Option<(&'a str, &'a [u8])>,
}

impl<'a> Request<'a> {
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, accept: "application/json", body: None }
    }

    pub fn post(path: &'a str, body: &'a [u8]) -> Self {
        Self { method: "POST", body: Some(("application/json", body)), ..Self::get(path) }
    }
}

/// A part of an answer.
pub struct Part<'a> {
    /// Place of the connection among those of its [`Clients`].
    pub connection: usize,
    pub stream: u32,
    pub body: &'a [u8],
    pub last: bool,
}

struct Connection {
    tcp: TcpStream,
    tls: ClientConnection,
    read: Vec<u8>,
    next: u32,
}

impl Connection {
    fn open(port: u16, identity: &Arc<ClientConfig>) -> Self {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut tls = ClientConnection::new(identity.clone(), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).unwrap();
        }
        tls.set_buffer_limit(None);
        let mut connection = Self { tcp, tls, read: Vec::new(), next: 1 };
        let mut hello = PREFACE.to_vec();
        // No dynamic table (1), no push (2), windows (4) and frames (5) as large as may be.
        let settings = [(1_u16, 0_u32), (2, 0), (4, WINDOW), (5, 1 << 20)];
        let settings: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        frame(&mut hello, SETTINGS, 0, 0, &settings);
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &(WINDOW - 65_535).to_be_bytes());
        connection.write(&hello).unwrap();
        connection.tcp.set_nonblocking(true).unwrap();
        connection
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)?;
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.tcp) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                result => drop(result?),
            }
        }
        Ok(())
    }

    fn send(&mut self, request: &Request<'_>) -> io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        let mut head = vec![0x87];
        literal(&mut head, 2, request.method);
        literal(&mut head, 4, request.path);
        literal(&mut head, 1, "127.0.0.1");
        literal(&mut head, 19, request.accept);
        if let Some((content_type, _)) = request.body {
            literal(&mut head, 31, content_type);
        }
        let mut out = Vec::new();
        let end = if request.body.is_none() { END_STREAM } else { 0 };
        frame(&mut out, HEADERS, END_HEADERS | end, stream, &head);
        if let Some((_, body)) = request.body {
            frame(&mut out, DATA, END_STREAM, stream, body);
        }
        self.write(&out)?;
        Ok(stream)
    }

    /// Takes all that has come.
    fn receive(&mut self, at: usize, see: &mut impl FnMut(Part<'_>)) -> io::Result<()> {
        loop {
            match self.tls.read_tls(&mut self.tcp) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            let old = self.read.len();
            self.read.resize(old + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut self.read[old..])?;
            self.frames(at, see)?;
        }
    }

    fn frames(&mut self, at: usize, see: &mut impl FnMut(Part<'_>)) -> io::Result<()> {
        let mut done = 0;
        let mut answers = Vec::new();
        while let Some(head) = self.read.get(done..done + 9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let Some(body) = self.read.get(done + 9..done + 9 + length) else { break };
            match kind {
                DATA => see(Part { connection: at, stream, body, last: flags & END_STREAM != 0 }),
                SETTINGS if flags & ACK == 0 => frame(&mut answers, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(&mut answers, PING, ACK, 0, body),
                RESET | GO_AWAY => panic!("the server gave up stream {stream}: {body:?}"),
                _ => {}
            }
            done += 9 + length;
        }
        self.read.drain(..done);
        if self.read.is_empty() && self.read.capacity() > 1 << 20 {
            self.read = Vec::new();
        }
        if answers.is_empty() { Ok(()) } else { self.write(&answers) }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(body);
}

/// A header whose name is in the static table (RFC 7541, 6.2.2), not to be remembered.
fn literal(out: &mut Vec<u8>, name: u8, value: &str) {
    match name.checked_sub(15) {
        None => out.push(name),
        Some(rest) => out.extend_from_slice(&[15, rest]),
    }
    let length = value.len();
    match length.checked_sub(127) {
        None => out.push(length as u8),
        Some(rest) => {
            assert!(rest < 128 * 128, "a header is that long");
            out.extend_from_slice(&[127, (rest % 128) as u8 | 128, (rest / 128) as u8]);
        }
    }
    out.extend_from_slice(value.as_bytes());
}

/// Connections that are waited for together.
pub struct Clients {
    connections: Vec<Connection>,
    epoll: OwnedFd,
}

impl Clients {
    pub fn open(count: usize, port: u16, identity: &Arc<ClientConfig>) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let connections: Vec<_> = (0..count).map(|_| Connection::open(port, identity)).collect();
        for (at, connection) in connections.iter().enumerate() {
            let data = epoll::EventData::new_u64(at as u64);
            epoll::add(&epoll, connection.tcp.as_fd(), data, epoll::EventFlags::IN).unwrap();
        }
        Self { connections, epoll }
    }

    pub fn send(&mut self, connection: usize, request: &Request<'_>) -> io::Result<u32> {
        self.connections[connection].send(request)
    }

    /// Waits until something comes, and shows it. An error is a connection's that ended.
    pub fn wait(&mut self, see: &mut impl FnMut(Part<'_>)) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        let limit = rustix::event::Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&limit)).unwrap();
        assert!(!events.is_empty(), "nothing came for {LIMIT:?}");
        for event in events {
            let at = event.data.u64() as usize;
            self.connections[at].receive(at, see)?;
        }
        Ok(())
    }

    /// One request on the first connection, and its whole answer.
    pub fn ask(&mut self, request: &Request<'_>) -> Vec<u8> {
        let (stream, start) = (self.send(0, request).unwrap(), Instant::now());
        let (mut whole, mut done) = (Vec::new(), false);
        while !done {
            self.wait(&mut |part| {
                if part.connection == 0 && part.stream == stream {
                    whole.extend_from_slice(part.body);
                    done = part.last;
                }
            })
            .unwrap();
            assert!(start.elapsed() < LIMIT, "{} {} was not answered", request.method, request.path);
        }
        whole
    }
}
