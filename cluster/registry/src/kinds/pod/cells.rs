//! What `kubectl get pods` prints.

use kedge_api::resource::Column;
use serde_json::Value;

use crate::kinds::columns::{AGE, or_none, since, text, wide};
use crate::value::Look as _;

pub(crate) const COLUMNS: &[Column] = &[
    text("Ready", |o| Summary::of(o).ready.into()),
    text("Status", |o| Summary::of(o).reason.into()),
    text("Restarts", |o| Summary::of(o).restarts.into()),
    AGE,
    wide("IP", |o| or_none(ip(o)).into()),
    wide("Node", |o| or_none(o.text("spec.nodeName")).into()),
    wide("Nominated Node", |o| or_none(o.text("status.nominatedNodeName")).into()),
    wide("Readiness Gates", |o| gates(o).into()),
];

fn ip(pod: &Value) -> &str {
    pod.items("status.podIPs").first().map_or_else(|| pod.text("status.podIP"), |ip| ip.text("ip"))
}

fn gates(pod: &Value) -> String {
    let gates = pod.items("spec.readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let conditions = pod.items("status.conditions");
    let is_true = |gate: &Value| {
        conditions.iter().any(|c| c.text("type") == gate.text("conditionType") && c.text("status") == "True")
    };
    format!("{}/{}", gates.iter().filter(|g| is_true(g)).count(), gates.len())
}

struct Summary {
    ready: String,
    reason: String,
    restarts: String,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let mut reason = pod.text("status.phase").to_owned();
        if !pod.text("status.reason").is_empty() {
            reason = pod.text("status.reason").to_owned();
        }
        let conditions = pod.items("status.conditions");
        if conditions.iter().any(|c| c.text("type") == "PodScheduled" && c.text("reason") == "SchedulingGated") {
            reason = "SchedulingGated".into();
        }
        let sidecar = |name: &str| {
            let mut init = pod.items("spec.initContainers").iter();
            init.any(|c| c.text("name") == name && c.text("restartPolicy") == "Always")
        };
        let sidecars = pod.items("spec.initContainers").iter().filter(|c| c.text("restartPolicy") == "Always").count();
        let total = pod.items("spec.containers").len() + sidecars;
        let mut count = Restarts::default();
        let mut sidecar_count = Restarts::default();
        let mut ready = 0;
        let mut initializing = false;
        let init_statuses = pod.items("status.initContainerStatuses");
        for (at, status) in init_statuses.iter().enumerate() {
            count.add(status);
            let is_sidecar = sidecar(status.text("name"));
            if is_sidecar {
                sidecar_count.add(status);
                if status.flag("ready") {
                    ready += 1;
                }
            }
            if initializing
                || status.int("state.terminated.exitCode") == Some(0)
                || (is_sidecar && status.flag("started"))
            {
                continue;
            }
            initializing = true;
            let waiting = status.text("state.waiting.reason");
            reason = if status.has("state.terminated") {
                ended(status.look("state.terminated"), "Init:")
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{at}/{}", pod.items("spec.initContainers").len())
            };
        }
        let initialized = conditions.iter().any(|c| c.text("type") == "Initialized" && c.text("status") == "True");
        if !initializing || initialized {
            count = sidecar_count;
            let mut running = false;
            for status in pod.items("status.containerStatuses").iter().rev() {
                count.add(status);
                let waiting = status.text("state.waiting.reason");
                if !waiting.is_empty() {
                    reason = waiting.to_owned();
                } else if status.has("state.terminated") {
                    reason = ended(status.look("state.terminated"), "");
                } else if status.flag("ready") && status.has("state.running") {
                    running = true;
                    ready += 1;
                }
            }
            if reason == "Completed" && running {
                let pod_ready = conditions.iter().any(|c| c.text("type") == "Ready" && c.text("status") == "True");
                reason = if pod_ready { "Running".into() } else { "NotReady".into() };
            }
        }
        if pod.has("metadata.deletionTimestamp") {
            if pod.text("status.reason") == "NodeLost" {
                reason = "Unknown".into();
            } else if !matches!(pod.text("status.phase"), "Failed" | "Succeeded") {
                reason = "Terminating".into();
            }
        }
        Self { ready: format!("{ready}/{total}"), reason, restarts: count.text() }
    }
}

fn ended(terminated: &Value, prefix: &str) -> String {
    let reason = terminated.text("reason");
    let signal = terminated.int("signal").unwrap_or(0);
    if !reason.is_empty() {
        format!("{prefix}{reason}")
    } else if signal != 0 {
        format!("{prefix}Signal:{signal}")
    } else {
        format!("{prefix}ExitCode:{}", terminated.int("exitCode").unwrap_or(0))
    }
}

#[derive(Default)]
struct Restarts {
    count: i64,
    last: String,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status.int("restartCount").unwrap_or(0);
        let finished = status.text("lastState.terminated.finishedAt");
        if *self.last < *finished {
            self.last = finished.to_owned();
        }
    }

    fn text(&self) -> String {
        if self.count > 0 && !self.last.is_empty() {
            format!("{} ({} ago)", self.count, since(&self.last))
        } else {
            self.count.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_reason_is_the_most_telling_one() {
        let table = [
            (json!({"status": {"phase": "Pending"}}), "0/1", "Pending"),
            (
                json!({"status": {"phase": "Running", "containerStatuses": [{"ready": true, "state": {"running": {}}}]}}),
                "1/1",
                "Running",
            ),
            (
                json!({"status": {"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
                "0/1",
                "CrashLoopBackOff",
            ),
            (json!({"status": {"phase": "Failed", "reason": "Evicted"}}), "0/1", "Evicted"),
            (
                json!({"status": {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}}),
                "0/1",
                "Completed",
            ),
            (
                json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}}),
                "0/1",
                "ExitCode:3",
            ),
            (
                json!({"status": {"phase": "Pending", "initContainerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}}),
                "0/1",
                "Init:ImagePullBackOff",
            ),
            (
                json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}, "status": {"phase": "Running"}}),
                "0/1",
                "Terminating",
            ),
        ];
        for (mut pod, ready, reason) in table {
            pod["spec"] = json!({"containers": [{"name": "c"}]});
            let summary = Summary::of(&pod);
            assert_eq!((summary.ready.as_str(), summary.reason.as_str()), (ready, reason), "{pod}");
        }
    }
}
