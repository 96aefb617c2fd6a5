//! Tells the tool which crates the two programs of a device are made of, for its bills of materials: `cargo metadata` of this very
//! checkout, as a table in `$OUT_DIR/crates.json` (read by `sbom::crates`). What only builds or tests a program, or is a macro of it, is not in it.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [&str; 2] = ["kedge", "kedge-stage1"];
/// What devices have; a crate that only one of them needs is told for all.
const TARGETS: [&str; 3] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let workspace = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("..");
    let lock = std::fs::read_to_string(workspace.join("Cargo.lock"))?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    // The network is asked only if a package's own description is not at hand.
    let metadata = metadata(&workspace, &["--offline"]).or_else(|_| metadata(&workspace, &[]))?;
    let table = table(&metadata, &checksums(&lock))?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("crates.json");
    Ok(std::fs::write(out, serde_json::to_vec(&table)?)?)
}

fn metadata(workspace: &Path, more: &[&str]) -> Result<Value, Failure> {
    let filters = TARGETS.iter().flat_map(|target| ["--filter-platform", target]);
    let output = Command::new(std::env::var("CARGO")?)
        .current_dir(workspace)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(filters)
        .args(more)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Name and version of every package to the SHA-256 that the lock file has of it.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |package: &str, key: &str| {
        package
            .lines()
            .find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.trim_end_matches('"').to_owned()))
    };
    let packages = lock.split("[[package]]").skip(1);
    packages.filter_map(|p| Some(((field(p, "name")?, field(p, "version")?), field(p, "checksum")?))).collect()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn table(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Result<Value, Failure> {
    let packages: BTreeMap<String, &Value> = list(metadata, "packages").iter().map(|p| (text(p, "id"), p)).collect();
    let is_macro = |id: &str| {
        let targets = packages.get(id).map_or(&[][..], |package| list(package, "targets"));
        targets.iter().any(|target| list(target, "kind").iter().any(|kind| kind == "proc-macro"))
    };
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata.get("resolve").map_or(&[][..], |resolve| list(resolve, "nodes")) {
        let linked =
            |dep: &&Value| list(dep, "dep_kinds").iter().any(|kind| kind.get("kind").is_some_and(Value::is_null));
        let found = list(node, "deps").iter().filter(linked).map(|dep| text(dep, "pkg")).filter(|id| !is_macro(id));
        needs.insert(text(node, "id"), found.collect());
    }
    let mut roots = Vec::new();
    for name in PROGRAMS {
        let root =
            packages.iter().find(|(_, p)| text(p, "name") == name && p.get("source").is_some_and(Value::is_null));
        roots.push(root.ok_or_else(|| format!("the workspace has no package {name}"))?.0.clone());
    }
    let (mut reached, mut open) = (BTreeSet::new(), roots);
    while let Some(id) = open.pop() {
        if reached.insert(id.clone()) {
            open.extend(needs.get(&id).into_iter().flatten().cloned());
        }
    }
    let key =
        |id: &str| packages.get(id).map_or_else(String::new, |p| format!("{}@{}", text(p, "name"), text(p, "version")));
    let rows = reached.iter().filter_map(|id| packages.get(id).map(|package| (id, package))).map(|(id, package)| {
        let (name, version) = (text(package, "name"), text(package, "version"));
        let sha256 = checksums.get(&(name.clone(), version.clone()));
        let needs: BTreeSet<String> = needs.get(id).into_iter().flatten().map(|id| key(id)).collect();
        json!({ "name": name, "version": version, "licence": package.get("license"), "sha256": sha256, "needs": needs })
    });
    let mut rows: Vec<Value> = rows.collect();
    rows.sort_by_key(|row| (text(row, "name"), text(row, "version")));
    Ok(Value::Array(rows))
}
