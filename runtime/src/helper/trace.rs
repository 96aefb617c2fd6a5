//! Keeps what libcontainer says went wrong. Its errors name a step ("failed to prepare rootfs"); the cause is only traced, and
//! by the cloned processes at that. All of them append to one memory file.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// `None` where no memory file could be made: then the errors themselves must do.
#[derive(Clone)]
pub struct Trace {
    file: Option<Arc<File>>,
}

/// From now on errors are kept.
pub fn install() -> Trace {
    let file =
        rustix::fs::memfd_create("trace", rustix::fs::MemfdFlags::CLOEXEC).ok().map(|fd| Arc::new(File::from(fd)));
    let trace = Trace { file };
    // Fails only where one is set already, as when a test calls this program's parts; then that one is told.
    let _ = tracing::subscriber::set_global_default(Errors(trace.clone()));
    trace
}

impl Trace {
    /// The first error kept.
    pub fn first(&self) -> Option<String> {
        let mut file = self.file.as_deref()?;
        file.seek(SeekFrom::Start(0)).ok()?;
        let mut text = String::new();
        file.take(1 << 20).read_to_string(&mut text).ok()?;
        text.lines().next().map(str::to_owned)
    }
}

struct Errors(Trace);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}\n", line.message, line.fields).replace("\n\n", "\n");
        // The offset is shared by all clones of this process, so each write appends.
        if let Some(mut file) = self.0.file.as_deref() {
            let _ = file.write_all(text.as_bytes());
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
        self.message = std::mem::take(&mut self.message).replace('\n', " ");
        self.fields = std::mem::take(&mut self.fields).replace('\n', " ");
    }
}
