//! Where a connection goes and what is asked there: decided from the snapshot, without doing anything.

use std::net::{IpAddr, SocketAddr};

use kedge_api::resource::known;
use kedge_api::status::{Cause, Details};
use kedge_api::{Key, Reason, Snapshot, Status};
use serde_json::{Map, Value};

use super::Passed;
use super::kubelet::KubeletError;
use crate::wire::query::{Query, quoted};

const KUBELET_PORT: u16 = 10250;

/// A subresource that is a connection to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    Log,
    Exec,
    Attach,
    PortForward,
    /// Anything of the kubelet's API.
    Node,
    /// What a pod answers itself.
    Pod,
    Service,
}

/// Which connection a resource's subresource is, if it is one.
pub fn connection(resource: &str, group: &str, subresource: &str) -> Option<Connection> {
    match (group, resource, subresource) {
        ("", "pods", "log") => Some(Connection::Log),
        ("", "pods", "exec") => Some(Connection::Exec),
        ("", "pods", "attach") => Some(Connection::Attach),
        ("", "pods", "portforward") => Some(Connection::PortForward),
        ("", "nodes", "proxy") => Some(Connection::Node),
        ("", "pods", "proxy") => Some(Connection::Pod),
        ("", "services", "proxy") => Some(Connection::Service),
        _ => None,
    }
}

impl Connection {
    /// How it is to be opened, as the object that admission is asked about; none for what only reads.
    pub fn options(self, query: &Query, path: &str) -> Option<Value> {
        let kind = match self {
            Self::Log => return None,
            Self::Exec => "PodExecOptions",
            Self::Attach => "PodAttachOptions",
            Self::PortForward => "PodPortForwardOptions",
            Self::Node => "NodeProxyOptions",
            Self::Pod => "PodProxyOptions",
            Self::Service => "ServiceProxyOptions",
        };
        let mut options = Map::from_iter([("kind".to_owned(), kind.into()), ("apiVersion".to_owned(), "v1".into())]);
        let mut set = |name: &str, value: Value| options.insert(name.to_owned(), value);
        match self {
            Self::Exec | Self::Attach => {
                for flag in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|flag| query.flag(flag)) {
                    set(flag, true.into());
                }
                if let Some(container) = query.first("container") {
                    set("container", container.into());
                }
                let command: Vec<&str> = query.all("command").collect();
                if !command.is_empty() {
                    set("command", command.into());
                }
            }
            Self::PortForward => {
                let ports = query.all("ports").flat_map(|ports| ports.split(','));
                let ports: Vec<i64> = ports.filter_map(|port| port.parse().ok()).collect();
                if !ports.is_empty() {
                    set("ports", ports.into());
                }
            }
            Self::Node | Self::Pod | Self::Service => {
                set("path", path.into());
            }
            Self::Log => {}
        }
        Some(options.into())
    }

    /// Whether it is nothing without an HTTP upgrade.
    pub const fn upgrades(self) -> bool {
        matches!(self, Self::Exec | Self::Attach | Self::PortForward)
    }
}

/// One request to one node.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    pub node: String,
    pub address: SocketAddr,
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// `None`: a log of a pod that has no node yet.
pub fn plan(passed: &Passed<'_>, snapshot: &Snapshot) -> Result<Option<Plan>, Status> {
    let target = &passed.asked.target;
    if passed.connection == Connection::Node {
        let mut path = format!("/{}", encoded(&passed.asked.rest, true));
        if !passed.raw_query.is_empty() {
            path = format!("{path}?{}", passed.raw_query);
        }
        return at(snapshot, &target.name, path).map(Some);
    }
    let key = Key::new(known::PODS, &target.namespace, &target.name);
    let pod: Value = snapshot.get(&key).ok_or_else(|| Status::not_found(&known::PODS, &target.name))?.decode()?;
    let query = passed.query;
    let log = if passed.connection == Connection::Log { Some(log_options(&target.name, query)?) } else { None };
    let container = match passed.connection {
        Connection::PortForward | Connection::Pod | Connection::Service => String::new(),
        Connection::Log | Connection::Exec | Connection::Attach | Connection::Node => {
            container(&pod, &target.name, query)?
        }
    };
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    let what = match passed.connection {
        Connection::Exec => "exec into",
        Connection::Attach => "attach to",
        Connection::Log | Connection::PortForward | Connection::Node | Connection::Pod | Connection::Service => "",
    };
    if !what.is_empty() && matches!(phase, "Succeeded" | "Failed") {
        return Err(Status::bad_request(format!(
            "cannot {what} a container in a completed pod; current phase is {phase}"
        )));
    }
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if node.is_empty() {
        return match passed.connection {
            Connection::Log => Ok(None),
            Connection::Exec
            | Connection::Attach
            | Connection::PortForward
            | Connection::Node
            | Connection::Pod
            | Connection::Service => {
                Err(Status::bad_request(format!("pod {} does not have a host assigned", target.name)))
            }
        };
    }
    let (namespace, name) = (encoded(&target.namespace, false), encoded(&target.name, false));
    let container = encoded(&container, false);
    let (path, parameters) = match passed.connection {
        Connection::Log => (format!("/containerLogs/{namespace}/{name}/{container}"), log.unwrap_or_default()),
        Connection::Exec => (format!("/exec/{namespace}/{name}/{container}"), streams(query)),
        Connection::Attach => (format!("/attach/{namespace}/{name}/{container}"), streams(query)),
        Connection::PortForward => {
            let ports = query.all("ports").flat_map(|p| p.split(',')).map(|p| ("port", p.to_owned())).collect();
            (format!("/portForward/{namespace}/{name}"), ports)
        }
        Connection::Node | Connection::Pod | Connection::Service => return Ok(None),
    };
    let text: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value, false))).collect();
    let path = if text.is_empty() { path } else { format!("{path}?{}", text.join("&")) };
    at(snapshot, node, path).map(Some)
}

