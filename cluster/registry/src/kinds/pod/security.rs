//! What a pod and its containers may do, and as whom.

use std::collections::HashSet;

use serde_json::Value;

use super::os;
use super::volumes::relative;
use crate::errors::{Errors, Late, Path};
use crate::golang;
use crate::names;
use crate::value::Look as _;

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

/// Of the pod as a whole.
pub(crate) fn pod(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let context = spec.look("securityContext");
    let here = path.child("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context.look(field), &here.child(field), errors);
    }
    let list = here.child("supplementalGroups");
    for (at, group) in context.items("supplementalGroups").iter().enumerate() {
        id(group, &list.index(at), errors);
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&here.child("shareProcessNamespace"), true, why);
    }
    sysctls(spec, &here.child("sysctls"), errors);
    one_of(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], &here, errors);
    seccomp(context.look("seccompProfile"), &here.child("seccompProfile"), errors);
    windows(context.look("windowsOptions"), &here.child("windowsOptions"), errors);
    app_armor(context.look("appArmorProfile"), &here.child("appArmorProfile"), errors);
    one_of(context, "supplementalGroupsPolicy", &["Merge", "Strict"], &here, errors);
    // `MountOption` is for clusters that mount every volume so.
    one_of(context, "seLinuxChangePolicy", &["Recursive"], &here, errors);
}

