//! Networks of services: each is guarded by a finalizer and ready for use; one that is deleted goes when no address of it is taken.
//!
//! Source: KEP-1880 "Multiple Service CIDRs".

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kedge_api::resource::known::{IP_ADDRESSES, SERVICE_CIDRS};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::{Value, json};

use crate::controller::{Controller, Now, Plan, read};

const WATCHES: &[GroupResource] = &[SERVICE_CIDRS, IP_ADDRESSES];
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

pub struct ServiceNetworks;

impl Controller for ServiceNetworks {
    fn name(&self) -> &'static str {
        "service-cidrs-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    /// What one network waits for may be another that comes, or an address that goes.
    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == SERVICE_CIDRS {
            keys.push(change.key.clone());
        }
        if change.key.resource == SERVICE_CIDRS || change.after.is_none() {
            let going = snapshot.list(&SERVICE_CIDRS, "").filter(|object| object.is_deleting());
            keys.extend(going.map(|object| object.key.clone()));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(network)) = (snapshot.get(key), read::<ServiceCIDR>(snapshot, key)?) else {
            return Ok(plan);
        };
        let finalizers = object.meta.finalizers.as_deref().unwrap_or_default();
        let guarded = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        let ready = ready(&network);
        if !object.is_deleting() {
            if !guarded {
                let all: Vec<&str> = finalizers.iter().map(String::as_str).chain([FINALIZER]).collect();
                plan.patch(object, "", finalizers_patch(object, &all));
            }
            if ready.is_none() {
                plan.patch(object, "status", condition(object, now, "True", "", "Kubernetes Service CIDR is ready"));
            }
        } else if is_needed(snapshot, key, &network) {
            if ready != Some(false) {
                const WHY: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
                plan.patch(object, "status", condition(object, now, "False", "Terminating", WHY));
            }
        } else if guarded {
            let rest: Vec<&str> = finalizers.iter().map(String::as_str).filter(|name| *name != FINALIZER).collect();
            plan.patch(object, "", finalizers_patch(object, &rest));
        }
        Ok(plan)
    }
}

fn finalizers_patch(object: &Object, finalizers: &[&str]) -> Value {
    let version = object.revision.to_string();
    json!({"metadata": {"uid": object.uid(), "resourceVersion": version, "finalizers": finalizers}})
}

fn condition(object: &Object, now: Timestamp, status: &str, reason: &str, message: &str) -> Value {
    let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition =
        json!({"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": at});
    json!({"metadata": {"uid": object.uid()}, "status": {"conditions": [condition]}})
}

fn ready(network: &ServiceCIDR) -> Option<bool> {
    let conditions = network.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status == "True")
}

fn prefixes(network: &ServiceCIDR) -> Vec<(IpAddr, u8)> {
    let texts = network.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    let parse = |text: &String| {
        let (address, bits) = text.split_once('/')?;
        Some((address.parse().ok()?, bits.parse().ok()?))
    };
    texts.iter().filter_map(parse).collect()
}

fn contains((network, bits): (IpAddr, u8), address: IpAddr) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let shift = width.saturating_sub(bits.into());
        a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
    };
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Whether an address is taken that lies in no other network which stays.
fn is_needed(snapshot: &Snapshot, key: &Key, network: &ServiceCIDR) -> bool {
    let own = prefixes(network);
    let others = snapshot.list(&SERVICE_CIDRS, "").filter(|object| object.key != *key && !object.is_deleting());
    let others: Vec<(IpAddr, u8)> =
        others.filter_map(|object| object.decode().ok()).flat_map(|network| prefixes(&network)).collect();
    let within = |prefixes: &[(IpAddr, u8)], address| prefixes.iter().any(|prefix| contains(*prefix, address));
    let addresses = snapshot.list(&IP_ADDRESSES, "").filter_map(|object| object.key.name.parse().ok());
    addresses.into_iter().any(|address| within(&own, address) && !within(&others, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Step;
    use crate::testing::{Facts, at};

    fn network(name: &str, cidr: &str, ready: &str, deleting: bool) -> Value {
        let mut network = json!({"metadata": {"name": name, "finalizers": [FINALIZER]}, "spec": {"cidrs": [cidr]},
            "status": {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "", "reason": ""}]}});
        if deleting {
            network["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        network
    }

    /// What is told of the network `more`, where 10.1.0.1 is taken.
    fn told(networks: &[Value]) -> Vec<String> {
        let mut facts = Facts::default();
        facts.add(IP_ADDRESSES, json!({"metadata": {"name": "10.1.0.1"}}));
        for network in networks {
            facts.add(SERVICE_CIDRS, network.clone());
        }
        let plan = ServiceNetworks.plan(&facts.snapshot, &Key::new(SERVICE_CIDRS, "", "more"), at(0)).unwrap();
        let told = plan.steps.iter().map(|step| match step {
            Step::Patch { subresource: "status", patch, .. } => {
                let condition = &patch["status"]["conditions"][0];
                format!("{} {}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
            }
            Step::Patch { patch, .. } => patch["metadata"]["finalizers"].to_string(),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    #[test]
    fn a_network_is_guarded_and_ready() {
        let mut new = network("more", "10.1.0.0/24", "True", false);
        assert_eq!(told(&[new.clone()]), [""; 0]);
        new["metadata"]["finalizers"] = json!(["x"]);
        new["status"] = json!({});
        assert_eq!(told(&[new]), [format!("[\"x\",\"{FINALIZER}\"]"), "True ".to_owned()]);
    }

    #[test]
    fn a_network_goes_when_nobody_needs_it() {
        let other = |cidr: &str, deleting| network("other", cidr, "True", deleting);
        let going = |cidr: &str, ready: &str| network("more", cidr, ready, true);
        assert_eq!(told(&[going("10.1.0.0/24", "True")]), ["False Terminating"]);
        assert_eq!(told(&[going("10.1.0.0/24", "False")]), [""; 0]);
        assert_eq!(told(&[going("10.2.0.0/24", "True")]), ["[]"]);
        assert_eq!(told(&[going("10.1.0.0/24", "True"), other("10.1.0.0/16", false)]), ["[]"]);
        assert_eq!(told(&[going("10.1.0.0/24", "True"), other("10.1.0.0/16", true)]), ["False Terminating"]);
    }
}
