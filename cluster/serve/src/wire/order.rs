//! Findings in the order of the document. Objects are sorted maps here, but upstream names unknown and repeated fields as it reads them.

use bytes::Bytes;
use kedge_api::Status;
use serde::de::DeserializeSeed;

use super::walk::{Path, Seed, State};

/// Larger documents are not kept for it.
const LARGEST: usize = 64 * 1024;
const STRICT: &str = "strict decoding error: ";
const STARTS: [&str; 2] = ["unknown field ", "duplicate field "];

/// A JSON document whose findings are to be put in order.
#[derive(Clone, Debug, Default)]
pub struct Document(Bytes);

impl Document {
    pub fn new(bytes: &Bytes) -> Self {
        if bytes.len() > LARGEST { Self::default() } else { Self(bytes.clone()) }
    }

    /// Sorts findings by where they stand; what is none, such as another warning, stays in its place.
    pub fn arrange(&self, found: &mut [String]) {
        if found.len() < 2 || self.0.is_empty() {
            return;
        }
        let keys = self.keys();
        let place = |text: &String| {
            let (kind, path) = text.split_once(" field ")?;
            let path: String = serde_json::from_str(path).ok()?;
            // A repeated key is found when it comes again.
            let again = usize::from(kind == "duplicate");
            keys.iter().enumerate().filter(|(_, key)| **key == path).nth(again).map(|(at, _)| at)
        };
        let mut placed: Vec<(usize, usize)> =
            found.iter().enumerate().filter_map(|(at, text)| Some((place(text)?, at))).collect();
        let slots: Vec<usize> = placed.iter().map(|(_, at)| *at).collect();
        placed.sort_unstable();
        let sorted: Vec<String> = placed.iter().filter_map(|(_, at)| found.get(*at).cloned()).collect();
        for (slot, text) in slots.into_iter().zip(sorted) {
            if let Some(slot) = found.get_mut(slot) {
                *slot = text;
            }
        }
    }

    /// The same for a refusal that lists them.
    pub fn arranged(&self, mut status: Status) -> Status {
        if let Some((before, list)) = status.message.split_once(STRICT) {
            let mut found: Vec<String> = Vec::new();
            for part in list.split(", ") {
                match found.last_mut() {
                    Some(last) if !STARTS.iter().any(|start| part.starts_with(start)) => {
                        last.push_str(", ");
                        last.push_str(part);
                    }
                    Some(_) | None => found.push(part.to_owned()),
                }
            }
            self.arrange(&mut found);
            status.message = format!("{before}{STRICT}{}", found.join(", "));
        }
        status
    }

    /// The paths of all keys as they come.
    fn keys(&self) -> Vec<String> {
        let state = State::noting();
        let mut parser = serde_json::Deserializer::from_slice(&self.0);
        // The document was read before: what is wrong with it was told.
        let _read = Seed { state: &state, path: Path::Root }.deserialize(&mut parser);
        state.into_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_come_as_they_stand() {
        let text = r#"{"z":1,"kind":"X","data":{"k":1,"k":2},"a":{"b, unknown":3},"a":1}"#;
        let document = Document::new(&Bytes::from(text));
        let mut found: Vec<String> = [
            r#"duplicate field "a""#,
            r#"duplicate field "data.k""#,
            r#"unknown field "a""#,
            r#"unknown field "a.b, unknown""#,
            r#"unknown field "z""#,
        ]
        .map(str::to_owned)
        .into();
        let said = format!("X cannot be handled: {STRICT}{}", found.join(", "));
        document.arrange(&mut found);
        assert_eq!(
            found,
            [
                r#"unknown field "z""#,
                r#"duplicate field "data.k""#,
                r#"unknown field "a""#,
                r#"unknown field "a.b, unknown""#,
                r#"duplicate field "a""#
            ]
        );
        let status = document.arranged(Status::bad_request(said));
        assert_eq!(status.message, format!("X cannot be handled: {STRICT}{}", found.join(", ")));
        let mut mixed =
            vec![r#"unknown field "a""#.to_owned(), "another".to_owned(), r#"unknown field "z""#.to_owned()];
        document.arrange(&mut mixed);
        assert_eq!(mixed, [r#"unknown field "z""#, "another", r#"unknown field "a""#]);
        let other = Status::bad_request("something else, unknown field");
        assert_eq!(document.arranged(other.clone()).message, other.message);
    }
}
