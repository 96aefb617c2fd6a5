//! What the audit log is told of a request when it comes, over HTTP or from a client in this process.

use std::net::{IpAddr, SocketAddr};

use http::Request;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use hyper::body::Incoming;
use jiff::Timestamp;
use kedge_api::{Status, Target, User};

use super::course::{Course, Ends};
use super::front::Front;
use crate::audit::{Arrived, Stage, Trail};
use crate::authn::Peer;
use crate::authz::{Attributes, Selectors};
use crate::wire::lasting::Lasting;
use crate::wire::path::{About, Asked};

pub(super) fn arrived(
    request: &Request<Incoming>,
    from: SocketAddr,
    audit_id: Option<&HeaderValue>,
    received: Timestamp,
) -> Arrived {
    let headers = request.headers();
    let text = |value: Option<&HeaderValue>| value.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    Arrived {
        audit_id: text(audit_id),
        uri: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        source_ips: source_ips(headers, from.ip()),
        user_agent: text(headers.get(USER_AGENT)),
        received,
    }
}

/// Those that proxies name, then who is connected. All but the last are what a client says.
fn source_ips(headers: &HeaderMap, from: IpAddr) -> Vec<String> {
    let named = |name: &str| headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    let address = |text: &str| text.trim().parse::<IpAddr>().ok();
    let mut all: Vec<IpAddr> = named("x-forwarded-for").split(',').filter_map(address).collect();
    let real = address(&named("x-real-ip")).filter(|real| !all.contains(real));
    all.extend(real);
    let from = from.to_canonical();
    if all.last() != Some(&from) {
        all.push(from);
    }
    all.iter().map(ToString::to_string).collect()
}

/// By what someone tried to show who they are.
fn attempted(peer: &Peer, headers: &HeaderMap) -> String {
    let scheme = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.trim().split_once(' '));
    let scheme = scheme.map(|(scheme, _)| scheme.to_ascii_lowercase());
    let tried: Vec<&str> = [
        ("basic", scheme.as_deref() == Some("basic")),
        ("bearer", scheme.as_deref() == Some("bearer")),
        ("x509", !matches!(peer, Peer::None)),
    ]
    .into_iter()
    .filter_map(|(name, is)| is.then_some(name))
    .collect();
    match tried.as_slice() {
        [] => "Authentication failed, no credentials provided".to_owned(),
        tried => format!("Authentication failed, attempted: {}", tried.join(", ")),
    }
}

impl Front {
    /// Begins to note, now that it is known who asks.
    pub(super) fn begin_trail(
        &self,
        user: &Result<User, Status>,
        peer: &Peer,
        (asked, selectors, lasting): (&Asked, Selectors<'_>, Lasting),
        headers: &HeaderMap,
        course: &mut Course,
    ) {
        let (Some(audit), Some(arrived)) = (&self.audit, course.arrived.take()) else { return };
        let nobody = User::new("", &[]);
        let attributes = Attributes::asked(user.as_ref().unwrap_or(&nobody), asked, selectors);
        let version = match &asked.about {
            About::Resource(resource) => resource.target.version.as_str(),
            About::Path { .. } => "",
        };
        course.trail = audit.begin(user.as_ref().ok(), &attributes, version, arrived);
        course.ends = match (user, lasting) {
            (Err(_), _) => Ends::Unknown(attempted(peer, headers)),
            (Ok(_), Lasting::Short) => Ends::Complete,
            (Ok(_), Lasting::Watch | Lasting::Open) => Ends::Lasting,
        };
        if let (Ok(_), Some(trail)) = (user, &mut course.trail) {
            trail.stage(Stage::RequestReceived);
        }
    }

    /// The same of a request of this process's own.
    pub(super) fn begin_own_trail(&self, attributes: &Attributes<'_>, target: &Target, agent: &str) -> Option<Trail> {
        let audit = self.audit.as_ref()?;
        let version = match target.version.as_str() {
            "" => self.catalog.version_of(&target.resource).unwrap_or_default(),
            version => version.to_owned(),
        };
        let arrived = Arrived {
            audit_id: uuid::Uuid::new_v4().to_string(),
            uri: uri(target, &version),
            source_ips: vec!["127.0.0.1".to_owned()],
            user_agent: agent.to_owned(),
            received: self.clock.now(),
        };
        let mut trail = audit.begin(Some(attributes.user), attributes, &version, arrived)?;
        trail.stage(Stage::RequestReceived);
        Some(trail)
    }
}

/// As it would have been asked for over HTTP.
fn uri(target: &Target, version: &str) -> String {
    let Target { resource, namespace, name, subresource, .. } = target;
    let group = match resource.group.as_str() {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let namespace = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let rest = [name, subresource].into_iter().filter(|part| !part.is_empty()).map(|part| format!("/{part}"));
    format!("{group}{namespace}/{}{}", resource.resource, rest.collect::<String>())
}

#[cfg(test)]
mod tests {
    use kedge_api::resource::known;

    use super::*;

    #[test]
    fn proxies_are_named_before_who_is_connected() {
        let mut headers = HeaderMap::new();
        let from: IpAddr = "::ffff:10.0.0.9".parse().unwrap();
        assert_eq!(source_ips(&headers, from), ["10.0.0.9"]);
        headers.insert("x-forwarded-for", HeaderValue::from_static("1.2.3.4, nonsense, ::1"));
        headers.insert("x-real-ip", HeaderValue::from_static("1.2.3.4"));
        assert_eq!(source_ips(&headers, from), ["1.2.3.4", "::1", "10.0.0.9"]);
        headers.insert("x-real-ip", HeaderValue::from_static("10.0.0.9"));
        assert_eq!(source_ips(&headers, from), ["1.2.3.4", "::1", "10.0.0.9"]);
    }

    #[test]
    fn own_requests_are_told_as_if_they_had_come_over_http() {
        let mut target = Target {
            resource: known::PODS,
            version: String::new(),
            namespace: "ns".to_owned(),
            name: "p".to_owned(),
            subresource: "status".to_owned(),
        };
        assert_eq!(uri(&target, "v1"), "/api/v1/namespaces/ns/pods/p/status");
        (target.resource, target.name, target.subresource) = (known::DEPLOYMENTS, String::new(), String::new());
        assert_eq!(uri(&target, "v1"), "/apis/apps/v1/namespaces/ns/deployments");
    }
}
