//! Which devices, and what each one's machine config says: a template, and a row of a table or a number laid over it.
//!
//! The table's first column is `name`: hostname and file name. A column `label:KEY` is a label of the node, a column such as `network.dhcp` is
//! that field of the machine config, its cells YAML in flow style. An empty cell says nothing.

use crate::digest;
use kedge_config::{ConfigError, MachineConfig, Source};
use serde_yaml::{Mapping, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path}: {source}")]
    Csv { path: String, source: csv::Error },
    #[error("{path}: the first column is \"{found}\", expected \"name\"")]
    NoName { path: String, found: String },
    #[error("{path}:{line}: {what}")]
    Cell { path: String, line: u64, what: String },
    #[error("{path}:{line}: device \"{name}\" is there twice")]
    Twice { path: String, line: u64, name: String },
    #[error("{path} has no devices in it")]
    Empty { path: String },
    #[error("device \"{name}\": {source}")]
    Config { name: String, source: ConfigError },
    #[error("device \"{name}\": {source}")]
    Yaml { name: String, source: serde_yaml::Error },
    #[error("{0} devices, expected 1 to {MOST}")]
    Count(u32),
}

/// More is a typing mistake, or a second run.
const MOST: u32 = 100_000;
const NAME: &str = "name";
const LABEL: &str = "label:";

#[derive(Debug, Clone)]
pub enum Wanted {
    Table(PathBuf),
    /// PREFIX-0001 and so on.
    Count {
        count: u32,
        prefix: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// The machine config's text, found right.
    pub config: String,
    pub labels: BTreeMap<String, String>,
}

impl Device {
    /// Tells one machine config from another.
    pub fn digest(&self) -> String {
        digest::of_bytes(self.config.as_bytes())
    }
}

/// One device's own part.
struct Row {
    name: String,
    own: Mapping,
}

pub fn devices(template: Option<&Path>, wanted: &Wanted) -> Result<Vec<Device>, OrderError> {
    let template = match template {
        Some(path) => {
            let shown = path.display().to_string();
            let text =
                std::fs::read_to_string(path).map_err(|source| OrderError::Io { path: shown.clone(), source })?;
            Source::new(shown, text)
        }
        None => Source::new("no template", ""),
    };
    let rows = match wanted {
        Wanted::Table(path) => {
            let shown = path.display().to_string();
            let file = std::fs::File::open(path).map_err(|source| OrderError::Io { path: shown.clone(), source })?;
            table(&shown, file)?
        }
        Wanted::Count { count, prefix } => counted(*count, prefix)?,
    };
    rows.into_iter().map(|row| device(&template, row)).collect()
}

fn counted(count: u32, prefix: &str) -> Result<Vec<Row>, OrderError> {
    if !(1..=MOST).contains(&count) {
        return Err(OrderError::Count(count));
    }
    let row = |number: u32| Row { name: format!("{prefix}-{number:04}"), own: Mapping::new() };
    Ok((1..=count).map(row).collect())
}

fn table(path: &str, text: impl Read) -> Result<Vec<Row>, OrderError> {
    let wrong = |source| OrderError::Csv { path: path.to_owned(), source };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text);
    let head = reader.headers().map_err(wrong)?.clone();
    if head.get(0) != Some(NAME) {
        let found = head.get(0).unwrap_or_default().to_owned();
        return Err(OrderError::NoName { path: path.to_owned(), found });
    }
    let (mut rows, mut names) = (Vec::new(), BTreeSet::new());
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let line = record.position().map_or(0, csv::Position::line);
        let name = record.get(0).unwrap_or_default().to_owned();
        if !names.insert(name.clone()) {
            return Err(OrderError::Twice { path: path.to_owned(), line, name });
        }
        let mut own = Mapping::new();
        for (column, cell) in head.iter().zip(&record).skip(1).filter(|(_, cell)| !cell.is_empty()) {
            let set = match column.strip_prefix(LABEL) {
                Some(key) => put(&mut own, &["node", "labels", key], Value::from(cell)),
                None => serde_yaml::from_str(cell)
                    .map_err(|error| format!("column \"{column}\": \"{cell}\" is no YAML: {error}"))
                    .and_then(|value| put(&mut own, &column.split('.').collect::<Vec<_>>(), value)),
            };
            set.map_err(|what| OrderError::Cell { path: path.to_owned(), line, what })?;
        }
        rows.push(Row { name, own });
        if rows.len() > MOST as usize {
            return Err(OrderError::Count(MOST + 1));
        }
    }
    if rows.is_empty() {
        return Err(OrderError::Empty { path: path.to_owned() });
    }
    Ok(rows)
}

