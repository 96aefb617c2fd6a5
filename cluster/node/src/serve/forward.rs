//! Port-forward: connections of a client on one side, servers on the pod's loopback on the other.
//!
//! ```text
//! SPDY, or SPDY within a WebSocket ─▶ pairs of streams (data, error), by request ─┐
//! WebSocket: two channels for each port asked for ────────────────────────────────┴▶ forward ─▶ dial ─▶ the pod
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use hyper::body;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kedge_api::Key;
use kedge_api::resource::known::PODS;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::mux::{Incoming, Outgoing};
use super::route::Ports;
use super::spdy::headers::Headers;
use super::spdy::{self, Opened};
use super::tunnel::Tunnel;
use super::upgrade::{Offer, Transport, negotiate, switch};
use super::websocket::{self, Coding};
use super::{Body, text};
use crate::site::Site;

const CHUNK: usize = 16 << 10;
/// Until the other stream of a pair has come.
const PAIRING: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Streams are opened as they are needed.
    Streams,
    /// All ports are named by the request.
    Channels(Coding),
}

const OFFER: Offer<Protocol> = Offer {
    websocket: &[
        ("SPDY/3.1+portforward.k8s.io", Protocol::Streams),
        ("", Protocol::Channels(Coding::Binary)),
        ("v4.channel.k8s.io", Protocol::Channels(Coding::Binary)),
        ("v4.base64.channel.k8s.io", Protocol::Channels(Coding::Base64)),
    ],
    spdy: &[("portforward.k8s.io", Protocol::Streams)],
};

/// The pod whose ports they are.
struct Target {
    site: Arc<Site>,
    pod: String,
    uid: String,
}

pub fn answer(site: &Arc<Site>, request: Request<body::Incoming>, asked: Ports) -> Response<Body> {
    let snapshot = site.informer.snapshot();
    let Some(pod) = snapshot.get(&Key::new(PODS, &asked.namespace, &asked.pod)) else {
        return text(StatusCode::NOT_FOUND, "pod does not exist");
    };
    let upgrade = match negotiate(request.headers(), &OFFER) {
        Ok(upgrade) => upgrade,
        Err(refused) => return refused.response(),
    };
    let ports = match (upgrade.protocol, asked.ports()) {
        (Protocol::Streams, _) => Vec::new(),
        (Protocol::Channels(_), Ok(ports)) => ports,
        (Protocol::Channels(_), Err(error)) => return text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let target = Arc::new(Target { site: Arc::clone(site), pod: asked.pod, uid: pod.uid().to_owned() });
    switch(request, upgrade, async move |upgraded, transport, protocol| match (transport, protocol) {
        (Transport::Spdy, _) => streams(TokioIo::new(upgraded), target).await,
        (Transport::WebSocket, Protocol::Streams) => {
            streams(Tunnel::new(websocket::socket(upgraded).await), target).await;
        }
        (Transport::WebSocket, Protocol::Channels(coding)) => channels(upgraded, coding, &ports, target).await,
    })
}

/// As [`port`] and the stream's type must be there.
fn welcome(headers: &Headers) -> bool {
    port(headers).is_some() && matches!(headers.get("streamtype"), Some("data" | "error"))
}

fn port(headers: &Headers) -> Option<u16> {
    headers.get("port")?.parse().ok().filter(|port| *port != 0)
}

/// By what the two streams of a connection are known to belong together. Old clients do not say; theirs come one after the other.
fn request(stream: &Opened) -> String {
    let error = stream.headers.get("streamtype") == Some("error");
    match stream.headers.get("requestid").filter(|id| !id.is_empty()) {
        Some(id) => id.to_owned(),
        None if error => stream.id.to_string(),
        None => stream.id.wrapping_sub(2).to_string(),
    }
}

async fn streams<S>(connection: S, target: Arc<Target>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, mut opened, _) = spdy::begin(connection, welcome);
    let mut reader = std::pin::pin!(reader.run());
    let (mut halves, mut running) = (HashMap::<String, (Instant, Opened)>::new(), JoinSet::new());
    loop {
        let stream = tokio::select! {
            () = &mut reader => return,
            Some(stream) = opened.recv() => stream,
            Some(_) = running.join_next() => continue,
        };
        halves.retain(|_, (since, _)| since.elapsed() < PAIRING);
        let id = request(&stream);
        let Some((_, other)) = halves.remove(&id) else {
            halves.insert(id, (Instant::now(), stream));
            continue;
        };
        let (data, error) = match (stream.headers.get("streamtype"), other.headers.get("streamtype")) {
            (Some("data"), Some("error")) => (stream, other),
            (Some("error"), Some("data")) => (other, stream),
            (kind, _) => {
                let text = format!(
                    "error processing stream for request {id}: {} stream already assigned",
                    kind.unwrap_or_default()
                );
                let _ = stream.output.send(text.as_bytes()).await;
                continue;
            }
        };
        if let Some(port) = port(&data.headers) {
            running.spawn(forward(Arc::clone(&target), port, data.input, data.output, error.output));
        }
    }
}

