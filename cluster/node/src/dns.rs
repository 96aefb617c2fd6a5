//! The cluster's names, answered from the informer's snapshot.
//!
//! Owns the zone below the cluster domain and the reverse zones of pods and services. Source: the specification "Kubernetes DNS-Based
//! Service Discovery", version 1.1.0. Every answer looks at the objects as they are now: there is no second copy to keep right.
//!
//! ```text
//! SERVICE.NS.svc.DOMAIN            A, AAAA   cluster addresses, or endpoints of a headless service; CNAME of an external name
//! HOST.SERVICE.NS.svc.DOMAIN       A, AAAA   one endpoint of a headless service
//! _PORT._PROTO.SERVICE.NS.svc.…    SRV
//! 10-42-0-7.NS.pod.DOMAIN          A, AAAA   the address spelt in the name, where the namespace exists
//! dns-version.DOMAIN               TXT
//! 7.0.42.10.in-addr.arpa           PTR
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kedge_api::resource::known;
use kedge_api::{Informer, Key, Snapshot};
use kedge_net::dns::{Data, Record, RecordType, Zone, ZoneAnswer};

mod reverse;
#[cfg(test)]
mod tests;

/// Seconds that an answer may be kept; CoreDNS' default.
const TTL: u32 = 5;
const VERSION: &str = "1.1.0";

pub struct ClusterZone {
    informer: Arc<dyn Informer>,
    domain: String,
    /// Networks of pods and services: names for their addresses are ours.
    networks: Vec<kedge_net::IpNet>,
}

impl ClusterZone {
    pub fn new(informer: Arc<dyn Informer>, domain: &str, networks: Vec<kedge_net::IpNet>) -> Self {
        Self { informer, domain: domain.to_lowercase(), networks }
    }
}

impl Zone for ClusterZone {
    fn answer(&self, name: &str, record_type: RecordType) -> ZoneAnswer {
        if let Some(address) = reverse::address(name) {
            if !self.networks.iter().any(|n| n.contains(address)) {
                return ZoneAnswer::NotMine;
            }
            return answer(name, pointers(&self.informer.snapshot(), &self.domain, address), record_type);
        }
        let below = if name == self.domain {
            ""
        } else {
            match name.strip_suffix(self.domain.as_str()).and_then(|n| n.strip_suffix('.')) {
                Some(below) => below,
                None => return ZoneAnswer::NotMine,
            }
        };
        answer(name, look_up(&self.informer.snapshot(), &self.domain, below), record_type)
    }
}

/// Those of a name's records that were asked for. A CNAME answers every question.
fn answer(name: &str, records: Option<Vec<Data>>, asked: RecordType) -> ZoneAnswer {
    let Some(records) = records else { return ZoneAnswer::NxDomain };
    let wanted = |data: &Data| match data {
        Data::A(_) => asked == RecordType::A || asked == RecordType::Any,
        Data::Aaaa(_) => asked == RecordType::Aaaa || asked == RecordType::Any,
        Data::Cname(_) => true,
        Data::Ptr(_) => asked == RecordType::Ptr || asked == RecordType::Any,
        Data::Srv { .. } => asked == RecordType::Srv || asked == RecordType::Any,
        Data::Txt(_) => asked == RecordType::Txt || asked == RecordType::Any,
    };
    let record = |data| Record { name: name.to_owned(), ttl: TTL, data };
    let chosen: Vec<Record> = records.into_iter().filter(wanted).map(record).collect();
    if chosen.is_empty() { ZoneAnswer::NoData } else { ZoneAnswer::Records(chosen) }
}

/// All records of a name of ours; `None` if it does not exist.
fn look_up(snapshot: &Snapshot, domain: &str, below: &str) -> Option<Vec<Data>> {
    // From the right: what the name is of, the namespace, and so on.
    let labels: Vec<&str> = if below.is_empty() { Vec::new() } else { below.rsplit('.').collect() };
    let namespace_exists = |namespace: &str| snapshot.get(&Key::new(known::NAMESPACES, "", namespace)).is_some();
    match labels.as_slice() {
        [] | ["svc"] | ["pod"] => Some(Vec::new()),
        ["dns-version"] => Some(vec![Data::Txt(vec![VERSION.to_owned()])]),
        ["pod" | "svc", namespace] => namespace_exists(namespace).then(Vec::new),
        ["pod", namespace, address] => {
            let address = spelt(address).filter(|_| namespace_exists(namespace))?;
            Some(vec![data(address)])
        }
        ["svc", namespace, service, rest @ ..] => Named { snapshot, domain, namespace, service }.records(rest),
        [..] => None,
    }
}

/// `10-42-0-7` or `fd00--7`
fn spelt(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse().or_else(|_| label.replace('-', ":").parse()).ok()
}

fn data(address: IpAddr) -> Data {
    match address {
        IpAddr::V4(a) => Data::A(a),
        IpAddr::V6(a) => Data::Aaaa(a),
    }
}

/// A name that stands below a service's.
struct Named<'a> {
    snapshot: &'a Snapshot,
    domain: &'a str,
    namespace: &'a str,
    service: &'a str,
}

