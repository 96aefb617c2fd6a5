//! A container's environment: `envFrom`, `env`, and the variables of services, in upstream's order and precedence.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};
use kedge_api::Snapshot;
use kedge_api::resource::known;
use kedge_api::{GroupResource, Key};

use super::Error;
use super::expand::expand;
use super::fields::{self, Facts};

pub type Env = BTreeMap<String, String>;

/// Objects of one namespace.
#[derive(Clone, Copy)]
pub struct Objects<'a> {
    pub snapshot: &'a Snapshot,
    pub namespace: &'a str,
}

impl Objects<'_> {
    fn get<T: serde::de::DeserializeOwned>(&self, resource: GroupResource, name: &str) -> Result<Option<T>, Error> {
        let key = Key::new(resource, self.namespace, name);
        match self.snapshot.get(&key) {
            Some(object) => object.decode().map(Some).map_err(|e| Error::Object(e.message)),
            None => Ok(None),
        }
    }

    /// `None` only where `optional` and absent.
    pub fn config_map(&self, name: &str, optional: bool) -> Result<Option<ConfigMap>, Error> {
        match self.get(known::CONFIG_MAPS, name)? {
            None if !optional => Err(Error::Missing { kind: "configmap", name: name.to_owned() }),
            found => Ok(found),
        }
    }

    pub fn secret(&self, name: &str, optional: bool) -> Result<Option<Secret>, Error> {
        match self.get(known::SECRETS, name)? {
            None if !optional => Err(Error::Missing { kind: "secret", name: name.to_owned() }),
            found => Ok(found),
        }
    }
}

pub fn of(pod: &Pod, container: &Container, objects: Objects<'_>, facts: &Facts) -> Result<Env, Error> {
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let services = services(objects, links);
    let mut env = Env::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref
            && let Some(map) = objects.config_map(&reference.name, reference.optional == Some(true))?
        {
            env.extend(map.data.unwrap_or_default().into_iter().map(|(k, v)| (format!("{prefix}{k}"), v)));
        }
        if let Some(reference) = &source.secret_ref
            && let Some(secret) = objects.secret(&reference.name, reference.optional == Some(true))?
        {
            let text = |v: Vec<u8>| String::from_utf8_lossy(&v).into_owned();
            env.extend(secret.data.unwrap_or_default().into_iter().map(|(k, v)| (format!("{prefix}{k}"), text(v.0))));
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(text), _) if !text.is_empty() => {
                expand(text, &|name| env.get(name).or_else(|| services.get(name)).cloned())
            }
            (_, Some(source)) => match from_source(pod, container, source, objects, facts)? {
                Some(value) => value,
                None => continue,
            },
            (_, None) => String::new(),
        };
        env.insert(var.name.clone(), value);
    }
    for (name, value) in services {
        env.entry(name).or_insert(value);
    }
    Ok(env)
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    objects: Objects<'_>,
    facts: &Facts,
) -> Result<Option<String>, Error> {
    if let Some(reference) = &source.field_ref {
        return fields::field(pod, facts, &reference.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let named = selector.container_name.as_deref();
        let spec = pod.spec.as_ref();
        let other = spec.and_then(|s| super::qos::containers(s).find(|c| Some(c.name.as_str()) == named));
        return fields::resource(other.unwrap_or(container), facts, selector).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let Some(map) = objects.config_map(&reference.name, optional)? else { return Ok(None) };
        let value = map.data.unwrap_or_default().remove(&reference.key);
        return found(value, optional, "ConfigMap", objects.namespace, &reference.name, &reference.key);
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let Some(secret) = objects.secret(&reference.name, optional)? else { return Ok(None) };
        let value = secret.data.unwrap_or_default().remove(&reference.key);
        let value = value.map(|v| String::from_utf8_lossy(&v.0).into_owned());
        return found(value, optional, "Secret", objects.namespace, &reference.name, &reference.key);
    }
    Err(Error::Unsupported("valueFrom source (fileKeyRef)"))
}

fn found(
    value: Option<String>,
    optional: bool,
    kind: &'static str,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<Option<String>, Error> {
    if value.is_none() && !optional {
        return Err(Error::MissingKey { kind, object: format!("{namespace}/{name}"), key: key.to_owned() });
    }
    Ok(value)
}

/// `NAME_SERVICE_HOST` and the like: of the API server always, of the namespace's services with `links`.
fn services(objects: Objects<'_>, links: bool) -> Env {
    let mut env = Env::new();
    let master = objects.snapshot.get(&Key::new(known::SERVICES, "default", "kubernetes"));
    let own = objects.snapshot.list(&known::SERVICES, objects.namespace).filter(|_| links);
    for object in own.chain(master) {
        if let Ok(service) = object.decode::<Service>() {
            add_service(&mut env, &object.key.name, &service);
        }
    }
    env
}

fn add_service(env: &mut Env, name: &str, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !matches!(*ip, "" | "None")) else { return };
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let name = upper(name);
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{number}", protocol.to_lowercase());
        if i == 0 {
            env.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
            env.insert(format!("{name}_SERVICE_PORT"), number.to_string());
            env.insert(format!("{name}_PORT"), url.clone());
        }
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            env.insert(format!("{name}_SERVICE_PORT_{}", upper(port_name)), number.to_string());
        }
        let prefix = format!("{name}_PORT_{number}_{}", protocol.to_uppercase());
        env.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
        env.insert(format!("{prefix}_PORT"), number.to_string());
        env.insert(format!("{prefix}_ADDR"), ip.to_owned());
        env.insert(prefix, url);
    }
}