/// Channel 2n carries the data of the nth port, channel 2n + 1 its errors; each begins with the port's number.
async fn channels(upgraded: Upgraded, coding: Coding, ports: &[u16], target: Arc<Target>) {
    let socket = websocket::socket(upgraded).await;
    let numbers: Vec<u8> = (0..).step_by(2).take(ports.len()).collect();
    let (reader, inputs, mux) = websocket::begin(socket, coding, &numbers);
    let mut running = JoinSet::new();
    for ((port, channel), input) in ports.iter().zip(numbers).zip(inputs) {
        let (data, error) = (Outgoing::new(&mux, channel.into()), Outgoing::new(&mux, u32::from(channel) + 1));
        for stream in [&data, &error] {
            if stream.send(&port.to_le_bytes()).await.is_err() {
                return;
            }
        }
        running.spawn(forward(Arc::clone(&target), *port, input, data, error));
    }
    tokio::select! {
        () = reader.run() => {}
        () = async { while running.join_next().await.is_some() {} } => {
            let _ = mux.close().await;
        }
    }
}

async fn forward(target: Arc<Target>, port: u16, input: Incoming, output: Outgoing, error: Outgoing) {
    let carried = match dial(&target, port).await {
        Ok(stream) => carry(stream, input, &output).await,
        Err(error) => Err(error),
    };
    let told = async {
        let Err(why) = carried else { return tokio::try_join!(output.end(), error.end()).map(drop) };
        let Target { pod, uid, .. } = &*target;
        error.send(format!("error forwarding port {port} to pod {pod}, uid {uid}: {why}").as_bytes()).await?;
        // What was cut off is not to look as if it had ended.
        let cut = matches!(why.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        if cut {
            output.reset().await?;
        } else {
            output.end().await?;
        }
        error.end().await
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "client of port-forward left before the end");
    }
}

async fn dial(target: &Target, port: u16) -> io::Result<TcpStream> {
    let uid = &target.uid;
    let gone = || io::Error::other(format!("network namespace for sandbox {uid:?} is closed"));
    let sandbox = target.site.ground.known_sandbox(uid).ok_or_else(gone)?;
    // Without one of its own the pod lives in the machine's.
    let netns = sandbox.net.map(File::open).transpose()?;
    let netns = netns.as_ref().map(AsFd::as_fd);
    kedge_net::loopback::connect(netns, port).await.map_err(io::Error::other)
}

/// Until the pod has said all. The client may end before: then the pod sees an end, too.
async fn carry(stream: TcpStream, mut input: Incoming, output: &Outgoing) -> io::Result<()> {
    let (mut from_pod, mut to_pod) = stream.into_split();
    let up = async {
        while let Some(data) = input.next().await {
            to_pod.write_all(&data).await?;
        }
        to_pod.shutdown().await
    };
    let down = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = from_pod.read(&mut buffer).await?;
            match buffer.get(..read) {
                None | Some([]) => return Ok(()),
                Some(data) => output.send(data).await?,
            }
        }
    };
    let mut down = std::pin::pin!(down);
    tokio::select! {
        ended = &mut down => return ended,
        ended = up => ended?,
    }
    down.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::spdy::tests::headers;

    #[test]
    fn only_streams_of_a_port_are_welcome() {
        for (list, fine) in [
            (&[("port", "80"), ("streamtype", "data")][..], true),
            (&[("port", "65535"), ("streamtype", "error")], true),
            (&[("port", "0"), ("streamtype", "data")], false),
            (&[("port", "65536"), ("streamtype", "data")], false),
            (&[("port", "80"), ("streamtype", "stdin")], false),
            (&[("streamtype", "data")], false),
            (&[("port", "80")], false),
        ] {
            assert_eq!(welcome(&headers(list)), fine, "{list:?}");
        }
    }
}
