//! Runs services: in order of what they need, again when they end, and to the end in the opposite order.
//!
//! ```text
//!            ┌──────────── back-off ◀──────────────┐
//! Waiting ─▶ Starting ─▶ Ready ─▶ (ended, panicked)┘        stop: a service is cancelled when all that stand after it are gone
//!    └─ stop ─▶ Stopped ◀─ cancelled
//! ```
//! Owns: when a service runs. Never knows: what any service does.

mod backoff;
mod status;

pub use backoff::Backoff;
pub use status::{Phase, Status, Statuses};

use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A row of the service table.
pub struct Service {
    pub name: &'static str,
    /// Names of services that must be ready before this one starts, and that are stopped after it.
    pub after: &'static [&'static str],
    /// How long it may take to end when it is asked to. Then it is dropped.
    pub stop_limit: Duration,
    pub run: Run,
}

/// Runs the service for as long as it likes. Ending is a failure unless it was asked to stop; so is an error or a panic.
pub type Run = Box<dyn Fn(Handle) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

impl Service {
    pub fn new<F>(
        name: &'static str,
        after: &'static [&'static str],
        run: impl Fn(Handle) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self { name, after, stop_limit: Duration::from_secs(5), run: Box::new(move |handle| Box::pin(run(handle))) }
    }

    pub fn stop_limit(self, stop_limit: Duration) -> Self {
        Self { stop_limit, ..self }
    }
}

/// What a service is given.
#[derive(Clone)]
pub struct Handle {
    name: &'static str,
    statuses: Statuses,
    stop: CancellationToken,
}

impl Handle {
    /// Those that wait for this service may start. To be called once it does what it is for.
    pub fn ready(&self) {
        self.statuses.set(self.name, Phase::Ready);
    }

    /// A word for people about how it goes, such as `waiting for a cable`.
    pub fn note(&self, note: impl Into<String>) {
        self.statuses.note(self.name, note.into());
    }

    /// Completes when the service should end.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// How all services are, this one included.
    pub fn statuses(&self) -> watch::Receiver<Vec<Status>> {
        self.statuses.subscribe()
    }

    /// For those who take a token.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    #[error("two services are called {0}")]
    Twice(&'static str),
    #[error("service {0} stands after {1}, which is not there or comes later in the table")]
    Order(&'static str, &'static str),
}

/// The running services.
pub struct Supervisor {
    #[cfg(test)]
    statuses: Statuses,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Supervisor {
    /// Starts the table. What a service stands after must come before it: so there is no circle.
    pub fn start(services: Vec<Service>) -> Result<Self, TableError> {
        check(&services)?;
        let statuses = Statuses::new(services.iter().map(|service| service.name));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let dependants: Vec<Vec<&'static str>> = services
            .iter()
            .map(|one| {
                services.iter().filter(|other| other.after.contains(&one.name)).map(|other| other.name).collect()
            })
            .collect();
        for (service, dependants) in services.into_iter().zip(dependants) {
            let keeper =
                Keeper { service: Arc::new(service), dependants, statuses: statuses.clone(), stop: stop.clone() };
            tasks.spawn(keeper.keep());
        }
        Ok(Self {
            #[cfg(test)]
            statuses,
            stop,
            tasks,
        })
    }

    #[cfg(test)]
    pub fn statuses(&self) -> watch::Receiver<Vec<Status>> {
        self.statuses.subscribe()
    }

    /// Stops all, in the opposite order, and returns when they are gone or given up.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

fn check(services: &[Service]) -> Result<(), TableError> {
    for (at, service) in services.iter().enumerate() {
        let comes_before = |name: &str| services.iter().take(at).any(|other| other.name == name);
        if comes_before(service.name) {
            return Err(TableError::Twice(service.name));
        }
        if let Some(missing) = service.after.iter().find(|name| !comes_before(name)) {
            return Err(TableError::Order(service.name, missing));
        }
    }
    Ok(())
}

/// Keeps one service running.
struct Keeper {
    service: Arc<Service>,
    dependants: Vec<&'static str>,
    statuses: Statuses,
    /// Of the whole table.
    stop: CancellationToken,
}

impl Keeper {
    async fn keep(self) {
        let name = self.service.name;
        let mut backoff = Backoff::default();
        loop {
            let needs_are_met = self.statuses.wait(|all| self.needs_are_met(all));
            if self.stop.run_until_cancelled(needs_are_met).await.is_none() {
                break;
            }
            self.statuses.set(name, Phase::Starting);
            let (ended, ran) = self.run_once().await;
            if self.stop.is_cancelled() {
                break;
            }
            let pause = backoff.after(ran);
            tracing::error!(service = name, ?pause, "service ended: {ended}");
            self.statuses.set(name, Phase::Failed { why: ended, restarts_in: pause });
            if self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        self.statuses.set(name, Phase::Stopped);
    }

    fn needs_are_met(&self, all: &[Status]) -> bool {
        self.service
            .after
            .iter()
            .all(|need| all.iter().any(|status| status.name == *need && status.phase == Phase::Ready))
    }

    /// Why it ended, and how long it ran. When the table is stopped it is asked to end once nobody needs it any more.
    async fn run_once(&self) -> (String, Duration) {
        let own_stop = CancellationToken::new();
        let handle = Handle { name: self.service.name, statuses: self.statuses.clone(), stop: own_stop.clone() };
        let start = tokio::time::Instant::now();
        // Called within the task: a panic while the future is made is the service's as well.
        let service = Arc::clone(&self.service);
        let mut task = tokio::spawn(async move { (service.run)(handle).await });
        let nobody_needs_it = async {
            self.stop.cancelled().await;
            self.statuses.wait(|all| self.dependants.iter().all(|name| is_stopped(all, name))).await;
        };
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = nobody_needs_it => {
                own_stop.cancel();
                match tokio::time::timeout(self.service.stop_limit, &mut task).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        tracing::warn!(service = self.service.name, limit = ?self.service.stop_limit, "service did not stop, it is dropped");
                        task.abort();
                        (&mut task).await
                    }
                }
            }
        };
        (told(ended), start.elapsed())
    }
}

fn is_stopped(all: &[Status], name: &str) -> bool {
    all.iter().all(|status| status.name != name || status.phase == Phase::Stopped)
}

fn told(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "ended without being asked to".into(),
        Ok(Err(error)) => causes(&error),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => format!("panicked: {}", panic_text(&*panic)),
            Err(_) => "dropped".into(),
        },
    }
}

/// The error and what it came of, each told once: some say themselves what they came of.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let between = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{between}{cause}");
        }
    }
    text
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests;
