//! Kubernetes' `Status`, the one error that crosses the API.

use serde_json::{Value, json};

/// `status.reason` with its HTTP code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
    Timeout,
    /// `Invalid` on the wire, but under the code of what is forbidden: so refuse policies that change objects.
    InvalidByPolicy,
    /// Upstream's plain errors: 500 and no `reason` on the wire.
    Unknown,
    /// A code without a reason, as a webhook's refusal may have it.
    Plain(u16),
}

impl Reason {
    /// Those that have a name on the wire.
    pub const NAMED: [Self; 17] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::AlreadyExists,
        Self::Conflict,
        Self::Gone,
        Self::Expired,
        Self::RequestEntityTooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::TooManyRequests,
        Self::InternalError,
        Self::ServiceUnavailable,
        Self::Timeout,
    ];

    /// On the wire, where it has a name.
    fn name(self) -> Option<String> {
        match self {
            Self::InvalidByPolicy => Some("Invalid".to_owned()),
            named => Self::NAMED.contains(&named).then(|| format!("{named:?}")),
        }
    }

    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::InvalidByPolicy => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::Unknown => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
            Self::Plain(code) => code,
        }
    }
}

/// One entry of `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// e.g. `FieldValueRequired`.
    pub reason: String,
    pub message: String,
    /// Path, e.g. `spec.containers[0].name`.
    pub field: String,
}

/// A failed request. [`Status::to_value`] is the body on the wire.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    pub reason: Reason,
    pub message: String,
    /// `name`, `group`, `kind` (by upstream's habit often the plural), `uid`, `retryAfterSeconds`.
    pub details: Option<Box<Details>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub name: String,
    pub group: String,
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: Option<u32>,
    /// Where an expired list goes on; on the wire it stands in the status' metadata.
    pub r#continue: Option<String>,
}

impl Status {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), details: None }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Reason::InternalError, message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// `pods "web" not found`.
    pub fn not_found(resource: &crate::GroupResource, name: &str) -> Self {
        Self::about(Reason::NotFound, resource, name, format!("{resource} \"{name}\" not found"))
    }

    /// `pods "web" already exists`.
    pub fn already_exists(resource: &crate::GroupResource, name: &str) -> Self {
        Self::about(Reason::AlreadyExists, resource, name, format!("{resource} \"{name}\" already exists"))
    }

    /// `Operation cannot be fulfilled on pods "web": …`.
    pub fn conflict(resource: &crate::GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self::about(Reason::Conflict, resource, name, message)
    }

    pub fn about(reason: Reason, resource: &crate::GroupResource, name: &str, message: String) -> Self {
        let details = Details {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.resource.to_string(),
            ..Details::default()
        };
        Self { reason, message, details: Some(Box::new(details)) }
    }

    pub fn is(&self, reason: Reason) -> bool {
        self.reason == reason
    }

    /// The `Status` object of the answer.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.reason.code(),
        });
        if let (Some(name), Value::Object(status)) = (self.reason.name(), &mut status) {
            status.insert("reason".to_owned(), name.into());
        }
        let details = self.details.as_deref();
        if let Some(token) = details.and_then(|details| details.r#continue.as_deref()) {
            if let Some(Value::Object(metadata)) = status.get_mut("metadata") {
                metadata.insert("continue".into(), token.into());
            }
        } else if let Some(details) = details {
            let mut out = serde_json::Map::new();
            for (key, text) in
                [("name", &details.name), ("group", &details.group), ("kind", &details.kind), ("uid", &details.uid)]
            {
                if !text.is_empty() {
                    out.insert(key.into(), text.as_str().into());
                }
            }
            if !details.causes.is_empty() {
                let causes = details
                    .causes
                    .iter()
                    .map(|cause| {
                        let parts = [("reason", &cause.reason), ("message", &cause.message), ("field", &cause.field)];
                        let said = parts.into_iter().filter(|(_, text)| !text.is_empty());
                        Value::Object(said.map(|(name, text)| (name.to_owned(), text.as_str().into())).collect())
                    })
                    .collect();
                out.insert("causes".into(), Value::Array(causes));
            }
            if let Some(seconds) = details.retry_after_seconds {
                out.insert("retryAfterSeconds".into(), seconds.into());
            }
            if let Value::Object(status) = &mut status {
                status.insert("details".into(), Value::Object(out));
            }
        }
        status
    }
}