fn at(snapshot: &Snapshot, node: &str, path: String) -> Result<Plan, Status> {
    let object =
        snapshot.get(&Key::new(known::NODES, "", node)).ok_or_else(|| Status::not_found(&known::NODES, node))?;
    let object: Value = object.decode()?;
    let addresses =
        object.pointer("/status/addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let of = |kind: &str| {
        let mut found = addresses.iter().filter(|a| a.get("type").and_then(Value::as_str) == Some(kind));
        found.find_map(|a| a.get("address")?.as_str()?.parse::<IpAddr>().ok())
    };
    let ip = of("InternalIP").or_else(|| of("ExternalIP"));
    let ip = ip.ok_or_else(|| {
        let known: Vec<&str> = addresses.iter().filter_map(|a| a.get("address")?.as_str()).collect();
        let message = format!("no preferred addresses found; known addresses: [{}]", known.join(" "));
        Status::new(Reason::Unknown, message)
    })?;
    let port = object.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(KUBELET_PORT);
    let address = SocketAddr::new(ip, port);
    Ok(Plan { node: node.to_owned(), address, authority: address.to_string(), path })
}

fn container(pod: &Value, name: &str, query: &Query) -> Result<String, Status> {
    let names = |list: &str| {
        let items = pod.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(|c| c.get("name")?.as_str()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (usual, init, later) =
        (names("/spec/containers"), names("/spec/initContainers"), names("/spec/ephemeralContainers"));
    let asked = query.first("container").unwrap_or_default();
    if !asked.is_empty() {
        let known = [&usual, &init, &later].into_iter().flatten().any(|c| c == asked);
        return if known {
            Ok(asked.to_owned())
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
        };
    }
    match usual.as_slice() {
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        [only] if init.is_empty() && later.is_empty() => Ok(only.clone()),
        _ => {
            let mut message =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", usual.join(" "));
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            if !later.is_empty() {
                message.push_str(&format!(" or one of the ephemeral containers: [{}]", later.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}

type Parameters = Vec<(&'static str, String)>;

/// The kubelet's names for the streams of exec and attach.
fn streams(query: &Query) -> Parameters {
    let named = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    let mut out: Parameters = query.all("command").map(|c| ("command", c.to_owned())).collect();
    out.extend(named.iter().filter(|(ours, _)| query.flag(ours)).map(|(_, theirs)| (*theirs, "1".to_owned())));
    out
}

/// Numbers of a log request, with the least that each may be.
const LOG_NUMBERS: [(&str, i64); 3] = [("sinceSeconds", 1), ("tailLines", 0), ("limitBytes", 1)];

fn log_options(pod: &str, query: &Query) -> Result<Parameters, Status> {
    let (mut out, mut causes) = (Parameters::new(), Vec::new());
    let given = |name: &str| query.first(name).filter(|v| !v.is_empty());
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag) {
            out.push((flag, "true".to_owned()));
        }
    }
    for (name, least) in LOG_NUMBERS {
        let Some(text) = given(name) else { continue };
        let number: i64 = text
            .parse()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", quoted(text))))?;
        if number < least {
            let why = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            causes.push((name, number.to_string(), why));
        }
        out.push((name, number.to_string()));
    }
    for name in ["sinceTime", "stream"] {
        if let Some(text) = given(name) {
            out.push((name, text.to_owned()));
        }
    }
    if given("sinceSeconds").is_some() && given("sinceTime").is_some() {
        causes.push(("", "null".to_owned(), "at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    if causes.is_empty() {
        return Ok(out);
    }
    let causes: Vec<Cause> = causes
        .into_iter()
        .map(|(field, value, why)| Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: format!("Invalid value: {value}: {why}"),
            field: field.to_owned(),
        })
        .collect();
    let texts: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    let text = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
    let details = Details { name: pod.to_owned(), kind: "PodLogOptions".to_owned(), causes, ..Details::default() };
    let message = format!("PodLogOptions {pod:?} is invalid: {text}");
    Err(Status { details: Some(Box::new(details)), ..Status::new(Reason::Invalid, message) })
}

/// Percent-encodes all but unreserved characters (RFC 3986, 2.3), and slashes where they separate.
pub(super) fn encoded(text: &str, slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What the client is told when what it wants to reach does not answer.
pub(super) fn no_answer(error: &KubeletError) -> Status {
    Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {error}"))
}

impl Plan {
    /// What the client is told when the node does not answer, as upstream words it.
    pub fn unreachable(&self, connection: Connection, error: &KubeletError) -> Status {
        let message = match connection {
            Connection::Log => format!("Get \"https://{}{}\": {error}", self.authority, self.path),
            Connection::Exec | Connection::Attach | Connection::PortForward => {
                format!("error dialing backend: {error}")
            }
            Connection::Node | Connection::Pod | Connection::Service => return no_answer(error),
        };
        Status::internal(message)
    }
}

#[cfg(test)]
mod tests {
    use kedge_api::Informer;
    use serde_json::json;

    use super::*;
    use crate::fixture::Objects;
    use crate::wire::path::{About, parse};

    fn world() -> Objects {
        let objects = Objects::default();
        let pod = |name: &str, node: &str, containers: &[&str]| {
            let containers: Vec<Value> = containers.iter().map(|c| json!({"name": c})).collect();
            json!({"metadata": {"namespace": "ns", "name": name}, "spec": {"nodeName": node, "containers": containers}, "status": {"phase": "Running"}})
        };
        objects.put(known::PODS, pod("one", "n1", &["c"]));
        objects.put(known::PODS, pod("two", "n1", &["c", "d"]));
        objects.put(known::PODS, pod("nowhere", "", &["c"]));
        objects.put(known::PODS, pod("lost", "n2", &["c"]));
        let node = json!({"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.5"}]}});
        objects.put(known::NODES, node);
        objects
    }

    fn ask(uri: &str) -> Result<Option<String>, String> {
        let (path, raw_query) = uri.split_once('?').unwrap_or((uri, ""));
        let query = Query::parse(raw_query);
        let About::Resource(asked) = parse(&http::Method::GET, path, &query).unwrap().about else { panic!("{uri}") };
        let connection = connection(asked.target.resource.resource.as_str(), "", &asked.target.subresource).unwrap();
        let passed =
            Passed { connection, asked: &asked, query: &query, raw_query, raw_path: path, slash: path.ends_with('/') };
        let plan = plan(&passed, &world().snapshot());
        plan.map(|plan| plan.map(|plan| format!("{} {}", plan.authority, plan.path))).map_err(|e| e.message)
    }

    #[test]
    fn connections_become_the_kubelets_paths() {
        for (uri, want) in [
            ("pods/one/log?tailLines=5&follow=true&container=c", "/containerLogs/ns/one/c?follow=true&tailLines=5"),
            (
                "pods/one/exec?command=sh&command=-c&command=a%20%26b&stdin=true&stdout=true&tty=false",
                "/exec/ns/one/c?command=sh&command=-c&command=a%20%26b&input=1&output=1",
            ),
            ("pods/two/attach?container=d&stderr=1", "/attach/ns/two/d?error=1"),
            ("pods/one/portforward?ports=80,81", "/portForward/ns/one?port=80&port=81"),
        ] {
            assert_eq!(
                ask(&format!("/api/v1/namespaces/ns/{uri}")),
                Ok(Some(format!("10.0.0.5:10250 {want}"))),
                "{uri}"
            );
        }
        assert_eq!(
            ask("/api/v1/nodes/n1/proxy/stats/a b?x=%20"),
            Ok(Some("10.0.0.5:10250 /stats/a%20b?x=%20".to_owned()))
        );
        assert_eq!(ask("/api/v1/namespaces/ns/pods/nowhere/log"), Ok(None));
    }

    #[test]
    fn what_cannot_be_reached_is_said() {
        for (uri, want) in [
            ("gone/log", "pods \"gone\" not found"),
            ("two/log", "a container name must be specified for pod two, choose one of: [c d]"),
            ("one/exec?container=zz", "container zz is not valid for pod one"),
            ("nowhere/exec", "pod nowhere does not have a host assigned"),
            ("lost/log", "nodes \"n2\" not found"),
            (
                "one/log?tailLines=-1",
                "PodLogOptions \"one\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            ("one/log?limitBytes=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ] {
            assert_eq!(ask(&format!("/api/v1/namespaces/ns/pods/{uri}")), Err(want.to_owned()), "{uri}");
        }
    }
}
