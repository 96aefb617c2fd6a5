//! `securityContext` of pod and container as users, groups and capabilities.

use k8s_openapi::api::core::v1::{Capabilities, Container, PodSpec};
use kedge_runtime::User;
use kedge_runtime::spec::DEFAULT_CAPABILITIES;

use super::Error;

/// The rest of capabilities(7), as of Linux 5.9.
const OTHERS: [&str; 27] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_NET_ADMIN",
    "CAP_NET_BROADCAST",
    "CAP_PERFMON",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
];

/// `None`: nothing was said, the runtime's default holds. "ALL" is resolved before single names.
pub fn capabilities(asked: Option<&Capabilities>) -> Option<Vec<String>> {
    let asked = asked?;
    let full = |name: &String| {
        let upper = name.to_uppercase();
        if upper.starts_with("CAP_") || upper == "ALL" { upper } else { format!("CAP_{upper}") }
    };
    let add: Vec<String> = asked.add.iter().flatten().map(full).collect();
    let drop: Vec<String> = asked.drop.iter().flatten().map(full).collect();
    let has_all = |list: &[String]| list.iter().any(|n| n == "ALL");
    let mut set: Vec<String> = match (has_all(&add), has_all(&drop)) {
        (true, _) => DEFAULT_CAPABILITIES.iter().chain(&OTHERS).map(|n| (*n).to_owned()).collect(),
        (false, true) => Vec::new(),
        (false, false) => DEFAULT_CAPABILITIES.iter().map(|n| (*n).to_owned()).collect(),
    };
    set.extend(add.into_iter().filter(|n| n != "ALL"));
    set.retain(|n| !drop.contains(n));
    set.sort_unstable();
    set.dedup();
    Some(set)
}

fn id(value: Option<i64>) -> Option<u32> {
    value.and_then(|v| u32::try_from(v).ok())
}

/// Who the container is to run as, in an image's terms (`USER[:GROUP]`); `image` is the image's own `USER`.
pub fn asked_user(spec: &PodSpec, container: &Container, image: &str) -> String {
    let (pod, own) = (spec.security_context.as_ref(), container.security_context.as_ref());
    match id(own.and_then(|c| c.run_as_user).or(pod.and_then(|p| p.run_as_user))) {
        Some(uid) => uid.to_string(),
        None => image.to_owned(),
    }
}

/// The user as the image resolved [`asked_user`], with the groups that pod and container add.
pub fn user(spec: &PodSpec, container: &Container, resolved: &User) -> Result<User, Error> {
    let (pod, own) = (spec.security_context.as_ref(), container.security_context.as_ref());
    let mut user = resolved.clone();
    user.gid = id(own.and_then(|c| c.run_as_group).or(pod.and_then(|p| p.run_as_group))).unwrap_or(user.gid);
    if pod.and_then(|p| p.supplemental_groups_policy.as_deref()) == Some("Strict") {
        user.groups.clear();
    }
    let extra = pod.and_then(|p| p.supplemental_groups.as_deref()).unwrap_or_default();
    user.groups.extend(extra.iter().copied().chain(pod.and_then(|p| p.fs_group)).filter_map(|g| id(Some(g))));
    user.groups.sort_unstable();
    user.groups.dedup();
    let non_root = own.and_then(|c| c.run_as_non_root).or(pod.and_then(|p| p.run_as_non_root));
    if non_root == Some(true) && user.uid == 0 {
        return Err(Error::Root(container.name.clone()));
    }
    Ok(user)
}

pub fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|c| c.privileged) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn capabilities_are_added_and_dropped() {
        let of = |value| capabilities(Some(&serde_json::from_value::<Capabilities>(value).unwrap())).unwrap();
        assert_eq!(capabilities(None), None);
        assert_eq!(of(json!({"drop": ["ALL"]})), Vec::<String>::new());
        assert_eq!(of(json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})), ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(of(json!({"add": ["ALL"], "drop": ["SYS_ADMIN"]})).len(), 40);
        let set = of(json!({"add": ["NET_ADMIN", "cap_chown"], "drop": ["KILL"]}));
        assert_eq!(set.len(), 14);
        assert!(set.contains(&"CAP_NET_ADMIN".to_owned()) && !set.contains(&"CAP_KILL".to_owned()));
    }

    #[test]
    fn the_container_outranks_the_pod_and_the_pod_the_image() {
        let of = |pod, own, uid| {
            let spec = serde_json::from_value(json!({"containers": [], "securityContext": pod})).unwrap();
            let container = serde_json::from_value(json!({"name": "c", "securityContext": own})).unwrap();
            let asked = asked_user(&spec, &container, "app");
            let resolved = User { uid, gid: 8, groups: vec![9] };
            user(&spec, &container, &resolved).map(|u| (asked, u.gid, u.groups))
        };
        assert_eq!(of(json!({}), json!({}), 7), Ok(("app".into(), 8, vec![9])));
        assert_eq!(of(json!({"runAsUser": 1000}), json!({}), 1000), Ok(("1000".into(), 8, vec![9])));
        assert_eq!(
            of(json!({"runAsUser": 1000, "fsGroup": 5, "supplementalGroups": [6]}), json!({"runAsUser": 7}), 7),
            Ok(("7".into(), 8, vec![5, 6, 9]))
        );
        assert_eq!(
            of(json!({"supplementalGroupsPolicy": "Strict", "fsGroup": 5}), json!({"runAsGroup": 1}), 7),
            Ok(("app".into(), 1, vec![5]))
        );
        assert_eq!(of(json!({"runAsNonRoot": true}), json!({}), 0), Err(Error::Root("c".into())));
    }
}
