//! APIServices as they are looked up: what they stand for, how it is ranked, and where it leads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_api::resource::known::API_SERVICES;
use kedge_api::{Object, Snapshot};
use serde_json::Value;
use std::sync::Arc;

use crate::reach::service::{items, text};

/// What upstream gives the versions of custom resources.
const GROUP_PRIORITY: i64 = 1000;
const VERSION_PRIORITY: i64 = 100;

/// One APIService.
#[derive(Debug)]
pub struct Service {
    pub name: String,
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
    /// `None`: this server answers itself.
    pub remote: Option<Remote>,
    pub available: bool,
}

/// The server that answers instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub namespace: String,
    pub name: String,
    pub port: u16,
    /// Authorities in PEM that vouch for it.
    pub ca_bundle: Vec<u8>,
    /// Any certificate will do.
    pub insecure: bool,
}

impl Service {
    fn read(object: &Object) -> Option<Self> {
        let value: Value = object.decode().ok()?;
        let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let available = items(&value, "/status/conditions")
            .iter()
            .any(|c| text(c, "/type") == "Available" && text(c, "/status") == "True");
        let remote = value.pointer("/spec/service").filter(|service| service.is_object()).map(|service| Remote {
            namespace: text(service, "/namespace").to_owned(),
            name: text(service, "/name").to_owned(),
            port: service.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            ca_bundle: STANDARD.decode(text(&value, "/spec/caBundle")).unwrap_or_default(),
            insecure: value.pointer("/spec/insecureSkipTLSVerify") == Some(&Value::Bool(true)),
        });
        Some(Self {
            name: object.key.name.to_string(),
            group: text(&value, "/spec/group").to_owned(),
            version: text(&value, "/spec/version").to_owned(),
            group_priority: number("/spec/groupPriorityMinimum"),
            version_priority: number("/spec/versionPriority"),
            remote,
            available,
        })
    }

    pub fn is(&self, group: &str, version: &str) -> bool {
        self.group == group && self.version == version
    }
}

/// All of them, as one snapshot has them.
#[derive(Default)]
pub(super) struct Index {
    seen: Snapshot,
    pub(super) services: Arc<[Arc<Service>]>,
}

impl Index {
    pub(super) fn shows(&self, snapshot: &Snapshot) -> bool {
        self.seen.is_same(snapshot, &API_SERVICES)
    }

    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        // Another thread may have been here, with a newer one.
        if snapshot.revision < self.seen.revision {
            return;
        }
        self.services = snapshot.list(&API_SERVICES, "").filter_map(|o| Service::read(o)).map(Arc::new).collect();
        self.seen = snapshot.only(&[API_SERVICES]);
    }
}

/// How a group ranks: by the highest of its versions.
pub(super) fn group_priority(services: &[Arc<Service>], group: &str) -> i64 {
    services.iter().filter(|s| s.group == group).map(|s| s.group_priority).max().unwrap_or(GROUP_PRIORITY)
}

pub(super) fn version_priority(services: &[Arc<Service>], group: &str, version: &str) -> i64 {
    services.iter().find(|s| s.is(group, version)).map_or(VERSION_PRIORITY, |s| s.version_priority)
}
