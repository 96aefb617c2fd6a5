//! The runtime itself: every container has an entry here, a directory on tmpfs, and one task that tends it.
//!
//! ```text
//! create ─▶ make::make ─▶ helper ─▶ entry ─▶ tend::tend ─ output, exit ─▶ Exited
//! open   ─▶ adopt::all ─ decides what became of each record ─▶ the same entry and task
//! start, kill, remove, exec, attach: on the entry
//! ```
//! DIR/ID/: `config.json` and `oci/` (libcontainer's), `record.json`, `exit.json`, the FIFOs, `rootfs` (a mount point).

mod adopt;
mod attach;
mod exec;
mod make;
mod process;
mod record;
mod remove;
mod start;
mod streams;
mod tend;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;

use crate::cgroup::Cgroups;
use crate::helper::Helpers;
use crate::logs::{Source, Taps};
use crate::reaper::Reaper;
use crate::{ContainerEvent, ContainerSpec, ContainerState, Error, ExecSession, ExecSpec, Runtime, Status};

use record::Record;

/// Where things are. [`Config::device`] is the layout of a device; tests and hosted mode have their own.
#[derive(Debug, Clone)]
pub struct Config {
    /// Records, FIFOs, bundles; must be memory.
    pub root: PathBuf,
    /// Writable layers, a directory each.
    pub writable: PathBuf,
    /// Run as `helper runtime-helper`.
    pub helper: PathBuf,
    /// This process is its own successor: descriptors that point below `root` are its predecessor's and are taken over.
    pub successor: bool,
}

impl Config {
    pub fn device(successor: bool) -> Self {
        Self {
            root: "/run/kedge/containers".into(),
            writable: "/var/lib/kedge/containers".into(),
            helper: "/proc/self/exe".into(),
            successor,
        }
    }
}

/// Events that may wait for a subscriber before it is told that it lags.
const EVENTS: usize = 256;

/// All containers of one [`Config::root`].
pub struct Containers {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    config: Config,
    reaper: Reaper,
    helpers: Helpers,
    cgroups: Cgroups,
    events: broadcast::Sender<ContainerEvent>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<String, Arc<Entry>>,
    /// Ids being created; not listed yet, and taken.
    making: BTreeSet<String>,
}

/// One container.
pub(crate) struct Entry {
    id: String,
    directory: PathBuf,
    /// Orders changes of the record with their being saved; never held across an await.
    record: Mutex<Record>,
    taps: Arc<Taps>,
    terminal: OnceLock<Arc<OwnedFd>>,
    /// Our ends of the output FIFOs: open also while nothing is read, for a successor to inherit.
    output: Mutex<Vec<Arc<OwnedFd>>>,
    /// Keeps standard input from ending.
    stdin: Mutex<Option<OwnedFd>>,
    /// One of start, remove at a time.
    gate: tokio::sync::Mutex<()>,
    /// The process is a zombie or gone: its pid must not be signalled any more.
    ended: AtomicBool,
    /// Becomes true when the exit is recorded and told.
    exited: watch::Sender<bool>,
    /// Attached sessions that want the exit code.
    waiting: Mutex<Vec<oneshot::Sender<i32>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A lock whose holder panicked guards plain data that is whole: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    fn new(directory: PathBuf, record: Record) -> Self {
        Self {
            id: record.state.id.clone(),
            directory,
            record: Mutex::new(record),
            taps: Arc::new(Taps::default()),
            terminal: OnceLock::new(),
            output: Mutex::default(),
            stdin: Mutex::new(None),
            gate: tokio::sync::Mutex::new(()),
            ended: AtomicBool::new(false),
            exited: watch::Sender::new(false),
            waiting: Mutex::new(Vec::new()),
            task: Mutex::new(None),
        }
    }

