//! The families of a service's addresses, where it does not say them all.

use std::net::Ipv6Addr;

use serde_json::{Value, json};

use crate::errors::{Errors, Path};
use crate::value::{Fill as _, Look as _};

/// The cluster has one family, IPv4.
pub(super) fn choose(new: &mut Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::root("spec.ipFamilies");
    let headless = new.text("spec.clusterIP") == "None";
    let free = headless && new.look("spec.selector").as_object().is_none_or(serde_json::Map::is_empty);
    if new.text("spec.ipFamilyPolicy").is_empty() {
        let policy = if free && new.items("spec.ipFamilies").len() != 1 { "RequireDualStack" } else { "SingleStack" };
        new.set("spec.ipFamilyPolicy", policy);
    }
    stacks(new, old, errors);
    if !errors.is_empty() {
        return;
    }
    if free {
        // Its addresses come from elsewhere: any family may be asked for.
        let mut families = new.items("spec.ipFamilies").to_vec();
        if families.is_empty() {
            families.push("IPv4".into());
        }
        if families.len() == 1 && new.text("spec.ipFamilyPolicy") != "SingleStack" {
            families.push(if families.first() == Some(&json!("IPv4")) { "IPv6".into() } else { "IPv4".into() });
        }
        new.set("spec.ipFamilies", families);
        return;
    }
    for (at, family) in new.items("spec.ipFamilies").iter().enumerate() {
        if family != "IPv4" {
            errors.invalid(&path.index(at), family.clone(), "not configured on this cluster");
        }
    }
    if new.text("spec.ipFamilyPolicy") == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errors.invalid(&Path::root("spec.ipFamilyPolicy"), "RequireDualStack", why);
    }
    new.fill("spec.ipFamilies", json!(["IPv4"]));
}

/// Whether the policy fits the number of addresses and families, and whether the cluster has those of the addresses.
fn stacks(new: &mut Value, old: Option<&Value>, errors: &mut Errors) {
    const LISTS: [(&str, &str, &str); 2] =
        [("spec.clusterIPs", "cluster IP", "cluster IPs"), ("spec.ipFamilies", "IP family", "IP families")];
    let path = Path::root("spec.ipFamilyPolicy");
    let policy = new.text("spec.ipFamilyPolicy").to_owned();
    for (list, one, many) in LISTS {
        let count = new.items(list).len();
        if policy != "SingleStack" {
            if count > 0 && old.is_some_and(|old| count < old.items(list).len()) {
                let why = format!("must be 'SingleStack' to release the secondary {one}");
                errors.invalid(&path, policy.as_str(), &why);
            }
        } else if count > 1 && old.is_some_and(|old| new.look(list) == old.look(list)) {
            // To ask for one stack, and to leave the list as it was, is to give the second up.
            let first = new.items(list).first().cloned();
            new.set(list, json!([first]));
        } else if count == 2 {
            let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {many} are specified");
            errors.invalid(&path, policy.as_str(), &why);
        }
    }
    let (addresses, path) = (new.look("spec.clusterIPs"), Path::root("spec.clusterIPs"));
    let told = new.items("spec.ipFamilies").len();
    for (at, address) in new.items("spec.clusterIPs").iter().enumerate().skip(told) {
        if address.as_str().is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()) {
            errors.invalid(&path.index(at), addresses.clone(), "IPv6 is not configured on this cluster");
        }
    }
}