/// Of one container.
pub(crate) fn container(container: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let context = container.look("securityContext");
    if context.is_null() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        id(context.look(field), &path.child(field), errors);
    }
    one_of(context, "procMount", &["Default", "Unmasked"], path, errors);
    if context.text("procMount") == "Unmasked" && spec.look("hostUsers") != &Value::Bool(false) {
        errors.invalid(&path.child("procMount"), "Unmasked", "`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(context.look("seccompProfile"), &path.child("seccompProfile"), errors);
    if context.look("allowPrivilegeEscalation") == &Value::Bool(false) {
        let privileged = context.flag("privileged").then_some("`privileged` to true");
        let added = context.items("capabilities.add").iter().filter(|capability| *capability == "CAP_SYS_ADMIN");
        for what in privileged.into_iter().chain(added.map(|_| "`capabilities.Add` CAP_SYS_ADMIN")) {
            let why = format!("cannot set `allowPrivilegeEscalation` to false and {what}");
            errors.invalid_json(path, &golang::show(context, "SecurityContext"), &why);
        }
    }
    windows(context.look("windowsOptions"), &path.child("windowsOptions"), errors);
    app_armor(context.look("appArmorProfile"), &path.child("appArmorProfile"), errors);
}

fn one_of(context: &Value, field: &str, known: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if let Some(text) = context.look(field).as_str().filter(|text| !known.contains(text)) {
        errors.not_supported(&path.child(field), text, known);
    }
}

/// A user's or group's number.
pub(crate) fn id(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(number) = value.as_i64().filter(|n| !(0..=i64::from(i32::MAX)).contains(n)) {
        errors.invalid(path, number, "must be between 0 and 2147483647, inclusive");
    }
}

fn sysctls(spec: &Value, list: &Path<'_>, errors: &mut Errors) {
    const WHY: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut seen = HashSet::new();
    for (at, sysctl) in spec.items("securityContext.sysctls").iter().enumerate() {
        let item = list.index(at);
        let here = item.child("name");
        let name = sysctl.text("name");
        let is_new = seen.insert(name);
        if name.is_empty() {
            errors.required(&here, "");
        } else if !is_sysctl(name) {
            errors.invalid(&here, name, WHY);
        } else if !is_new {
            errors.duplicate(&here, name);
        }
        if let Some(field) = namespace(name).filter(|field| spec.flag(field)) {
            let why = format!("may not be specified when '{field}' is true");
            errors.late(Late::SharedParameters, |errors| errors.invalid(&here, name, &why));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let part = |p: &str| edge(p.as_bytes().first()) && edge(p.as_bytes().last()) && p.bytes().all(|b| inner(&b));
    name.len() <= 253 && name.split(['.', '/']).all(part)
}

/// The field that shares with the machine what the parameter belongs to.
fn namespace(name: &str) -> Option<&'static str> {
    // Where a slash comes first, slashes and dots have changed places.
    let swapped = name.find(['.', '/']).is_some_and(|at| name.get(at..).is_some_and(|rest| rest.starts_with('/')));
    let name: String = match swapped {
        true => name.chars().map(exchanged).collect(),
        false => name.to_owned(),
    };
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
    if ipc || name == "kernel.sem" {
        return Some("hostIPC");
    }
    name.starts_with("net.").then_some("hostNetwork")
}

const fn exchanged(separator: char) -> char {
    match separator {
        '/' => '.',
        '.' => '/',
        other => other,
    }
}

fn seccomp(profile: &Value, path: &Path<'_>, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let (kind, local) = (profile.text("type"), profile.look("localhostProfile"));
    match kind {
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        kind if !PROFILES.contains(&kind) => errors.not_supported(&path.child("type"), kind, PROFILES),
        _ => {}
    }
    let here = path.child("localhostProfile");
    match local.as_str() {
        None if kind == "Localhost" => errors.required(&here, "must be set when seccomp type is Localhost"),
        Some(local) if kind == "Localhost" => relative(local, &here, errors),
        Some(_) => {
            let shown = golang::show(profile, "Profile");
            errors.invalid_json(&here, &shown, "can only be set when seccomp type is Localhost");
        }
        None => {}
    }
}

pub(crate) fn app_armor(profile: &Value, path: &Path<'_>, errors: &mut Errors) {
    const MOST: usize = 4095;
    if profile.is_null() {
        return;
    }
    let here = path.child("localhostProfile");
    match (profile.text("type"), profile.look("localhostProfile").as_str()) {
        ("Localhost", local) => {
            let local = local.unwrap_or_default();
            if local.trim() != local {
                errors.invalid(&here, local, "must not be padded with whitespace");
            } else if local.is_empty() {
                errors.required(&here, "must be set when AppArmor type is Localhost");
            }
            if local.len() > MOST {
                errors.too_long(&here, MOST);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(local)) => {
            errors.invalid(&here, local, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(&path.child("type"), "type is required when appArmorProfile is set"),
        (other, _) => errors.not_supported(&path.child("type"), other, PROFILES),
    }
}

fn windows(options: &Value, path: &Path<'_>, errors: &mut Errors) {
    let here = path.child("gmsaCredentialSpecName");
    if let Some(name) = options.look("gmsaCredentialSpecName").as_str() {
        errors.all_invalid(&here, name, names::subdomain(name));
    }
    let here = path.child("gmsaCredentialSpec");
    match options.look("gmsaCredentialSpec").as_str() {
        Some("") => errors.invalid(&here, "", "gmsaCredentialSpec cannot be an empty string"),
        Some(text) if text.len() > 64 << 10 => {
            errors.invalid(&here, text, "gmsaCredentialSpec size must be under 64 KiB")
        }
        _ => {}
    }
    if let Some(name) = options.look("runAsUserName").as_str() {
        for why in wrong_user(name) {
            errors.invalid(&path.child("runAsUserName"), name, &format!("runAsUserName{why}"));
        }
    }
}

/// What is wrong with a user of Windows, `DOMAIN\USER` or `USER`.
fn wrong_user(name: &str) -> Vec<&'static str> {
    let (domain, user) = match name.split_once('\\') {
        _ if name.is_empty() => return vec![" cannot be an empty string"],
        _ if name.bytes().any(|b| b.is_ascii_control()) => return vec![" cannot contain control characters"],
        Some((_, user)) if user.contains('\\') => return vec![" cannot contain more than one backslash"],
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let net_bios = |d: &str| {
        let fine = |c: char| !"\\/:*?\"<>|".contains(c);
        (1..=15).contains(&d.chars().count()) && !d.starts_with('.') && d.chars().all(fine)
    };
    let dns =
        |d: &str| d.split('.').all(|part| part.len() <= 63 && names::label(&part.to_ascii_lowercase()).is_empty());
    let long_domain = domain.is_some_and(|d| d.len() >= 256);
    let odd_domain = domain.is_some_and(|d| !net_bios(d) && !dns(d));
    let rules = [
        (long_domain, "'s Domain length must be under 256 characters"),
        (odd_domain, "'s Domain doesn't match the NetBios nor the DNS format"),
        (user.is_empty(), "'s User cannot be empty"),
        (user.len() > 104, "'s User length must not be longer than 104 characters"),
        (!user.is_empty() && user.chars().all(|c| ". ".contains(c)), "'s User cannot contain only periods or spaces"),
        (
            user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)),
            "'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]",
        ),
    ];
    rules.into_iter().filter(|(is, _)| *is).map(|(_, why)| why).collect()
}

/// Containers that are processes of a Windows machine: all of a pod or none, on the machine's network.
pub(crate) fn host_process(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const FIELD: &str = "securityContext.windowsOptions.hostProcess";
    let whole = spec.look(FIELD).as_bool();
    let (mut all, mut such) = (0, 0);
    os::each_container(spec, path, |container, here| {
        let own = container.look(FIELD).as_bool();
        all += 1;
        such += usize::from(own.or(whole) == Some(true));
        if let (Some(whole), Some(own)) = (whole, own)
            && whole != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {whole}");
            errors.invalid(&here.child(FIELD), own, &why);
        }
    });
    if such > 0 && such != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path, "", why);
    }
    if such > 0 && !spec.flag("hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), false, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(spec: Value) -> Vec<String> {
        let mut errors = Errors::default();
        let path = Path::root("spec");
        pod(&spec, &path, &mut errors);
        for of in spec.items("containers") {
            container(of, &spec, &path.child("c"), &mut errors);
        }
        host_process(&spec, &path, &mut errors);
        errors.told()
    }

    #[test]
    fn sysctls_have_a_form_and_are_the_pods_own() {
        let spec = json!({"hostNetwork": true, "hostIPC": true, "securityContext": {"sysctls": [
            {"name": "net.ipv4.ip_forward"}, {"name": "net/ipv4/x.y"}, {"name": "kernel.sem"}, {"name": "Kernel"}, {"name": "vm.x"}, {"name": "vm.x"}, {},
        ]}});
        const FORM: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
        let at = |n: usize, what: &str| format!("spec.securityContext.sysctls[{n}].name: {what}");
        let net = "may not be specified when 'hostNetwork' is true";
        assert_eq!(
            told(spec),
            [
                at(0, &format!("Invalid value: \"net.ipv4.ip_forward\": {net}")),
                at(1, &format!("Invalid value: \"net/ipv4/x.y\": {net}")),
                at(2, "Invalid value: \"kernel.sem\": may not be specified when 'hostIPC' is true"),
                at(3, &format!("Invalid value: \"Kernel\": {FORM}")),
                at(5, "Duplicate value: \"vm.x\""),
                at(6, "Required value"),
            ]
        );
        assert_eq!(told(json!({"securityContext": {"sysctls": [{"name": "net.a"}, {"name": "a/b.c"}]}})), [""; 0]);
    }

    #[test]
    fn policies_of_a_context_are_known_ones() {
        let spec = json!({"securityContext": {"supplementalGroupsPolicy": "x", "seLinuxChangePolicy": "MountOption", "fsGroupChangePolicy": ""}});
        assert_eq!(
            told(spec),
            [
                "spec.securityContext.fsGroupChangePolicy: Unsupported value: \"\": supported values: \"Always\", \"OnRootMismatch\"",
                "spec.securityContext.supplementalGroupsPolicy: Unsupported value: \"x\": supported values: \"Merge\", \"Strict\"",
                "spec.securityContext.seLinuxChangePolicy: Unsupported value: \"MountOption\": supported values: \"Recursive\"",
            ]
        );
    }

    #[test]
    fn profiles_of_the_machine_are_named_properly() {
        let told = |kind: &str, profile: Value| told(json!({"securityContext": {kind: profile}}));
        let at = |kind: &str, what: &str| vec![format!("spec.securityContext.{kind}.{what}")];
        let seccomp = |profile| told("seccompProfile", profile);
        assert_eq!(seccomp(json!({"type": "Localhost", "localhostProfile": "a/b.json"})), [""; 0]);
        let local = |text: &str| seccomp(json!({"type": "Localhost", "localhostProfile": text}));
        assert_eq!(
            local("/a"),
            at("seccompProfile", "localhostProfile: Invalid value: \"/a\": must be a relative path")
        );
        assert_eq!(
            local("a/../b"),
            at("seccompProfile", "localhostProfile: Invalid value: \"a/../b\": must not contain '..'")
        );
        assert_eq!(
            seccomp(json!({"type": "Unconfined", "localhostProfile": "x"})),
            at(
                "seccompProfile",
                "localhostProfile: Invalid value: {\"Type\":\"Unconfined\",\"LocalhostProfile\":\"x\"}: can only be set when seccomp type is Localhost"
            )
        );
        assert_eq!(
            seccomp(json!({})),
            at("seccompProfile", "type: Required value: type is required when seccompProfile is set")
        );
        let armor = |profile| told("appArmorProfile", profile);
        assert_eq!(
            armor(json!({"type": ""})),
            at("appArmorProfile", "type: Required value: type is required when appArmorProfile is set")
        );
        assert_eq!(
            armor(json!({"type": "Localhost", "localhostProfile": " x"})),
            at("appArmorProfile", "localhostProfile: Invalid value: \" x\": must not be padded with whitespace")
        );
        assert_eq!(
            armor(json!({"type": "Localhost", "localhostProfile": "x".repeat(4096)})),
            at("appArmorProfile", "localhostProfile: Too long: may not be more than 4095 bytes")
        );
    }

    #[test]
    fn users_of_windows_have_a_form() {
        for (name, wrong) in [
            ("u", ""),
            ("D\\u", ""),
            ("a.b-c.example\\u", ""),
            ("", " cannot be an empty string"),
            ("a\u{1}", " cannot contain control characters"),
            ("a\\b\\c", " cannot contain more than one backslash"),
            (".d\\u", "'s Domain doesn't match the NetBios nor the DNS format"),
            ("D\\", "'s User cannot be empty"),
            (". .", "'s User cannot contain only periods or spaces"),
            ("a@b", "'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"),
        ] {
            let wrong: Vec<&str> = Some(wrong).into_iter().filter(|w| !w.is_empty()).collect();
            assert_eq!(wrong_user(name), wrong, "{name}");
        }
    }

    #[test]
    fn processes_of_the_machine_are_alone_among_themselves() {
        let one = |on: bool| json!({"name": "c", "securityContext": {"windowsOptions": {"hostProcess": on}}});
        let spec = json!({"securityContext": {"windowsOptions": {"hostProcess": true}}, "containers": [one(true), one(false)]});
        assert_eq!(
            told(spec),
            [
                "spec.containers[1].securityContext.windowsOptions.hostProcess: Invalid value: false: pod hostProcess value must be identical if both are specified, was true",
                "spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be HostProcess containers",
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
            ]
        );
    }
}
