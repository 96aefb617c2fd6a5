//! Events: what controllers, scheduler and agent tell people about an object.
//!
//! Owns counting of repeated events and the limit on chatter; never knows what an event means. A repetition raises `count` of the
//! event that is there already, so that a pod in a crash loop costs one object. Source: client-go's documentation of `tools/record`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::{Metadata, Resource as K8sResource};
use serde_json::json;

use crate::client::{Client, ClientExt};
use crate::resource::known::EVENTS;
use crate::status::{Reason, Status};

/// Different events remembered; older ones are told anew instead of counted.
const REMEMBERED: usize = 256;
/// An object may have this many events at once …
const BURST: f64 = 25.0;
/// … and one more after each such span, in seconds.
const REFILL_SECONDS: f64 = 300.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub about: ObjectReference,
    pub severity: Severity,
    /// One word in CamelCase, e.g. `ScalingReplicaSet`.
    pub reason: String,
    pub message: String,
}

/// A reference to an object, as `involvedObject` and `targetRef` hold it.
pub fn reference<T: K8sResource + Metadata<Ty = ObjectMeta>>(object: &T) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(T::API_VERSION.to_owned()),
        kind: Some(T::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Same {
    about: String,
    field: Option<String>,
    severity: Severity,
    reason: String,
    message: String,
}

struct Told {
    name: String,
    count: i32,
    last: Timestamp,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

#[derive(Default)]
struct Memory {
    told: HashMap<Same, Told>,
    buckets: HashMap<String, Bucket>,
}

enum Decision {
    Silent,
    Create { name: String },
    Count { name: String, count: i32 },
}

/// Records events under one component's name.
pub struct Recorder {
    client: Arc<dyn Client>,
    component: &'static str,
    host: String,
    serial: AtomicU64,
    /// Guards only the counting, never held over a call.
    memory: Mutex<Memory>,
}

impl Recorder {
    /// `host` is the node's name for what a node tells, else empty.
    pub fn new(client: Arc<dyn Client>, component: &'static str, host: &str) -> Self {
        Self { client, component, host: host.to_owned(), serial: AtomicU64::new(0), memory: Mutex::default() }
    }

    /// Events are told as well as may be: a caller that gets an error logs it and goes on.
    pub async fn record(&self, note: &Note, now: Timestamp) -> Result<(), Status> {
        let namespace = match note.about.namespace.as_deref() {
            Some(namespace) if !namespace.is_empty() => namespace,
            _ => "default",
        };
        match self.decide(note, now) {
            Decision::Silent => Ok(()),
            Decision::Create { name } => self.create(note, namespace, name, now).await,
            Decision::Count { name, count } => {
                let patch = json!({"count": count, "lastTimestamp": Time(whole_seconds(now))});
                match self.client.merge(&EVENTS, (namespace, &name, ""), patch).await {
                    Err(status) if status.is(Reason::NotFound) => self.create(note, namespace, name, now).await,
                    other => other.map(drop),
                }
            }
        }
    }

    fn decide(&self, note: &Note, now: Timestamp) -> Decision {
        let about = note
            .about
            .uid
            .clone()
            .filter(|uid| !uid.is_empty())
            .or_else(|| note.about.name.clone())
            .unwrap_or_default();
        let mut guard = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Memory { told, buckets } = &mut *guard;
        let bucket = buckets.entry(about.clone()).or_insert(Bucket { tokens: BURST, at: now });
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed / REFILL_SECONDS).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Decision::Silent;
        }
        bucket.tokens -= 1.0;
        let same = Same {
            about,
            field: note.about.field_path.clone(),
            severity: note.severity,
            reason: note.reason.clone(),
            message: note.message.clone(),
        };
        if let Some(known) = told.get_mut(&same) {
            known.count += 1;
            known.last = now;
            return Decision::Count { name: known.name.clone(), count: known.count };
        }
        if told.len() >= REMEMBERED {
            let mut ages: Vec<Timestamp> = told.values().map(|t| t.last).collect();
            ages.sort_unstable();
            if let Some(median) = ages.get(ages.len() / 2).copied() {
                told.retain(|_, t| t.last > median);
            }
            buckets.retain(|_, b| b.tokens + now.duration_since(b.at).as_secs_f64() / REFILL_SECONDS < BURST - 0.5);
        }
        // Unique without asking anyone: the time, and a serial number for events of one instant.
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let object = note.about.name.as_deref().unwrap_or_default();
        let name = format!("{object}.{:x}", now.as_nanosecond().unsigned_abs().wrapping_add(u128::from(serial)));
        told.insert(same, Told { name: name.clone(), count: 1, last: now });
        Decision::Create { name }
    }

    async fn create(&self, note: &Note, namespace: &str, name: String, now: Timestamp) -> Result<(), Status> {
        let at = Some(Time(whole_seconds(now)));
        let event = Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
            involved_object: note.about.clone(),
            type_: Some(note.severity.as_str().to_owned()),
            reason: Some(note.reason.clone()),
            message: Some(note.message.clone()),
            count: Some(1),
            first_timestamp: at.clone(),
            last_timestamp: at,
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: Some(self.host.clone()).filter(|host| !host.is_empty()),
            }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        };
        self.client.create(&EVENTS, &event).await.map(drop)
    }
}

