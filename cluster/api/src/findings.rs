//! What is odd in a document: fields that are unknown, or stand twice.
//!
//! Owns how much of it is kept: a document can be wrong in more places, and a place have a longer name, than is worth telling.

use std::fmt::Display;

#[derive(Clone, Debug)]
pub struct Findings {
    texts: Vec<String>,
    most: usize,
    /// Left for further text; the last one may be longer.
    room: usize,
}

impl Default for Findings {
    /// For an answer: as many as upstream tells.
    fn default() -> Self {
        Self::up_to(Self::TOLD, 64 << 10)
    }
}

impl Findings {
    pub const TOLD: usize = 100;

    pub fn up_to(most: usize, bytes: usize) -> Self {
        Self { texts: Vec::new(), most, room: bytes }
    }

    /// It is written out only if it is kept.
    pub fn note(&mut self, found: impl Display) {
        if self.has_room() {
            self.keep(found.to_string());
        }
    }

    /// As `note`, unless it is there already.
    pub fn note_once(&mut self, found: impl Display) {
        if self.has_room() {
            let text = found.to_string();
            if !self.texts.contains(&text) {
                self.keep(text);
            }
        }
    }

    pub fn has_room(&self) -> bool {
        self.texts.len() < self.most && self.room > 0
    }

    fn keep(&mut self, text: String) {
        self.room = self.room.saturating_sub(text.len());
        self.texts.push(text);
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub fn into_texts(self) -> Vec<String> {
        self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_is_told() {
        let mut found = Findings::default();
        (0..1000).for_each(|n| found.note_once(n / 2));
        assert_eq!((found.len(), found.into_texts().last().map(String::as_str)), (Findings::TOLD, Some("99")));
        let mut found = Findings::default();
        (0..1000).for_each(|_| found.note("x".repeat(40 << 10)));
        assert_eq!(found.len(), 2);
    }
}
