//! One request and its answer, as they pass from `serve` through the gates to the registry.

use std::sync::Arc;

use futures::stream::BoxStream;
use serde_json::Value;

use crate::client::User;
use crate::object::{Object, Revision};
use crate::resource::{GroupResource, Verb};
use crate::snapshot::Change;
use crate::status::Status;

/// Who wants what done to which object. Narrowed at each gate, never widened.
#[derive(Debug)]
pub struct Request {
    pub who: User,
    pub verb: Verb,
    pub target: Target,
    pub options: Options,
    pub body: Body,
}

/// `/apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`; absent parts are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub resource: GroupResource,
    pub version: String,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
}

/// The query parameters of all verbs; each verb reads its own.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub resource_version: Option<String>,
    /// `NotOlderThan` or `Exact`.
    pub resource_version_match: Option<String>,
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub limit: Option<u64>,
    pub r#continue: Option<String>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    /// Zero is none; less has passed already.
    pub timeout_seconds: Option<i64>,
    /// `All` is the only value there is; anything else is refused.
    pub dry_run: Vec<String>,
    /// `Ignore`, `Warn` or `Strict`.
    pub field_validation: Option<String>,
    pub field_manager: Option<String>,
    pub force: Option<bool>,
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub enum Body {
    #[default]
    None,
    /// An object, or the `DeleteOptions` of a delete. Duplicate keys were reported by the decoder in `warnings`.
    Object {
        value: Value,
        duplicates: Vec<String>,
    },
    Patch(PatchType, Value),
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self::Object { value, duplicates: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// What the registry answers. `warnings` become `Warning: 299` headers.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub warnings: Vec<String>,
    pub payload: Payload,
}

pub enum Payload {
    /// A stored object: its bytes are sent as they are.
    Stored(Arc<Object>),
    /// Anything made for this answer: a Scale, a TokenRequest, a dry run's result, a Status.
    Value(Value),
    List {
        /// `apiVersion` and `kind` of the list, e.g. `v1`, `PodList`.
        api_version: String,
        kind: String,
        revision: Revision,
        r#continue: Option<String>,
        remaining: Option<u64>,
        items: Vec<Arc<Object>>,
    },
    Watch(BoxStream<'static, Result<WatchEvent, Status>>),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stored(o) => write!(f, "Stored({})", o.key),
            Self::Value(v) => write!(f, "Value({v})"),
            Self::List { kind, items, .. } => write!(f, "List({kind}, {} items)", items.len()),
            Self::Watch(_) => f.write_str("Watch"),
        }
    }
}

/// One line of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// Shared by all who watch. A deletion's last version stands as it was written: to be shown under the change's revision.
    Object(Arc<Change>),
    /// Everything up to this revision has been sent. `initial_end` marks the end of `sendInitialEvents`.
    Bookmark { revision: Revision, initial_end: bool },
}
