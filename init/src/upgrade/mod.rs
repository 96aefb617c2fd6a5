//! Upgrades of this machine: a signed bundle into the slot that does not run, a trial, and the old system again if it does not go well.
//!
//! ```text
//! machine/NAME spec.upgrade ─▶ wish ─▶ step (pure) ─┬─▶ install: fetch what is missing ─▶ book.installed
//!                                    ▲              ├─▶ activate: book.trial ─▶ slot record ─▶ reboot ─▶ stage 1
//!                                    │              └─▶ status.upgrade
//!  the next start: book × slot record ─▶ found (pure) ─▶ on trial ─▶ gate ─▶ confirm │ condemn, reboot
//! ```
//! Power may fail anywhere. The slot record on META alone decides what boots; the book on STATE says why, and follows it.

mod book;
mod definition;
pub mod gate;
mod install;
mod step;
mod wish;

pub use definition::definition;
pub use wish::Wish;

use crate::machine::Machine;
use crate::request::Request;
use crate::services::{API_VERSION, MACHINES};
use anyhow::Context;
use book::{Book, Books, Ended, Found, Outcome, Trial};
use futures::StreamExt as _;
use install::{Done, Pace, Place};
use kedge_api::{Client, ClientExt as _, Informer, Key};
use kedge_bundle::install::Far;
use kedge_config::slot::Verdict;
use kedge_fetch::Resolve;
use kedge_stage1::transport::Transport;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use step::{Phase, Step, Told, step};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wish::Named;

/// How often a system may be started before it has proved itself: each start that ends without that is one against it.
const TRIES: u8 = 1;
/// Between two tries to fetch: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Between two words about how far it is.
const WORD: Duration = Duration::from_secs(2);
/// After a write to the object that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Seconds since 1970.
fn clock() -> u64 {
    jiff::Timestamp::now().as_second().try_into().unwrap_or(0)
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An installation that is under way.
struct Job {
    wish: Wish,
    started: String,
    pace: Pace,
    progress: watch::Receiver<Far>,
    work: JoinHandle<Done>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.pace.unwanted.store(true, Ordering::Relaxed);
    }
}

/// An installation that failed and is tried again.
struct Pause {
    wish: Wish,
    why: String,
    length: Duration,
    until: tokio::time::Instant,
}

struct Upgrader<'u> {
    machine: &'u Machine,
    client: &'u dyn Client,
    place: Place,
    job: Option<Job>,
    pause: Option<Pause>,
    told: Option<Value>,
}

