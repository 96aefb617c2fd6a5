//! Documents in which the administrator says how the server is to decide: YAML, read strictly. What is wrong in one is told with its file,
//! its line and what was expected, all of it at once.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::de::DeserializeOwned;

/// Longer ones are refused unread.
const MAX_BYTES: usize = 1024 * 1024;
/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Where a document comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// It stands in another one; the name is what messages call it.
    Text { name: String, text: String },
    /// Looked at again while the server runs.
    File(PathBuf),
}

impl Given {
    pub fn read(&self) -> Result<Document, Mistakes> {
        match self {
            Self::Text { name, text } => Ok(Document { name: name.clone(), text: text.clone() }),
            Self::File(path) => {
                let name = path.display().to_string();
                match std::fs::read_to_string(path) {
                    Ok(text) => Ok(Document { name, text }),
                    Err(error) => {
                        let document = Document { name, text: String::new() };
                        Err(document.whole(tell_io(&error)))
                    }
                }
            }
        }
    }
}

fn tell_io(error: &std::io::Error) -> String {
    crate::tls::plain(std::io::Error::new(error.kind(), error.to_string())).to_string()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub name: String,
    pub text: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub file: String,
    /// From 1; 1 as well where the whole document is meant.
    pub line: usize,
    pub message: String,
}

/// Everything that is wrong with a document, a line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Mistake { file, line, message }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{file}:{line}: {message}")?;
        }
        Ok(())
    }
}

impl Document {
    /// Reads it as a `kind` of one of `versions`, each of which has the form of `T`.
    pub fn parse<T: DeserializeOwned>(&self, kind: &str, versions: &[&str]) -> Result<T, Mistakes> {
        if self.text.len() > MAX_BYTES {
            return Err(self.whole(format!("the document has {} bytes, more than {MAX_BYTES}", self.text.len())));
        }
        let broken = |error: serde_yaml::Error| {
            let line = error.location().map_or(1, |place| place.line());
            let text = error.to_string();
            let text = text.rfind(" at line ").and_then(|at| text.get(..at)).unwrap_or(&text).replace('`', "\"");
            Mistakes(vec![Mistake { file: self.name.clone(), line, message: text }])
        };
        let told: serde_yaml::Value = serde_yaml::from_str(&self.text).map_err(broken)?;
        let mut checks = Checks::of(self);
        let text = |key: &str| told.get(key).and_then(serde_yaml::Value::as_str).unwrap_or_default();
        if text("kind") != kind {
            checks.wrong("kind", format!("expected {kind}, found {:?}", text("kind")));
        }
        if !versions.contains(&text("apiVersion")) {
            checks.wrong("apiVersion", format!("expected {}, found {:?}", versions.join(" or "), text("apiVersion")));
        }
        checks.done()?;
        serde_yaml::from_str(&self.text).map_err(broken)
    }

    /// Wrong as a whole.
    pub fn whole(&self, message: String) -> Mistakes {
        Mistakes(vec![Mistake { file: self.name.clone(), line: 1, message }])
    }
}

/// Gathers what is wrong with a document that could be read; paths are fields as upstream writes them, `jwt[0].issuer.url`.
pub struct Checks<'a> {
    document: &'a Document,
    wrong: Vec<Mistake>,
}

impl<'a> Checks<'a> {
    pub const fn of(document: &'a Document) -> Self {
        Self { document, wrong: Vec::new() }
    }

    pub fn wrong(&mut self, path: &str, message: String) {
        let (file, line) = (self.document.name.clone(), line(&self.document.text, path));
        self.wrong.push(Mistake { file, line, message: format!("{path}: {message}") });
    }

    pub fn required(&mut self, path: &str, why: &str) {
        self.wrong(path, format!("Required value: {why}"));
    }

    pub fn invalid(&mut self, path: &str, value: &str, why: &str) {
        self.wrong(path, format!("Invalid value: {value:?}: {why}"));
    }

    pub fn duplicate(&mut self, path: &str, value: &str) {
        self.wrong(path, format!("Duplicate value: {value:?}"));
    }

    pub fn unsupported(&mut self, path: &str, value: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|text| format!("{text:?}")).collect();
        self.wrong(path, format!("Unsupported value: {value:?}: supported values: {}", supported.join(", ")));
    }

    pub fn done(self) -> Result<(), Mistakes> {
        if self.wrong.is_empty() { Ok(()) } else { Err(Mistakes(self.wrong)) }
    }
}

type Build<T> = Box<dyn Fn(&Document) -> Result<T, Mistakes> + Send + Sync>;

/// What a document makes, and makes anew when its file changes. One that turns wrong changes nothing: what was goes on.
pub struct Watched<T> {
    source: Option<(Given, Build<T>)>,
    /// What was read last, right or wrong.
    read: Mutex<Option<Document>>,
    /// Locked for a look or a replacement, never while anything is made.
    current: RwLock<Arc<T>>,
}

impl<T> Watched<T> {
    /// Without a document.
    pub fn fixed(value: T) -> Self {
        Self { source: None, read: Mutex::default(), current: RwLock::new(Arc::new(value)) }
    }

