use futures::stream::BoxStream;
use kedge_api::{Change, GroupResource};
use serde_json::json;

use super::*;
use crate::translate::container::tests::object;

struct Fixed(Snapshot);

impl Informer for Fixed {
    fn snapshot(&self) -> Snapshot {
        self.0.clone()
    }
    fn subscribe(&self, _: &[GroupResource]) -> (Snapshot, BoxStream<'static, Change>) {
        (self.snapshot(), Box::pin(futures::stream::pending()))
    }
}

fn zone() -> ClusterZone {
    let mut snapshot = Snapshot::default();
    let mut add = |resource, value| snapshot.insert(object(resource, value));
    add(known::NAMESPACES, json!({"metadata": {"name": "shop"}}));
    add(
        known::SERVICES,
        json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"clusterIP": "10.43.0.5", "clusterIPs": ["10.43.0.5", "fd01::5"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}}),
    );
    add(
        known::SERVICES,
        json!({"metadata": {"namespace": "shop", "name": "db"}, "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}}),
    );
    add(
        known::SERVICES,
        json!({"metadata": {"namespace": "shop", "name": "out"}, "spec": {"type": "ExternalName", "externalName": "Example.com."}}),
    );
    add(
        known::ENDPOINT_SLICES,
        json!({"metadata": {"namespace": "shop", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.42.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.3"], "conditions": {"ready": true}},
                {"addresses": ["10.42.0.4"], "conditions": {"ready": false}}],
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]}),
    );
    let networks = ["10.42.0.0/16", "10.43.0.0/16"].iter().map(|n| n.parse().unwrap()).collect();
    ClusterZone::new(Arc::new(Fixed(snapshot)), "cluster.local", networks)
}

fn ask(zone: &ClusterZone, name: &str, asked: RecordType) -> String {
    let records = match zone.answer(name, asked) {
        ZoneAnswer::Records(records) => records,
        other => return format!("{other:?}"),
    };
    let show = |record: Record| {
        assert_eq!((record.name.as_str(), record.ttl), (name, 5));
        match record.data {
            Data::A(a) => a.to_string(),
            Data::Aaaa(a) => a.to_string(),
            Data::Cname(name) => format!("cname {name}"),
            Data::Ptr(name) => format!("ptr {name}"),
            Data::Srv { port, target, .. } => format!("{target}:{port}"),
            Data::Txt(text) => text.join(""),
        }
    };
    records.into_iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn names_of_the_specification() {
    use RecordType::{A, Aaaa, Any, Cname, Ptr, Soa, Srv, Txt};
    let zone = zone();
    for (name, asked, expected) in [
        ("dns-version.cluster.local", Txt, "1.1.0"),
        ("dns-version.cluster.local", A, "NoData"),
        ("web.shop.svc.cluster.local", A, "10.43.0.5"),
        ("web.shop.svc.cluster.local", Aaaa, "fd01::5"),
        ("web.shop.svc.cluster.local", Any, "10.43.0.5 fd01::5"),
        ("web.shop.svc.cluster.local", Txt, "NoData"),
        ("_http._tcp.web.shop.svc.cluster.local", Srv, "web.shop.svc.cluster.local:80"),
        ("_dns._udp.web.shop.svc.cluster.local", Srv, "web.shop.svc.cluster.local:53"),
        ("_http._udp.web.shop.svc.cluster.local", Srv, "NxDomain"),
        ("_none._tcp.web.shop.svc.cluster.local", Srv, "NxDomain"),
        ("_tcp.web.shop.svc.cluster.local", Srv, "NoData"),
        ("x.web.shop.svc.cluster.local", A, "NxDomain"),
        ("none.shop.svc.cluster.local", A, "NxDomain"),
        ("web.none.svc.cluster.local", A, "NxDomain"),
        ("shop.svc.cluster.local", A, "NoData"),
        ("none.svc.cluster.local", A, "NxDomain"),
        ("svc.cluster.local", A, "NoData"),
        ("cluster.local", Soa, "NoData"),
        ("x.cluster.local", A, "NxDomain"),
        ("db.shop.svc.cluster.local", A, "10.42.0.2 10.42.0.3"),
        ("db.shop.svc.cluster.local", Aaaa, "NoData"),
        ("db-0.db.shop.svc.cluster.local", A, "10.42.0.2"),
        ("10-42-0-3.db.shop.svc.cluster.local", A, "10.42.0.3"),
        ("10-42-0-4.db.shop.svc.cluster.local", A, "NxDomain"),
        (
            "_sql._tcp.db.shop.svc.cluster.local",
            Srv,
            "db-0.db.shop.svc.cluster.local:5432 10-42-0-3.db.shop.svc.cluster.local:5432",
        ),
        ("out.shop.svc.cluster.local", A, "cname example.com"),
        ("out.shop.svc.cluster.local", Cname, "cname example.com"),
        ("x.out.shop.svc.cluster.local", A, "NxDomain"),
        ("10-42-9-9.shop.pod.cluster.local", A, "10.42.9.9"),
        ("fd00--9.shop.pod.cluster.local", Aaaa, "fd00::9"),
        ("10-42-9-9.none.pod.cluster.local", A, "NxDomain"),
        ("web.shop.pod.cluster.local", A, "NxDomain"),
        ("5.0.43.10.in-addr.arpa", Ptr, "ptr web.shop.svc.cluster.local"),
        ("2.0.42.10.in-addr.arpa", Ptr, "ptr db-0.db.shop.svc.cluster.local"),
        ("9.9.42.10.in-addr.arpa", Ptr, "NxDomain"),
        ("1.1.1.1.in-addr.arpa", Ptr, "NotMine"),
        ("example.com", A, "NotMine"),
        ("xcluster.local", A, "NotMine"),
        ("", A, "NotMine"),
    ] {
        assert_eq!(ask(&zone, name, asked), expected, "{name} {asked:?}");
    }
}
