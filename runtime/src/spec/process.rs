//! The `process` object: of a container's first process, and of one run beside it.

use oci_spec::runtime::Process;
use serde_json::{Value, json};

use super::defaults::{DEFAULT_CAPABILITIES, DEFAULT_PATH, PRIVILEGED_CAPABILITIES};
use crate::{ContainerSpec, Error, ExecSpec, User};

pub(super) fn first(spec: &ContainerSpec) -> Value {
    let mut env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    complete(&mut env, spec.tty);
    json!({
        "terminal": spec.tty,
        "user": user(&spec.user),
        "args": spec.args,
        "env": env,
        "cwd": if spec.cwd.is_empty() { "/" } else { spec.cwd.as_str() },
        "capabilities": capabilities(spec),
        "rlimits": spec
            .rlimits
            .iter()
            .map(|limit| json!({ "type": limit.kind, "soft": limit.soft, "hard": limit.hard }))
            .collect::<Vec<_>>(),
        "noNewPrivileges": spec.no_new_privileges,
        "oomScoreAdj": spec.oom_score_adj.unwrap_or(0),
    })
}

/// Another process in a container whose first process is `container`: the same limits and rights, another command.
pub fn for_exec(id: &str, container: &Process, exec: &ExecSpec) -> Result<Process, Error> {
    let wrong = |field, reason: String| Err(Error::Invalid { id: id.to_owned(), field, reason });
    if exec.args.first().is_none_or(String::is_empty) {
        return wrong("exec.args", "no command is given".to_owned());
    }
    if exec.args.iter().any(|arg| arg.contains('\0')) {
        return wrong("exec.args", "an argument has a NUL byte".to_owned());
    }
    if let Some(cwd) = &exec.cwd
        && !cwd.starts_with('/')
    {
        return wrong("exec.cwd", format!("{cwd:?} is not an absolute path"));
    }
    let mut env = container.env().clone().unwrap_or_default();
    for (name, value) in &exec.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return wrong("exec.env", format!("{name:?} cannot be a variable"));
        }
        env.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
        env.push(format!("{name}={value}"));
    }
    complete(&mut env, exec.tty);
    let mut process = container.clone();
    process.set_terminal(Some(exec.tty)).set_args(Some(exec.args.clone())).set_env(Some(env));
    if let Some(cwd) = &exec.cwd {
        process.set_cwd(cwd.into());
    }
    if let Some(asked) = &exec.user {
        if asked.uid == u32::MAX || asked.gid == u32::MAX {
            return wrong("exec.user", format!("{} is no id", u32::MAX));
        }
        match serde_json::from_value(user(asked)) {
            Ok(user) => process.set_user(user),
            Err(error) => return wrong("exec.user", error.to_string()),
        };
    }
    Ok(process)
}

fn user(user: &User) -> Value {
    json!({ "uid": user.uid, "gid": user.gid, "umask": 0o022, "additionalGids": user.groups })
}

/// What every program may count on: where to look for others, and what its terminal is.
fn complete(env: &mut Vec<String>, tty: bool) {
    let has = |env: &[String], name: &str| env.iter().any(|entry| entry.starts_with(name));
    if !has(env, "PATH=") {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    if tty && !has(env, "TERM=") {
        env.push("TERM=xterm".to_owned());
    }
}

/// Inheritable and ambient stay empty: a program run as another user must not keep root's rights across `execve`.
fn capabilities(spec: &ContainerSpec) -> Value {
    let default = || DEFAULT_CAPABILITIES.iter().map(|&name| name.to_owned());
    let set: Vec<String> = match &spec.capabilities {
        Some(asked) => asked.clone(),
        None if spec.privileged => {
            default().chain(PRIVILEGED_CAPABILITIES.iter().map(|&name| name.to_owned())).collect()
        }
        None => default().collect(),
    };
    json!({ "bounding": set, "effective": set, "permitted": set, "inheritable": [], "ambient": [] })
}
