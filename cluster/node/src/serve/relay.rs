//! Exec and attach: the streams of a client on one side, those of a process on the other.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kedge_runtime::{ContainerState, ExecReader, ExecSession, ExecSpec, ExecWriter, Resizer, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::mux::{Incoming, Outgoing};
use super::route::{Container, Session};
use super::spdy::{self, Opened};
use super::upgrade::{Offer, Transport, negotiate, switch};
use super::websocket::{self, Coding};
use super::{Body, text};
use crate::site::Site;
use crate::translate::container::{label, parse_id};

const CHUNK: usize = 8 << 10;
/// Until a SPDY client has opened all streams it asked for.
const OPENING: Duration = Duration::from_secs(30);
/// Until a client that was told the end has closed the connection.
const LINGER: Duration = Duration::from_secs(5);

/// The channels of WebSocket.
mod channel {
    pub const STDIN: u8 = 0;
    pub const STDOUT: u32 = 1;
    pub const STDERR: u32 = 2;
    pub const ERROR: u32 = 3;
    pub const RESIZE: u8 = 4;
}

/// What differs between versions.
#[derive(Clone, Copy)]
struct Version {
    coding: Coding,
    /// How it ended is told as a `Status`, and not only if badly, as text.
    status: bool,
    resize: bool,
}

const fn version(coding: Coding, status: bool, resize: bool) -> Version {
    Version { coding, status, resize }
}

const OFFER: Offer<Version> = Offer {
    websocket: &[
        ("", version(Coding::Binary, false, true)),
        ("channel.k8s.io", version(Coding::Binary, false, true)),
        ("base64.channel.k8s.io", version(Coding::Base64, false, true)),
        ("v4.channel.k8s.io", version(Coding::Binary, true, true)),
        ("v4.base64.channel.k8s.io", version(Coding::Base64, true, true)),
        ("v5.channel.k8s.io", version(Coding::Binary, true, true)),
    ],
    spdy: &[
        ("v4.channel.k8s.io", version(Coding::Binary, true, true)),
        ("v3.channel.k8s.io", version(Coding::Binary, false, true)),
        ("v2.channel.k8s.io", version(Coding::Binary, false, false)),
        ("channel.k8s.io", version(Coding::Binary, false, false)),
    ],
};

/// The running container of that name: of several attempts the newest.
fn running(site: &Site, container: &Container) -> Option<String> {
    let has = |state: &ContainerState, name: &str, value: &str| state.labels.get(name).is_some_and(|v| v == value);
    let own = site.runtime.list().into_iter().filter(|state| {
        state.status == Status::Running
            && has(state, label::NAMESPACE, &container.namespace)
            && has(state, label::POD, &container.pod)
            && has(state, label::CONTAINER, &container.name)
    });
    own.max_by_key(|state| parse_id(&state.id).map(|(_, _, attempt)| attempt)).map(|state| state.id)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Exec,
    Attach,
}

pub fn answer(site: &Arc<Site>, request: Request<body::Incoming>, session: Session, kind: Kind) -> Response<Body> {
    let Some(id) = running(site, &session.container) else {
        let Container { namespace, pod, name } = &session.container;
        return text(
            StatusCode::NOT_FOUND,
            format!("container not found (\"{name}\") in pod {namespace}/{pod}, or not running"),
        );
    };
    let upgrade = match negotiate(request.headers(), &OFFER) {
        Ok(upgrade) => upgrade,
        Err(refused) => return refused.response(),
    };
    let site = Arc::clone(site);
    switch(request, upgrade, async move |upgraded, transport, version| {
        let (mut reader, client) = match transport {
            Transport::WebSocket => over_websocket(upgraded, version.coding, &session).await,
            Transport::Spdy => over_spdy(upgraded, version, &session),
        };
        let ended = async {
            let Some(client) = client.await else { return };
            if let Err(error) = serve(&site, client, &id, session, kind, version).await {
                tracing::debug!(%error, "client of exec or attach left before the end");
            }
        };
        tokio::select! {
            () = &mut reader => {}
            () = ended => {
                let _ = tokio::time::timeout(LINGER, reader).await;
            }
        }
    })
}

/// The client's ends of a session's streams.
struct Client {
    stdin: Option<Incoming>,
    resize: Option<Incoming>,
    stdout: Option<Outgoing>,
    stderr: Option<Outgoing>,
    error: Outgoing,
}

