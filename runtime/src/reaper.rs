//! The one place that waits for pids.
//!
//! A thread of its own sleeps in `waitid(P_ALL, WNOWAIT)`. What it sees ended is first told to whoever watches the pid, and only
//! then taken from the kernel: where this process is replaced in between, the new one finds the zombie still there.
//!
//! ```text
//! waitid(all, WNOWAIT) ─▶ lock ─▶ watcher(exit) ─▶ waitid(pid) ─▶ unlock ─┐
//!          ▲────────────────────────────────────────────────────────────┘
//! spawn: lock ─▶ fork/exec ─▶ register ─▶ unlock       (so no exit can come between)
//! hold:  exits of unknown pids are kept while it lives  (for children that a helper makes for us)
//! ```
//! Never use `std::process::Child::wait` or `tokio::process` beside it: they would race it for the exit status.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::sys::{self, Child};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub code: i32,
    pub signal: Option<i32>,
}

impl Ended {
    /// As a shell tells it: 128 + signal for a killed process.
    pub fn from_signal(signal: i32) -> Self {
        Self { code: 128 + signal, signal: Some(signal) }
    }

    pub fn from_code(code: i32) -> Self {
        Self { code, signal: None }
    }

    pub fn success(self) -> bool {
        self.code == 0
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            Some(signal) => write!(f, "killed by signal {signal}"),
            None => write!(f, "exit code {}", self.code),
        }
    }
}

/// Runs on the reaper's thread while the process is still a zombie: it must be quick, and must not call the reaper.
type Watcher = Box<dyn FnOnce(Ended) + Send>;

#[derive(Default)]
struct Table {
    watchers: HashMap<u32, Watcher>,
    holds: usize,
    /// Counts processes made: tells a sleeper that it missed a notification.
    made: u64,
    unclaimed: HashMap<u32, Ended>,
    /// Whoever adopts children that this process had before it was replaced has not done so yet.
    unsettled: bool,
}

/// More exits than this are not kept for somebody who may come: a pid is 4 million at most, memory is not.
const MOST_UNCLAIMED: usize = 4096;

impl Table {
    fn keeps(&self) -> bool {
        (self.holds > 0 || self.unsettled) && self.unclaimed.len() < MOST_UNCLAIMED
    }

    fn forget_unclaimed(&mut self) {
        if self.holds == 0 && !self.unsettled {
            self.unclaimed = HashMap::new();
        }
    }
}

#[derive(Default)]
struct Shared {
    /// Orders "a process is made" before "its end is told": held over fork in `spawn` and over each taken exit.
    table: Mutex<Table>,
    /// There may be children again.
    children: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // A watcher that panicked has been dropped; the table itself is whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cheap to clone; every clone is the same reaper.
#[derive(Clone)]
pub struct Reaper {
    shared: Arc<Shared>,
}

/// A process started by [`Reaper::spawn`].
#[derive(Debug)]
pub struct Spawned {
    pub pid: u32,
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
    pub ended: oneshot::Receiver<Ended>,
}

/// See [`Reaper::hold`].
pub struct Hold {
    shared: Arc<Shared>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = self.shared.lock();
        table.holds = table.holds.saturating_sub(1);
        table.forget_unclaimed();
    }
}

impl Reaper {
    /// Starts the thread. One in a process: a second would take the first one's exits.
    /// Exits that nobody watches are kept until [`Reaper::settle`]: they may be of children from before this process was replaced.
    pub fn new() -> io::Result<Self> {
        sys::keep_zombies();
        let shared = Arc::new(Shared::default());
        shared.lock().unsettled = true;
        let own = Arc::clone(&shared);
        thread::Builder::new().name("reaper".to_owned()).stack_size(64 << 10).spawn(move || run(&own))?;
        Ok(Self { shared })
    }

    /// Makes orphans of this process' descendants its children, as they are PID 1's. For hosted mode.
    pub fn become_subreaper() -> io::Result<()> {
        // Any non-zero value sets it (PR_SET_CHILD_SUBREAPER in prctl(2)).
        Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
    }

