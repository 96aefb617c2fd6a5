//! The registry as this crate's backend.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_api::{Answer, Request, Resource, Status};
use kedge_registry::Registry;

use crate::backend::Backend;

/// Gives the front the registry's verbs and rows.
pub struct Served {
    registry: Arc<Registry>,
}

impl Served {
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

#[async_trait]
impl Backend for Served {
    async fn carry_out(&self, request: Request) -> Result<Answer, Status> {
        self.registry.carry_out(request).await
    }

    fn rows(&self) -> Arc<[Arc<Resource>]> {
        self.registry.table().resources()
    }
}
