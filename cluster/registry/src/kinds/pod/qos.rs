//! The quality-of-service class of a pod. Source: "Pod Quality of Service Classes" of Kubernetes' documentation.

use std::collections::BTreeMap;

use kedge_api::quantity::Quantity;
use serde_json::Value;

use crate::value::Look as _;

const COUNTED: [&str; 2] = ["cpu", "memory"];

pub(crate) fn class(pod: &Value) -> &'static str {
    let whole = pod.look("spec.resources");
    let containers = || pod.items("spec.initContainers").iter().chain(pod.items("spec.containers"));
    let holders: Vec<&Value> = if whole.has("limits") || whole.has("requests") {
        vec![whole]
    } else {
        containers().map(|c| c.look("resources")).collect()
    };
    let amounts = |resources: &Value, list: &str| -> BTreeMap<String, Quantity> {
        let counted = resources.entries(list).filter(|(name, _)| COUNTED.contains(&name.as_str()));
        let parsed = counted.filter_map(|(name, v)| Some((name.clone(), v.as_str()?.parse::<Quantity>().ok()?)));
        parsed.filter(|(_, amount)| !amount.is_zero()).collect()
    };
    let mut any = false;
    let mut guaranteed = true;
    for resources in holders {
        let (limits, requests) = (amounts(resources, "limits"), amounts(resources, "requests"));
        any |= !limits.is_empty() || !requests.is_empty();
        guaranteed &= limits.len() == COUNTED.len() && requests.iter().all(|(name, r)| limits.get(name) == Some(r));
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_class_is_told() {
        let pod = |list: Value| json!({"spec": {"containers": list}});
        let full = json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}});
        assert_eq!(class(&pod(json!([{"resources": {}}]))), "BestEffort");
        assert_eq!(class(&pod(json!([full]))), "Guaranteed");
        assert_eq!(class(&pod(json!([full, {"resources": {}}]))), "Burstable");
        assert_eq!(class(&pod(json!([{"resources": {"requests": {"cpu": "1"}}}]))), "Burstable");
        assert_eq!(class(&pod(json!([{"resources": {"requests": {"cpu": "0"}}}]))), "BestEffort");
        assert_eq!(class(&pod(json!([{"resources": {"limits": {"example.com/x": "1"}}}]))), "BestEffort");
    }
}
