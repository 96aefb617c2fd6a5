//! The conversion between `v2`, as which scalers are stored, and `v1`.

use serde_json::{Map, Value, json};

use crate::golang::{self, Field, Shape};
use crate::value::{Fill as _, Look as _};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

pub(super) const ANNOTATIONS: &[&str] = &[METRICS, CURRENT, CONDITIONS, BEHAVIOR];

const SPEC_CPU: &str = "spec.targetCPUUtilizationPercentage";
const STATUS_CPU: &str = "status.currentCPUUtilizationPercentage";

/// Fields of each source in `v1`, in its order, and where each stands in `v2`. First those of a specification.
const SPEC: &[(&str, &[(&str, &str)])] = &[
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("targetValue", "target.value"),
            ("selector", "metric.selector"),
            ("averageValue", "target.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("targetAverageValue", "target.averageValue"),
            ("selector", "metric.selector"),
        ],
    ),
    (
        "resource",
        &[
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
            ("container", "container"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("targetValue", "target.value"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
];

/// Then those of a status.
const STATUS: &[(&str, &[(&str, &str)])] = &[
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("currentValue", "current.value"),
            ("selector", "metric.selector"),
            ("averageValue", "current.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("currentAverageValue", "current.averageValue"),
            ("selector", "metric.selector"),
        ],
    ),
    (
        "resource",
        &[
            ("name", "name"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
            ("container", "container"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("currentValue", "current.value"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
];

/// Upstream's internal type of the behaviour, as which the annotation has it.
const INTERNAL: &str = "HorizontalPodAutoscalerBehavior";

pub(super) fn show(scaler: &mut Value) {
    scaler.set("apiVersion", "autoscaling/v1");
    let metrics = take(scaler, "spec.metrics");
    let mut others = Vec::new();
    for metric in &metrics {
        let cpu = metric.look("resource.target.averageUtilization");
        if metric.text("type") == "Resource" && metric.text("resource.name") == "cpu" && !cpu.is_null() {
            scaler.set(SPEC_CPU, cpu.clone());
        } else {
            others.push(metric.clone());
        }
    }
    let current = take(scaler, "status.currentMetrics");
    for metric in &current {
        let cpu = metric.look("resource.current.averageUtilization");
        if metric.text("type") == "Resource" && metric.text("resource.name") == "cpu" && !cpu.is_null() {
            scaler.set(STATUS_CPU, cpu.clone());
        }
    }
    if scaler.has("status") {
        scaler.fill("status.currentReplicas", 0);
    }
    let conditions = take(scaler, "status.conditions");
    let behavior = scaler.cut("spec.behavior");
    let lists =
        [(METRICS, older(&others, SPEC)), (CURRENT, older(&current, STATUS)), (CONDITIONS, listed(&conditions))];
    let behavior = behavior.map(|behavior| (BEHAVIOR, golang::show(&behavior, INTERNAL)));
    for (key, text) in lists.into_iter().filter(|(_, text)| text != "[]").chain(behavior) {
        let annotations = scaler.slot("metadata.annotations");
        if !annotations.is_object() {
            *annotations = json!({});
        }
        if let Some(map) = annotations.map_mut() {
            map.insert(key.to_owned(), text.into());
        }
    }
}

fn take(scaler: &mut Value, path: &str) -> Vec<Value> {
    match scaler.cut(path) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// As JSON with fields in the order of upstream's types.
fn older(metrics: &[Value], sources: &[(&str, &[(&str, &str)])]) -> String {
    let one = |metric: &Value| {
        let mut parts = vec![format!("\"type\":{}", metric.look("type"))];
        for (kind, fields) in sources.iter().filter(|(kind, _)| metric.has(kind)) {
            let source = metric.look(kind);
            let given = fields.iter().filter(|(_, path)| source.has(path));
            let given = given.map(|(name, path)| match *name {
                "target" => format!("\"target\":{}", ordered(source.look(path), &["kind", "name", "apiVersion"])),
                name => format!("\"{name}\":{}", source.look(path)),
            });
            parts.push(format!("\"{kind}\":{{{}}}", given.collect::<Vec<_>>().join(",")));
        }
        format!("{{{}}}", parts.join(","))
    };
    format!("[{}]", metrics.iter().map(one).collect::<Vec<_>>().join(","))
}

fn ordered(value: &Value, fields: &[&str]) -> String {
    crate::errors::ordered(value, fields)
}

fn listed(conditions: &[Value]) -> String {
    const FIELDS: &[&str] = &["type", "status", "lastTransitionTime", "reason", "message"];
    format!("[{}]", conditions.iter().map(|c| ordered(c, FIELDS)).collect::<Vec<_>>().join(","))
}

pub(super) fn keep(scaler: &mut Value) {
    scaler.set("apiVersion", "autoscaling/v2");
    let cpu = scaler.cut(SPEC_CPU);
    let now = scaler.cut(STATUS_CPU);
    let said = |scaler: &Value, key: &str| -> Option<Value> {
        serde_json::from_str(scaler.look("metadata.annotations").get(key)?.as_str()?).ok()
    };
    let mut metrics = newer(&said(scaler, METRICS).unwrap_or_default(), SPEC);
    if let Some(percent) = cpu.filter(|value| !value.is_null()) {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    for metric in &mut metrics {
        target_type(metric);
    }
    let mut current = newer(&said(scaler, CURRENT).unwrap_or_default(), STATUS);
    if let Some(percent) = now.filter(|value| !value.is_null() && current.is_empty()) {
        current
            .push(json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}));
    }
    let conditions = said(scaler, CONDITIONS);
    let behavior = said(scaler, BEHAVIOR).map(|behavior| named(&behavior, INTERNAL));
    for (path, value) in [
        ("spec.metrics", some(metrics)),
        ("status.currentMetrics", some(current)),
        ("status.conditions", conditions),
        ("spec.behavior", behavior),
    ] {
        if let Some(value) = value {
            scaler.set(path, value);
        }
    }
    if scaler.int("status.currentReplicas") == Some(0) {
        scaler.cut("status.currentReplicas");
    }
    let Some(annotations) = scaler.find_mut("metadata.annotations").and_then(Value::as_object_mut) else { return };
    annotations.retain(|key, _| !ANNOTATIONS.contains(&key.as_str()));
    if annotations.is_empty() {
        scaler.cut("metadata.annotations");
    }
}

fn some(items: Vec<Value>) -> Option<Value> {
    (!items.is_empty()).then(|| items.into())
}

fn newer(metrics: &Value, sources: &[(&str, &[(&str, &str)])]) -> Vec<Value> {
    let one = |metric: &Value| {
        let mut made = json!({"type": metric.look("type")});
        for (kind, fields) in sources.iter().filter(|(kind, _)| metric.look(kind).is_object()) {
            let source = metric.look(kind);
            let mut inner = json!({});
            for (name, path) in fields.iter().filter(|(name, _)| source.has(name)) {
                inner.set(path, source.look(name).clone());
            }
            made.set(kind, inner);
        }
        made
    };
    metrics.as_array().into_iter().flatten().map(one).collect()
}

/// Which of its amounts a target of `v1` is meant by.
fn target_type(metric: &mut Value) {
    let Some(kind) = SPEC.iter().map(|(kind, _)| *kind).find(|kind| metric.has(kind)) else { return };
    let target = format!("{kind}.target");
    let target_of = metric.look(kind).look("target");
    let meant = if target_of.has("averageUtilization") {
        "Utilization"
    } else if target_of.has("averageValue") {
        "AverageValue"
    } else {
        "Value"
    };
    metric.set(&format!("{target}.type"), meant);
}

/// The names of the API instead of Go's. Upstream's decoder does not mind how they are written, so neither is asked here.
fn named(value: &Value, of: &str) -> Value {
    let given = |name: &str| {
        let mut entries = value.as_object().into_iter().flatten();
        entries.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).filter(|value| !value.is_null())
    };
    let pairs = golang::fields(of).into_iter().filter_map(|Field { name, path, shape }| {
        let value = given(name)?;
        let value = match shape {
            Shape::Struct(inner) | Shape::Pointer(inner) => named(value, inner),
            Shape::List(inner) => value.as_array().into_iter().flatten().map(|item| named(item, inner)).collect(),
            Shape::Plain(_) => value.clone(),
        };
        Some((path, value))
    });
    pairs.collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_through_the_older_version() {
        let stored = json!({"apiVersion": "autoscaling/v2", "metadata": {"annotations": {"mine": "1"}}, "spec": {"maxReplicas": 3,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "S", "name": "s"}, "metric": {"name": "q"},
                    "target": {"type": "Value", "value": "10"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
            "behavior": {"scaleUp": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}}},
            "status": {"desiredReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "5m"}}}]}});
        let mut scaler = stored.clone();
        show(&mut scaler);
        assert_eq!(scaler["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(scaler["status"]["currentCPUUtilizationPercentage"], 7);
        assert_eq!(
            scaler["metadata"]["annotations"][METRICS],
            r#"[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"1"}},{"type":"Object","object":{"target":{"kind":"S","name":"s"},"metricName":"q","targetValue":"10"}}]"#
        );
        assert!(
            scaler["metadata"]["annotations"][BEHAVIOR]
                .as_str()
                .unwrap()
                .starts_with(r#"{"ScaleUp":{"StabilizationWindowSeconds":null"#)
        );
        keep(&mut scaler);
        assert_eq!(scaler, stored);
    }
}
