//! Whether a node has enough left, and which has most left.

use kedge_api::quantity::Quantity;

use super::Refusal;
use crate::cache::{Cache, NodeState, weight};
use crate::pod::PodInfo;

pub fn fit(pod: &PodInfo, node: &NodeState, _: &Cache) -> Result<(), Refusal> {
    let of = |amounts: &kedge_api::placement::Amounts, name: &str| amounts.get(name).copied().unwrap_or(Quantity::ZERO);
    let mut reasons = Vec::new();
    let mut resolvable = true;
    let room = of(&node.allocatable, "pods").value();
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= room {
        reasons.push("Too many pods".to_owned());
    }
    for (name, asked) in pod.requests.iter().filter(|(_, asked)| !asked.is_zero()) {
        let has = of(&node.allocatable, name);
        if *asked > has - of(&node.requested, name) {
            reasons.push(format!("Insufficient {name}"));
            resolvable &= *asked <= has;
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(Refusal { reasons, resolvable }) }
}

/// Millicores and bytes: what is asked for with this pod, of what there is.
fn shares(pod: &PodInfo, node: &NodeState) -> impl Iterator<Item = (i64, i64)> {
    let (cpu, memory) = weight(&pod.requests);
    let has = |name: &str| node.allocatable.get(name).copied().unwrap_or(Quantity::ZERO);
    [(node.weight.0 + cpu, has("cpu").milli()), (node.weight.1 + memory, has("memory").value())]
        .into_iter()
        .filter(|(_, has)| *has > 0)
}

/// The share that stays free, 0 to 100, as the mean of CPU and memory.
pub fn least_allocated(pod: &PodInfo, node: &NodeState, _: &Cache) -> i64 {
    let (mut sum, mut parts) = (0i64, 0i64);
    for (asked, has) in shares(pod, node) {
        let free = i128::from((has - asked).max(0)) * 100 / i128::from(has);
        sum += i64::try_from(free).unwrap_or(100);
        parts += 1;
    }
    if parts == 0 { 0 } else { sum / parts }
}

/// 100 if CPU and memory are used in equal shares, less the further apart they are.
pub fn balanced(pod: &PodInfo, node: &NodeState, _: &Cache) -> i64 {
    let shares: Vec<f64> = shares(pod, node).map(|(asked, has)| (asked as f64 / has as f64).min(1.0)).collect();
    let deviation = match shares.as_slice() {
        [cpu, memory] => (cpu - memory).abs() / 2.0,
        _ => 0.0,
    };
    ((1.0 - deviation) * 100.0) as i64
}
