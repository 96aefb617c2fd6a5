//! The decision about one pod: the best node that every filter allows, or why there is none, in upstream's words.

use std::collections::BTreeMap;

use crate::cache::{Cache, NodeState};
use crate::plugins::{FILTERS, Normalize, Refusal, SCORES, Wake};
use crate::pod::PodInfo;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Bind(String),
    Refused { message: String, helped_by: Vec<Wake> },
}

/// Decides. `turn` chooses among the best where several are equal, so that equal nodes fill evenly.
pub fn decide(pod: &PodInfo, cache: &Cache, turn: usize) -> Decision {
    let mut possible = Vec::new();
    let mut refusals = Vec::new();
    let mut helped_by = Vec::new();
    for node in cache.nodes.values() {
        let refused = FILTERS.iter().find_map(|filter| (filter.run)(pod, node, cache).err().map(|why| (filter, why)));
        match refused {
            None => possible.push(node),
            Some((filter, why)) => {
                for wake in filter.woken_by.iter().filter(|wake| !helped_by.contains(*wake)).collect::<Vec<_>>() {
                    helped_by.push(*wake);
                }
                refusals.push(why);
            }
        }
    }
    match best(pod, &possible, cache, turn) {
        Some(node) => Decision::Bind(node.name().to_owned()),
        None if refusals.is_empty() => {
            Decision::Refused { message: "no nodes available to schedule pods".into(), helped_by: vec![Wake::Node] }
        }
        None => Decision::Refused { message: message(&refusals), helped_by },
    }
}

fn best<'a>(pod: &PodInfo, possible: &[&'a NodeState], cache: &Cache, turn: usize) -> Option<&'a NodeState> {
    if let [only] = possible {
        return Some(only);
    }
    let mut totals = vec![0i64; possible.len()];
    for score in SCORES {
        let mut figures: Vec<i64> = possible.iter().map(|node| (score.run)(pod, node, cache)).collect();
        normalize(&mut figures, score.normalize);
        for (total, figure) in totals.iter_mut().zip(figures) {
            *total += score.weight * figure;
        }
    }
    let highest = totals.iter().max()?;
    let equal: Vec<_> =
        possible.iter().zip(&totals).filter(|(_, total)| *total == highest).map(|(node, _)| *node).collect();
    equal.get(turn.checked_rem(equal.len())?).copied()
}

fn normalize(figures: &mut [i64], how: Normalize) {
    let highest = figures.iter().copied().max().unwrap_or(0);
    let lowest = figures.iter().copied().min().unwrap_or(0);
    for figure in figures {
        *figure = match how {
            Normalize::Already => *figure,
            // A shift common to all nodes tells none apart.
            Normalize::Highest if highest > lowest => (*figure - lowest) * 100 / (highest - lowest),
            Normalize::Highest => 0,
            Normalize::Lowest if highest > 0 => 100 - *figure * 100 / highest,
            Normalize::Lowest => 100,
        };
    }
}

/// Counts of reasons, each `COUNT REASON`, in the order of their texts as upstream sorts them.
fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_insert(0usize) += 1;
    }
    let mut lines: Vec<_> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    lines.sort_unstable();
    lines.join(", ")
}

