//! What may not change of a service.
//!
//! The cluster has one family of addresses: a service with addresses of its own has no second one to release, nor another family to turn to.

use serde_json::{Value, json};

use super::{needs_health_port, validate};
use crate::errors::{Errors, Path};
use crate::value::Look as _;

pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    addresses(new, old, errors);
    let class = "spec.loadBalancerClass";
    let balanced = |service: &Value| service.text("spec.type") == "LoadBalancer";
    if balanced(new) && balanced(old) && new.look(class) != old.look(class) {
        errors.invalid(&Path::root(class), new.look(class).clone(), "may not change once set");
    }
    validate::class(new, errors);
    let port = "spec.healthCheckNodePort";
    if needs_health_port(new) && needs_health_port(old) && new.look(port) != old.look(port) {
        errors.forbidden(&Path::root(port), "field is immutable");
    }
    validate::service(new, old, errors);
}

fn addresses(new: &Value, old: &Value, errors: &mut Errors) {
    let named = |service: &Value| service.text("spec.type") == "ExternalName";
    if named(new) || named(old) {
        return;
    }
    let (now, before) = (new.items("spec.clusterIPs"), old.items("spec.clusterIPs"));
    let path = Path::root("spec.clusterIPs");
    // Of as many as before each counts; of more or fewer, the first.
    let counting = if now.len() == before.len() { now.len() } else { 1 };
    for (at, _) in now.iter().zip(before).take(counting).enumerate().filter(|(_, (now, before))| now != before) {
        errors.invalid(&path.index(at), json!(now), "may not change once set");
    }
}