    /// Starts a process and watches it.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Spawned> {
        let (tell, ended) = oneshot::channel();
        let mut table = self.shared.lock();
        let child = command.spawn()?;
        let pid = child.id();
        table.watchers.insert(
            pid,
            Box::new(move |end| {
                let _ = tell.send(end);
            }),
        );
        table.made += 1;
        drop(table);
        self.shared.children.notify_one();
        Ok(Spawned { pid, stdin: child.stdin, stdout: child.stdout, stderr: child.stderr, ended })
    }

    /// Tells the end of a child that somebody else made (a helper, or this process before it was replaced).
    pub fn watch(&self, pid: u32) -> oneshot::Receiver<Ended> {
        let (tell, ended) = oneshot::channel();
        self.watch_with(pid, move |end| {
            let _ = tell.send(end);
        });
        ended
    }

    /// As `watch`, but runs `then` on the reaper's thread before the zombie is taken: what it stores outlives this process.
    pub fn watch_with(&self, pid: u32, then: impl FnOnce(Ended) + Send + 'static) {
        let mut table = self.shared.lock();
        match table.unclaimed.remove(&pid) {
            Some(end) => {
                drop(table);
                then(end);
            }
            None => {
                table.watchers.insert(pid, Box::new(then));
                table.made += 1;
                drop(table);
                self.shared.children.notify_one();
            }
        }
    }

    /// The exit of a child that ended before anybody watched it, if it is kept.
    pub fn claim(&self, pid: u32) -> Option<Ended> {
        self.shared.lock().unclaimed.remove(&pid)
    }

    /// No longer tells the end of this pid.
    pub fn forget(&self, pid: u32) {
        self.shared.lock().watchers.remove(&pid);
    }

    /// Everything that was to be adopted is watched now ([`crate::engine::Containers::open`] calls this).
    pub fn settle(&self) {
        let mut table = self.shared.lock();
        table.unsettled = false;
        table.forget_unclaimed();
    }

    /// While the returned value lives, exits of children nobody watches are kept, so that a child made by a helper can be watched
    /// as soon as its pid is known, though it may have ended by then.
    pub fn hold(&self) -> Hold {
        self.shared.lock().holds += 1;
        Hold { shared: Arc::clone(&self.shared) }
    }
}

fn run(shared: &Shared) {
    loop {
        let made = shared.lock().made;
        match sys::peek(Child::Any) {
            Ok(Some((pid, _))) => take(shared, pid),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // No children, so none can appear by themselves (an orphan comes from a child): sleep until somebody makes one.
            Err(_) => drop(shared.children.wait_while(shared.lock(), |table| table.made == made)),
        }
    }
}

/// Tells and takes one ended child.
fn take(shared: &Shared, pid: u32) {
    let mut table = shared.lock();
    // It may have been taken since (`Command::spawn` takes a child whose `execve` failed): ask again under the lock.
    let Ok(Some((_, end))) = sys::peek(Child::One(pid)) else { return };
    match table.watchers.remove(&pid) {
        Some(watcher) => watcher(end),
        None if table.keeps() => drop(table.unclaimed.insert(pid, end)),
        None => {}
    }
    sys::take(pid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    // One test function: the reaper is one in a process, and threads of the test harness share it.
    #[tokio::test]
    async fn tells_every_exit_once() {
        let reaper = Reaper::new().unwrap();
        // Nothing to wait for yet; then many at once, some of which end before `spawn` returns.
        let spawned: Vec<_> =
            (0..50).map(|n| reaper.spawn(Command::new("sh").args(["-c", &format!("exit {n}")])).unwrap()).collect();
        for (n, process) in spawned.into_iter().enumerate() {
            assert_eq!(process.ended.await.unwrap(), Ended::from_code(n.try_into().unwrap()));
        }

        let process = reaper.spawn(Command::new("sleep").arg("100")).unwrap();
        let pid = rustix::process::Pid::from_raw(process.pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(process.ended.await.unwrap(), Ended { code: 143, signal: Some(15) });

        // A program that does not exist is an error of `spawn`, and takes nobody else's exit.
        let before = reaper.spawn(Command::new("sh").args(["-c", "exit 7"])).unwrap();
        let error = reaper.spawn(&mut Command::new("/does/not/exist")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(before.ended.await.unwrap().code, 7);

        reaper.settle();
        // The child of a child: orphaned to this process, it is told though it ended before it was watched.
        Reaper::become_subreaper().unwrap();
        let hold = reaper.hold();
        let parent = reaper
            .spawn(Command::new("sh").args(["-c", "sh -c 'sleep 0.2; exit 9' & echo $!"]).stdout(Stdio::piped()))
            .unwrap();
        assert!(parent.ended.await.unwrap().success());
        let orphan: u32 = io::read_to_string(parent.stdout.unwrap()).unwrap().trim().parse().unwrap();
        while !reaper.shared.lock().unclaimed.contains_key(&orphan) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(reaper.watch(orphan).await.unwrap().code, 9);
        drop(hold);
        assert!(reaper.shared.lock().unclaimed.is_empty());
    }
}
