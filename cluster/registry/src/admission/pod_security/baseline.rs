//! The checks of the baseline level: nothing that is known to lead out of a container.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{APPARMOR, Failure, Pod, contexts, failure, named, plural, quoted, setters};
use crate::errors::quote;
use crate::value::Look as _;

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Kernel settings that stay within a pod, with the minor version since which they are known to.
const SYSCTLS: &[(u32, &str)] = &[
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
];

const SELINUX_TYPES: &[(u32, &str)] =
    &[(0, ""), (0, "container_t"), (0, "container_init_t"), (0, "container_kvm_t"), (31, "container_engine_t")];

fn is_safe_profile(kind: &Value) -> bool {
    ["RuntimeDefault", "Localhost"].iter().any(|safe| kind == safe)
}

fn annotations<'a>(pod: &Pod<'a>) -> impl Iterator<Item = (&'a String, &'a str)> {
    pod.meta.entries("annotations").filter_map(|(key, value)| Some((key, value.as_str()?)))
}

pub(super) fn apparmor(pod: &Pod<'_>) -> Option<Failure> {
    let (who, values) = contexts(pod, "appArmorProfile.type", |kind| !is_safe_profile(kind));
    let allowed = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let marks: BTreeSet<String> = annotations(pod)
        .filter(|(key, value)| key.starts_with(APPARMOR) && !allowed(value))
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    let marked = (!marks.is_empty()).then(|| plural(marks.len(), "annotation", "annotations").to_owned());
    let who: Vec<String> = who.into_iter().chain(marked).collect();
    let values: Vec<String> = values.into_iter().chain(marks).collect();
    let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    (!who.is_empty()).then(|| {
        failure(reason, format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(values)))
    })
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Failure> {
    let (bad, added) = adding(pod, CAPABILITIES);
    (!bad.is_empty()).then(|| {
        let detail = format!("{} must not include {} in securityContext.capabilities.add", named(&bad), quoted(added));
        failure("non-default capabilities", detail)
    })
}

/// Containers that add capabilities beside those allowed, and which.
pub(super) fn adding<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    fn added(container: &Value) -> impl Iterator<Item = &str> {
        container.items("securityContext.capabilities.add").iter().filter_map(Value::as_str)
    }
    let beyond = |name: &&str| !allowed.contains(name);
    let bad = pod.bad(|container| added(container).any(|name| beyond(&name)));
    (bad, pod.containers().flat_map(added).filter(beyond).collect())
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Failure> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec.flag(field));
    let shared: Vec<_> = shared.map(|field| format!("{field}=true")).collect();
    (!shared.is_empty()).then(|| failure("host namespaces", shared.join(", ")))
}

