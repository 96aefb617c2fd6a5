//! A connection's place among those that are served at once.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

/// Goes with each request: whoever goes on with a connection after its answer, as another protocol, keeps it.
#[derive(Clone, Debug)]
pub struct Place(pub Arc<OwnedSemaphorePermit>);
