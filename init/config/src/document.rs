//! Reading a YAML document so that a mistake is told with file, line, column and what was expected.

use serde::de::DeserializeOwned;

/// Longer documents are refused unread: a machine config is a page, and PID 1 has little memory.
pub const MAX_BYTES: usize = 256 * 1024;

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ConfigError {
    pub file: String,
    /// From 1; 1 as well where the whole document is meant.
    pub line: usize,
    /// From 1.
    pub column: usize,
    pub message: String,
}

impl ConfigError {
    /// An error about the place where the document says `path`, the keys from the root, such as `["network", "dhcp"]`.
    /// Where the document does not say it, the error points at the deepest key that it does say.
    pub(crate) fn at(file: &str, text: &str, path: &[&str], message: impl Into<String>) -> Self {
        let (line, column) = find(text, path);
        Self { file: file.to_owned(), line, column, message: message.into() }
    }
}

/// Reads `text` strictly. `file` is only for the message.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    let whole = |message: String| ConfigError { file: file.to_owned(), line: 1, column: 1, message };
    if text.len() > MAX_BYTES {
        return Err(whole(format!("the document has {} bytes, more than {MAX_BYTES}", text.len())));
    }
    serde_yaml::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
        ConfigError { file: file.to_owned(), line, column, message: message(&error.to_string()) }
    })
}

/// The library's message in our form: without its own location, which we put in front, and with plain quotes.
fn message(error: &str) -> String {
    let error = match error.rfind(" at line ") {
        Some(at) => error.get(..at).unwrap_or(error),
        None => error,
    };
    error.replace('`', "\"")
}

/// Line and column of a key, for checks that run after parsing. Block style only: in flow style the line of the
/// enclosing key is found, which is where a person looks as well.
fn find(text: &str, path: &[&str]) -> (usize, usize) {
    let mut found = (1, 1);
    let mut wanted = path.iter().peekable();
    // The indentation of the keys looked for: they are deeper than their parent's, which is here.
    let mut parent: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        let Some(key) = wanted.peek() else { break };
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let indent = line.len() - content.len();
        if parent.is_some_and(|parent| indent <= parent) {
            break;
        }
        let named = content.split(':').next().unwrap_or("").trim_matches(['"', '\'', ' ']);
        if content.contains(':') && named == **key && (parent.is_some() || indent == 0) {
            found = (number + 1, indent + 1);
            parent = Some(indent);
            wanted.next();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_found_where_they_stand() {
        let text = "# comment\nname: x\nnetwork:\n  dns:\n    a: 1\n  dhcp: true\nother:\n  dhcp: false\n";
        assert_eq!(find(text, &["name"]), (2, 1));
        assert_eq!(find(text, &["network", "dhcp"]), (6, 3));
        assert_eq!(find(text, &["other", "dhcp"]), (8, 3));
        assert_eq!(find(text, &["network", "missing"]), (3, 1));
        assert_eq!(find(text, &["missing"]), (1, 1));
    }

    #[test]
    fn a_document_out_of_measure_is_refused_unread() {
        let error = parse::<serde_yaml::Value>("big.yaml", &" ".repeat(MAX_BYTES + 1)).unwrap_err();
        assert!(error.to_string().starts_with("big.yaml:1:1: the document has"), "{error}");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(9);
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(parse::<serde_yaml::Value>("bomb.yaml", &text).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[a-z:\\- \\[\\]{}&*!|>'\"#%@\n]{0,200}") {
            let _ = parse::<crate::MachineConfig>("x", &text);
            let _ = parse::<crate::BoardConfig>("x", &text);
        }
    }
}
