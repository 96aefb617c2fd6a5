//! The life of the process between its start and its end: the async runtime, the supervisor, the wait for a request.

use crate::machine::Machine;
use crate::request::Request;
use crate::services;
use crate::supervisor::Supervisor;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Two workers serve a machine of any size: what is slow waits in the kernel. Stacks are virtual memory until they are used; a debug
/// build's frames are several times as large, and the deepest document that is read would not fit.
const WORKERS: usize = 2;
const STACK: usize = if cfg!(debug_assertions) { 4 << 20 } else { 1 << 20 };
/// Threads that wait in blocking calls; each gives its memory back after a while.
const BLOCKING: usize = 16;
const IDLE_THREAD: Duration = Duration::from_secs(5);
/// When services have not ended by then they do not matter any more.
const STOP_LIMIT: Duration = Duration::from_secs(60);

pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        .thread_keep_alive(IDLE_THREAD)
        .thread_name("kedge")
        .enable_all()
        .build()
}

/// Runs the service table until something is asked for, then stops it. `signals` runs beside it; its end asks for `at_signal`.
pub async fn run(
    machine: Arc<Machine>,
    mut asked: mpsc::Receiver<Request>,
    signals: impl Future<Output = ()>,
    at_signal: Request,
) -> anyhow::Result<Request> {
    let supervisor = Supervisor::start(services::table(&machine))?;
    let request = tokio::select! {
        request = asked.recv() => request.unwrap_or(at_signal),
        () = signals => at_signal,
    };
    // A crash has no order.
    if request == Request::Crash {
        crate::sys::crash();
    }
    // Set once: there is one request.
    let _ = machine.ending.set(request);
    tracing::info!(?request, "stopping services");
    if tokio::time::timeout(STOP_LIMIT, supervisor.stop()).await.is_err() {
        tracing::error!(limit = ?STOP_LIMIT, "services did not stop");
    }
    Ok(request)
}
