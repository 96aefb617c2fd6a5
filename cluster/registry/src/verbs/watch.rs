//! A stream of changes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use kedge_api::request::{Payload, WatchEvent};
use kedge_api::{Answer, Change, Reason, Request, Status};
use kedge_store::restamp;
use kedge_watch::{Changes, Ended, Error as CacheError};
use tokio::sync::watch as tables;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{answer, get, options};
use crate::Registry;
use crate::select::Selection;
use crate::table::{Row, Table};

/// Between bookmarks while nothing else happens.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long before its end a watch is told where to go on.
const FAREWELL: Duration = Duration::from_secs(2);

struct Watch {
    row: Arc<Row>,
    /// A custom resource can go; who watches it is told by the stream's end.
    tables: Option<tables::Receiver<Arc<Table>>>,
    selection: Selection,
    changes: Changes,
    /// Events made before the first change: the initial state.
    first: VecDeque<WatchEvent>,
    /// Until the next bookmark, if the client wants any. Kept from event to event: arming a timer for each costs more than the event.
    bookmark: Option<Pin<Box<Sleep>>>,
    /// When the client's own timeout ends it.
    deadline: Option<Instant>,
    ended: bool,
}

pub(crate) async fn watch(registry: &Registry, row: &Arc<Row>, request: &Request) -> Result<Answer, Status> {
    let options = &request.options;
    options::list(options, true)?;
    let namespace = &request.target.namespace;
    let selection = Selection::parse(row, namespace, options)?;
    let version = options.resource_version.as_deref();
    let from = get::parse_version(version)?;
    let initial = options.send_initial_events.unwrap_or(from.is_none());
    if let Some(revision) = from.filter(|_| initial) {
        get::reach(registry, revision).await?;
    }
    let snapshot = registry.cache.snapshot();
    let mut first = VecDeque::new();
    let start = if initial || from.is_none() {
        if initial {
            let found = snapshot.list(&row.storage(), namespace).filter(|o| selection.matches(o));
            first.extend(found.map(|object| {
                let (revision, key) = (object.revision, object.key.clone());
                WatchEvent::Object(Change { revision, key, before: None, after: Some(object.clone()) })
            }));
        }
        if options.send_initial_events == Some(true) && options.allow_watch_bookmarks {
            first.push_back(WatchEvent::Bookmark { revision: snapshot.revision, initial_end: true });
        }
        snapshot.revision
    } else {
        from.unwrap_or(snapshot.revision)
    };
    let changes = match registry.cache.watch(&[row.storage()], start) {
        Ok(changes) => changes,
        // Upstream tells it in the stream's first event, since its stream has begun by then.
        Err(error @ CacheError::Expired { .. }) => {
            let status = Status::new(Reason::Expired, error.to_string());
            return Ok(answer(200, Vec::new(), Payload::Watch(stream::once(async { Err(status) }).boxed())));
        }
        Err(CacheError::Closed) => return Err(Status::new(Reason::ServiceUnavailable, "the server is shutting down")),
    };
    let timeout = options.timeout_seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let watch = Watch {
        row: row.clone(),
        tables: row.custom.is_some().then(|| registry.table.subscribe()),
        selection,
        changes,
        first,
        bookmark: options.allow_watch_bookmarks.then(|| Box::pin(sleep_until(next_bookmark(deadline)))),
        deadline,
        ended: false,
    };
    let events = stream::unfold(watch, |mut watch| async move { watch.next().await.map(|event| (event, watch)) });
    Ok(answer(200, Vec::new(), Payload::Watch(events.boxed())))
}

/// Completes when the table has this row no more: the resource is gone, or shown in another way from now on.
async fn gone(tables: &mut Option<tables::Receiver<Arc<Table>>>, row: &Row) {
    let (Some(tables), Some(custom)) = (tables, &row.custom) else { return std::future::pending().await };
    let served = |table: &Arc<Table>| {
        let now = table.find(&row.resource.id, &row.resource.version).and_then(|row| row.custom.as_ref());
        now.is_some_and(|now| now.is_made_as(custom))
    };
    // An error means that the server ends, which ends the changes as well.
    let _closed = tables.wait_for(|table| !served(table)).await;
}

/// Every minute, and shortly before the end.
fn next_bookmark(deadline: Option<Instant>) -> Instant {
    let now = Instant::now();
    let last = deadline.and_then(|deadline| deadline.checked_sub(FAREWELL)).filter(|last| *last > now);
    last.unwrap_or(now + BOOKMARK).min(now + BOOKMARK)
}

impl Watch {
    async fn next(&mut self) -> Option<Result<WatchEvent, Status>> {
        if self.ended {
            return None;
        }
        if let Some(event) = self.first.pop_front() {
            return Some(self.show(event).await);
        }
        loop {
            let Self { changes, bookmark, deadline, tables, row, .. } = self;
            let due = async {
                match bookmark {
                    Some(bookmark) => {
                        bookmark.as_mut().await;
                        bookmark.as_mut().reset(next_bookmark(*deadline));
                    }
                    None => std::future::pending().await,
                }
            };
            let change = tokio::select! {
                biased;
                change = changes.next() => change,
                () = gone(tables, row) => return None,
                () = due => {
                    match self.changes.revision() {
                        Ok(Some(revision)) => return Some(Ok(WatchEvent::Bookmark { revision, initial_end: false })),
                        Ok(None) => continue,
                        Err(ended) => Err(ended),
                    }
                }
            };
            match change {
                Ok(change) => {
                    if let Some(change) = self.selection.see(change) {
                        return Some(self.show(WatchEvent::Object(change)).await);
                    }
                }
                Err(Ended::Closed) => return None,
                Err(Ended::Lagged) => {
                    self.ended = true;
                    return Some(Err(Status::new(Reason::Expired, "too old resource version: the watch fell behind")));
                }
            }
        }
    }

    /// A deletion is shown as the last version under the revision of the deletion.
    async fn show(&self, event: WatchEvent) -> Result<WatchEvent, Status> {
        let WatchEvent::Object(mut change) = event else { return Ok(event) };
        change.before = match change.before {
            Some(before) if change.after.is_none() => {
                let stamped = restamp(&before, change.revision).map_err(|e| Status::internal(e.to_string()))?;
                Some(get::alias(&self.row, Arc::new(stamped)).await?)
            }
            other => other,
        };
        change.after = match change.after {
            Some(after) => Some(get::alias(&self.row, after).await?),
            None => None,
        };
        Ok(WatchEvent::Object(change))
    }
}
