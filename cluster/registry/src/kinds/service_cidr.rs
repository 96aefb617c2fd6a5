//! ServiceCIDR: a network from which services get their addresses.

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{STATUS, address, cluster_resource, columns};
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[columns::text("CIDRs", |o| texts(o).join(",").into()), columns::AGE];

/// One of each family.
const MOST: usize = 2;

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.networking.v1.ServiceCIDR";
    let base = cluster_resource("networking.k8s.io", "servicecidrs", "servicecidr", "ServiceCIDR", schema, COLUMNS);
    let resource = Resource { subresources: &[STATUS], ..base };
    let strategy = Strategy {
        status: true,
        default,
        prepare_create: |cidr| cidr.set("status", json!({})),
        validate_create: validate,
        validate_update,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn texts(cidr: &Value) -> Vec<&str> {
    cidr.items("spec.cidrs").iter().filter_map(Value::as_str).collect()
}

fn default(cidr: &mut Value) {
    for field in ["spec", "status"] {
        cidr.fill(field, json!({}));
    }
}

fn validate(cidr: &Value, errors: &mut Errors) {
    let path = Path::root("spec.cidrs");
    let all = texts(cidr);
    if all.is_empty() {
        errors.required(&path, "at least one CIDR required");
    }
    if all.len() > MOST {
        let shown = format!("{{\"CIDRs\":{}}}", cidr.look("spec.cidrs"));
        errors.invalid_json(&path, &shown, "may only hold up to 2 values");
        return;
    }
    for (at, text) in all.iter().enumerate() {
        errors.all_invalid(&path.index(at), text, address::strict_cidr(text));
    }
    if let [one, other] = all.as_slice()
        && let Some(family) = address::is_ipv4_network(one)
        && address::is_ipv4_network(other) == Some(family)
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, cidr.look("spec.cidrs").clone(), why);
    }
}

/// What is there stays; a network of the other family may join it.
fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    const WHY: &str = "field is immutable";
    let path = Path::root("spec.cidrs");
    let (now, before) = (texts(new), texts(old));
    let joined = before.len() == 1 && now.len() == MOST;
    if now.len() != before.len() && !joined {
        errors.invalid(&path, new.look("spec.cidrs").clone(), WHY);
        return;
    }
    for (at, (now, _)) in now.iter().zip(&before).enumerate().filter(|(_, (now, before))| now != before) {
        errors.invalid(&path.index(at), *now, WHY);
    }
    if joined {
        validate(new, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_stay_and_another_family_may_join() {
        for (before, now, wrong) in [
            (json!(["10.0.0.0/8"]), json!(["10.0.0.0/8"]), 0),
            (json!(["10.0.0.0/8"]), json!(["11.0.0.0/8"]), 1),
            (json!(["10.0.0.0/8"]), json!(["10.0.0.0/8", "fd00::/64"]), 0),
            (json!(["10.0.0.0/8"]), json!(["10.0.0.0/8", "11.0.0.0/8"]), 1),
            (json!(["10.0.0.0/8", "fd00::/64"]), json!(["10.0.0.0/8"]), 1),
        ] {
            let mut errors = Errors::default();
            let spec = |cidrs: &Value| json!({"spec": {"cidrs": cidrs}});
            validate_update(&spec(&now), &spec(&before), &mut errors);
            assert_eq!(errors.len(), wrong, "{before} -> {now}");
        }
    }
}