/// What reads a connection until it ends, and the client's streams as soon as they are there.
type Begun = (BoxFuture<'static, ()>, BoxFuture<'static, Option<Client>>);

async fn over_websocket(upgraded: Upgraded, coding: Coding, session: &Session) -> Begun {
    let socket = websocket::socket(upgraded).await;
    let (reader, inputs, mux) = websocket::begin(socket, coding, &[channel::STDIN, channel::RESIZE]);
    let mut inputs = inputs.into_iter();
    let output = |wanted: bool, channel| wanted.then(|| Outgoing::new(&mux, channel));
    let client = Client {
        stdin: inputs.next(),
        resize: inputs.next(),
        stdout: output(session.stdout, channel::STDOUT),
        stderr: output(session.stderr, channel::STDERR),
        error: Outgoing::new(&mux, channel::ERROR),
    };
    let client = async move {
        // Clients wait for a first, empty message.
        let first = client.stdout.as_ref().or(client.stderr.as_ref()).unwrap_or(&client.error);
        first.send(&[]).await.ok()?;
        Some(client)
    };
    (reader.run().boxed(), client.boxed())
}

fn over_spdy(upgraded: Upgraded, version: Version, session: &Session) -> Begun {
    let (reader, opened, _) = spdy::begin(TokioIo::new(upgraded), |_| true);
    let (session, resize) = (session.clone(), version.resize && session.tty);
    let client = async move {
        let client = tokio::time::timeout(OPENING, gather(opened, &session, resize)).await;
        client.ok().flatten()
    };
    (reader.run().boxed(), client.boxed())
}

/// Waits for all streams that the client has said it will open.
async fn gather(mut opened: mpsc::Receiver<Opened>, session: &Session, resizes: bool) -> Option<Client> {
    let (mut stdin, mut resize, mut stdout, mut stderr, mut error) = (None, None, None, None, None);
    loop {
        let there = stdin.is_some() >= session.stdin
            && stdout.is_some() >= session.stdout
            && stderr.is_some() >= session.stderr
            && resize.is_some() >= resizes;
        if there && let Some(error) = error.take() {
            return Some(Client { stdin, resize, stdout, stderr, error });
        }
        let stream = opened.recv().await?;
        match stream.headers.get("streamtype") {
            Some("stdin") => stdin = Some(stream.input),
            Some("resize") => resize = Some(stream.input),
            Some("stdout") => stdout = Some(stream.output),
            Some("stderr") => stderr = Some(stream.output),
            Some("error") => error = Some(stream.output),
            other => tracing::debug!(?other, "a stream of no known type was opened"),
        }
    }
}

async fn serve(
    site: &Site,
    client: Client,
    id: &str,
    session: Session,
    kind: Kind,
    version: Version,
) -> std::io::Result<()> {
    let command = session.command.clone();
    let begun = match kind {
        Kind::Exec => {
            let spec =
                ExecSpec { args: session.command, tty: session.tty, stdin: session.stdin, ..ExecSpec::default() };
            site.runtime.exec(id, spec).await
        }
        Kind::Attach => site.runtime.attach(id, session.stdin).await,
    };
    let Client { stdin, resize, stdout, stderr, error } = client;
    let ended = match begun {
        Ok(process) => relay(stdin, resize, stdout, stderr, process).await?,
        Err(error) => Err(error),
    };
    let status = status(kind, &command, &ended);
    if version.status {
        error.send(status.to_string().as_bytes()).await?;
    } else if let Some(message) = status.get("message").and_then(Value::as_str) {
        error.send(message.as_bytes()).await?;
    }
    error.end().await?;
    error.mux.close().await
}

type Ended = Result<i32, kedge_runtime::Error>;

