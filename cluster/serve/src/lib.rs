//! The API server's front: listen, TLS, authenticate, authorize, decode, hand to the registry, encode.
#![forbid(unsafe_code)]

pub mod authn;
pub mod authz;
pub mod backend;
pub mod clock;
pub mod describe;
#[cfg(test)]
mod fixture;
pub mod http;
pub mod pki;
pub mod proxy;
pub mod registry;
pub mod review;
pub mod server;
pub mod tls;
pub mod wire;