    fn keep_output(&self, stdout: OwnedFd, stderr: OwnedFd) -> Source {
        let (stdout, stderr) = (Arc::new(stdout), Arc::new(stderr));
        *lock(&self.output) = vec![Arc::clone(&stdout), Arc::clone(&stderr)];
        Source::Fifos(stdout, stderr)
    }

    /// Changes the record and saves it.
    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let mut record = lock(&self.record);
        change(&mut record);
        record.save(&self.directory).map_err(path_error("save the record in", &self.directory))
    }

    fn status(&self) -> Status {
        lock(&self.record).state.status.clone()
    }
}

fn path_error(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Path { doing, path, source }
}

impl Containers {
    /// Finds what is there already and goes on with it.
    pub async fn open(config: Config, reaper: Reaper) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            helpers: Helpers::new(config.helper.clone(), reaper.clone()),
            reaper,
            cgroups: Cgroups::detect(),
            events: broadcast::Sender::new(EVENTS),
            table: Mutex::default(),
            config,
        });
        adopt::all(&shared).await?;
        shared.reaper.settle();
        Ok(Self { shared })
    }

    /// Stops reading output and tending, with everything read written down: to be called before this process is replaced or the
    /// same root is opened again. Containers go on.
    pub async fn suspend(&self) {
        let entries: Vec<_> = lock(&self.shared.table).entries.values().cloned().collect();
        for entry in entries {
            let task = lock(&entry.task).take();
            if let Some(task) = task {
                task.abort();
                let _ = task.await;
            }
        }
    }

    /// What the cgroup of a container uses.
    pub fn usage(&self, id: &str) -> Result<crate::cgroup::Usage, Error> {
        let cgroup = lock(&self.shared.entry(id)?.record).cgroup.clone();
        Ok(self.shared.cgroups.usage(&cgroup))
    }
}

impl Drop for Containers {
    /// As `suspend`, but tasks may still do what they are at.
    fn drop(&mut self) {
        for entry in lock(&self.shared.table).entries.values() {
            if let Some(task) = lock(&entry.task).take() {
                task.abort();
            }
        }
    }
}

impl Shared {
    fn entry(&self, id: &str) -> Result<Arc<Entry>, Error> {
        lock(&self.table).entries.get(id).cloned().ok_or_else(|| Error::NotFound { id: id.to_owned() })
    }

    fn insert(&self, entry: Arc<Entry>) {
        lock(&self.table).entries.insert(entry.id.clone(), entry);
    }

    fn tell(&self, event: ContainerEvent) {
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }
}

#[async_trait]
impl Runtime for Containers {
    async fn create(&self, spec: ContainerSpec) -> Result<(), Error> {
        let (shared, id) = (Arc::clone(&self.shared), spec.id.clone());
        // In a task of its own: a caller that gives up must not leave half a container.
        let made = tokio::spawn(async move { make::make(&shared, spec).await }).await;
        made.unwrap_or_else(|error| Err(Error::Create { id, reason: format!("its task ended: {error}") }))
    }

    async fn start(&self, id: &str) -> Result<(), Error> {
        start::start(&self.shared, &self.shared.entry(id)?).await
    }

    async fn kill(&self, id: &str, signal: i32) -> Result<(), Error> {
        start::kill(&*self.shared.entry(id)?, signal)
    }

    async fn remove(&self, id: &str) -> Result<(), Error> {
        match self.shared.entry(id) {
            Ok(entry) => remove::remove(&self.shared, &entry).await,
            Err(_) => Ok(()),
        }
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, Error> {
        exec::exec(&self.shared, &*self.shared.entry(id)?, spec).await
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<ExecSession, Error> {
        attach::attach(&self.shared.entry(id)?, stdin)
    }

    fn list(&self) -> Vec<ContainerState> {
        lock(&self.shared.table).entries.values().map(|entry| lock(&entry.record).state.clone()).collect()
    }

    fn subscribe(&self) -> broadcast::Receiver<ContainerEvent> {
        self.shared.events.subscribe()
    }
}