/// Passes bytes until the process has ended. An error: the client went.
async fn relay(
    stdin: Option<Incoming>,
    resize: Option<Incoming>,
    stdout: Option<Outgoing>,
    stderr: Option<Outgoing>,
    mut process: ExecSession,
) -> std::io::Result<Ended> {
    let (to_stdin, from_stdout, from_stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
    let resizer = process.resizer();
    let outputs = async {
        tokio::try_join!(output(from_stdout, stdout), output(from_stderr, stderr))?;
        Ok(process.wait().await)
    };
    let inputs = async {
        tokio::join!(input(stdin, to_stdin), resized(resize, resizer));
        std::future::pending().await
    };
    tokio::select! {
        ended = outputs => ended,
        never = inputs => never,
    }
}

/// To the end of what the process says. Without a stream to the client it is still read, for the process not to block.
async fn output(from: Option<ExecReader>, to: Option<Outgoing>) -> std::io::Result<()> {
    if let Some(mut from) = from {
        let mut buffer = vec![0; CHUNK];
        loop {
            // A stream that breaks has ended, too.
            let read = from.read(&mut buffer).await.unwrap_or(0);
            match (buffer.get(..read), &to) {
                (None | Some([]), _) => break,
                (Some(data), Some(to)) => to.send(data).await?,
                (Some(_), None) => {}
            }
        }
    }
    match to {
        Some(to) => to.end().await,
        None => Ok(()),
    }
}

/// To the end of what the client says; then the process sees an end, too. One that closed its input gets no more.
async fn input(from: Option<Incoming>, mut to: Option<ExecWriter>) {
    let Some(mut from) = from else { return };
    while let Some(data) = from.next().await {
        if let Some(stream) = &mut to
            && (stream.write_all(&data).await.is_err() || stream.flush().await.is_err())
        {
            to = None;
        }
    }
}

#[derive(Debug, Deserialize, PartialEq)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// A size is some thirty bytes; what is longer is none.
const LONGEST_SIZE: usize = 1 << 10;

/// Takes whole documents off what was read. `None`: it is no sequence of sizes.
fn sizes(read: &mut Vec<u8>) -> Option<Vec<Size>> {
    let mut documents = serde_json::Deserializer::from_slice(read).into_iter::<Size>();
    let mut sizes = Vec::new();
    loop {
        match documents.next() {
            Some(Ok(size)) => sizes.push(size),
            Some(Err(error)) if !error.is_eof() => return None,
            Some(Err(_)) | None => break,
        }
    }
    let taken = documents.byte_offset();
    read.drain(..taken.min(read.len()));
    (read.len() <= LONGEST_SIZE).then_some(sizes)
}

async fn resized(from: Option<Incoming>, resizer: Resizer) {
    let Some(mut from) = from else { return };
    let mut read = Vec::new();
    while let Some(data) = from.next().await {
        read.extend_from_slice(&data);
        let Some(sizes) = sizes(&mut read) else { return };
        for size in sizes {
            if let Err(error) = resizer.resize(size.width, size.height) {
                tracing::debug!(%error, "terminal keeps its size");
            }
        }
    }
}

/// What the client is told in the end.
fn status(kind: Kind, command: &[String], ended: &Ended) -> Value {
    let internal = |error: String| {
        json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError",
            "message": format!("Internal error occurred: {error}"),
            "details": {"causes": [{"message": error}]}, "code": 500,
        })
    };
    match (kind, ended) {
        (Kind::Exec, Ok(0)) | (Kind::Attach, Ok(_)) => json!({"metadata": {}, "status": "Success"}),
        (Kind::Exec, Ok(code)) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!(
                "command terminated with non-zero exit code: error executing command [{}], exit code {code}",
                command.join(" ")
            ),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        (Kind::Exec, Err(error)) => internal(format!("error executing command in container: {error}")),
        (Kind::Attach, Err(error)) => internal(format!("error attaching to container: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_any_pieces() {
        let mut read = b"{\"Width\":80,\"Height\":24}\n{\"Width\":81,".to_vec();
        assert_eq!(sizes(&mut read), Some(vec![Size { width: 80, height: 24 }]));
        read.extend_from_slice(b"\"Height\":25}");
        assert_eq!(sizes(&mut read), Some(vec![Size { width: 81, height: 25 }]));
        assert_eq!(sizes(&mut read), Some(Vec::new()));
        for wrong in [&b"{\"Width\":-1,\"Height\":2}"[..], b"x", &[b'['; 5000]] {
            assert_eq!(sizes(&mut wrong.to_vec()), None, "{wrong:?}");
        }
    }

    #[test]
    fn endings() {
        let told = |kind, ended: Ended| status(kind, &["sh".to_owned(), "-c".to_owned()], &ended);
        assert_eq!(told(Kind::Attach, Ok(3)), json!({"metadata": {}, "status": "Success"}));
        let failed = told(Kind::Exec, Ok(3));
        assert_eq!(
            failed["message"],
            "command terminated with non-zero exit code: error executing command [sh -c], exit code 3"
        );
        let broken = told(Kind::Exec, Err(kedge_runtime::Error::ExitLost { pid: 7 }));
        assert_eq!((&broken["code"], &broken["reason"]), (&json!(500), &json!("InternalError")));
    }
}
