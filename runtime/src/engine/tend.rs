//! The task beside each container: moves its output, and tells its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::record::StoredExit;
use super::{Entry, Shared, lock};
use crate::logs::{LogFile, Pump, Source};
use crate::{ContainerEvent, Exit, Status};

/// How long output that is still held open by somebody may delay the news that the container ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// `ended` that fails (its sender is gone) means that nobody can say how the container ended.
pub fn begin<E>(shared: &Arc<Shared>, entry: &Arc<Entry>, source: Option<Source>, ended: E)
where
    E: Future<Output: Into<Option<StoredExit>>> + Send + 'static,
{
    let pump = source.and_then(|source| pump(entry, source));
    let task = tokio::spawn(tend(Arc::clone(shared), Arc::clone(entry), pump, async { ended.await.into() }));
    *lock(&entry.task) = Some(task);
}

/// Without a log file output is still read, for the container not to block, and for those attached.
fn pump(entry: &Entry, source: Source) -> Option<Pump> {
    let (path, limit) = {
        let record = lock(&entry.record);
        (record.log.clone(), record.log_limit)
    };
    let file = path.and_then(|path| {
        let opened = LogFile::open(&path, limit);
        opened.inspect_err(|error| tracing::warn!(log = %path.display(), %error, "log cannot be opened")).ok()
    });
    Pump::new(source, file, Arc::clone(&entry.taps))
        .inspect_err(|error| tracing::warn!(container = entry.id, %error, "output cannot be read"))
        .ok()
}

async fn tend(
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    mut pump: Option<Pump>,
    ended: impl Future<Output = Option<StoredExit>>,
) {
    let mut ended = std::pin::pin!(ended);
    let exit = match &mut pump {
        Some(pump) => tokio::select! {
            exit = &mut ended => exit,
            () = pump.run() => ended.await,
        },
        None => ended.await,
    };
    let exit = exit.unwrap_or_else(|| StoredExit { code: Exit::UNKNOWN, signal: None, at: jiff::Timestamp::now() });
    let (cgroup, own_pids) = {
        let record = lock(&entry.record);
        (record.cgroup.clone(), record.own_pids)
    };
    if !own_pids {
        // Others see its processes, so the kernel did not end them with the first.
        shared.cgroups.kill(&cgroup);
    }
    if let Some(pump) = &mut pump {
        let _ = tokio::time::timeout(LAST_WORDS, pump.run()).await;
    }
    // Writes down the beginning of a line that will have no end.
    drop(pump);
    finish(&shared, &entry, exit, shared.cgroups.oom_kills(&cgroup) > 0);
}

fn finish(shared: &Shared, entry: &Entry, exit: StoredExit, oom_killed: bool) {
    let exit = Exit { code: exit.code, signal: exit.signal, oom_killed, at: exit.at };
    *lock(&entry.stdin) = None;
    lock(&entry.output).clear();
    let saved = entry.change(|record| {
        record.state.status = Status::Exited(exit.clone());
        record.stdin = false;
        record.terminal = None;
    });
    if let Err(error) = saved {
        tracing::warn!(container = entry.id, %error, "exit cannot be recorded");
    }
    for waiting in lock(&entry.waiting).drain(..) {
        let _ = waiting.send(exit.code);
    }
    entry.exited.send_replace(true);
    shared.tell(ContainerEvent::Exited { id: entry.id.clone(), exit });
}
