//! What a pod or a service answers itself: `…/pods/[SCHEME:]NAME[:PORT]/proxy/PATH`, and the same of services.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Reason, Snapshot, Status};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::kubelet::KubeletError;
use super::plan::encoded;
use super::{Connection, Passed};
use crate::http::respond::Body;
use crate::reach::service;
use crate::tls::{self, Servers, plain};

const CONNECT: Duration = Duration::from_secs(10);

/// Where a request goes on to.
#[derive(Debug, PartialEq, Eq)]
pub struct Backend {
    pub tls: bool,
    pub address: SocketAddr,
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// `[SCHEME:]NAME[:PORT]`
fn named(text: &str) -> Option<(bool, &str, &str)> {
    let (tls, name, port) = match text.split(':').collect::<Vec<_>>().as_slice() {
        [name] => (false, *name, ""),
        [name, port] => (false, *name, *port),
        ["http" | "", name, port] => (false, *name, *port),
        ["https", name, port] => (true, *name, *port),
        _ => return None,
    };
    (!name.is_empty()).then_some((tls, name, port))
}

/// Decides from the snapshot alone.
pub fn locate(passed: &Passed<'_>, snapshot: &Snapshot) -> Result<Backend, Status> {
    let target = &passed.asked.target;
    let kind = if passed.connection == Connection::Pod { "pod" } else { "service" };
    let Some((tls, name, port)) = named(&target.name) else {
        return Err(Status::bad_request(format!("invalid {kind} request {:?}", target.name)));
    };
    let find = |resource: GroupResource| -> Result<Value, Status> {
        let missing = || Status::not_found(&resource, name);
        let key = Key::new(resource.clone(), &target.namespace, name);
        snapshot.get(&key).ok_or_else(missing)?.decode()
    };
    let address = match passed.connection {
        Connection::Pod => of_pod(&find(known::PODS)?, port, tls)?,
        Connection::Service => {
            of_service(&find(known::SERVICES)?, name, port, &service::slices(snapshot, &target.namespace, name))?
        }
        Connection::Log | Connection::Exec | Connection::Attach | Connection::PortForward | Connection::Node => {
            return Err(Status::internal("a connection to a node is not one to a pod"));
        }
    };
    let slash = if passed.slash && !passed.asked.rest.is_empty() { "/" } else { "" };
    let mut path = format!("/{}{slash}", encoded(&passed.asked.rest, true));
    if !passed.raw_query.is_empty() {
        path = format!("{path}?{}", passed.raw_query);
    }
    Ok(Backend { tls, address, authority: address.to_string(), path })
}

/// Not to where the cluster's inside begins: loopback, link-local and the like.
fn allowed(ip: &str) -> Result<IpAddr, Status> {
    let refused = || Status::bad_request("address not allowed");
    let ip: IpAddr = ip.parse().map_err(|_| refused())?;
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if local || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() { Err(refused()) } else { Ok(ip) }
}

fn of_pod(pod: &Value, port: &str, tls: bool) -> Result<SocketAddr, Status> {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str);
    let ip = allowed(text("/status/podIPs/0/ip").or_else(|| text("/status/podIP")).unwrap_or_default())?;
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let first = || containers.filter_map(|c| c.pointer("/ports/0/containerPort")?.as_u64()).next();
    let port = match port {
        "" => first().unwrap_or(if tls { 443 } else { 80 }).to_string(),
        given => given.to_owned(),
    };
    let port = port.parse().map_err(|_| {
        let why = format!("error trying to reach service: dial tcp: lookup tcp/{port}: unknown port");
        Status::new(Reason::ServiceUnavailable, why)
    })?;
    Ok(SocketAddr::new(ip, port))
}

fn of_service(object: &Value, name: &str, port: &str, slices: &[Value]) -> Result<SocketAddr, Status> {
    let unavailable = |why: String| Status::new(Reason::ServiceUnavailable, why);
    let wanted = match port.parse::<u64>() {
        Ok(number) => service::port_name(object, number)
            .ok_or_else(|| unavailable(format!("no service port {number} found for service {name:?}")))?,
        Err(_) => port,
    };
    let (ip, port) = service::ready(slices, wanted)
        .into_iter()
        .next()
        .ok_or_else(|| unavailable(format!("no endpoints available for service {name:?}")))?;
    Ok(SocketAddr::new(allowed(&ip)?, port))
}

