//! What a volume holds: a pure function of the pod and the objects it names.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret, Volume,
};
use kedge_api::quantity::Quantity;

use crate::translate::env::Objects;
use crate::translate::fields::{self, Facts};
use crate::translate::{Error, qos};

const DEFAULT_MODE: u32 = 0o644;

/// How a volume comes to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Host { path: PathBuf, kind: String },
    Empty { memory: bool, size: Option<u64> },
    Files(Payload),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload {
    pub files: BTreeMap<PathBuf, File>,
    /// Files that hold a token, to be asked for.
    pub tokens: Vec<TokenAsk>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAsk {
    pub path: PathBuf,
    pub audience: Option<String>,
    pub seconds: i64,
    pub mode: u32,
}

pub fn plan(pod: &Pod, volume: &Volume, objects: Objects<'_>, facts: &Facts) -> Result<Plan, Error> {
    if let Some(host) = &volume.host_path {
        return Ok(Plan::Host { path: host.path.clone().into(), kind: host.type_.clone().unwrap_or_default() });
    }
    if let Some(empty) = &volume.empty_dir {
        let size = empty.size_limit.as_ref().and_then(|q| Quantity::try_from(q).ok());
        let size = size.and_then(|q| u64::try_from(q.bytes()).ok()).filter(|s| *s > 0);
        return Ok(Plan::Empty { memory: empty.medium.as_deref() == Some("Memory"), size });
    }
    let mut payload = Payload::default();
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        if let Some(map) = objects.config_map(&source.name, optional)? {
            let data = config_map_data(map);
            payload.pick(
                "ConfigMap",
                &source.name,
                data,
                source.items.as_deref(),
                mode(source.default_mode),
                optional,
            )?;
        }
    } else if let Some(source) = &volume.secret {
        let (name, optional) = (source.secret_name.as_deref().unwrap_or_default(), source.optional == Some(true));
        if let Some(secret) = objects.secret(name, optional)? {
            let data = secret_data(secret);
            payload.pick("Secret", name, data, source.items.as_deref(), mode(source.default_mode), optional)?;
        }
    } else if let Some(source) = &volume.downward_api {
        payload.downward(pod, source.items.as_deref().unwrap_or_default(), facts, mode(source.default_mode))?;
    } else if let Some(source) = &volume.projected {
        payload.projected(pod, source, objects, facts)?;
    } else {
        return Err(Error::Unsupported("this kind of volume"));
    }
    Ok(Plan::Files(payload))
}

fn mode(mode: Option<i32>) -> u32 {
    mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(DEFAULT_MODE) & 0o777
}

fn config_map_data(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes()));
    text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(k, ByteString(v))| (k, v))).collect()
}

fn secret_data(secret: Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.unwrap_or_default().into_iter().map(|(k, ByteString(v))| (k, v)).collect()
}

/// A path below the volume that stays there.
fn inside(text: &str) -> Result<PathBuf, Error> {
    let path = Path::new(text);
    let fine = !text.is_empty() && path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let reserved = text.starts_with("..");
    if fine && !reserved {
        Ok(path.components().filter(|c| *c != Component::CurDir).collect())
    } else {
        Err(Error::SubPath(text.to_owned()))
    }
}

impl Payload {
    /// All keys, or those that `items` name, under the paths they give.
    fn pick(
        &mut self,
        kind: &'static str,
        name: &str,
        mut data: BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
        default: u32,
        optional: bool,
    ) -> Result<(), Error> {
        let Some(items) = items.filter(|i| !i.is_empty()) else {
            for (key, data) in data {
                self.files.insert(inside(&key)?, File { data, mode: default });
            }
            return Ok(());
        };
        for item in items {
            match data.remove(&item.key) {
                Some(data) => {
                    let mode = item.mode.map_or(default, |m| mode(Some(m)));
                    self.files.insert(inside(&item.path)?, File { data, mode });
                }
                None if optional => {}
                None => return Err(Error::MissingKey { kind, object: name.to_owned(), key: item.key.clone() }),
            }
        }
        Ok(())
    }

    fn downward(
        &mut self,
        pod: &Pod,
        items: &[DownwardAPIVolumeFile],
        facts: &Facts,
        default: u32,
    ) -> Result<(), Error> {
        for item in items {
            let text = if let Some(reference) = &item.field_ref {
                fields::field(pod, facts, &reference.field_path)?
            } else if let Some(selector) = &item.resource_field_ref {
                let named = selector.container_name.as_deref();
                let container =
                    pod.spec.as_ref().and_then(|s| qos::containers(s).find(|c| Some(c.name.as_str()) == named));
                let container = container.ok_or_else(|| Error::Field(selector.resource.clone()))?;
                fields::resource(container, facts, selector)?
            } else {
                continue;
            };
            let mode = item.mode.map_or(default, |m| mode(Some(m)));
            self.files.insert(inside(&item.path)?, File { data: text.into_bytes(), mode });
        }
        Ok(())
    }

