//! What `kubectl get hpa` shows.

use kedge_api::resource::Column;
use serde_json::Value;

use super::v1;
use crate::kinds::columns::{self, count};
use crate::value::Look as _;

const fn all(targets: fn(&Value) -> Value) -> [Column; 6] {
    [
        columns::text("Reference", |o| {
            format!("{}/{}", o.text("spec.scaleTargetRef.kind"), o.text("spec.scaleTargetRef.name")).into()
        }),
        columns::text("Targets", targets),
        columns::text("MinPods", |o| {
            o.int("spec.minReplicas").map_or_else(|| "<unset>".to_owned(), |n| n.to_string()).into()
        }),
        columns::text("MaxPods", |o| count(o, "spec.maxReplicas").into()),
        columns::text("Replicas", |o| count(o, "status.currentReplicas").into()),
        columns::AGE,
    ]
}

pub(super) const COLUMNS: &[Column] = &all(|o| targets(o).into());

pub(super) const OLDER_COLUMNS: &[Column] = &all(|o| {
    let mut newer = o.clone();
    v1::keep(&mut newer);
    targets(&newer).into()
});

fn targets(scaler: &Value) -> String {
    const SHOWN: usize = 2;
    let current = scaler.items("status.currentMetrics");
    let metrics = scaler.items("spec.metrics").iter().enumerate();
    let mut all: Vec<String> =
        metrics.map(|(at, metric)| one(metric, current.get(at).unwrap_or(&Value::Null))).collect();
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    match (all.is_empty(), more) {
        (true, _) => columns::or_none(""),
        (false, 0) => all.join(", "),
        (false, more) => format!("{} + {more} more...", all.join(", ")),
    }
}

/// What there is of what there should be.
fn one(metric: &Value, status: &Value) -> String {
    let (kind, named) = match metric.text("type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let (source, current) = (metric.look(kind), status.look(kind).look("current"));
    let name = if named { format!("{}: ", source.text("name")) } else { String::new() };
    let amount = |holder: &Value, field: &str| holder.look(field).as_str().map(str::to_owned);
    let unknown = || "<unknown>".to_owned();
    let target = source.look("target");
    if let Some(wanted) = amount(target, "averageValue") {
        let average = if ["external", "object"].contains(&kind) { " (avg)" } else { "" };
        return format!("{name}{}/{wanted}{average}", amount(current, "averageValue").unwrap_or_else(unknown));
    }
    if named {
        let percent = |holder: &Value| holder.int("averageUtilization").map(|percent| format!("{percent}%"));
        let wanted = percent(target).unwrap_or_else(|| "<auto>".to_owned());
        return format!("{name}{}/{wanted}", percent(current).unwrap_or_else(unknown));
    }
    let wanted = amount(target, "value").unwrap_or_default();
    format!("{}/{wanted}", amount(current, "value").unwrap_or_else(unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn two_metrics_are_shown_and_the_others_counted() {
        let metrics = json!([
            {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 50}}},
            {"type": "External", "external": {"target": {"averageValue": "30"}}},
            {"type": "Object", "object": {"target": {"value": "10"}}}]);
        let mut scaler = json!({"spec": {"metrics": metrics},
            "status": {"currentMetrics": [{"type": "Resource", "resource": {"current": {"averageUtilization": 12}}}]}});
        assert_eq!(targets(&scaler), "cpu: 12%/50%, <unknown>/30 (avg) + 1 more...");
        scaler["spec"]["metrics"] = json!([metrics[2]]);
        scaler["status"] = json!({});
        assert_eq!(targets(&scaler), "<unknown>/10");
        assert_eq!(targets(&json!({})), "<none>");
    }
}