fn message(refusals: &[Refusal]) -> String {
    let total = refusals.len();
    let reasons = histogram(refusals.iter().flat_map(|refusal| refusal.reasons.iter().map(String::as_str)));
    // Preemption is not done yet; for pods of one priority this is what it comes to.
    let preemption = histogram(refusals.iter().map(|refusal| match refusal.resolvable {
        true => "No preemption victims found for incoming pod",
        false => "Preemption is not helpful for scheduling",
    }));
    format!(
        "0/{total} nodes are available: {reasons}. no new claims to deallocate, \
         preemption: 0/{total} nodes are available: {preemption}."
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use kedge_api::resource::known::{NODES, PODS};
    use kedge_api::{Change, GroupResource, Key, Object, Revision};
    use serde_json::{Value, json};
    use std::sync::Arc;

    pub fn object(resource: GroupResource, value: &Value) -> Arc<Object> {
        let meta: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta =
            serde_json::from_value(value["metadata"].clone()).unwrap();
        let key = Key::new(resource, meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap());
        Arc::new(Object { key, revision: Revision(1), meta, json: serde_json::to_vec(value).unwrap().into() })
    }

    pub fn labelled(name: &str, labels: Value, spec: Value) -> PodInfo {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels}});
        PodInfo::read(&object(PODS, &value)).unwrap()
    }

    pub fn pod(name: &str, spec: Value) -> PodInfo {
        labelled(name, json!({}), spec)
    }

    fn cpu(amount: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]})
    }

    fn add(cache: &mut Cache, name: &str, labels: Value, spec: Value, cpu: &str) {
        let mut labels = labels;
        labels["kubernetes.io/hostname"] = name.into();
        let value = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name, "labels": labels}, "spec": spec,
            "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "3"}}});
        let after = Some(object(NODES, &value));
        let change = Change { revision: Revision(1), key: Key::new(NODES, "", name), before: None, after };
        cache.node_changed(&change).unwrap();
    }

    fn one() -> Cache {
        let mut cache = Cache::default();
        add(&mut cache, "n1", json!({"zone": "a"}), json!({}), "1");
        cache
    }

    fn refused(pod: &PodInfo, cache: &Cache) -> String {
        match decide(pod, cache, 0) {
            Decision::Refused { message, .. } => message,
            Decision::Bind(node) => panic!("bound to {node}"),
        }
    }

    const NOT_HELPFUL: &str =
        "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    const NO_VICTIMS: &str = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";

    #[test]
    fn reasons_of_one_node() {
        let mut busy = one();
        busy.place(
            &pod(
                "other",
                json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}],
            "resources": {"requests": {"cpu": "600m"}}}]}),
            ),
            "n1",
        );
        let mut full = one();
        ["a", "b", "c"].iter().for_each(|name| full.place(&pod(name, json!({"containers": []})), "n1"));
        let mut tainted = Cache::default();
        add(&mut tainted, "n1", json!({}), json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}), "1");
        let mut cordoned = Cache::default();
        add(&mut cordoned, "n1", json!({}), json!({"unschedulable": true}), "1");
        let port = |ip: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80, "hostIP": ip}]}]});
        for (pod, cache, reasons, help) in [
            (pod("p", cpu("500m")), &busy, "1 Insufficient cpu", NO_VICTIMS),
            (pod("p", cpu("2")), &busy, "1 Insufficient cpu", NOT_HELPFUL),
            (pod("p", cpu("1")), &full, "1 Too many pods", NO_VICTIMS),
            (
                pod("p", port("10.0.0.1")),
                &busy,
                "1 node(s) didn't have free ports for the requested pod ports",
                NO_VICTIMS,
            ),
            (pod("p", cpu("1")), &tainted, "1 node(s) had untolerated taint(s)", NOT_HELPFUL),
            (pod("p", cpu("1")), &cordoned, "1 node(s) were unschedulable", NOT_HELPFUL),
            (
                pod("p", json!({"containers": [], "nodeSelector": {"zone": "b"}})),
                &busy,
                "1 node(s) didn't match Pod's node affinity/selector",
                NOT_HELPFUL,
            ),
            (
                pod(
                    "p",
                    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "3", "example.com/gpu": "1"}}}]}),
                ),
                &busy,
                "1 Insufficient cpu, 1 Insufficient example.com/gpu",
                NOT_HELPFUL,
            ),
        ] {
            assert_eq!(refused(&pod, cache), format!("0/1 nodes are available: {reasons}. {help}"));
        }
        assert_eq!(refused(&pod("p", cpu("1")), &Cache::default()), "no nodes available to schedule pods");
        let tolerant = json!({"containers": [], "tolerations": [{"operator": "Exists"}]});
        assert_eq!(decide(&pod("p", tolerant.clone()), &tainted, 0), Decision::Bind("n1".into()));
        assert_eq!(decide(&pod("p", tolerant), &cordoned, 0), Decision::Bind("n1".into()));
    }

    #[test]
    fn the_count_comes_back_when_pods_go() {
        let mut cache = one();
        for round in 0..3 {
            let name = format!("p{round}");
            cache.place(&pod(&name, cpu("1")), "n1");
            assert!(refused(&pod("q", cpu("1m")), &cache).contains("Insufficient cpu"));
            assert!(cache.remove(&name) && !cache.remove(&name));
            assert_eq!(decide(&pod("q", cpu("1")), &cache, 0), Decision::Bind("n1".into()));
        }
        // A pod on a node that is not known yet counts as soon as the node comes.
        cache.place(&pod("early", cpu("1")), "n2");
        add(&mut cache, "n2", json!({}), json!({}), "1");
        assert_eq!(decide(&pod("q", cpu("1")), &cache, 1), Decision::Bind("n1".into()));
        assert!(cache.nodes["n2"].pods.contains_key("early"));
    }

    #[test]
    fn the_best_node_is_chosen() {
        let mut cache = one();
        add(&mut cache, "n2", json!({"zone": "b"}), json!({}), "1");
        cache.place(&pod("x", cpu("500m")), "n1");
        assert_eq!(decide(&pod("p", cpu("100m")), &cache, 0), Decision::Bind("n2".into()), "least allocated");
        let preferred = json!({"containers": [], "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 10, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}}]}}});
        assert_eq!(decide(&pod("p", preferred), &cache, 0), Decision::Bind("n1".into()), "preferred zone");
        add(&mut cache, "n3", json!({}), json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}), "8");
        assert_eq!(decide(&pod("p", cpu("100m")), &cache, 0), Decision::Bind("n2".into()), "no avoided taint");
        let mut equal = one();
        add(&mut equal, "n2", json!({"zone": "b"}), json!({}), "1");
        let chosen: Vec<_> = (0..4).map(|turn| decide(&pod("p", cpu("1m")), &equal, turn)).collect();
        assert_eq!((chosen[0] == chosen[2], chosen[0] == chosen[1]), (true, false), "equal nodes take turns");
    }

    #[test]
    fn pods_attract_and_repel() {
        let mut cache = one();
        add(&mut cache, "n2", json!({"zone": "b"}), json!({}), "1");
        let term = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}]);
        let rule = |kind: &str| json!({"containers": [], "affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
        let near = |labels: Value| labelled("near", labels, rule("podAffinity"));
        assert!(refused(&near(json!({})), &cache).contains("2 node(s) didn't match pod affinity rules"));
        assert!(matches!(decide(&near(json!({"app": "db"})), &cache, 0), Decision::Bind(_)), "the first of its kind");
        cache.place(&labelled("db", json!({"app": "db"}), json!({"containers": []})), "n2");
        for turn in 0..2 {
            assert_eq!(decide(&near(json!({})), &cache, turn), Decision::Bind("n2".into()));
            let far = labelled("far", json!({}), rule("podAntiAffinity"));
            assert_eq!(decide(&far, &cache, turn), Decision::Bind("n1".into()));
        }
        cache.place(&labelled("hermit", json!({}), rule("podAntiAffinity")), "n1");
        let db = labelled("db2", json!({"app": "db"}), json!({"containers": [], "nodeSelector": {"zone": "a"}}));
        assert!(
            refused(&db, &cache).contains("1 node(s) didn't satisfy existing pods anti-affinity rules"),
            "{}",
            refused(&db, &cache)
        );
    }

    #[test]
    fn pods_spread() {
        let mut cache = one();
        add(&mut cache, "n2", json!({"zone": "b"}), json!({}), "1");
        let spec = json!({"containers": [], "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}}]});
        let web = |name: &str| labelled(name, json!({"app": "web"}), spec.clone());
        cache.place(&web("w1"), "n1");
        assert_eq!(decide(&web("w2"), &cache, 0), Decision::Bind("n2".into()));
        assert_eq!(decide(&web("w2"), &cache, 1), Decision::Bind("n2".into()));
        add(&mut cache, "n3", json!({}), json!({}), "1");
        let mut cordoned = spec.clone();
        cordoned["nodeSelector"] = json!({"kubernetes.io/hostname": "n3"});
        let message = refused(&labelled("w", json!({"app": "web"}), cordoned), &cache);
        assert!(
            message.contains("1 node(s) didn't match pod topology spread constraints (missing required label)"),
            "{message}"
        );
    }
}
