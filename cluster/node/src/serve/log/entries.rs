//! CRI log lines as people see them: `TIME STREAM TAG TEXT`, where tag `P` marks a piece whose rest follows. Pure.

use jiff::Timestamp;

/// A line longer than any that the runtime writes is not a line.
const LONGEST: usize = 64 << 10;

/// What of a log is to be seen, and how.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub timestamps: bool,
    /// Entries before this are left out.
    pub since: Option<Timestamp>,
    /// Only this stream.
    pub stream: Option<String>,
    /// Bytes that may still be given.
    pub limit: Option<u64>,
}

/// Turns the bytes of a log file into what is wanted, piece by piece.
#[derive(Debug, Default)]
pub struct Entries {
    wanted: Wanted,
    pending: Vec<u8>,
    /// The entry before was a piece: what follows continues its line.
    continues: bool,
}

impl Entries {
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Appends to `out` what the input's complete lines mean. `false`: the limit is reached, nothing more will come.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> bool {
        while let Some(at) = input.iter().position(|b| *b == b'\n') {
            let (line, rest) = (input.get(..at).unwrap_or_default(), input.get(at + 1..).unwrap_or_default());
            if self.pending.is_empty() {
                self.line(line, out);
            } else {
                let mut whole = std::mem::take(&mut self.pending);
                whole.extend_from_slice(line);
                self.line(&whole, out);
            }
            if self.wanted.limit == Some(0) {
                return false;
            }
            input = rest;
        }
        if self.pending.len() + input.len() <= LONGEST {
            self.pending.extend_from_slice(input);
        } else {
            self.pending.clear();
        }
        true
    }

    /// What is not an entry (a cut or foreign line) is left out.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let (Some(time), Some(stream), Some(tag)) = (parts.next(), parts.next(), parts.next()) else { return };
        let text = parts.next().unwrap_or_default();
        if self.wanted.stream.as_ref().is_some_and(|s| s.as_bytes() != stream) {
            return;
        }
        if let Some(since) = self.wanted.since {
            let at = str::from_utf8(time).ok().and_then(|t| t.parse::<Timestamp>().ok());
            match at {
                Some(at) if at >= since => {}
                Some(_) | None => return,
            }
        }
        if self.wanted.timestamps && !self.continues {
            self.give(time, out);
            self.give(b" ", out);
        }
        self.give(text, out);
        self.continues = tag == b"P";
        if !self.continues {
            self.give(b"\n", out);
        }
    }

    fn give(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let most = self.wanted.limit.map_or(bytes.len(), |l| usize::try_from(l).unwrap_or(usize::MAX).min(bytes.len()));
        out.extend_from_slice(bytes.get(..most).unwrap_or_default());
        if let Some(limit) = &mut self.wanted.limit {
            *limit = limit.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "1970-01-01T00:00:01.5Z stdout F one\n1970-01-01T00:00:02Z stderr P tw\n1970-01-01T00:00:03Z stderr F o\nbroken\n\
        1970-01-01T00:00:04Z stdout F \n1970-01-01T00:00:05Z stdout F a b  c\n1970-01-01T00:00:06Z stdout F cut";

    #[test]
    fn lines_as_asked_for() {
        let at = |s| Some(Timestamp::from_second(s).unwrap());
        for (wanted, expected) in [
            (Wanted::default(), "one\ntwo\n\na b  c\n"),
            (
                Wanted { timestamps: true, ..Wanted::default() },
                "1970-01-01T00:00:01.5Z one\n1970-01-01T00:00:02Z two\n1970-01-01T00:00:04Z \n1970-01-01T00:00:05Z a b  c\n",
            ),
            (Wanted { since: at(4), ..Wanted::default() }, "\na b  c\n"),
            (Wanted { since: at(100), ..Wanted::default() }, ""),
            (Wanted { stream: Some("stderr".into()), ..Wanted::default() }, "two\n"),
            (Wanted { limit: Some(6), ..Wanted::default() }, "one\ntw"),
        ] {
            for piece in [1, 7, 1000] {
                let mut entries = Entries::new(wanted.clone());
                let mut out = Vec::new();
                for chunk in LOG.as_bytes().chunks(piece) {
                    if !entries.push(chunk, &mut out) {
                        break;
                    }
                }
                assert_eq!(String::from_utf8(out).unwrap(), expected, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let (mut entries, mut out) = (Entries::default(), Vec::new());
        for _ in 0..100 {
            entries.push(&[b'x'; 4096], &mut out);
        }
        assert!(entries.pending.len() <= LONGEST && out.is_empty());
    }
}
