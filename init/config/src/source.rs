//! Where a machine config comes from, and how several become one.

use crate::document::{self, ConfigError};
use crate::machine::MachineConfig;
use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

/// One document of the machine config. `name` is what messages call it: a path or `kernel command line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// The words `kedge.config.PATH=VALUE` of a kernel command line as a document. `PATH` is the keys joined by dots, `VALUE` is
    /// YAML in flow style: `kedge.config.hostname=edge-7 kedge.config.network.nameservers=[1.1.1.1]`.
    /// `None` when there is no such word.
    pub fn from_command_line(command_line: &str) -> Result<Option<Self>, ConfigError> {
        let mut root = Mapping::new();
        for word in command_line.split_whitespace() {
            let Some((path, value)) = word.strip_prefix("kedge.config.").and_then(|rest| rest.split_once('=')) else {
                continue;
            };
            let wrong = |message: String| ConfigError { file: COMMAND_LINE.into(), line: 1, column: 1, message };
            let keys: Vec<&str> = path.split('.').collect();
            if keys.iter().any(|key| key.is_empty()) || keys.len() > 8 {
                return Err(wrong(format!("\"{word}\", expected kedge.config.KEY.KEY=VALUE")));
            }
            let mut value: Value = serde_yaml::from_str(value)
                .map_err(|error| wrong(format!("the value of \"{word}\" is not YAML: {error}")))?;
            for key in keys.iter().rev() {
                value = Value::Mapping(Mapping::from_iter([(Value::from(*key), value)]));
            }
            if let Value::Mapping(more) = value {
                overlay(&mut root, more);
            }
        }
        if root.is_empty() {
            return Ok(None);
        }
        serde_yaml::to_string(&root).map(|text| Some(Self::new(COMMAND_LINE, text))).map_err(|error| ConfigError {
            file: COMMAND_LINE.into(),
            line: 1,
            column: 1,
            message: error.to_string(),
        })
    }
}

impl Source {
    /// The documents laid over each other, lowest first, as one document; each is found right on its own.
    pub fn laid_over(sources: &[Self]) -> Result<Self, ConfigError> {
        let (name, whole) = (joined(sources), overlaid(sources)?);
        let failed = |error: serde_yaml::Error| ConfigError {
            file: name.clone(),
            line: 1,
            column: 1,
            message: error.to_string(),
        };
        Ok(Self::new(name.clone(), serde_yaml::to_string(&whole).map_err(failed)?))
    }
}

fn joined(sources: &[Source]) -> String {
    sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(" + ")
}

const COMMAND_LINE: &str = "kernel command line";

/// Lays documents over each other, lowest first, and reads the result. Mappings are merged key by key; anything else, lists
/// included, is replaced. Each document is first read on its own, so that a mistake is told where it was made.
pub(crate) fn merge(sources: &[Source]) -> Result<MachineConfig, ConfigError> {
    serde_yaml::from_value(Value::Mapping(overlaid(sources)?)).map_err(|error| ConfigError {
        file: joined(sources),
        line: 1,
        column: 1,
        message: error.to_string(),
    })
}

fn overlaid(sources: &[Source]) -> Result<Mapping, ConfigError> {
    let mut whole = Mapping::new();
    for source in sources {
        let document: Value = read(source)?;
        match document {
            Value::Null => {}
            Value::Mapping(more) => {
                let _: MachineConfig = read(source)?;
                overlay(&mut whole, more);
            }
            _ => {
                let message = "expected a mapping of fields, such as \"hostname: edge-1\"";
                return Err(ConfigError::at(&source.name, &source.text, &[], message));
            }
        }
    }
    Ok(whole)
}

fn read<T: DeserializeOwned>(source: &Source) -> Result<T, ConfigError> {
    document::parse(&source.name, &source.text)
}

fn overlay(below: &mut Mapping, above: Mapping) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Mapping(old)), Value::Mapping(new)) => overlay(old, new),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_documents_win_key_by_key_and_lists_are_replaced() {
        let sources = [
            Source::new(
                "baked",
                "hostname: a\nnetwork:\n  dhcp: false\n  nameservers: [1.1.1.1, 8.8.8.8]\nsysctls: {x.y: \"1\"}\n",
            ),
            Source::new("empty", "# nothing\n"),
            Source::new("card", "network:\n  nameservers: [9.9.9.9]\nsysctls: {x.z: \"2\"}\n"),
        ];
        let merged = merge(&sources).unwrap();
        assert_eq!(merged.hostname.as_deref(), Some("a"));
        assert!(!merged.network.dhcp);
        assert_eq!(merged.network.nameservers, ["9.9.9.9".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(merged.sysctls.len(), 2);
    }

    #[test]
    fn documents_become_one_that_says_the_same() {
        let sources = [
            Source::new("template", "network: {dhcp: false}\nsysctls: {x.y: \"1\"}\n"),
            Source::new("row", "hostname: till-1\nsysctls: {x.z: \"2\"}\n"),
        ];
        let one = Source::laid_over(&sources).unwrap();
        assert_eq!(one.name, "template + row");
        assert_eq!(merge(&[one]).unwrap(), merge(&sources).unwrap());
        let error = Source::laid_over(&[Source::new("row", "hostnam: x\n")]).unwrap_err().to_string();
        assert!(error.starts_with("row:1:1: unknown field \"hostnam\""), "{error}");
    }

    #[test]
    fn a_mistake_is_told_in_the_document_that_made_it() {
        let sources = [Source::new("baked", "hostname: a\n"), Source::new("card", "network:\n  dhpc: false\n")];
        let error = merge(&sources).unwrap_err().to_string();
        assert!(error.starts_with("card:2:3: network: unknown field \"dhpc\""), "{error}");
        let error = merge(&[Source::new("card", "just text\n")]).unwrap_err().to_string();
        assert!(error.starts_with("card:1:1: expected a mapping"), "{error}");
    }

    #[test]
    fn the_command_line_is_a_document() {
        let line = "quiet kedge.force-slot=a kedge.config.hostname=edge-7 kedge.config.network.dhcp=false \
                    kedge.config.network.nameservers=[1.1.1.1,fd00::1] root=x";
        let source = Source::from_command_line(line).unwrap().unwrap();
        let merged = merge(&[Source::new("baked", "hostname: a"), source]).unwrap();
        assert_eq!(merged.hostname.as_deref(), Some("edge-7"));
        assert!(!merged.network.dhcp);
        assert_eq!(merged.network.nameservers.len(), 2);
        assert_eq!(Source::from_command_line("quiet kedge.force-slot=b").unwrap(), None);
    }

    #[test]
    fn a_wrong_word_on_the_command_line_is_told() {
        for wrong in ["kedge.config.=1", "kedge.config.a..b=1", "kedge.config.a=[1"] {
            let error = Source::from_command_line(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        let source = Source::from_command_line("kedge.config.hostnam=x").unwrap().unwrap();
        let error = merge(&[source]).unwrap_err().to_string();
        assert!(error.starts_with("kernel command line:1:1: unknown field \"hostnam\""), "{error}");
    }
}
