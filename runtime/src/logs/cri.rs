//! The CRI log format: `2006-01-02T15:04:05.999999999Z stdout F line\n`; `P` marks a piece whose rest follows. Pure.
//!
//! Kubernetes' design proposal "kubelet CRI logging" and the kubelet's parser are the reference.

use std::fmt;

/// Longer lines are split into pieces of this size, as containerd does.
pub const LONGEST_LINE: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// Cuts one stream into lines.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    /// The beginning of a line whose end has not been seen; never as long as [`LONGEST_LINE`].
    pending: Vec<u8>,
}

impl Lines {
    pub fn new(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Appends to `log` what is complete; `time` is RFC 3339 with nanoseconds.
    pub fn push(&mut self, time: &str, mut input: &[u8], log: &mut Vec<u8>) {
        while !input.is_empty() {
            let room = LONGEST_LINE - self.pending.len();
            let newline = input.iter().take(room + 1).position(|&byte| byte == b'\n');
            let (piece, rest, tag) = match newline {
                Some(at) => (input.get(..at), input.get(at + 1..), b'F'),
                None if input.len() >= room => (input.get(..room), input.get(room..), b'P'),
                None => {
                    self.pending.extend_from_slice(input);
                    return;
                }
            };
            self.entry(time, piece.unwrap_or_default(), tag, log);
            input = rest.unwrap_or_default();
        }
    }

    /// Appends what is left of an unfinished line, marked as a piece.
    pub fn flush(&mut self, time: &str, log: &mut Vec<u8>) {
        if self.has_pending() {
            self.entry(time, &[], b'P', log);
        }
    }

    fn entry(&mut self, time: &str, piece: &[u8], tag: u8, log: &mut Vec<u8>) {
        log.extend_from_slice(time.as_bytes());
        log.extend_from_slice(match self.stream {
            Stream::Stdout => b" stdout ",
            Stream::Stderr => b" stderr ",
        });
        log.push(tag);
        log.push(b' ');
        // The buffer goes with its contents: an idle container keeps none.
        log.append(&mut std::mem::take(&mut self.pending));
        log.extend_from_slice(piece);
        log.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[&[u8]]) -> String {
        let mut lines = Lines::new(Stream::Stdout);
        let mut log = Vec::new();
        for piece in pieces {
            lines.push("T", piece, &mut log);
        }
        lines.flush("T", &mut log);
        String::from_utf8(log).unwrap()
    }

    #[test]
    fn lines_come_out_whole_however_they_come_in() {
        assert_eq!(run(&[b"one\ntwo\n"]), "T stdout F one\nT stdout F two\n");
        assert_eq!(run(&[b"on", b"e", b"\n\n", b"two\n"]), "T stdout F one\nT stdout F \nT stdout F two\n");
        assert_eq!(run(&[b"no end"]), "T stdout P no end\n");
        assert_eq!(run(&[]), "");
    }

    #[test]
    fn long_lines_are_split_and_keep_every_byte() {
        for length in [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1, 3 * LONGEST_LINE + 5] {
            let line = vec![b'x'; length];
            for chunk in [1_000, LONGEST_LINE, usize::MAX / 2] {
                let mut pieces: Vec<&[u8]> = line.chunks(chunk.min(length)).collect();
                pieces.push(b"\n");
                let log = run(&pieces);
                let mut bytes = 0;
                let entries: Vec<&str> = log.lines().collect();
                for (n, entry) in entries.iter().enumerate() {
                    let (tag, text) = entry.strip_prefix("T stdout ").unwrap().split_once(' ').unwrap();
                    assert_eq!(tag, if n + 1 == entries.len() { "F" } else { "P" });
                    assert!(text.len() <= LONGEST_LINE);
                    bytes += text.len();
                }
                assert_eq!(bytes, length);
            }
        }
    }

    #[test]
    fn no_buffer_is_kept_between_lines() {
        let mut lines = Lines::new(Stream::Stderr);
        let mut log = Vec::new();
        lines.push("T", &[b'x'; 5000], &mut log);
        assert!(lines.has_pending());
        lines.push("T", b"\n", &mut log);
        assert_eq!(lines.pending.capacity(), 0);
    }
}
