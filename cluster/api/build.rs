//! Turns `schema/types.txt` into static tables without a single pointer: nothing to relocate, nothing to allocate, paged in when read.
//! `src/schema.rs` includes the result and gives it a shape.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt::Write as _;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=schema/types.txt");
    println!("cargo:rerun-if-changed=schema/structs.txt");
    println!("cargo:rerun-if-changed=schema/choices.txt");
    println!("cargo:rerun-if-changed=build.rs");
    let text = std::fs::read_to_string("schema/types.txt")?;
    let mut tables = Tables { structs: structs()?, choices: choices()?, ..Tables::default() };
    tables.rules(Rules::default())?;
    tables.string("")?;
    for (number, line) in text.lines().enumerate() {
        tables.line(line).map_err(|e| format!("schema/types.txt:{}: {e}", number + 1))?;
    }
    if let Some((name, field)) = tables.structs.iter().next() {
        return Err(format!("schema/structs.txt: {name} has no field {field}").into());
    }
    if let Some((name, field)) = tables.choices.keys().next() {
        return Err(format!("schema/choices.txt: {name} has no field {field}").into());
    }
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("schema_tables.rs");
    std::fs::write(out, tables.source()?)?;
    Ok(())
}

/// Type and field of each struct that is written even when it is empty.
fn structs() -> Result<HashSet<(String, String)>> {
    let text = std::fs::read_to_string("schema/structs.txt")?;
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' '));
    let fields = lines.flat_map(|mut words| {
        let name = long(words.next().unwrap_or_default());
        words.map(move |field| (name.clone(), field.to_owned()))
    });
    Ok(fields.collect())
}

/// The strings that each field of a few may hold, with commas between them.
fn choices() -> Result<HashMap<(String, String), String>> {
    let text = std::fs::read_to_string("schema/choices.txt")?;
    let (mut found, mut strings) = (HashMap::new(), "");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(row) = line.strip_prefix(' ') else {
            strings = line;
            continue;
        };
        let mut words = row.split(' ');
        let name = long(words.next().unwrap_or_default());
        found.extend(words.map(|field| ((name.clone(), field.to_owned()), strings.to_owned())));
    }
    Ok(found)
}

/// Interned rows; an index is what the tables refer to each other by.
#[derive(Default)]
struct Tables {
    strings: Intern<String>,
    shapes: Intern<String>,
    rules: Intern<Rules>,
    types: Vec<TypeRow>,
    fields: Vec<String>,
    gvks: Vec<String>,
    /// Those of which no field was seen yet.
    structs: HashSet<(String, String)>,
    choices: HashMap<(String, String), String>,
}

#[derive(Default)]
struct TypeRow {
    name: String,
    alias: Option<String>,
    atomic: bool,
    fields: (usize, usize),
    gvks: (usize, usize),
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Rules {
    list: u8,
    keys: Vec<String>,
    map: u8,
    merge: String,
    patch: u8,
    default: String,
    choices: String,
}

struct Intern<T> {
    rows: Vec<T>,
    seen: HashMap<T, usize>,
}

impl<T> Default for Intern<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), seen: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Intern<T> {
    fn index(&mut self, row: T) -> Result<usize> {
        if let Some(&at) = self.seen.get(&row) {
            return Ok(at);
        }
        let at = self.rows.len();
        if at >= usize::from(u16::MAX) {
            return Err("too many rows for a 16-bit index".into());
        }
        self.rows.push(row.clone());
        self.seen.insert(row, at);
        Ok(at)
    }
}

impl Tables {
    fn string(&mut self, text: &str) -> Result<usize> {
        self.strings.index(text.to_owned())
    }

    fn rules(&mut self, rules: Rules) -> Result<usize> {
        for text in rules.keys.iter().chain([&rules.merge, &rules.default, &rules.choices]) {
            self.string(text)?;
        }
        self.rules.index(rules)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace();
        let Some(first) = words.next().filter(|w| !w.starts_with('#')) else { return Ok(()) };
        if line.starts_with(' ') { self.field(first, words) } else { self.a_type(&long(first), words) }
    }

