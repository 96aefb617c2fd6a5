//! Paths and queries of the kubelet's API as values. Pure.

use http::StatusCode;
use jiff::Timestamp;

#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    Healthz,
    Pods,
    Summary,
    Metrics,
    Logs(Container, LogOptions),
    Exec(Session),
    Attach(Session),
    PortForward(Ports),
    /// `POST machine/ACTION`: something only the machine can do.
    Machine(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub namespace: String,
    pub pod: String,
    pub name: String,
}

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail: Option<usize>,
    pub since: Option<Since>,
    pub limit: Option<u64>,
    /// `Stdout` or `Stderr` alone, in lower case.
    pub stream: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Since {
    Seconds(i64),
    Time(Timestamp),
}

/// Which streams are wanted of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub container: Container,
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A pod whose ports are wanted, and which: as they were written, since not every protocol names them beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    pub namespace: String,
    pub pod: String,
    pub asked: Vec<String>,
}

/// Two channels each, whose numbers are a byte.
const MOST_PORTS: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("404 page not found")]
    Path,
    #[error("unable to decode query: {name}={value:?} is not {expected}")]
    Query { name: String, value: String, expected: &'static str },
    #[error("path or query is not UTF-8 after decoding")]
    Encoding,
    #[error("you must specify at least 1 of stdin, stdout, stderr")]
    NoStream,
    #[error("you must specify a command")]
    NoCommand,
    #[error("query parameter \"port\" is required")]
    NoPort,
    #[error("unable to parse {0:?} as a port")]
    Port(String),
    #[error("port {0:?} must be > 0")]
    PortZero(String),
    #[error("more than {MOST_PORTS} ports cannot be forwarded at once")]
    ManyPorts,
}

impl RouteError {
    pub fn code(&self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Query { .. }
            | Self::Encoding
            | Self::NoStream
            | Self::NoCommand
            | Self::NoPort
            | Self::Port(_)
            | Self::PortZero(_)
            | Self::ManyPorts => StatusCode::BAD_REQUEST,
        }
    }
}

/// Undoes percent-encoding; in queries `+` is a space.
fn decode(text: &str, plus: bool) -> Result<String, RouteError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let value = high.zip(low).and_then(|(h, l)| u8::try_from(h * 16 + l).ok());
                out.push(value.ok_or(RouteError::Encoding)?);
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).map_err(|_| RouteError::Encoding)
}

fn query(text: &str) -> Result<Vec<(String, String)>, RouteError> {
    let pairs = text.split('&').filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

fn flag(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "True" | "TRUE")
}

impl Route {
    pub fn parse(path: &str, query_text: &str) -> Result<Self, RouteError> {
        let parts: Result<Vec<String>, _> = path.trim_start_matches('/').split('/').map(|p| decode(p, false)).collect();
        let parts = parts?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let query = query(query_text)?;
        let container = |namespace: &str, pod: &str, name: &str| Container {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            name: name.to_owned(),
        };
        match parts.as_slice() {
            ["healthz"] => Ok(Self::Healthz),
            ["pods"] => Ok(Self::Pods),
            ["stats", "summary"] => Ok(Self::Summary),
            ["machine", action] => Ok(Self::Machine((*action).to_owned())),
            ["metrics"] | ["metrics", "resource"] => Ok(Self::Metrics),
            ["containerLogs", ns, pod, name] => Ok(Self::Logs(container(ns, pod, name), LogOptions::parse(&query)?)),
            // A uid may stand before the container's name.
            ["exec", ns, pod, name] | ["exec", ns, pod, _, name] => {
                let session = Session::parse(container(ns, pod, name), &query)?;
                if session.command.is_empty() { Err(RouteError::NoCommand) } else { Ok(Self::Exec(session)) }
            }
            ["attach", ns, pod, name] | ["attach", ns, pod, _, name] => {
                Session::parse(container(ns, pod, name), &query).map(Self::Attach)
            }
            ["portForward", ns, pod] | ["portForward", ns, pod, _] => {
                let asked = query.iter().filter(|(name, _)| name == "port").map(|(_, port)| port.clone()).collect();
                Ok(Self::PortForward(Ports { namespace: (*ns).to_owned(), pod: (*pod).to_owned(), asked }))
            }
            [..] => Err(RouteError::Path),
        }
    }
}

impl Ports {
    pub fn ports(&self) -> Result<Vec<u16>, RouteError> {
        let ports: Result<Vec<u16>, _> = self
            .asked
            .iter()
            .flat_map(|ports| ports.split(','))
            .map(|port| match port.parse() {
                Ok(0) => Err(RouteError::PortZero(port.to_owned())),
                Ok(number) => Ok(number),
                Err(_) => Err(RouteError::Port(port.to_owned())),
            })
            .collect();
        match ports? {
            ports if ports.is_empty() => Err(RouteError::NoPort),
            ports if ports.len() > MOST_PORTS => Err(RouteError::ManyPorts),
            ports => Ok(ports),
        }
    }
}