/// Does what the machine's object asks for, as long as it is not stopped.
pub async fn run(machine: &Machine, client: &dyn Client, informer: &dyn Informer) -> anyhow::Result<()> {
    let place = match Place::of(machine) {
        Ok(place) => place,
        Err(error) => return impossible(machine, client, informer, &error).await,
    };
    let mut upgrader = Upgrader { machine, client, place, job: None, pause: None, told: None };
    upgrader.settle().await?;
    let mut turn = machine.upgrade.subscribe();
    loop {
        let (_, mut changes) = informer.subscribe(&[MACHINES]);
        loop {
            let object = object(machine, informer)?;
            let wait = match &object {
                Some(object) => upgrader.look(object).await,
                None => Ok(None),
            };
            let failed = wait.as_ref().err().map(|error| tracing::warn!("upgrade: {error:#}"));
            let wait = wait.unwrap_or(None).or(failed.map(|()| AGAIN));
            let job = upgrader.job.as_mut();
            let done = async {
                match job {
                    Some(job) => (&mut job.work).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.next() => if change.is_none() { break },
                changed = turn.changed() => changed?,
                done = done => upgrader.done(done.context("the installation")?).await?,
                () = tokio::time::sleep(wait.unwrap_or(AGAIN)), if wait.is_some() => {}
            }
        }
    }
}

/// A machine without slots tells so to who asks.
async fn impossible(
    machine: &Machine,
    client: &dyn Client,
    informer: &dyn Informer,
    error: &anyhow::Error,
) -> anyhow::Result<()> {
    loop {
        let (_, mut changes) = informer.subscribe(&[MACHINES]);
        loop {
            if let Some(object) = object(machine, informer)?
                && let Ok(Some(wish)) = Wish::of(&object)
            {
                let told = Told::new(Phase::Failed, format!("{error:#}"));
                tell(machine, client, &mut None, &object, Some((&wish.named(), &told))).await?;
            }
            if changes.next().await.is_none() {
                break;
            }
        }
    }
}

fn object(machine: &Machine, informer: &dyn Informer) -> anyhow::Result<Option<Value>> {
    let key = Key::new(MACHINES, "", &machine.hostname);
    Ok(informer.snapshot().get(&key).map(|object| object.decode()).transpose()?)
}

impl Upgrader<'_> {
    fn books(&self) -> Books {
        Books::at(&self.machine.state)
    }

    /// What a trial came to, found at the start.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let (place, books) = (self.place.clone(), self.books());
        let leaving = tokio::task::spawn_blocking(move || {
            let mut book = books.read();
            let boot_id = std::fs::read_to_string(book::BOOT_ID).unwrap_or_default();
            let refused = crate::slot::refusal(place.idle());
            let found = book.found(&place.record()?, place.own, &boot_id, &refused);
            tracing::debug!(?found, "the trial of an upgrade");
            match &found {
                Found::Nothing | Found::OnTrial | Found::Leaving => {}
                Found::NotBegun => {
                    place.tell("the old system is started", |firmware| firmware.commit(place.own));
                    book.trial = None;
                    books.write(&book)?;
                }
                Found::Over(outcome, why) => {
                    if *outcome == Outcome::Failed {
                        tracing::error!("the upgrade failed, and the old system runs: {why}");
                        place.tell("the old system is started", |firmware| firmware.commit(place.own));
                        place.change(|record| {
                            if record.slot(place.idle()).verdict != Verdict::Bad {
                                record.condemn(place.idle(), why);
                            }
                        })?;
                    }
                    if *outcome == Outcome::Committed {
                        place.tell("the new system is started", |firmware| firmware.commit(place.own));
                    }
                    book.end(*outcome, why, &now());
                    books.write(&book)?;
                }
            }
            Ok::<_, anyhow::Error>(found == Found::Leaving)
        })
        .await??;
        if leaving {
            self.machine.requests.ask(Request::Reboot)?;
        }
        Ok(())
    }

    /// Acts on the object; gives after how long it is to be looked at again, whatever happens.
    async fn look(&mut self, object: &Value) -> anyhow::Result<Option<Duration>> {
        let wish = Wish::of(object);
        let books = self.books();
        let place = self.place.clone();
        let (book, record) = tokio::task::spawn_blocking(move || (books.read(), place.record())).await?;
        let proven = record?.slot(self.place.own).verdict == Verdict::Good;
        let wanted = wish.as_ref().ok().and_then(Option::as_ref);
        if self.job.as_ref().is_some_and(|job| wanted.map(Wish::named) != Some(job.wish.named())) {
            tracing::info!("what is being fetched is not wanted any more");
            self.job = None;
        }
        match step(wish.as_ref(), &book, proven, clock()) {
            Step::Nothing => {
                self.tell(object, None).await?;
                Ok(None)
            }
            Step::Tell(told) => {
                let named = match (&book.trial, wanted) {
                    (Some(trial), _) => trial.system.wish.clone(),
                    (None, Some(wish)) => wish.named(),
                    (None, None) => Named::as_said(object),
                };
                self.tell(object, Some((&named, &told))).await?;
                Ok(None)
            }
            Step::Wait(told, left) => {
                self.tell(object, wanted.map(|wish| (wish.named(), told)).as_ref().map(|(named, told)| (named, told)))
                    .await?;
                Ok(Some(left))
            }
            Step::Fetch => {
                let Some(wish) = wanted.cloned() else { return Ok(None) };
                self.fetch(object, wish).await
            }
            Step::Activate(system) => {
                let Some(wish) = wanted.cloned() else { return Ok(None) };
                let told = Told::of_installed(Phase::Trying, "the machine is being started with it", &system);
                self.tell(object, Some((&wish.named(), &told))).await?;
                self.activate(wish, system).await?;
                // Nothing more is looked at: the machine is on its way.
                std::future::pending().await
            }
        }
    }

    async fn fetch(&mut self, object: &Value, wish: Wish) -> anyhow::Result<Option<Duration>> {
        if let Some(pause) = self.pause.as_ref().filter(|pause| pause.wish == wish) {
            let left = pause.until.saturating_duration_since(tokio::time::Instant::now());
            if !left.is_zero() {
                let told = Told::new(Phase::Waiting, pause.why.clone());
                self.tell(object, Some((&wish.named(), &told))).await?;
                return Ok(Some(left));
            }
        }
        if self.job.is_none() {
            tracing::info!(source = wish.source, "an upgrade is fetched");
            self.job = Some(self.begin(wish.clone()));
        }
        let Some(job) = &self.job else { return Ok(None) };
        let far = *job.progress.borrow();
        let told = Told {
            fetched: far.fetched,
            total: far.to_fetch,
            started: Some(job.started.clone()),
            ..Told::new(Phase::Fetching, "")
        };
        self.tell(object, Some((&wish.named(), &told))).await?;
        Ok(Some(WORD))
    }

    fn begin(&self, wish: Wish) -> Job {
        let (sender, progress) = watch::channel(Far::default());
        let pace = Pace { progress: Arc::new(sender), unwanted: Arc::new(AtomicBool::new(false)) };
        let started = now();
        let (place, books, resolve) = (self.place.clone(), self.books(), self.resolve());
        let (asked, own, at) = (wish.clone(), pace.clone(), started.clone());
        let work = tokio::task::spawn_blocking(move || install::run(&place, &asked, &books, &own, resolve, &at));
        Job { wish, started, pace, progress, work }
    }

    /// Names of the cluster first, then those of the network that the machine is in.
    fn resolve(&self) -> Resolve {
        let network = self.machine.network.subscribe();
        let cluster = self.machine.config.cluster.cluster_dns;
        Arc::new(move |name| {
            let own = network.borrow().nameservers.clone();
            let servers: Vec<_> = own.into_iter().chain([cluster]).map(|server| SocketAddr::new(server, 53)).collect();
            Box::pin(async move { kedge_net::dns::addresses(&name, &servers).await })
        })
    }

    async fn done(&mut self, done: Done) -> anyhow::Result<()> {
        let Some(job) = self.job.take() else { return Ok(()) };
        let pause = self.pause.take();
        let (outcome, digest, version, why) = match done {
            Done::Unwanted => return Ok(()),
            Done::Installed(system) => {
                tracing::info!(version = system.version, bytes = system.bytes, "an upgrade is installed");
                return Ok(());
            }
            Done::Later(why) => {
                let length = pause.filter(|pause| pause.wish == job.wish).map_or(FIRST_PAUSE, |pause| pause.length * 2);
                let length = length.min(LONGEST_PAUSE);
                tracing::warn!("the upgrade is put off for {} s: {why}", length.as_secs());
                let until = tokio::time::Instant::now() + length;
                self.pause = Some(Pause { wish: job.wish.clone(), why, length, until });
                return Ok(());
            }
            Done::Runs { digest, version } => {
                (Outcome::Committed, Some(digest), Some(version), "it is what runs".to_owned())
            }
            Done::Refused { digest, version, why } => {
                tracing::error!("the upgrade is refused: {why}");
                (Outcome::Failed, digest, version, why)
            }
        };
        let (wish, started) = (job.wish.named(), job.started.clone());
        let ended = Ended { wish, digest, version, outcome, tried: false, why, started, finished: now(), bytes: 0 };
        let books = self.books();
        tokio::task::spawn_blocking(move || {
            let mut book = books.read();
            book.note(ended);
            books.write(&book)
        })
        .await?
    }

    /// The last word is the slot record's: before it the old system boots, after it the new one.
    async fn activate(&self, wish: Wish, system: book::Installed) -> anyhow::Result<()> {
        let (place, books) = (self.place.clone(), self.books());
        tracing::info!(version = system.version, "the machine is started with the new system");
        tokio::task::spawn_blocking(move || {
            let boot_id = std::fs::read_to_string(book::BOOT_ID)?;
            let trial = Trial { system, gate: wish.gate, boot_id, passed: 0 };
            let book = books.read();
            let manifest = place.ready()?;
            Transport::of(&place.disk).try_next(place.idle(), &manifest)?;
            books.write(&Book { trial: Some(trial), ..book.clone() })?;
            let told = place.change(|record| record.put_on_trial(place.idle(), TRIES));
            if told.is_err() {
                books.write(&book)?;
            }
            told
        })
        .await??;
        Ok(self.machine.requests.ask(Request::Reboot)?)
    }

    async fn tell(&mut self, object: &Value, what: Option<(&Named, &Told)>) -> anyhow::Result<()> {
        tell(self.machine, self.client, &mut self.told, object, what).await
    }
}

/// Writes `status.upgrade`; one that says the same stays.
async fn tell(
    machine: &Machine,
    client: &dyn Client,
    last: &mut Option<Value>,
    object: &Value,
    what: Option<(&Named, &Told)>,
) -> anyhow::Result<()> {
    let said = match what {
        None => Value::Null,
        Some((named, told)) => json!({
            "source": named.source, "attempt": named.attempt, "digest": told.digest, "version": told.version,
            "phase": format!("{:?}", told.phase), "message": told.message,
            "fetchedBytes": told.fetched, "totalBytes": told.total,
            "startedAt": told.started, "finishedAt": told.finished,
        }),
    };
    let there = object.pointer("/status/upgrade").cloned().unwrap_or_default();
    let plain = |value: &Value| {
        let fields = value.as_object().cloned().unwrap_or_default();
        Value::from_iter(fields.into_iter().filter(|(_, value)| !value.is_null()))
    };
    if plain(&there) == plain(&said) || last.as_ref() == Some(&said) {
        return Ok(());
    }
    let patch = json!({"apiVersion": API_VERSION, "status": {"upgrade": said}});
    client.merge(&MACHINES, ("", machine.hostname.as_str(), "status"), patch).await?;
    *last = Some(said);
    Ok(())
}
