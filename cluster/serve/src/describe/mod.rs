//! What the server says of itself: discovery, OpenAPI, version, health, metrics. All made from the catalog when asked, none kept.

pub mod columns;
pub mod discovery;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod version;
