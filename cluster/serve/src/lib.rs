//! The API server's front: listen, TLS, authenticate, authorize, decode, hand to the registry, encode.
#![forbid(unsafe_code)]

pub mod authn;
pub mod authz;
pub mod clock;
#[cfg(test)]
mod fixture;
pub mod pki;
pub mod tls;
pub mod wire;
