//! Refuses what could not work, with the field that is wrong.

use crate::{ContainerSpec, Error, Namespace};

/// The id becomes a file name and part of an abstract of paths: the same alphabet everywhere.
pub fn check_id(id: &str) -> Result<(), Error> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let reason = match id {
        "" => "is empty".to_owned(),
        "." | ".." => format!("{id:?} is a directory"),
        _ if id.len() > 128 => format!("has {} bytes; 128 are the most", id.len()),
        _ if !id.bytes().all(known) => format!("{id:?} has other characters than letters, digits, '_', '-' and '.'"),
        _ => return Ok(()),
    };
    Err(Error::Invalid { id: id.escape_default().take(128).collect(), field: "id", reason })
}

/// Everything about a specification that can be known to be wrong without touching the machine.
pub fn check(spec: &ContainerSpec) -> Result<(), Error> {
    check_id(&spec.id)?;
    let wrong = |field, reason: String| Err(Error::Invalid { id: spec.id.clone(), field, reason });
    if spec.rootfs.layers.is_empty() {
        return wrong("rootfs", "has no layers".to_owned());
    }
    if let Some(layer) = spec.rootfs.layers.iter().find(|layer| !layer.is_absolute()) {
        return wrong("rootfs", format!("layer {} is not an absolute path", layer.display()));
    }
    if spec.args.first().is_none_or(String::is_empty) {
        return wrong("args", "no command is given, neither by the image nor by the container".to_owned());
    }
    if let Some(arg) = spec.args.iter().find(|arg| arg.contains('\0')) {
        return wrong("args", format!("{arg:?} has a NUL byte"));
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return wrong("env", format!("{name:?} cannot be a variable: empty name, '=' in it, or a NUL byte"));
        }
    }
    let ids = [spec.user.uid, spec.user.gid].into_iter().chain(spec.user.groups.iter().copied());
    if ids.into_iter().any(|id| id == u32::MAX) {
        // setresuid(2) takes it for "leave as it is", which is root.
        return wrong("user", format!("{} is no id", u32::MAX));
    }
    if !spec.cwd.is_empty() && !spec.cwd.starts_with('/') {
        return wrong("cwd", format!("{:?} is not an absolute path", spec.cwd));
    }
    if let Some(mount) = spec.mounts.iter().find(|mount| !mount.target.starts_with('/')) {
        return wrong("mounts", format!("target {:?} is not an absolute path", mount.target));
    }
    if !spec.cgroup.starts_with('/') || spec.cgroup.len() < 2 || spec.cgroup.split('/').any(|part| part == "..") {
        return wrong("cgroup", format!("{:?} is not an absolute path below the root", spec.cgroup));
    }
    let named = &spec.namespaces;
    for (field, namespace) in
        [("namespaces.net", &named.net), ("namespaces.ipc", &named.ipc), ("namespaces.uts", &named.uts)]
    {
        if let Namespace::Path(path) = namespace
            && !path.is_absolute()
        {
            return wrong(field, format!("{} is not an absolute path", path.display()));
        }
    }
    Ok(())
}
