//! The verbs over the whole table, against the memory store: every kind lives its life; lists, watches and deletions keep their promises.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod batch;
mod consistency;
mod groups;
mod kinds;
mod owners;
mod reads;
mod refusals;
mod world;
mod writes;
