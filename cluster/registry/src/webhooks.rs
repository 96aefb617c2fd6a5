//! The way to webhooks, which whoever serves the registry has: admission asks them, and conversion does.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

/// Calls webhooks: the way to them is not the registry's.
#[async_trait]
pub trait Webhooks: Send + Sync {
    /// Posts `review` to where a webhook's `clientConfig` says, and gives the object that it answers. What went wrong is said as Go's
    /// HTTP client does, e.g. `Post "https://…": dial tcp 10.0.0.1:443: connect: connection refused`.
    async fn call(&self, config: &Value, timeout: Duration, review: &Value) -> Result<Value, String>;
}
