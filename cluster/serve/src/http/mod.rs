//! Answers: values to bytes on a connection. Knows HTTP, and of Kubernetes only the shapes of answers.

pub mod answer;
pub mod chunks;
pub mod held;
pub mod item;
pub mod lines;
pub mod place;
pub mod respond;
pub mod table;
pub mod watch;
pub mod websocket;