impl Session {
    /// Both the kubelet's and the API server's names are understood.
    fn parse(container: Container, query: &[(String, String)]) -> Result<Self, RouteError> {
        let on = |names: [&str; 2]| query.iter().any(|(n, v)| names.contains(&n.as_str()) && flag(v));
        let tty = on(["tty", "tty"]);
        let session = Self {
            container,
            command: query.iter().filter(|(n, _)| n == "command").map(|(_, v)| v.clone()).collect(),
            stdin: on(["input", "stdin"]),
            stdout: on(["output", "stdout"]),
            // A terminal has one output.
            stderr: on(["error", "stderr"]) && !tty,
            tty,
        };
        if session.stdin || session.stdout || session.stderr { Ok(session) } else { Err(RouteError::NoStream) }
    }
}

impl LogOptions {
    fn parse(query: &[(String, String)]) -> Result<Self, RouteError> {
        let mut options = Self::default();
        for (name, value) in query.iter().filter(|(_, v)| !v.is_empty()) {
            let wrong = |expected| RouteError::Query { name: name.clone(), value: value.clone(), expected };
            match name.as_str() {
                "follow" => options.follow = flag(value),
                "previous" => options.previous = flag(value),
                "timestamps" => options.timestamps = flag(value),
                // "all" is what upstream's own client may send.
                "tailLines" if value == "all" => {}
                "tailLines" => options.tail = Some(value.parse().map_err(|_| wrong("a number of lines"))?),
                "sinceSeconds" => {
                    let seconds = value.parse().ok().filter(|s| *s > 0);
                    options.since = Some(Since::Seconds(seconds.ok_or_else(|| wrong("a positive number of seconds"))?));
                }
                "sinceTime" => {
                    let time = value.parse().map_err(|_| wrong("a time in RFC 3339"))?;
                    options.since = Some(Since::Time(time));
                }
                "limitBytes" => options.limit = Some(value.parse().map_err(|_| wrong("a number of bytes"))?),
                "stream" => match value.as_str() {
                    "All" => {}
                    "Stdout" | "Stderr" => options.stream = Some(value.to_lowercase()),
                    _ => return Err(wrong("All, Stdout or Stderr")),
                },
                _ => {}
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let asked = |query| match Route::parse("/portForward/shop/web", query) {
            Ok(Route::PortForward(ports)) => ports.ports(),
            other => panic!("{other:?}"),
        };
        for (query, expected) in [
            ("port=80&port=81,82", Ok(vec![80, 81, 82])),
            ("", Err(RouteError::NoPort)),
            ("port=", Err(RouteError::Port(String::new()))),
            ("port=0", Err(RouteError::PortZero("0".into()))),
            ("port=65536", Err(RouteError::Port("65536".into()))),
        ] {
            assert_eq!(asked(query), expected, "{query}");
        }
        assert_eq!(asked(&"port=1&".repeat(MOST_PORTS + 1)), Err(RouteError::ManyPorts));
    }

    #[test]
    fn routes() {
        let container = Container { namespace: "shop".into(), pod: "web".into(), name: "main".into() };
        let logs = |options| Ok(Route::Logs(container.clone(), options));
        let session = Session {
            container: container.clone(),
            command: vec!["sh".into(), "-c".into(), "echo a b & c".into()],
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        for (path, query, expected) in [
            ("/healthz", "", Ok(Route::Healthz)),
            ("/pods", "", Ok(Route::Pods)),
            ("/metrics/resource", "", Ok(Route::Metrics)),
            ("/containerLogs/shop/web/main", "", logs(LogOptions::default())),
            (
                "/containerLogs/shop/web/main",
                "follow=true&tailLines=0&previous=false&timestamps=1&sinceSeconds=5&limitBytes=9&stream=Stderr",
                logs(LogOptions {
                    follow: true,
                    timestamps: true,
                    tail: Some(0),
                    since: Some(Since::Seconds(5)),
                    limit: Some(9),
                    stream: Some("stderr".into()),
                    ..LogOptions::default()
                }),
            ),
            (
                "/containerLogs/shop/web/main",
                "sinceTime=1970-01-01T00%3A00%3A00Z",
                logs(LogOptions { since: Some(Since::Time(Timestamp::UNIX_EPOCH)), ..LogOptions::default() }),
            ),
            (
                "/exec/shop/web/main",
                "command=sh&command=-c&command=echo+a%20b+%26+c&input=1&output=1&tty=1",
                Ok(Route::Exec(session.clone())),
            ),
            (
                "/exec/shop/web/uid/main",
                "command=sh&command=-c&command=echo+a%20b+%26+c&stdin=true&stdout=true&tty=true",
                Ok(Route::Exec(session)),
            ),
            ("/exec/shop/web/main", "output=1", Err(RouteError::NoCommand)),
            ("/attach/shop/web/main", "", Err(RouteError::NoStream)),
            ("/exec/shop/web", "", Err(RouteError::Path)),
            ("/", "", Err(RouteError::Path)),
            ("/pods%ff", "", Err(RouteError::Encoding)),
            ("/pods%2", "", Err(RouteError::Encoding)),
            (
                "/containerLogs/shop/web/main",
                "tailLines=-1",
                Err(RouteError::Query { name: "tailLines".into(), value: "-1".into(), expected: "a number of lines" }),
            ),
        ] {
            assert_eq!(Route::parse(path, query), expected, "{path}?{query}");
        }
    }
}
