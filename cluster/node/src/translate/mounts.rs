//! What of the node a container sees: its volumes, and the few files that every pod has.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};
use kedge_runtime::Mount;

use super::Error;
use super::env::Env;
use super::expand::expand;

/// Where things of one pod stand on the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// Host path of each volume, and whether nobody may write to it.
    pub volumes: BTreeMap<String, (PathBuf, bool)>,
    pub hosts: PathBuf,
    pub resolv_conf: PathBuf,
    pub hostname: PathBuf,
    /// The file that the container leaves its last words in.
    pub termination: PathBuf,
}

/// A mount below a volume that may have to be made first: the volume's path, and the path below it.
#[derive(Clone, Debug, PartialEq)]
pub struct SubPath {
    pub volume: PathBuf,
    pub path: PathBuf,
}

impl SubPath {
    pub fn full(&self) -> PathBuf {
        self.volume.join(&self.path)
    }
}

pub fn of(container: &Container, env: &Env, places: &Places) -> Result<(Vec<Mount>, Vec<SubPath>), Error> {
    let (mut mounts, mut sub_paths) = (Vec::new(), Vec::new());
    let asked = container.volume_mounts.as_deref().unwrap_or_default();
    let taken = |target: &str| asked.iter().any(|m| m.mount_path.trim_end_matches('/') == target);
    for (source, target) in
        [(&places.hosts, "/etc/hosts"), (&places.resolv_conf, "/etc/resolv.conf"), (&places.hostname, "/etc/hostname")]
    {
        if !taken(target) {
            mounts.push(Mount::bind(source.to_string_lossy(), target, false));
        }
    }
    for mount in asked {
        let (volume, read_only) = places.volumes.get(&mount.name).ok_or_else(|| Error::Volume(mount.name.clone()))?;
        let source = match sub_path(mount, env)? {
            Some(path) => {
                let sub = SubPath { volume: volume.clone(), path };
                let full = sub.full();
                sub_paths.push(sub);
                full
            }
            None => volume.clone(),
        };
        let read_only = *read_only || mount.read_only == Some(true);
        let mut made = Mount::bind(source.to_string_lossy(), mount.mount_path.clone(), read_only);
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => "rslave",
            Some("Bidirectional") => "rshared",
            Some(_) | None => "rprivate",
        };
        for option in &mut made.options {
            if option == "rprivate" {
                propagation.clone_into(option);
            }
        }
        mounts.push(made);
    }
    let words =
        container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log");
    mounts.push(Mount::bind(places.termination.to_string_lossy(), words, false));
    Ok((mounts, sub_paths))
}

fn sub_path(mount: &VolumeMount, env: &Env) -> Result<Option<PathBuf>, Error> {
    let text = match (mount.sub_path_expr.as_deref(), mount.sub_path.as_deref()) {
        (Some(expression), _) if !expression.is_empty() => expand(expression, &|name| env.get(name).cloned()),
        (_, Some(path)) if !path.is_empty() => path.to_owned(),
        _ => return Ok(None),
    };
    let path = Path::new(&text);
    let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if inside { Ok(Some(path.to_owned())) } else { Err(Error::SubPath(text)) }
}