    fn projected(
        &mut self,
        pod: &Pod,
        source: &ProjectedVolumeSource,
        objects: Objects<'_>,
        facts: &Facts,
    ) -> Result<(), Error> {
        let default = mode(source.default_mode);
        for source in source.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let optional = source.optional == Some(true);
                if let Some(map) = objects.config_map(&source.name, optional)? {
                    self.pick(
                        "ConfigMap",
                        &source.name,
                        config_map_data(map),
                        source.items.as_deref(),
                        default,
                        optional,
                    )?;
                }
            } else if let Some(source) = &source.secret {
                let optional = source.optional == Some(true);
                if let Some(secret) = objects.secret(&source.name, optional)? {
                    self.pick("Secret", &source.name, secret_data(secret), source.items.as_deref(), default, optional)?;
                }
            } else if let Some(source) = &source.downward_api {
                self.downward(pod, source.items.as_deref().unwrap_or_default(), facts, default)?;
            } else if let Some(source) = &source.service_account_token {
                self.tokens.push(TokenAsk {
                    path: inside(&source.path)?,
                    audience: source.audience.clone().filter(|a| !a.is_empty()),
                    seconds: source.expiration_seconds.unwrap_or(3600),
                    mode: default,
                });
            } else {
                return Err(Error::Unsupported("this kind of projected volume source"));
            }
        }
        Ok(())
    }
}

/// ConfigMaps and Secrets that a pod's volumes and environment come from, by resource and name.
pub fn references(pod: &Pod) -> Vec<(kedge_api::GroupResource, String)> {
    use kedge_api::resource::known::{CONFIG_MAPS, SECRETS};
    let mut out = Vec::new();
    let mut add = |resource: kedge_api::GroupResource, name: Option<&String>| {
        out.extend(name.map(|n| (resource, n.clone())));
    };
    let Some(spec) = &pod.spec else { return out };
    for volume in spec.volumes.iter().flatten() {
        add(CONFIG_MAPS, volume.config_map.as_ref().map(|s| &s.name));
        add(SECRETS, volume.secret.as_ref().and_then(|s| s.secret_name.as_ref()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            add(CONFIG_MAPS, source.config_map.as_ref().map(|s| &s.name));
            add(SECRETS, source.secret.as_ref().map(|s| &s.name));
        }
    }
    for container in qos::containers(spec) {
        for source in container.env_from.iter().flatten() {
            add(CONFIG_MAPS, source.config_map_ref.as_ref().map(|s| &s.name));
            add(SECRETS, source.secret_ref.as_ref().map(|s| &s.name));
        }
        for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            add(CONFIG_MAPS, source.config_map_key_ref.as_ref().map(|s| &s.name));
            add(SECRETS, source.secret_key_ref.as_ref().map(|s| &s.name));
        }
    }
    out.sort();
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::container::tests::object;
    use kedge_api::Snapshot;
    use kedge_api::resource::known;
    use serde_json::{Value, json};

    fn planned(volume: Value) -> Result<Plan, String> {
        let mut snapshot = Snapshot::default();
        let meta = json!({"namespace": "shop", "name": "conf"});
        snapshot.insert(object(
            known::CONFIG_MAPS,
            json!({"metadata": meta, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "Aw=="}}),
        ));
        let mut volume = volume;
        volume["name"] = json!("v");
        let pod = json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"x": "y"}},
            "spec": {"containers": [{"name": "m", "resources": {"limits": {"cpu": "2"}}}]}});
        let (pod, volume) = (serde_json::from_value(pod).unwrap(), serde_json::from_value(volume).unwrap());
        let objects = Objects { snapshot: &snapshot, namespace: "shop" };
        plan(&pod, &volume, objects, &Facts::default()).map_err(|e| e.to_string())
    }

    fn files(plan: Result<Plan, String>) -> String {
        let Plan::Files(payload) = plan.unwrap() else { panic!("not files") };
        let file = |(path, file): (&PathBuf, &File)| {
            format!("{}={}:{:o}", path.display(), file.data.escape_ascii(), file.mode)
        };
        let mut shown: Vec<_> = payload.files.iter().map(file).collect();
        shown.extend(
            payload.tokens.iter().map(|t| format!("{} token {:?} {}s", t.path.display(), t.audience, t.seconds)),
        );
        shown.join(" ")
    }

    #[test]
    fn volumes_of_files() {
        for (volume, expected) in [
            (json!({"configMap": {"name": "conf"}}), "a=1:644 b=2:644 c=\\x03:644"),
            (
                json!({"configMap": {"name": "conf", "defaultMode": 256, "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "b", "mode": 511}]}}),
                "b=2:777 x/y=1:400",
            ),
            (json!({"configMap": {"name": "none", "optional": true}}), ""),
            (json!({"secret": {"secretName": "none", "optional": true}}), ""),
            (
                json!({"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "m", "resource": "limits.cpu"}}]}}),
                "cpu=2:644 labels=x=\\\"y\\\":644",
            ),
            (
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "conf", "items": [{"key": "a", "path": "ca.crt"}]}}]}}),
                "ca.crt=1:644 token token None 3607s",
            ),
        ] {
            assert_eq!(files(planned(volume.clone())), expected, "{volume}");
        }
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        for (volume, expected) in [
            (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
            (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
            (
                json!({"configMap": {"name": "conf", "items": [{"key": "z", "path": "z"}]}}),
                "couldn't find key z in ConfigMap conf",
            ),
            (
                json!({"configMap": {"name": "conf", "items": [{"key": "a", "path": "../z"}]}}),
                "subPath \"../z\" must be relative and must not contain '..'",
            ),
            (json!({"nfs": {"server": "s", "path": "/"}}), "this kind of volume is not supported by this node yet"),
        ] {
            assert_eq!(planned(volume).unwrap_err(), expected);
        }
    }
}