/// Kubernetes' `Time` has whole seconds.
pub fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::User;
    use crate::request::{Answer, Body, Payload, Request};

    #[derive(Default)]
    struct Calls(Mutex<Vec<(&'static str, serde_json::Value)>>);

    #[async_trait::async_trait]
    impl Client for Calls {
        async fn call(&self, request: Request) -> Result<Answer, Status> {
            let (Body::Object { value, .. } | Body::Patch(_, value)) = request.body else { panic!("no body") };
            self.0.lock().unwrap().push((request.verb.as_str(), value));
            let answer = json!({"apiVersion": "v1", "kind": "Event", "metadata": {}, "involvedObject": {}});
            Ok(Answer { code: 200, warnings: Vec::new(), payload: Payload::Value(answer) })
        }
        fn user(&self) -> User {
            User::new("test", &[])
        }
    }

    fn note(message: &str) -> Note {
        let about = ObjectReference { name: Some("web".into()), uid: Some("u1".into()), ..ObjectReference::default() };
        Note { about, severity: Severity::Normal, reason: "Pulled".into(), message: message.into() }
    }

    #[tokio::test]
    async fn repetitions_are_counted_and_chatter_is_limited() {
        let calls = Arc::new(Calls::default());
        let recorder = Recorder::new(calls.clone(), "tester", "n1");
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for message in ["a", "a", "b", "a"] {
            recorder.record(&note(message), now).await.unwrap();
        }
        let told: Vec<_> = calls.0.lock().unwrap().iter().map(|(verb, body)| (*verb, body["count"].clone())).collect();
        assert_eq!(told, [("create", json!(1)), ("patch", json!(2)), ("create", json!(1)), ("patch", json!(3))]);
        for i in 0..100 {
            recorder.record(&note(&i.to_string()), now).await.unwrap();
        }
        assert_eq!(calls.0.lock().unwrap().len(), BURST as usize);
        let later = Timestamp::from_second(1_800_000_000 + 301).unwrap();
        recorder.record(&note("later"), later).await.unwrap();
        assert_eq!(calls.0.lock().unwrap().len(), BURST as usize + 1);
        let names: std::collections::HashSet<_> = calls
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|(verb, _)| *verb == "create")
            .map(|(_, e)| e["metadata"]["name"].clone())
            .collect();
        assert_eq!(names.len(), BURST as usize - 1);
    }

    #[test]
    fn memory_is_bounded() {
        let recorder = Recorder::new(Arc::new(Calls::default()), "tester", "");
        for i in 0..2_000i64 {
            let mut note = note("x");
            note.about.uid = Some(i.to_string());
            let now = Timestamp::from_second(1_800_000_000 + i * 10).unwrap();
            recorder.decide(&note, now);
        }
        let memory = recorder.memory.lock().unwrap();
        assert!(memory.told.len() <= REMEMBERED && memory.buckets.len() <= 2 * REMEMBERED);
    }
}