/// Where a client is sent that asks for the root without saying so.
pub fn redirect(passed: &Passed<'_>, method: &Method) -> Option<String> {
    let bare = passed.asked.rest.is_empty() && !passed.slash && matches!(*method, Method::GET | Method::HEAD);
    let query = if passed.raw_query.is_empty() { String::new() } else { format!("?{}", passed.raw_query) };
    bare.then(|| format!("{}/{query}", passed.raw_path))
}

pub async fn send(to: &Backend, request: Request<Body>) -> Result<Response<Incoming>, KubeletError> {
    let address = to.address;
    let connect = async {
        let tcp = TcpStream::connect(address).await;
        tcp.map_err(|source| KubeletError::Connect { to: address, source: plain(source) })
    };
    let tcp = tokio::time::timeout(CONNECT, connect).await.map_err(|_| KubeletError::Timeout { to: address })??;
    if !to.tls {
        return exchange(tcp, address, request).await;
    }
    let config = tls::outside(Servers::Any, None)?;
    let name = ServerName::IpAddress(address.ip().into());
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    exchange(handshake.map_err(|source| KubeletError::Handshake { to: address, source })?, address, request).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    to: SocketAddr,
    request: Request<Body>,
) -> Result<Response<Incoming>, KubeletError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, %to, "a connection to a pod broke");
        }
    });
    Ok(sender.send_request(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_may_have_a_scheme_and_a_port() {
        assert_eq!(named("a"), Some((false, "a", "")));
        assert_eq!(named("a:80"), Some((false, "a", "80")));
        assert_eq!(named("https:a:web"), Some((true, "a", "web")));
        assert_eq!(named("http:a:"), Some((false, "a", "")));
        for wrong in ["", ":", "ftp:a:1", "a:b:c:d"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_pod_is_reached_at_its_first_port_unless_another_is_named() {
        let pod = json!({"spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]}, "status": {"podIP": "10.1.0.2"}});
        assert_eq!(of_pod(&pod, "", false).unwrap().to_string(), "10.1.0.2:8080");
        assert_eq!(of_pod(&pod, "81", false).unwrap().to_string(), "10.1.0.2:81");
        for ip in ["", "127.0.0.1", "169.254.0.1", "::1", "224.0.0.1", "0.0.0.0"] {
            let refused = of_pod(&json!({"status": {"podIP": ip}}), "80", false).unwrap_err();
            assert_eq!(refused.message, "address not allowed", "{ip}");
        }
    }

    #[test]
    fn a_service_is_reached_at_a_ready_endpoint() {
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80, "targetPort": 8080}]}});
        let slice = |ready: bool| {
            json!({"ports": [{"name": "web", "port": 8080}],
                   "endpoints": [{"addresses": ["10.1.0.3"], "conditions": {"ready": ready}}]})
        };
        for port in ["web", "80"] {
            assert_eq!(of_service(&service, "s", port, &[slice(true)]).unwrap().to_string(), "10.1.0.3:8080");
        }
        let refused = |port: &str, slice: Value| of_service(&service, "s", port, &[slice]).unwrap_err().message;
        assert_eq!(refused("web", slice(false)), "no endpoints available for service \"s\"");
        assert_eq!(refused("81", slice(true)), "no service port 81 found for service \"s\"");
    }

    #[tokio::test]
    async fn what_a_server_answers_comes_back() {
        use http_body_util::BodyExt as _;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
            String::from_utf8(asked[..length].to_vec()).unwrap()
        });
        let to = Backend { tls: false, address, authority: address.to_string(), path: "/x?y".into() };
        let mut request = Request::new(crate::http::respond::full(""));
        *request.uri_mut() = to.path.parse().unwrap();
        let answer = send(&to, request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hi");
        assert!(server.await.unwrap().starts_with("GET /x?y HTTP/1.1"));
        // Nobody is there any more.
        let gone = send(&to, Request::new(crate::http::respond::full(""))).await.unwrap_err();
        assert!(gone.to_string().contains("connection refused"), "{gone}");
    }
}
