//! The keyring in use: shared, replaced whole, and counted under upstream's names.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use kedge_api::GroupResource;
use kedge_api::metrics::{Family, Source, Text};

use crate::provider::parts;
use crate::{Error, Keyring, Opened};

const SECONDS: &[f64] = &[
    5e-6, 1e-5, 2e-5, 4e-5, 8e-5, 0.00016, 0.00032, 0.00064, 0.00128, 0.00256, 0.00512, 0.01024, 0.02048, 0.04096,
    0.08192, 0.16384, 0.32768, 0.65536, 1.31072, 2.62144, 5.24288, 10.48576, 20.97152, 41.94304, 83.88608,
];

pub struct Keys {
    /// Locked for a look or a replacement, never while anything is sealed.
    current: RwLock<Arc<Keyring>>,
    operations: Family,
    durations: Family,
}

impl Default for Keys {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.current().fmt(f)
    }
}

impl Keys {
    pub fn new(ring: Arc<Keyring>) -> Self {
        Self {
            current: RwLock::new(ring),
            operations: Family::counter(
                "apiserver_storage_transformation_operations_total",
                "Values that were encrypted for the store or decrypted from it.",
                &["status", "transformation_type", "transformer_prefix"],
            ),
            durations: Family::histogram(
                "apiserver_storage_transformation_duration_seconds",
                "Time that it took to encrypt or decrypt a value.",
                &["transformation_type", "transformer_prefix"],
                SECONDS,
            ),
        }
    }

    pub fn current(&self) -> Arc<Keyring> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, ring: Arc<Keyring>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = ring;
    }

    /// Whether a rule is about the resource.
    pub fn concern(&self, resource: &GroupResource) -> bool {
        self.current().concerns(resource)
    }

    /// As [`Keyring::seal`].
    pub fn seal<'a>(&self, resource: &GroupResource, place: &str, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
        let (ring, began) = (self.current(), Instant::now());
        let sealed = ring.seal(resource, place, plain);
        if ring.concerns(resource) {
            let mark = sealed.as_deref().map_or_else(|_| String::new(), mark);
            self.count("to_storage", &mark, began, sealed.as_ref().err());
        }
        sealed
    }

    /// As [`Keyring::open`].
    pub fn open<'a>(&self, resource: &GroupResource, place: &str, stored: &'a [u8]) -> Result<Opened<'a>, Error> {
        let (ring, began) = (self.current(), Instant::now());
        let opened = ring.open(resource, place, stored);
        if opened.is_err() || ring.concerns(resource) {
            let mark = match (&opened, mark(stored)) {
                (Err(Error::NoProvider), _) => "unknown".to_owned(),
                (_, none) if none.is_empty() => "identity".to_owned(),
                (_, mark) => mark,
            };
            self.count("from_storage", &mark, began, opened.as_ref().err());
        }
        opened
    }

    fn count(&self, way: &str, mark: &str, began: Instant, error: Option<&Error>) {
        let status = if error.is_some() { "unknown-non-grpc" } else { "OK" };
        self.operations.inc(&[status, way, mark]);
        if error.is_none() {
            self.durations.observe(&[way, mark], began.elapsed().as_secs_f64());
        }
    }
}

/// `k8s:enc:PROVIDER:VERSION:` of a value that begins so.
fn mark(stored: &[u8]) -> String {
    match parts(stored) {
        Some([provider, version, _]) if provider.len() + version.len() < 64 => format!("k8s:enc:{provider}:{version}:"),
        _ => String::new(),
    }
}

impl Source for Keys {
    fn tell(&self, text: &mut Text) {
        self.operations.tell(text);
        self.durations.tell(text);
    }
}
