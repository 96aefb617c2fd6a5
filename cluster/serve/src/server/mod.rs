//! From a connection to an answer.
//!
//! ```text
//! listen ─▶ TLS ─▶ Front::handle ─▶ who (authn, impersonation) ─▶ now or later (flow) ─▶ may they (authz) ─▶ what (row, verb)
//!                    ▲                              ├▶ describe (paths)     ├▶ review       ├▶ proxy
//!                    └ Course: what is found out    └▶ decode ─▶ backend ─▶ answer
//! ```

mod assemble;
mod batch;
mod course;
mod front;
mod in_process;
mod listen;
mod noting;
mod own;
mod paths;
mod read;
mod resources;
mod streams;
mod waits;

pub use assemble::{Access, AssembleError, Setup, assemble};
pub use front::{Front, Parts};
pub use in_process::{InProcess, follow};
pub use listen::{Bounds, ListenError, serve, serve_within};
pub use own::{Own, OwnAnswer};

#[cfg(test)]
mod tests;
