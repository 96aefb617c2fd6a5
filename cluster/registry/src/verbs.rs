//! The verbs: what a request does to objects of any row.

pub(crate) mod bootstrap;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod incoming;
pub(crate) mod list;
pub(crate) mod made;
pub(crate) mod options;
pub(crate) mod subresource;
pub(crate) mod update;
pub(crate) mod watch;
pub(crate) mod write;

use kedge_api::request::Payload;
use kedge_api::{Answer, Status};
use kedge_store::Error as StoreError;

pub(crate) fn answer(code: u16, warnings: Vec<String>, payload: Payload) -> Answer {
    Answer { code, warnings, payload }
}

/// A store's failure, as the API tells it. Conflicts are told by whoever knows what was expected.
pub(crate) fn store_failed(error: &StoreError) -> Status {
    match error {
        StoreError::Full { .. } | StoreError::Closed => {
            let mut status = Status::new(kedge_api::Reason::ServiceUnavailable, error.to_string());
            let details = kedge_api::status::Details { retry_after_seconds: Some(5), ..Default::default() };
            status.details = Some(Box::new(details));
            status
        }
        other => Status::internal(other.to_string()),
    }
}
