//! What the server does about its objects by itself: custom resources are served as they are defined, and addresses of services noted.

mod addresses;
mod api_services;
mod definitions;
mod removal;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use kedge_api::{GroupResource, Informer as _, Status};

use crate::Registry;

/// Between looks at what waits for others, and after a failed write.
const AGAIN: Duration = Duration::from_millis(500);

/// Never ends.
pub async fn follow(registry: Arc<Registry>) {
    tokio::join!(
        keep(&registry, definitions::Definitions::default()),
        keep(&registry, api_services::ApiServices),
        keep(&registry, addresses::Addresses),
        removal::follow(Arc::clone(&registry)),
    );
}

/// Keeps something true of what there is.
#[async_trait]
trait Task: Send {
    /// Whose failures are told.
    const WHAT: &str;
    /// What it looks at.
    const RESOURCES: &[GroupResource];

    /// Looks and mends. Gives whether nothing is left to do.
    async fn converge(&mut self, registry: &Registry) -> Result<bool, Status>;
}

/// Lets a task look whenever something changes that it looks at, and again after a while if something is left to do. Never ends.
async fn keep<T: Task>(registry: &Registry, mut task: T) {
    loop {
        let (_, mut changes) = registry.cache.subscribe(T::RESOURCES);
        loop {
            let settled = task.converge(registry).await.unwrap_or_else(|error| {
                tracing::warn!(error = error.message, "{}", T::WHAT);
                false
            });
            tokio::select! {
                change = changes.next() => match change {
                    // What came meanwhile is looked at once.
                    Some(_) => while let Some(Some(_)) = changes.next().now_or_never() {},
                    None => break,
                },
                () = tokio::time::sleep(AGAIN), if !settled => {}
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
