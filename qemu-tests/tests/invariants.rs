//! The walls of the house, over `cargo metadata`: which crate may know which, and what must never reach a crate by any way.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every crate and the crates of the house that it may use. A new arrow is a decision: it is made here.
const ARROWS: &[(&str, &[&str])] = &[
    // What the machine is lies in the cluster as an object, and init writes it as any client would.
    (
        "kedge",
        &[
            "kedge-api",
            "kedge-bundle",
            "kedge-cluster",
            "kedge-config",
            "kedge-fetch",
            "kedge-net",
            "kedge-runtime",
            "kedge-stage1",
        ],
    ),
    ("kedge-api", &[]),
    ("kedge-bundle", &["kedge-config"]),
    ("kedge-cel", &["kedge-api"]),
    (
        "kedge-cluster",
        &[
            "kedge-api",
            "kedge-control",
            "kedge-encrypt",
            "kedge-net",
            "kedge-node",
            "kedge-registry",
            "kedge-runtime",
            "kedge-schedule",
            "kedge-serve",
            "kedge-store",
            "kedge-watch",
        ],
    ),
    ("kedge-config", &[]),
    ("kedge-control", &["kedge-api"]),
    // Only what a resource is called: neither stores nor requests.
    ("kedge-encrypt", &["kedge-api"]),
    ("kedge-fetch", &[]),
    // Throws things at every reader; nothing is built from it.
    (
        "kedge-fuzz",
        &[
            "kedge-api",
            "kedge-bundle",
            "kedge-cel",
            "kedge-config",
            "kedge-net",
            "kedge-registry",
            "kedge-serve",
            "kedge-store",
            "kedge-watch",
        ],
    ),
    ("kedge-image", &["kedge-bundle", "kedge-config"]),
    ("kedge-net", &[]),
    ("kedge-node", &["kedge-api", "kedge-net", "kedge-runtime"]),
    // What lies in a slot and what is noted of it, to spoil both; and how a device tells its firmware.
    ("kedge-qemu-tests", &["kedge-config", "kedge-image", "kedge-stage1"]),
    ("kedge-registry", &["kedge-api", "kedge-cel", "kedge-store", "kedge-watch"]),
    ("kedge-runtime", &[]),
    ("kedge-schedule", &["kedge-api"]),
    // The language, for what configurations demand of tokens and of requests.
    ("kedge-serve", &["kedge-api", "kedge-cel", "kedge-registry"]),
    ("kedge-stage1", &["kedge-config"]),
    ("kedge-store", &["kedge-api", "kedge-encrypt"]),
    ("kedge-watch", &["kedge-api", "kedge-store"]),
];

/// A crate, and what must not be among all that it is built from.
const NEVER: &[(&str, &[&str])] = &[
    ("kedge-runtime", &["k8s-openapi", "rtnetlink", "rusqlite", "hyper"]),
    ("kedge-net", &["k8s-openapi", "libcontainer", "rusqlite"]),
    ("kedge-api", &["hyper", "http", "rusqlite", "rustix", "nix", "libcontainer", "rtnetlink"]),
    // A language, and nothing that it could act on.
    ("kedge-cel", &["hyper", "http", "rusqlite", "rustix", "nix"]),
    ("kedge-stage1", &["tokio", "k8s-openapi", "rusqlite", "hyper", "libcontainer"]),
    ("kedge-config", &["tokio", "k8s-openapi"]),
    // It reads what comes over the network; the C library would be unpacking what nobody has signed.
    ("kedge-bundle", &["tokio", "zstd-sys"]),
    ("kedge-fetch", &["k8s-openapi", "libcontainer", "rusqlite"]),
    ("kedge-image", &["libcontainer", "rusqlite", "k8s-openapi", "hyper"]),
    // One static binary: no C library but libc, libseccomp and SQLite; TLS is rustls.
    ("kedge", &["openssl-sys", "native-tls", "aws-lc-sys"]),
];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// What a graph maps a package to: what it is built from on the target, without tests' dependencies.
fn graph() -> (BTreeSet<String>, Graph) {
    let target = Command::new("rustc").arg("-vV").output().expect("rustc -vV");
    let target = String::from_utf8(target.stdout).expect("UTF-8");
    let host = target.lines().find_map(|line| line.strip_prefix("host: ")).expect("host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = |value: &Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> =
        list(&metadata, "packages").iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let own = list(&metadata, "workspace_members").iter().map(|id| names[&text(id)].clone()).collect();
    let mut graph = Graph::new();
    for node in list(&metadata["resolve"], "nodes") {
        // Two versions of a package are one here: only names are asked for.
        let uses = graph.entry(names[&text(&node["id"])].clone()).or_default();
        for dependency in list(&node, "deps") {
            if list(&dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null()) {
                uses.insert(names[&text(&dependency["pkg"])].clone());
            }
        }
    }
    (own, graph)
}

fn reached(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        for next in &graph[&name] {
            if all.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    all
}

#[test]
fn arrows_point_one_way() {
    let (own, graph) = graph();
    let table: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    for name in &own {
        let may = table.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no row in ARROWS"));
        let uses: BTreeSet<&str> = graph[name].iter().map(String::as_str).filter(|d| own.contains(*d)).collect();
        assert_eq!(&uses, may, "{name} uses other crates of the house than ARROWS says");
    }
    assert_eq!(own.len(), table.len(), "ARROWS has a row for a crate that is gone");
}

#[test]
fn what_must_never_reach_a_crate_does_not() {
    let (_, graph) = graph();
    for (name, never) in NEVER {
        let all = reached(&graph, name);
        for what in *never {
            assert!(!all.contains(*what), "{what} has become part of {name}");
        }
    }
}
