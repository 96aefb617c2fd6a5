//! Exec and attach: a WebSocket's channels on one side, a process' streams on the other.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kedge_runtime::{ContainerState, ExecReader, ExecSession, ExecSpec, ExecWriter, Resizer, Status};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::route::{Container, Session};
use super::websocket::{Channel, FromClient, accept, frame, parse};
use super::{Body, text};
use crate::site::Site;
use crate::translate::container::{label, parse_id};

const CHUNK: usize = 8 << 10;
/// Messages longer than this are no keyboard's and no pipe's.
const LONGEST: usize = 1 << 20;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

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
enum Kind {
    Exec,
    Attach,
}

pub async fn exec(site: &Arc<Site>, request: Request<Incoming>, session: Session) -> Response<Body> {
    begin(site, request, session, Kind::Exec)
}

pub async fn attach(site: &Arc<Site>, request: Request<Incoming>, session: Session) -> Response<Body> {
    begin(site, request, session, Kind::Attach)
}

fn begin(site: &Arc<Site>, mut request: Request<Incoming>, session: Session, kind: Kind) -> Response<Body> {
    let Some(id) = running(site, &session.container) else {
        let Container { namespace, pod, name } = &session.container;
        return text(
            StatusCode::NOT_FOUND,
            format!("container not found (\"{name}\") in pod {namespace}/{pod}, or not running"),
        );
    };
    let Some(response) = accept(request.headers()) else {
        let why = "only WebSocket with v5.channel.k8s.io or v4.channel.k8s.io is spoken here";
        return text(StatusCode::BAD_REQUEST, why);
    };
    let (site, upgrade) = (site.clone(), hyper::upgrade::on(&mut request));
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let config = WebSocketConfig::default()
                    .max_message_size(Some(LONGEST))
                    .max_frame_size(Some(LONGEST))
                    .read_buffer_size(CHUNK)
                    .write_buffer_size(0);
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
                serve(&site, socket, &id, session, kind).await;
            }
            Err(error) => tracing::debug!(%error, "exec or attach was not upgraded"),
        }
    });
    response
}

async fn serve(site: &Site, socket: Socket, id: &str, session: Session, kind: Kind) {
    let (mut sink, source) = socket.split();
    // Upstream's clients wait for a first, empty message.
    let first = if session.stdout { Channel::Stdout } else { Channel::Error };
    if sink.send(Message::Binary(frame(first, b""))).await.is_err() {
        return;
    }
    let spec =
        ExecSpec { args: session.command.clone(), tty: session.tty, stdin: session.stdin, ..ExecSpec::default() };
    let begun = match kind {
        Kind::Exec => site.runtime.exec(id, spec).await,
        Kind::Attach => site.runtime.attach(id).await,
    };
    let status = match begun {
        Ok(process) => match relay(&mut sink, source, process, &session).await {
            Some(status) => status,
            None => return,
        },
        Err(error) => failure(&error),
    };
    let goodbye = async {
        sink.send(Message::Binary(frame(Channel::Error, status.to_string().as_bytes()))).await?;
        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        sink.send(Message::Close(Some(close))).await
    };
    if let Err(error) = goodbye.await {
        tracing::debug!(%error, "client of exec or attach left before the end");
    }
}

/// Passes bytes until the process has ended. `None`: the client went.
async fn relay(
    sink: &mut SplitSink<Socket, Message>,
    source: SplitStream<Socket>,
    mut process: ExecSession,
    session: &Session,
) -> Option<Value> {
    let stdin = process.stdin.take().filter(|_| session.stdin);
    let stdout = process.stdout.take().filter(|_| session.stdout);
    let stderr = process.stderr.take().filter(|_| session.stderr);
    let resizer = process.resizer();
    let outputs = async {
        output(sink, stdout, stderr).await?;
        Some(process.wait().await)
    };
    tokio::select! {
        ended = outputs => match ended? {
            Ok(0) => Some(json!({"metadata": {}, "status": "Success"})),
            Ok(code) => Some(exit(code)),
            Err(error) => Some(failure(&error)),
        },
        () = input(source, stdin, resizer) => None,
    }
}

async fn read(stream: &mut Option<ExecReader>, buffer: &mut [u8]) -> usize {
    match stream {
        // A stream that breaks has ended, too.
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// `None`: the client does not take it any more.
async fn output(
    sink: &mut SplitSink<Socket, Message>,
    mut stdout: Option<ExecReader>,
    mut stderr: Option<ExecReader>,
) -> Option<()> {
    let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
    while stdout.is_some() || stderr.is_some() {
        let message = tokio::select! {
            read = read(&mut stdout, &mut out) => match out.get(..read) {
                Some(data) if !data.is_empty() => frame(Channel::Stdout, data),
                Some(_) | None => {
                    stdout = None;
                    continue;
                }
            },
            read = read(&mut stderr, &mut err) => match err.get(..read) {
                Some(data) if !data.is_empty() => frame(Channel::Stderr, data),
                Some(_) | None => {
                    stderr = None;
                    continue;
                }
            },
        };
        sink.send(Message::Binary(message)).await.ok()?;
    }
    Some(())
}

/// Ends when the client is gone.
async fn input(mut source: SplitStream<Socket>, mut stdin: Option<ExecWriter>, resizer: Resizer) {
    while let Some(Ok(message)) = source.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Close(_) => return,
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match parse(&data) {
            FromClient::Stdin(data) => write(&mut stdin, data).await,
            FromClient::CloseStdin => stdin = None,
            FromClient::Resize { columns, rows } => {
                if let Err(error) = resizer.resize(columns, rows) {
                    tracing::debug!(%error, "terminal keeps its size");
                }
            }
            FromClient::Other => {}
        }
    }
}

/// A process that closed its input gets no more.
async fn write(stdin: &mut Option<ExecWriter>, data: Bytes) {
    if let Some(stream) = stdin
        && (stream.write_all(&data).await.is_err() || stream.flush().await.is_err())
    {
        *stdin = None;
    }
}

fn exit(code: i32) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failure(error: &kedge_runtime::Error) -> Value {
    json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": format!("Internal error occurred: {error}"), "code": 500})
}
