//! A stream of changes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered, Stream};
use futures::{FutureExt as _, StreamExt as _};
use kedge_api::request::{Payload, WatchEvent};
use kedge_api::{Answer, Change, Reason, Request, Status};
use kedge_watch::{Changes, Ended, Error as CacheError};
use tokio::sync::watch as tables;
use tokio::time::{Instant, sleep_until};

use super::{answer, get, options};
use crate::Registry;
use crate::select::Selection;
use crate::table::{Row, Table};

/// Between bookmarks while nothing else happens.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long before its end a watch is told where to go on.
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
enum Later {
    /// A bookmark is due.
    Bookmark,
    /// A custom resource can go; who watches it is told by the stream's end.
    Gone,
}

struct Watch {
    row: Arc<Row>,
    selection: Selection,
    changes: Changes,
    /// Events made before the first change: the initial state.
    first: VecDeque<WatchEvent>,
    /// What comes of itself. Looked at only when it says so: a timer that is asked at each event costs more than the event.
    later: FuturesUnordered<BoxFuture<'static, Later>>,
    /// When the client's own timeout ends it.
    deadline: Option<Instant>,
    /// The event that is being brought into the form of the row.
    shown: Option<BoxFuture<'static, Result<WatchEvent, Status>>>,
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
                WatchEvent::Object(Arc::new(Change { revision, key, before: None, after: Some(object.clone()) }))
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
    let timeout = options.timeout_seconds.filter(|seconds| *seconds != 0);
    let timeout = timeout.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let later = FuturesUnordered::new();
    if options.allow_watch_bookmarks {
        later.push(bookmark(deadline));
    }
    if row.custom.is_some() {
        later.push(gone(registry.table.subscribe(), Arc::clone(row)).boxed());
    }
    let watch = Watch { row: row.clone(), selection, changes, first, later, deadline, shown: None, ended: false };
    Ok(answer(200, Vec::new(), Payload::Watch(watch.boxed())))
}

/// Completes when the table has this row no more: the resource is gone, or shown in another way from now on.
async fn gone(mut tables: tables::Receiver<Arc<Table>>, row: Arc<Row>) -> Later {
    let Some(custom) = &row.custom else { return std::future::pending().await };
    let served = |table: &Arc<Table>| {
        let now = table.find(&row.resource.id, &row.resource.version).and_then(|row| row.custom.as_ref());
        now.is_some_and(|now| now.is_made_as(custom))
    };
    // An error means that the server ends, which ends the changes as well.
    let _closed = tables.wait_for(|table| !served(table)).await;
    Later::Gone
}

fn bookmark(deadline: Option<Instant>) -> BoxFuture<'static, Later> {
    sleep_until(next_bookmark(deadline)).map(|()| Later::Bookmark).boxed()
}

/// Every minute, and shortly before the end.
fn next_bookmark(deadline: Option<Instant>) -> Instant {
    let now = Instant::now();
    let last = deadline.and_then(|deadline| deadline.checked_sub(FAREWELL)).filter(|last| *last > now);
    last.unwrap_or(now + BOOKMARK).min(now + BOOKMARK)
}

impl Stream for Watch {
    type Item = Result<WatchEvent, Status>;

    /// By hand: a thousand watchers of one change each come through here, and a state machine of its own for each step shows.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(shown) = &mut this.shown {
                let event = ready!(shown.as_mut().poll(cx));
                this.shown = None;
                return Poll::Ready(Some(event));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let event = match this.first.pop_front() {
                Some(event) => event,
                None => match this.changes.poll_next(cx) {
                    Poll::Ready(Ok(change)) => match this.selection.see(change) {
                        Some(change) => WatchEvent::Object(change),
                        None => continue,
                    },
                    Poll::Ready(Err(ended)) => return Poll::Ready(this.end(ended)),
                    Poll::Pending => return this.poll_idle(cx),
                },
            };
            match event {
                WatchEvent::Object(change) if is_converted(&this.row) => {
                    this.shown = Some(show(Arc::clone(&this.row), change).boxed());
                }
                event => return Poll::Ready(Some(Ok(event))),
            }
        }
    }
}

impl Watch {
    /// What happens while nothing changes.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<WatchEvent, Status>>> {
        while let Poll::Ready(Some(later)) = self.later.poll_next_unpin(cx) {
            match later {
                Later::Gone => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Later::Bookmark => self.later.push(bookmark(self.deadline)),
            }
            match self.changes.revision() {
                Ok(Some(revision)) => {
                    return Poll::Ready(Some(Ok(WatchEvent::Bookmark { revision, initial_end: false })));
                }
                // What came just now is told first.
                Ok(None) => cx.waker().wake_by_ref(),
                Err(ended) => return Poll::Ready(self.end(ended)),
            }
        }
        Poll::Pending
    }

    fn end(&mut self, ended: Ended) -> Option<Result<WatchEvent, Status>> {
        self.ended = true;
        match ended {
            Ended::Closed => None,
            Ended::Lagged => Some(Err(Status::new(Reason::Expired, "too old resource version: the watch fell behind"))),
        }
    }
}

/// Whether the stored form is not the one that is shown.
fn is_converted(row: &Row) -> bool {
    row.custom.is_some() || row.stored_as.is_some()
}

/// The change in the form that the row shows.
async fn show(row: Arc<Row>, change: Arc<Change>) -> Result<WatchEvent, Status> {
    let mut shown = Change::clone(&change);
    match (&mut shown.before, &mut shown.after) {
        // Of the version that was replaced, only that there was one is told.
        (_, Some(object)) | (Some(object), None) => *object = get::alias(&row, Arc::clone(object)).await?,
        (None, None) => {}
    }
    Ok(WatchEvent::Object(Arc::new(shown)))
}
