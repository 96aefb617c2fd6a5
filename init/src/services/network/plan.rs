//! What shall be done with an interface: decided from the config and the interface, nothing else.

use kedge_config::machine::{Interface, Network};
use kedge_net::IpNet;
use kedge_net::link::Link;
use std::net::IpAddr;

/// What shall be done with one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub interface: String,
    pub mtu: Option<u32>,
    pub addresses: Vec<IpNet>,
    pub gateway: Option<IpAddr>,
    pub dhcp: bool,
}

/// `None` for an interface that is not ours to touch: loopback, bridges and their ports, anything made by software that the config
/// does not name.
pub fn plan(config: &Network, link: &Link) -> Option<Plan> {
    if link.loopback {
        return None;
    }
    match config.interfaces.iter().find(|interface| interface.name == link.name) {
        Some(interface) => Some(named(interface)),
        None if link.kind.is_none() && link.controller.is_none() && link.mac.is_some() => Some(Plan {
            interface: link.name.clone(),
            mtu: None,
            addresses: Vec::new(),
            gateway: None,
            dhcp: config.dhcp,
        }),
        None => None,
    }
}

fn named(interface: &Interface) -> Plan {
    Plan {
        interface: interface.name.clone(),
        mtu: interface.mtu,
        // The config's type holds the same law, so that none is lost here.
        addresses: interface
            .addresses
            .iter()
            .filter_map(|cidr| IpNet::new(cidr.address(), cidr.prefix()).ok())
            .collect(),
        gateway: interface.gateway,
        dhcp: interface.dhcp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::MachineConfig;
    use kedge_net::Mac;

    fn link(name: &str, kind: Option<&str>) -> Link {
        Link {
            index: 2,
            name: name.into(),
            kind: kind.map(str::to_owned),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            mtu: 1500,
            loopback: name == "lo",
            up: false,
            carrier: false,
            controller: None,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn hardware_asks_dhcp_and_the_rest_is_left_alone() {
        let config = MachineConfig::parse("x", "").unwrap().network;
        assert!(plan(&config, &link("eth0", None)).unwrap().dhcp);
        assert_eq!(plan(&config, &link("lo", None)), None);
        assert_eq!(plan(&config, &link("kedge0", Some("bridge"))), None);
        assert_eq!(plan(&config, &link("veth1", Some("veth"))), None);
        assert_eq!(plan(&config, &Link { mac: None, ..link("sit0", None) }), None);
        assert_eq!(plan(&config, &Link { controller: Some(3), ..link("eth0", None) }), None);
    }

    #[test]
    fn a_named_interface_is_as_the_config_says() {
        let text = "network:\n  dhcp: false\n  interfaces:\n  - {name: br0, addresses: [192.168.1.5/24], gateway: 192.168.1.1, mtu: 1400}\n";
        let config = MachineConfig::parse("x", text).unwrap().network;
        let expected = Plan {
            interface: "br0".into(),
            mtu: Some(1400),
            addresses: vec!["192.168.1.5/24".parse().unwrap()],
            gateway: Some("192.168.1.1".parse().unwrap()),
            dhcp: false,
        };
        assert_eq!(plan(&config, &link("br0", Some("bridge"))), Some(expected));
        assert!(!plan(&config, &link("eth0", None)).unwrap().dhcp);
    }
}