/// Sets the field at `keys`, making the mappings that lead there.
fn put(into: &mut Mapping, keys: &[&str], value: Value) -> Result<(), String> {
    let Some((first, rest)) = keys.split_first() else { return Ok(()) };
    if first.is_empty() {
        return Err(format!("column \"{}\", expected the names of fields joined by dots", keys.join(".")));
    }
    if rest.is_empty() {
        into.insert(Value::from(*first), value);
        return Ok(());
    }
    match into.entry(Value::from(*first)).or_insert_with(|| Value::Mapping(Mapping::new())) {
        Value::Mapping(inner) => put(inner, rest, value),
        _ => Err(format!("\"{first}\" is set twice, once as a whole and once in part")),
    }
}

fn device(template: &Source, Row { name, mut own }: Row) -> Result<Device, OrderError> {
    own.insert(Value::from("hostname"), Value::from(name.as_str()));
    let config = laid_over(&name, template, own)?;
    let fail = |source| OrderError::Config { name: name.clone(), source };
    let parsed = MachineConfig::parse(&format!("machine config of {name}"), &config).map_err(fail)?;
    Ok(Device { labels: parsed.node.labels, name, config })
}

fn laid_over(name: &str, below: &Source, above: Mapping) -> Result<String, OrderError> {
    let yaml = |source| OrderError::Yaml { name: name.to_owned(), source };
    let above = Source::new(format!("row of {name}"), serde_yaml::to_string(&above).map_err(yaml)?);
    let laid = Source::laid_over(&[below.clone(), above]);
    laid.map(|source| source.text).map_err(|source| OrderError::Config { name: name.to_owned(), source })
}

/// The machine config with a join token in it.
pub fn with_token(name: &str, config: &str, token: &str) -> Result<String, OrderError> {
    let own = Mapping::from_iter([(Value::from("token"), Value::from(token))]);
    laid_over(name, &Source::new("machine config", config), own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<Device>, String> {
        let template = Source::new("t.yaml", "node:\n  labels: {fleet: shop}\nnetwork:\n  dhcp: false\n");
        let rows = table("d.csv", text.as_bytes()).map_err(|error| error.to_string())?;
        rows.into_iter().map(|row| device(&template, row).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn a_row_is_laid_over_the_template() {
        let text = "name, label:kedge.dev/site, network.dhcp, network.nameservers\n# spare\ntill-1, bern, true,\"[1.1.1.1, 9.9.9.9]\"\ntill-2,,,\n";
        let found = rows(text).unwrap();
        let first = MachineConfig::parse("x", &found[0].config).unwrap();
        assert_eq!(first.hostname.as_deref(), Some("till-1"));
        assert_eq!((first.network.dhcp, first.network.nameservers.len()), (true, 2));
        let labels: Vec<_> = first.node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(labels, ["fleet=shop", "kedge.dev/site=bern"]);
        let second = MachineConfig::parse("x", &found[1].config).unwrap();
        assert!(!second.network.dhcp && second.node.labels.len() == 1);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let told = |text: &str| rows(text).unwrap_err();
        assert_eq!(told("host\na\n"), "d.csv: the first column is \"host\", expected \"name\"");
        assert_eq!(told("name\n"), "d.csv has no devices in it");
        assert_eq!(told("name\na\nb\na\n"), "d.csv:4: device \"a\" is there twice");
        assert!(told("name\n../etc\n").contains("hostname \"../etc\", expected lower-case letters"));
        assert!(told("name,hostnam\na,b\n").contains("unknown field \"hostnam\""), "{}", told("name,hostnam\na,b\n"));
        assert!(told("name,sysctls\na,[\n").starts_with("d.csv:2: column \"sysctls\": \"[\" is no YAML"));
        assert!(told("name,network,network.dhcp\na,1,true\n").contains("\"network\" is set twice"));
        assert!(told("name,x..y\na,1\n").contains("expected the names of fields joined by dots"));
        assert!(told("name,b\na\n").contains("d.csv: "));
    }

    #[test]
    fn a_count_gives_names_of_equal_length() {
        let rows = counted(3, "edge").unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["edge-0001", "edge-0002", "edge-0003"]);
        assert_eq!(counted(0, "edge").err().unwrap().to_string(), "0 devices, expected 1 to 100000");
    }
}
