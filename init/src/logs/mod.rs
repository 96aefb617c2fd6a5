//! Where messages go. On PID 1: the kernel log and a bounded ring in memory. Hosted: journald, else standard error.

mod line;
mod ring;

pub use ring::Ring;

use kedge_config::machine::Level;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, PoisonError, RwLock};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{registry, reload};

/// The log's level may be changed once the machine config is read.
pub struct Logs {
    pub ring: Arc<Ring>,
    level: reload::Handle<LevelFilter, registry::Registry>,
}

impl Logs {
    pub fn set_level(&self, level: Level) {
        // Fails only when the subscriber is gone, and with it the log.
        let _ = self.level.reload(filter(level));
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// Of PID 1. Before `/dev` is mounted the kernel log cannot be opened: it is tried again with each message.
pub fn machine() -> Result<Logs, TryInitError> {
    let ring = Arc::new(Ring::new(RING_BYTES));
    let (level, handle) = reload::Layer::new(LevelFilter::INFO);
    let kernel = KernelLog { ring: Arc::clone(&ring), file: RwLock::new(None) };
    tracing_subscriber::registry().with(level).with(kernel).try_init()?;
    Ok(Logs { ring, level: handle })
}

/// Of a server or an agent on somebody's Linux.
pub fn hosted() -> Result<Logs, TryInitError> {
    let ring = Arc::new(Ring::new(RING_BYTES));
    let (level, handle) = reload::Layer::new(LevelFilter::INFO);
    let base = tracing_subscriber::registry().with(level);
    // systemd says so where standard error is the journal (systemd.exec(5)): then fields are worth sending as fields.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    match journal {
        Some(journal) => base.with(journal).try_init()?,
        None => base.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false)).try_init()?,
    }
    Ok(Logs { ring, level: handle })
}

/// Some thousand lines.
const RING_BYTES: usize = 128 << 10;

struct KernelLog {
    ring: Arc<Ring>,
    file: RwLock<Option<File>>,
}

impl<S: Subscriber> Layer<S> for KernelLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line::of(event);
        self.to_kernel(line::priority(*event.metadata().level()), &line);
        self.ring.push(line);
    }
}

impl KernelLog {
    /// One `write` is one record (Documentation/ABI/testing/dev-kmsg). A full log drops its oldest lines; there is no failure to handle.
    fn to_kernel(&self, priority: u8, line: &str) {
        if let Some(mut file) = self.file.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let _ = file.write_all(format!("<{priority}>kedge: {line}\n").as_bytes());
            return;
        }
        let opened = File::options().write(true).open("/dev/kmsg").ok();
        let is_open = opened.is_some();
        // Orders nothing: two threads may both open it, and one file is dropped.
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = opened;
        if is_open {
            self.to_kernel(priority, line);
        }
    }
}
