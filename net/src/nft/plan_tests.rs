//! Golden texts of plans, and the law that a difference leads where a replacement leads.

use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;

fn entry(address: &str, node_port: Option<u16>, affinity: Option<u32>, backends: &[&str]) -> ServiceEntry {
    ServiceEntry {
        address: address.parse().unwrap(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port,
        affinity_seconds: affinity,
        backends: backends.iter().map(|backend| backend.parse().unwrap()).collect(),
    }
}

fn text(operations: &[Operation]) -> String {
    operations.iter().fold(String::new(), |mut all, operation| {
        writeln!(all, "{operation}").unwrap();
        all
    })
}

/// Compares with a file beside the tests; `KEDGE_GOLDEN=write` writes it anew, for review in the diff.
fn golden(name: &str, actual: &str) {
    let path = format!("tests/golden/{name}.txt");
    if std::env::var_os("KEDGE_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(actual == expected, "{path} differs; it would now be:\n{actual}");
}

fn ranges() -> Ranges {
    Ranges {
        local: vec!["10.42.0.0/24".parse().unwrap()],
        cluster: vec!["10.42.0.0/16".parse().unwrap()],
        services: vec!["10.43.0.0/16".parse().unwrap()],
        bridge: "kedge0".into(),
    }
}

fn state_with(services: Vec<ServiceEntry>) -> State {
    let mut state = State::default();
    let plan = state.converge(&ServiceTable { services });
    state.apply(plan);
    state
}

#[test]
fn the_whole_table() {
    let mut state = state_with(vec![
        entry("10.43.0.9", Some(30009), None, &["10.42.0.3:8080", "10.42.0.2:8080"]),
        entry("10.43.0.8", None, Some(10800), &["10.42.0.2:8080"]),
        entry("10.43.0.7", Some(30007), None, &[]),
        entry("fd00:43::9", Some(30009), None, &["[fd00:42::2]:8080"]),
    ]);
    let host_port = |host_ip| HostPort { proto: Protocol::Udp, host_ip, host_port: 53, port: 5353 };
    let attached = Attached {
        addresses: vec!["10.42.0.2".parse().unwrap()],
        host_ports: vec![host_port(None), host_port(Some("192.0.2.1".parse().unwrap()))],
    };
    let plan = state.attach("web", attached);
    state.apply(plan);
    golden("whole-table", &text(&state.replacement(&ranges())));
}

#[test]
fn changes_are_as_small_as_they_are() {
    let mut all = String::new();
    let base = || {
        vec![
            entry("10.43.0.9", Some(30009), None, &["10.42.0.2:8080", "10.42.0.3:8080"]),
            entry("10.43.0.10", None, None, &["10.42.0.4:53"]),
        ]
    };
    let state = state_with(base());
    let mut case = |name: &str, change: fn(&mut Vec<ServiceEntry>)| {
        let mut services = base();
        change(&mut services);
        writeln!(all, "# {name}\n{}", text(&state.converge(&ServiceTable { services }).operations)).unwrap();
    };
    case("nothing changes", |_| {});
    case("the order changes", |s| {
        s.reverse();
        s[1].backends.reverse();
    });
    case("an endpoint is replaced", |s| s[0].backends[1] = "10.42.0.9:8080".parse().unwrap());
    case("an endpoint comes: a class that is new", |s| s[0].backends.push("10.42.0.9:8080".parse().unwrap()));
    case("an endpoint goes: a class that is there", |s| s[0].backends.truncate(1));
    case("the last endpoint goes", |s| s[1].backends.clear());
    case("a node port moves", |s| s[0].node_port = Some(30010));
    case("a node port changes hands", |s| {
        s[1].node_port = s[0].node_port.take();
    });
    case("affinity is switched on", |s| s[1].affinity_seconds = Some(60));
    case("a service goes", |s| drop(s.remove(0)));
    case("a service is named twice", |s| s.push(s[0].clone()));
    case("a node port is wanted twice", |s| s.push(entry("10.43.0.11", Some(30009), None, &["10.42.0.5:1"])));
    golden("changes", &all);
}

#[test]
fn endpoints_keep_their_places() {
    let list = |hosts: &[u8]| hosts.iter().map(|host| SocketAddr::from(([10, 42, 0, *host], 80))).collect::<Vec<_>>();
    for (before, wanted, expected) in [
        (&[][..], &[2, 3][..], &[2, 3][..]),
        (&[3, 2], &[2, 3], &[3, 2]),
        (&[2, 3, 4], &[2, 4], &[2, 4]),
        (&[2, 3, 4], &[3, 4], &[4, 3]),
        (&[2, 3], &[1, 2, 3], &[2, 3, 1]),
        (&[2, 3], &[4, 5], &[4, 5]),
        (&[2, 3], &[], &[]),
    ] {
        assert_eq!(keep_places(&list(before), list(wanted)), list(expected), "{before:?} {wanted:?}");
    }
}

#[test]
fn a_host_port_has_one_owner() {
    let port = |host_port| HostPort { proto: Protocol::Tcp, host_ip: None, host_port, port: 80 };
    let attached = |address: &str, host_port| Attached {
        addresses: vec![address.parse().unwrap()],
        host_ports: vec![port(host_port)],
    };
    let mut state = State::default();
    let plan = state.attach("a", attached("10.42.0.2", 80));
    state.apply(plan);
    assert_eq!(state.conflict("b", &attached("10.42.0.3", 80)), Some(("a", port(80))));
    assert_eq!(state.conflict("b", &attached("10.42.0.3", 81)), None);
    assert_eq!(state.conflict("a", &attached("10.42.0.2", 80)), None);
}

/// What a sequence of element operations leaves, as the kernel does it: adding what is there with another value, and
/// deleting what is not there, are errors.
fn run(elements: &mut BTreeMap<(String, Vec<u8>), Element>, operations: &[Operation]) {
    for operation in operations {
        match operation {
            Operation::AddElements(list) => {
                for e in list {
                    let (map, family) = e.place();
                    let before = elements.insert((map.name(family), e.key()), *e);
                    assert!(before.is_none_or(|before| before.given() == e.given()), "{e:?} over {before:?}");
                }
            }
            Operation::DeleteElements(list) => {
                for e in list {
                    let (map, family) = e.place();
                    assert_eq!(elements.remove(&(map.name(family), e.key())), Some(*e));
                }
            }
            Operation::DeleteTable => elements.clear(),
            Operation::AddTable | Operation::AddMap { .. } | Operation::AddChain { .. } | Operation::AddRule { .. } => {
            }
        }
    }
}

prop_compose! {
    fn any_entry()(
        host in 1u8..6, port in 1u16..3, udp: bool, node_port in prop::option::of(30000u16..30003),
        affinity in prop::option::of(1u32..3), backends in prop::collection::vec((2u8..6, 80u16..82), 0..5),
    ) -> ServiceEntry {
        ServiceEntry {
            address: IpAddr::from([10, 43, 0, host]),
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            port,
            node_port,
            affinity_seconds: affinity,
            backends: backends.into_iter().map(|(host, port)| SocketAddr::from(([10, 42, 0, host], port))).collect(),
        }
    }
}

proptest! {
    /// From any table through any others by differences, the kernel holds what a replacement with the last would.
    #[test]
    fn differences_lead_where_a_replacement_leads(tables in prop::collection::vec(prop::collection::vec(any_entry(), 0..6), 1..5)) {
        let mut state = State::default();
        let mut kernel = BTreeMap::new();
        run(&mut kernel, &state.replacement(&ranges()));
        for services in tables {
            let plan = state.converge(&ServiceTable { services });
            run(&mut kernel, &plan.operations);
            state.apply(plan);
            let mut anew = BTreeMap::new();
            run(&mut anew, &state.replacement(&ranges()));
            prop_assert_eq!(&kernel, &anew);
            let chains: BTreeSet<Class> = state.classes.clone();
            let used = |element: &Element| !matches!(element, Element::Entry { class, .. } if !chains.contains(class));
            prop_assert!(kernel.values().all(used), "a service without the chains of its class");
        }
    }
}