    pub fn open(
        given: Given,
        build: impl Fn(&Document) -> Result<T, Mistakes> + Send + Sync + 'static,
    ) -> Result<Self, Mistakes> {
        let document = given.read()?;
        let current = RwLock::new(Arc::new(build(&document)?));
        Ok(Self { source: Some((given, Box::new(build))), read: Mutex::new(Some(document)), current })
    }

    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again.
    pub fn look(&self) {
        let Some((given @ Given::File(_), build)) = &self.source else { return };
        let told = given.read();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *read == told.as_ref().ok().cloned() {
            return;
        }
        read.clone_from(&told.as_ref().ok().cloned());
        match told.and_then(|document| build(&document)) {
            Ok(value) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(?given, "read again, for it has changed");
            }
            Err(wrong) => tracing::error!(%wrong, "changed for the worse: what it said before goes on"),
        }
    }

    /// Looks at the file now and then. Never ends.
    pub async fn follow(&self) {
        if !matches!(self.source, Some((Given::File(_), _))) {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }
}

/// A key or the dash of an item, and where it stands.
struct Token<'a> {
    line: usize,
    column: usize,
    /// None for a dash.
    key: Option<&'a str>,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(after) = rest.strip_prefix("- ").or_else(|| rest.strip_prefix('-').filter(|r| r.is_empty())) {
            tokens.push(Token { line: at + 1, column: line.len() - rest.len(), key: None });
            rest = after.trim_start();
        }
        let Some((key, value)) = rest.split_once(':') else { continue };
        let key = key.trim_matches(['"', '\'']);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if !key.is_empty() && key.chars().all(plain) && (value.is_empty() || value.starts_with(' ')) {
            tokens.push(Token { line: at + 1, column: line.len() - rest.len(), key: Some(key) });
        }
    }
    tokens
}

/// The line of a field in a document of block style; of the deepest one above it that the document has.
fn line(text: &str, path: &str) -> usize {
    let tokens = tokens(text);
    let (mut block, mut found) = (tokens.as_slice(), 1);
    let steps = path.split('.').flat_map(|field| {
        let (name, index) = field.split_once('[').unwrap_or((field, ""));
        let index = index.trim_end_matches(']').parse::<usize>().ok();
        std::iter::once((Some(name), 0)).chain(index.map(|index| (None, index)))
    });
    for (key, index) in steps {
        let Some(base) = block.first().map(|token| token.column) else { break };
        let own = |token: &Token<'_>| token.column == base && token.key == key;
        let Some((at, token)) = block.iter().enumerate().filter(|(_, token)| own(token)).nth(index) else { break };
        found = token.line;
        let below = block.get(at + 1..).unwrap_or_default();
        // Items may stand as far left as the key that they belong to.
        let ends =
            |next: &Token<'_>| next.column < base || next.column == base && (key.is_none() || next.key.is_some());
        block = below.iter().position(ends).and_then(|end| below.get(..end)).unwrap_or(below);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_they_stand() {
        let text =
            "kind: A\nlist:\n- one: 1\n  two:\n    x: 1\n- one: |\n    a: b\n  two:\n  - 1\n  - x: 2\nend:\n  - - 3\n";
        for (path, expected) in [
            ("kind", 1),
            ("list", 2),
            ("list[0].one", 3),
            ("list[0].two.x", 5),
            ("list[1].two", 8),
            ("list[1].two[1].x", 10),
            ("list[1].missing", 6),
            ("list[7]", 2),
            ("end[0]", 12),
            ("missing", 1),
        ] {
            assert_eq!(line(text, path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            #[serde(rename = "kind")]
            _kind: String,
            #[serde(rename = "apiVersion")]
            _version: String,
        }
        let told = |text: &str| {
            let document = Document { name: "f".into(), text: text.into() };
            document.parse::<Form>("K", &["v1"]).err().map(|mistakes| mistakes.to_string())
        };
        assert_eq!(told("kind: K\napiVersion: v1\n"), None);
        for (text, expected) in [
            (
                "apiVersion: v2\nkind: L\n",
                "f:2: kind: expected K, found \"L\"\nf:1: apiVersion: expected v1, found \"v2\"",
            ),
            ("apiVersion: v1\nkind: K\nx: 1\n", "f:3: unknown field \"x\", expected \"kind\" or \"apiVersion\""),
            ("apiVersion: v1\nkind: K\na: [", "f:4: "),
        ] {
            let told = told(text).unwrap();
            assert!(told.starts_with(expected), "{text:?}: {told}");
        }
        let missing = Given::File("/nowhere/x.yaml".into()).read().unwrap_err().to_string();
        assert_eq!(missing, "/nowhere/x.yaml:1: no such file or directory");
    }

    #[test]
    fn what_changes_is_read_again_and_what_turns_wrong_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        let build =
            |document: &Document| document.text.trim().parse::<u8>().map_err(|error| document.whole(error.to_string()));
        std::fs::write(&path, "1").unwrap();
        let watched = Watched::open(Given::File(path.clone()), build).unwrap();
        for (text, expected) in [(Some("2"), 2), (Some("x"), 2), (None, 2), (Some("3"), 3)] {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            watched.look();
            assert_eq!(*watched.current(), expected, "{text:?}");
        }
        std::fs::write(&path, "x").unwrap();
        assert!(Watched::open(Given::File(path), build).is_err());
    }
}
