//! Events to a webhook: in batches, over HTTPS, tried again when it fails.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::outlet::{Inlet, Message, Outlet, pair};
use crate::reach::kubeconfig::Destination;

/// Upstream's defaults of `--audit-webhook-batch-…`.
const BATCH: usize = 400;
const WAIT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;
const ANSWER: Duration = Duration::from_secs(30);

/// How to reach it, and as whom.
pub struct Webhook {
    to: Destination,
    /// Before the second try; longer before each further one.
    retry: Duration,
}

impl Webhook {
    /// By a kubeconfig file; files that it names lie beside it.
    pub fn of_kubeconfig(file: &Path) -> Result<Self, String> {
        let said = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| said(&error))?;
        let to = Destination::parse(&text, file.parent().unwrap_or(Path::new("."))).map_err(|error| said(&error))?;
        Ok(Self { to, retry: FIRST_RETRY })
    }

    /// Sends events in a task of its own, as long as there is someone to put them in.
    pub fn start(self) -> Outlet {
        let (outlet, inlet) = pair("webhook");
        tokio::spawn(run(self, inlet));
        outlet
    }

    async fn send(&self, events: &[Bytes]) -> Result<(), String> {
        let items: Vec<&[u8]> = events.iter().map(|event| &**event).collect();
        let items = items.join(&b","[..]);
        let head = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
        let body = [&head[..], &items, b"]}"].concat();
        match self.to.post(body.into(), ANSWER).await? {
            (status, _) if status.is_success() => Ok(()),
            (status, _) => Err(format!("it answered {}", status.as_u16())),
        }
    }
}

async fn run(webhook: Webhook, mut inlet: Inlet) {
    while let Some(first) = inlet.next().await {
        let (events, flushed) = batch(first, &mut inlet).await;
        let (count, mut retry) = (events.len() as u64, webhook.retry);
        for attempt in 1..=TRIES {
            let Err(error) = (if events.is_empty() { Ok(()) } else { webhook.send(&events).await }) else {
                break;
            };
            // The server stops: nobody will wait for another try.
            if attempt == TRIES || !flushed.is_empty() {
                inlet.counts.failed.fetch_add(count, Ordering::Relaxed);
                tracing::error!(%error, count, "the audit webhook cannot be reached; events are lost");
                break;
            }
            tokio::time::sleep(retry).await;
            retry = retry * 3 / 2;
        }
        for done in flushed {
            let _gone = done.send(());
        }
    }
}

/// Up to so many events, or what comes in the time; at once, when someone waits for it.
async fn batch(first: Message, inlet: &mut Inlet) -> (Vec<Bytes>, Vec<tokio::sync::oneshot::Sender<()>>) {
    let (mut events, mut flushed) = (Vec::new(), Vec::new());
    let end = tokio::time::Instant::now() + WAIT;
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Event(event) => events.push(event),
            Message::Flush(done) => flushed.push(done),
        }
        next = match (events.len() < BATCH, flushed.is_empty()) {
            (false, _) => None,
            (true, true) => tokio::time::timeout_at(end, inlet.next()).await.ok().flatten(),
            (true, false) => inlet.ready(),
        };
    }
    (events, flushed)
}

#[cfg(test)]
mod tests;