pub(super) fn host_paths(pod: &Pod<'_>) -> Option<Failure> {
    let volumes = pod.spec.items("volumes").iter().filter(|volume| volume.has("hostPath"));
    let names: Vec<_> = volumes.map(|volume| volume.text("name")).collect();
    let detail = format!("{} {}", plural(names.len(), "volume", "volumes"), quoted(&names));
    (!names.is_empty()).then(|| failure("hostPath volumes", detail))
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Failure> {
    fn ports(container: &Value) -> impl Iterator<Item = i64> {
        container.items("ports").iter().filter_map(|port| port.int("hostPort")).filter(|port| *port != 0)
    }
    let bad = pod.bad(|container| ports(container).next().is_some());
    // Sorted as text, as upstream does.
    let all: BTreeSet<String> = pod.containers().flat_map(ports).map(|port| port.to_string()).collect();
    let uses = plural(bad.len(), "uses", "use");
    let word = plural(all.len(), "hostPort", "hostPorts");
    let listed = all.into_iter().collect::<Vec<_>>().join(", ");
    (!bad.is_empty()).then(|| failure("hostPort", format!("{} {uses} {word} {listed}", named(&bad))))
}

pub(super) fn probe_hosts(pod: &Pod<'_>) -> Option<Failure> {
    const HANDLERS: [&str; 5] =
        ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"];
    fn hosts(container: &Value) -> impl Iterator<Item = &str> {
        let of = |handler: &'static str| {
            let handler = container.look(handler);
            [handler.text("httpGet.host"), handler.text("tcpSocket.host")]
        };
        HANDLERS.into_iter().flat_map(of).filter(|host| !host.is_empty())
    }
    let mut bad = pod.bad(|container| hosts(container).next().is_some());
    bad.sort_unstable();
    bad.dedup();
    let all: BTreeSet<&str> = pod.containers().flat_map(hosts).collect();
    let word = plural(all.len(), "probe or lifecycle host", "probe or lifecycle hosts");
    (!bad.is_empty()).then(|| {
        let uses = plural(bad.len(), "uses", "use");
        failure("probe or lifecycle host", format!("{} {uses} {word} {}", named(&bad), quoted(all)))
    })
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Failure> {
    let bad = pod.bad(|container| container.flag("securityContext.privileged"));
    let detail = format!("{} must not set securityContext.privileged=true", named(&bad));
    (!bad.is_empty()).then(|| failure("privileged", detail))
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Failure> {
    fn kind(container: &Value) -> Option<&str> {
        Some(container.text("securityContext.procMount")).filter(|kind| !["", "Default"].contains(kind))
    }
    if pod.has_own_users() && pod.bound.since(35) {
        return None;
    }
    let bad = pod.bad(|container| kind(container).is_some());
    let kinds: BTreeSet<&str> = pod.containers().filter_map(kind).collect();
    let detail = format!("{} must not set securityContext.procMount to {}", named(&bad), quoted(kinds));
    (!bad.is_empty()).then(|| failure("procMount", detail))
}

pub(super) fn selinux(pod: &Pod<'_>) -> Option<Failure> {
    let allowed = |kind: &str| SELINUX_TYPES.iter().any(|(since, name)| *name == kind && pod.bound.since(*since));
    let options = |holder: &Value| holder.look("securityContext.seLinuxOptions").clone();
    let is_bad = |holder: &Value| {
        let options = options(holder);
        !allowed(options.text("type")) || !options.text("user").is_empty() || !options.text("role").is_empty()
    };
    let who = setters(is_bad(pod.spec), &pod.bad(is_bad))?;
    let all: Vec<Value> = [pod.spec].into_iter().chain(pod.containers()).map(options).collect();
    let kinds: BTreeSet<&str> = all.iter().map(|o| o.text("type")).filter(|kind| !allowed(kind)).collect();
    let mut wrong = Vec::new();
    if !kinds.is_empty() {
        wrong.push(format!("{} {}", plural(kinds.len(), "type", "types"), quoted(kinds)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|options| !options.text(field).is_empty()) {
            wrong.push(format!("{field} may not be set"));
        }
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", wrong.join("; "));
    Some(failure("seLinuxOptions", detail))
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Failure> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    if pod.bound.since(19) {
        let (who, values) = contexts(pod, "seccompProfile.type", |kind| !is_safe_profile(kind));
        let detail = |who| format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(values));
        return who.map(|who| failure("seccompProfile", detail(who)));
    }
    let allowed = |v: &str| ["runtime/default", "docker/default"].contains(&v) || v.starts_with("localhost/");
    let names: Vec<&str> = pod.containers().map(|container| container.text("name")).collect();
    let about = |key: &str| key == POD || key.strip_prefix(CONTAINER).is_some_and(|name| names.contains(&name));
    let bad = annotations(pod).filter(|(key, value)| about(key) && !allowed(value));
    let bad: BTreeSet<String> = bad.map(|(key, value)| format!("{key}={}", quote(value))).collect();
    let word = plural(bad.len(), "annotation", "annotations");
    let listed = bad.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    (!bad.is_empty()).then(|| failure("seccompProfile", format!("forbidden {word} {listed}")))
}

pub(super) fn sysctls(pod: &Pod<'_>) -> Option<Failure> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(since, known)| *known == name && pod.bound.since(*since));
    let set = pod.spec.items("securityContext.sysctls").iter().map(|sysctl| sysctl.text("name"));
    let bad: Vec<_> = set.filter(|name| !allowed(name)).collect();
    (!bad.is_empty()).then(|| failure("forbidden sysctls", bad.join(", ")))
}

pub(super) fn host_process(pod: &Pod<'_>) -> Option<Failure> {
    let (who, _) = contexts(pod, "windowsOptions.hostProcess", |value| *value == Value::Bool(true));
    let detail = |who| format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    who.map(|who| failure("hostProcess", detail(who)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check::failures;
    use super::super::policy::{Bound, Level};
    use super::*;

    fn said(minor: Option<u32>, meta: Value, spec: Value) -> Vec<String> {
        let found = failures(Bound::new(Level::Baseline, minor), &meta, &spec);
        found.into_iter().map(|f| format!("{}: {}", f.reason, f.detail)).collect()
    }

    #[test]
    fn each_check_says_what_is_wrong() {
        let with = |context: Value| json!({"containers": [{"name": "a"}, {"name": "b", "securityContext": context}]});
        for (spec, message) in [
            (
                with(json!({"privileged": true})),
                "privileged: container \"b\" must not set securityContext.privileged=true",
            ),
            (
                with(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "BPF"]}})),
                "non-default capabilities: container \"b\" must not include \"BPF\", \"SYS_ADMIN\" in securityContext.capabilities.add",
            ),
            (
                with(json!({"appArmorProfile": {"type": "Unconfined"}})),
                "forbidden AppArmor profile: container \"b\" must not set AppArmor profile type to \"Unconfined\"",
            ),
            (
                with(json!({"procMount": "Unmasked"})),
                "procMount: container \"b\" must not set securityContext.procMount to \"Unmasked\"",
            ),
            (
                with(json!({"seLinuxOptions": {"type": "x", "user": "u"}})),
                "seLinuxOptions: container \"b\" set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set",
            ),
            (
                with(json!({"seccompProfile": {"type": "Unconfined"}})),
                "seccompProfile: container \"b\" must not set securityContext.seccompProfile.type to \"Unconfined\"",
            ),
            (
                with(json!({"windowsOptions": {"hostProcess": true}})),
                "hostProcess: container \"b\" must not set securityContext.windowsOptions.hostProcess=true",
            ),
            (json!({"hostPID": true, "hostIPC": true}), "host namespaces: hostPID=true, hostIPC=true"),
            (
                json!({"volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "hostPath": {}}]}),
                "hostPath volumes: volumes \"v\", \"w\"",
            ),
            (
                json!({"containers": [{"name": "a", "ports": [{"hostPort": 9}, {"hostPort": 80}]}, {"name": "b", "ports": [{"hostPort": 9}]}]}),
                "hostPort: containers \"a\", \"b\" use hostPorts 80, 9",
            ),
            (
                json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}}]}),
                "probe or lifecycle host: container \"a\" uses probe or lifecycle host \"h\"",
            ),
            (
                json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
                "forbidden sysctls: kernel.msgmax",
            ),
        ] {
            assert_eq!(said(None, json!({}), spec), [message]);
        }
        let fine = with(
            json!({"privileged": false, "capabilities": {"add": ["CHOWN"], "drop": ["ALL"]}, "procMount": "Default",
            "seLinuxOptions": {"type": "container_t"}, "seccompProfile": {"type": "Localhost"}, "appArmorProfile": {"type": "Localhost"}}),
        );
        assert_eq!(said(None, json!({}), fine), [""; 0]);
    }

    #[test]
    fn versions_know_what_they_knew() {
        let probe = json!({"containers": [{"name": "a", "livenessProbe": {"tcpSocket": {"host": "h"}}}]});
        assert_eq!(said(Some(33), json!({}), probe), [""; 0]);
        let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_fin_timeout"}]}});
        assert_eq!(said(Some(28), json!({}), sysctl.clone()), ["forbidden sysctls: net.ipv4.tcp_fin_timeout"]);
        assert_eq!(said(Some(29), json!({}), sysctl), [""; 0]);
        let meta = json!({"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}});
        let forbidden = "seccompProfile: forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\"";
        assert_eq!(said(Some(18), meta.clone(), json!({})), [forbidden]);
        assert_eq!(said(Some(19), meta, json!({})), [""; 0]);
    }
}
