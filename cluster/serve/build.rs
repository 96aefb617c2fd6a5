//! Packs what upstream's authors wrote of each type and field, for `src/describe/openapi/texts.rs` to unpack.
//!
//! The texts are taken from the source of the `k8s-openapi` crate that `Cargo.lock` names, where its JSON schemas stand as text: reading
//! them takes a second, compiling them for this build would take minutes. None is kept in this repository.
//!
//! The packed form: a number of records, each ended by a zero byte. First come two a type, by name: the name, and `=N` (the type itself)
//! and `FIELD=N` with spaces between, N being the number of a text. An empty record follows, then the texts.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CRATE: &str = "k8s-openapi";
/// The folder of its source that is of the version served here.
const VERSION: &str = "v1_36";
/// It has a hundred more; far fewer mean that its source is not written as it was.
const AT_LEAST: usize = 600;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../../Cargo.lock");
    let mut types = Types::new();
    folder(&source()?.join("src").join(VERSION), &mut types)?;
    if types.len() < AT_LEAST {
        return Err(format!("the source of {CRATE} describes {} types only", types.len()).into());
    }
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    packed.write_all(records(&types)?.as_bytes())?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("texts.deflate");
    std::fs::write(out, packed.finish()?)?;
    Ok(())
}

/// Where cargo has the crate's source: in its registry's cache, or wherever it is told to take it from.
fn source() -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var("CARGO")?);
    cargo.args(["metadata", "--format-version=1", "--locked", "--filter-platform"]).arg(std::env::var("TARGET")?);
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(Value::as_array).ok_or("cargo's metadata name no packages")?;
    let found = packages.iter().find(|package| package.get("name").and_then(Value::as_str) == Some(CRATE));
    let manifest = found.and_then(|package| package.get("manifest_path")).and_then(Value::as_str);
    let folder = manifest.and_then(|path| Path::new(path).parent()).ok_or(format!("cargo knows no {CRATE}"))?;
    Ok(folder.to_owned())
}

/// Texts by the name of a type and of a field; the type's own has no field.
type Types = BTreeMap<String, BTreeMap<String, String>>;

fn folder(path: &Path, types: &mut Types) -> Result<()> {
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            folder(&path, types)?;
        } else {
            file(&std::fs::read_to_string(&path)?, types).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

/// Generated code: what stands at a line's beginning says what the line is of.
fn file(source: &str, types: &mut Types) -> Result<()> {
    let (mut name, mut field) = (None, String::new());
    for line in source.lines() {
        if let Some(named) = between(line, "        ", ".into()").filter(|text| text.starts_with("\"io.k8s.")) {
            name = Some(string(named)?);
        }
        let Some(name) = &name else { continue };
        if let Some(named) = line.strip_prefix("                \"").and_then(|rest| rest.split('"').next()) {
            field = named.to_owned();
        }
        let own = between(line, "            \"description\": ", ",");
        let plain = between(line, "                    \"description\": ", ",");
        let referring = "                    schema_obj.ensure_object().insert(\"description\".into(), ";
        let (field, text) = match (own, plain.or(between(line, referring, ".into());"))) {
            (Some(text), _) => ("", text),
            (None, Some(text)) => (field.as_str(), text),
            (None, None) => continue,
        };
        types.entry(name.clone()).or_default().insert(field.to_owned(), string(text)?);
    }
    Ok(())
}

fn between<'a>(line: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    line.strip_prefix(before)?.strip_suffix(behind)
}

/// A string as Rust writes it, which for these texts is as JSON does.
fn string(literal: &str) -> Result<String> {
    serde_json::from_str(literal).map_err(|e| format!("{literal}: {e}").into())
}

fn records(types: &Types) -> Result<String> {
    let texts: BTreeSet<&str> = types.values().flat_map(|fields| fields.values()).map(String::as_str).collect();
    let numbers: BTreeMap<&str, usize> = texts.iter().enumerate().map(|(number, text)| (*text, number)).collect();
    let mut out = String::new();
    for (name, fields) in types {
        write!(out, "{name}\0")?;
        for (field, text) in fields {
            write!(out, "{field}={} ", numbers.get(text.as_str()).ok_or("a text without a number")?)?;
        }
        out.push('\0');
    }
    out.push('\0');
    for text in texts {
        write!(out, "{text}\0")?;
    }
    Ok(out)
}
