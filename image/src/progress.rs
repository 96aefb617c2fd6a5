//! What a person sees of long work: on a terminal a line that moves, elsewhere one plain line a step.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Bars,
    Lines,
    Silent,
}

impl Progress {
    /// For standard error as it is.
    pub fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Bars } else { Self::Lines }
    }

    pub fn silent() -> Self {
        Self::Silent
    }

    /// Starts a step whose length is not known.
    pub fn step(self, what: impl Into<String>) -> Step {
        self.begin(what.into(), None)
    }

    /// Starts a step of `total` bytes.
    pub fn bytes(self, what: impl Into<String>, total: u64) -> Step {
        self.begin(what.into(), Some(total))
    }

    fn begin(self, what: String, total: Option<u64>) -> Step {
        let bar = match self {
            Self::Silent | Self::Lines => ProgressBar::hidden(),
            Self::Bars => {
                let (bar, template) = match total {
                    Some(total) => (ProgressBar::new(total), "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {eta}"),
                    None => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
                };
                // The templates are constants; a wrong one would show the plain bar.
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(100));
                bar
            }
        };
        bar.set_message(what.clone());
        Step { progress: self, what, bar, started: Instant::now() }
    }

    /// A line that stands for itself.
    pub fn note(self, text: &str) {
        if self != Self::Silent {
            eprintln!("{text}");
        }
    }
}

/// A step under way. One that is dropped without [`Step::done`] has failed, and the error says more than a line here could.
pub struct Step {
    progress: Progress,
    what: String,
    bar: ProgressBar,
    started: Instant,
}

impl Step {
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Ends the step; `result` is told behind it.
    pub fn done(self, result: &str) {
        self.bar.finish_and_clear();
        let between = if result.is_empty() { "" } else { ": " };
        let seconds = self.started.elapsed().as_secs_f32();
        self.progress.note(&format!("  {}{between}{result} ({seconds:.1} s)", self.what));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
