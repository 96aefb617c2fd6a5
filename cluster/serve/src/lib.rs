//! The API server's front: listen, TLS, authenticate, authorize, decode, hand to the registry, encode.
#![forbid(unsafe_code)]

pub mod clock;
pub mod pki;
pub mod wire;
