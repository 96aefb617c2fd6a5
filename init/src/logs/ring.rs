//! The last messages, in memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holds lines up to so many bytes; the oldest give way.
pub struct Ring {
    most: usize,
    // Orders nothing but the lines themselves; held for a push or a copy, never over a wait.
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    lines: VecDeque<Box<str>>,
    bytes: usize,
}

impl Ring {
    pub fn new(most: usize) -> Self {
        Self { most, lines: Mutex::default() }
    }

    pub fn push(&self, line: String) {
        let mut held = self.lock();
        held.bytes += line.len();
        held.lines.push_back(line.into_boxed_str());
        while held.bytes > self.most {
            let Some(oldest) = held.lines.pop_front() else { break };
            held.bytes -= oldest.len();
        }
    }

    /// All lines, oldest first.
    pub fn text(&self) -> String {
        let held = self.lock();
        let mut text = String::with_capacity(held.bytes + held.lines.len());
        held.lines.iter().for_each(|line| {
            text.push_str(line);
            text.push('\n');
        });
        text
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_within_the_bound() {
        let ring = Ring::new(10);
        for line in ["aaaa", "bbbb", "cc", "ddd"] {
            ring.push(line.into());
        }
        assert_eq!(ring.text(), "bbbb\ncc\nddd\n");
        ring.push("much longer than all".into());
        assert_eq!(ring.text(), "");
        ring.push("e".into());
        assert_eq!(ring.text(), "e\n");
    }
}