    fn a_type<'a>(&mut self, name: &str, words: impl Iterator<Item = &'a str>) -> Result<()> {
        self.string(name)?;
        let mut row = TypeRow { name: name.to_owned(), ..TypeRow::default() };
        row.fields = (self.fields.len(), 0);
        row.gvks = (self.gvks.len(), 0);
        for word in words {
            match word.split_once('=') {
                None if word == "atomic" => row.atomic = true,
                Some(("is", shape)) => {
                    self.shapes.index(long(shape))?;
                    row.alias = Some(long(shape));
                }
                Some(("gvk", gvk)) => {
                    let parts = gvk.split('/').map(|p| self.string(p)).collect::<Result<Vec<_>>>()?;
                    let [group, version, kind] = parts.as_slice() else { return Err(format!("bad gvk {gvk}").into()) };
                    self.gvks.push(format!("[{group},{version},{kind}]"));
                    row.gvks.1 += 1;
                }
                _ => return Err(format!("unknown word {word}").into()),
            }
        }
        self.types.push(row);
        Ok(())
    }

    fn field<'a>(&mut self, name: &str, mut words: impl Iterator<Item = &'a str>) -> Result<()> {
        let shape = long(words.next().ok_or("a field without a shape")?);
        let mut inner = shape.as_str();
        self.shapes.index(inner.to_owned())?;
        while let Some(rest) = inner.strip_prefix(['[', '{']) {
            inner = rest.strip_suffix([']', '}']).ok_or("an unclosed bracket")?;
            self.shapes.index(inner.to_owned())?;
        }
        let mut rules = Rules::default();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("unknown word {word}"))?;
            match (key, value) {
                ("list", "atomic") => rules.list = 1,
                ("list", "set") => rules.list = 2,
                ("list", map) => {
                    rules.list = 3;
                    let keys = map.strip_prefix("map:").ok_or("a list is atomic, set or map:")?;
                    rules.keys = keys.split(',').map(str::to_owned).collect();
                }
                ("map", "atomic") => rules.map = 1,
                ("map", "granular") => rules.map = 2,
                ("merge", key) => rules.merge = key.to_owned(),
                ("patch", strategies) => {
                    for strategy in strategies.split(',') {
                        rules.patch |= match strategy {
                            "merge" => 1,
                            "retainKeys" => 2,
                            "replace" => 4,
                            other => return Err(format!("unknown patch strategy {other}").into()),
                        };
                    }
                }
                ("zero", "drop") => rules.patch |= 8,
                ("empty", "keep") => rules.patch |= 16,
                ("default", json) => rules.default = json.to_owned(),
                _ => return Err(format!("unknown word {word}").into()),
            }
        }
        let (plain, required) = name.strip_suffix('!').map_or((name, false), |n| (n, true));
        let owner = self.types.last().map(|t| t.name.clone()).unwrap_or_default();
        let place = (owner, plain.to_owned());
        if self.structs.remove(&place) {
            rules.patch |= 32;
        }
        rules.choices = self.choices.remove(&place).unwrap_or_default();
        let name = self.string(plain)?;
        let shape = self.shapes.index(shape)?;
        let rules = self.rules(rules)?;
        self.fields.push(format!("FieldRow{{name:{name},shape:{shape},rules:{rules},required:{required}}}"));
        self.types.last_mut().ok_or("a field before any type")?.fields.1 += 1;
        Ok(())
    }

    fn source(&mut self) -> Result<String> {
        let mut types: Vec<&TypeRow> = self.types.iter().collect();
        types.sort_by(|a, b| a.name.cmp(&b.name));
        let by_name: HashMap<&str, usize> = types.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();

        let mut pool = String::new();
        let mut ends = Vec::new();
        for text in &self.strings.rows {
            pool.push_str(text);
            ends.push(pool.len().to_string());
        }
        let index = |shape: &str| self.shapes.seen.get(shape).copied().ok_or(format!("no shape {shape}"));
        let string = |text: &str| self.strings.seen.get(text).copied().ok_or(format!("no string {text}"));
        let shapes = self.shapes.rows.iter().map(|shape| {
            Ok(match shape.as_str() {
                "string" => "Shape::String".to_owned(),
                "string:byte" => "Shape::Bytes".to_owned(),
                "string:date-time" => "Shape::Time".to_owned(),
                "integer:int32" => "Shape::Int32".to_owned(),
                "integer:int64" => "Shape::Int64".to_owned(),
                "number" => "Shape::Number".to_owned(),
                "boolean" => "Shape::Boolean".to_owned(),
                "any" => "Shape::Any".to_owned(),
                "object" => "Shape::Object".to_owned(),
                "int-or-string" => "Shape::IntOrString".to_owned(),
                "quantity" => "Shape::Quantity".to_owned(),
                list if list.starts_with('[') => {
                    let inner = list.strip_prefix('[').and_then(|l| l.strip_suffix(']')).unwrap_or_default();
                    format!("Shape::List(Item({}))", index(inner)?)
                }
                map if map.starts_with('{') => {
                    let inner = map.strip_prefix('{').and_then(|m| m.strip_suffix('}')).unwrap_or_default();
                    format!("Shape::Map(Item({}))", index(inner)?)
                }
                name => format!("Shape::Type(Type({}))", by_name.get(name).ok_or(format!("no type {name}"))?),
            })
        });
        let shapes = shapes.collect::<Result<Vec<_>>>()?;
        let rules = self.rules.rows.iter().map(|r| {
            let mut keys = r.keys.iter().map(|k| string(k)).collect::<std::result::Result<Vec<_>, _>>()?;
            if keys.len() > 4 {
                return Err("more than four map keys".into());
            }
            keys.resize(4, 0);
            Ok(format!(
                "RuleRow{{list:{},keys:{keys:?},map:{},merge:{},patch:{},default:{},choices:{}}}",
                r.list,
                r.map,
                string(&r.merge)?,
                r.patch,
                string(&r.default)?,
                string(&r.choices)?
            ))
        });
        let rules = rules.collect::<Result<Vec<_>>>()?;
        let rows = types.iter().map(|t| {
            let alias = t.alias.as_deref().map_or(Ok(usize::from(u16::MAX)), index)?;
            Ok(format!(
                "TypeRow{{name:{},alias:{alias},atomic:{},fields:{:?},gvks:{:?}}}",
                string(&t.name)?,
                t.atomic,
                t.fields,
                t.gvks
            ))
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;

        let mut out = String::new();
        writeln!(out, "static POOL: &str = {pool:?};")?;
        for (name, kind, rows) in [
            ("ENDS", "u32", &ends),
            ("SHAPES", "Shape", &shapes),
            ("RULES", "RuleRow", &rules),
            ("FIELDS", "FieldRow", &self.fields),
            ("GVKS", "[u16; 3]", &self.gvks),
            ("TYPES", "TypeRow", &rows),
        ] {
            writeln!(out, "static {name}: [{kind}; {}] = [\n{}];", rows.len(), rows.join(",\n"))?;
        }
        Ok(out)
    }
}

/// Undoes the abbreviations of `schema/types.txt`.
fn long(name: &str) -> String {
    name.replace("~~", "io.k8s.apimachinery.pkg.").replace('~', "io.k8s.")
}