impl Named<'_> {
    /// `rest`: what stands left of the service's name, from the right.
    fn records(&self, rest: &[&str]) -> Option<Vec<Data>> {
        let object = self.snapshot.get(&Key::new(known::SERVICES, self.namespace, self.service))?;
        let service: Service = object.decode().ok()?;
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            let external = spec.external_name.as_deref()?.trim_end_matches('.').to_lowercase();
            return rest.is_empty().then(|| vec![Data::Cname(external)]);
        }
        let ips: Vec<IpAddr> = match spec.cluster_ips.as_deref() {
            Some(ips) if !ips.is_empty() => ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
            _ => spec.cluster_ip.iter().filter_map(|ip| ip.parse().ok()).collect(),
        };
        if spec.cluster_ip.as_deref() == Some("None") {
            return self.headless(rest, spec.publish_not_ready_addresses == Some(true));
        }
        match rest {
            [] => Some(ips.into_iter().map(data).collect()),
            [protocol, port] => {
                let (protocol, port) = (protocol.strip_prefix('_')?, port.strip_prefix('_')?);
                let matching = spec.ports.iter().flatten().filter(|p| {
                    p.name.as_deref() == Some(port)
                        && p.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
                });
                let target = format!("{}.{}.svc.{}", self.service, self.namespace, self.domain);
                some(matching.filter_map(|p| srv(p.port, target.clone())).collect())
            }
            // `_tcp` alone exists as a name, where a port is below it.
            [protocol] if protocol.starts_with('_') => {
                let protocol = protocol.strip_prefix('_')?;
                let any =
                    spec.ports.iter().flatten().any(|p| {
                        p.name.is_some() && p.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
                    });
                any.then(Vec::new)
            }
            [..] => None,
        }
    }

    fn headless(&self, rest: &[&str], unready_too: bool) -> Option<Vec<Data>> {
        let slices = slices(self.snapshot, self.namespace, self.service);
        let ready = |e: &&Endpoint| unready_too || e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        let endpoints = slices.iter().flat_map(|s| s.endpoints.iter().flatten().filter(ready).map(move |e| (s, e)));
        match rest {
            [] => Some(endpoints.flat_map(|(_, e)| addresses(e)).map(data).collect()),
            [protocol, port] if protocol.starts_with('_') => {
                let (protocol, port) = (protocol.strip_prefix('_')?, port.strip_prefix('_')?);
                let base = format!("{}.{}.svc.{}", self.service, self.namespace, self.domain);
                let mut records = Vec::new();
                for (slice, endpoint) in endpoints {
                    let matching = slice.ports.iter().flatten().filter(|p| {
                        p.name.as_deref() == Some(port)
                            && p.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
                    });
                    for number in matching.filter_map(|p| p.port) {
                        let target = format!("{}.{base}", host_label(endpoint)?);
                        records.extend(srv(number, target));
                    }
                }
                records.dedup();
                some(records)
            }
            [host] => {
                let of_host = endpoints.filter(|(_, e)| host_label(e).as_deref() == Some(*host));
                some(of_host.flat_map(|(_, e)| addresses(e)).map(data).collect())
            }
            [..] => None,
        }
    }
}

fn some(records: Vec<Data>) -> Option<Vec<Data>> {
    Some(records).filter(|r| !r.is_empty())
}

fn srv(port: i32, target: String) -> Option<Data> {
    Some(Data::Srv { priority: 0, weight: 100, port: u16::try_from(port).ok()?, target })
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    endpoint.addresses.iter().filter_map(|ip| ip.parse().ok())
}

/// The endpoint's own label: its hostname, else its address with dashes.
fn host_label(endpoint: &Endpoint) -> Option<String> {
    if let Some(hostname) = endpoint.hostname.as_ref().filter(|h| !h.is_empty()) {
        return Some(hostname.to_lowercase());
    }
    addresses(endpoint).next().map(|ip| ip.to_string().replace(['.', ':'], "-"))
}

fn slices(snapshot: &Snapshot, namespace: &str, service: &str) -> Vec<EndpointSlice> {
    let of_service = snapshot.list(&known::ENDPOINT_SLICES, namespace).filter(|object| {
        let label = object.meta.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
        label.is_some_and(|l| l == service)
    });
    of_service.filter_map(|object| object.decode().ok()).collect()
}

/// The names of an address: of a service, or of endpoints of headless services.
fn pointers(snapshot: &Snapshot, domain: &str, address: IpAddr) -> Option<Vec<Data>> {
    let text = address.to_string();
    // A look at the bytes saves decoding every object for each question.
    let mentions = |o: &&Arc<kedge_api::Object>| str::from_utf8(&o.json).is_ok_and(|json| json.contains(&text));
    let mut names = Vec::new();
    for object in snapshot.list(&known::SERVICES, "").filter(mentions) {
        let Some(spec) = object.decode::<Service>().ok().and_then(|s| s.spec) else { continue };
        if spec.cluster_ips.unwrap_or_default().contains(&text) || spec.cluster_ip.as_ref() == Some(&text) {
            names.push(format!("{}.{}.svc.{domain}", object.key.name, object.key.namespace));
        }
    }
    if !names.is_empty() {
        return some(names.into_iter().map(Data::Ptr).collect());
    }
    for object in snapshot.list(&known::ENDPOINT_SLICES, "").filter(mentions) {
        let service = object.meta.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
        let (Some(service), Ok(slice)) = (service, object.decode::<EndpointSlice>()) else { continue };
        for endpoint in slice.endpoints.iter().flatten().filter(|e| addresses(e).any(|a| a == address)) {
            if let Some(host) = host_label(endpoint) {
                names.push(format!("{host}.{service}.{}.svc.{domain}", object.key.namespace));
            }
        }
    }
    some(names.into_iter().map(Data::Ptr).collect())
}
