//! Every target's share in every run of the tests: its seeds, and a number of inputs made of them, the same each time.
//!
//! `KEDGE_FUZZ=COUNT` makes more; `KEDGE_TARGET=NAME` runs one.
#![cfg(test)]

use std::alloc::System;
use std::panic::catch_unwind;

use cap::Cap;
use kedge_fuzz::TARGETS;

/// What no input may need: many times what is in use when they start, a fraction of what one that has no bound takes.
const MEMORY: usize = 1 << 30;
const COUNT: usize = 300;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY);

#[test]
fn every_target_holds() {
    let count = std::env::var("KEDGE_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(COUNT);
    let wanted = std::env::var("KEDGE_TARGET").unwrap_or_default();
    let mut failed = Vec::new();
    for target in TARGETS.iter().filter(|target| target.name.contains(&wanted)) {
        let broken = target.inputs(count).find(|input| catch_unwind(|| (target.run)(input)).is_err());
        failed.extend(broken.map(|input| format!("{}: {:?}", target.name, String::from_utf8_lossy(&input))));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn inputs_are_the_same_each_time_and_not_all_alike() {
    for target in TARGETS {
        let inputs: Vec<_> = target.inputs(50).collect();
        assert_eq!(target.inputs(50).collect::<Vec<_>>(), inputs, "{}", target.name);
        let different: std::collections::BTreeSet<_> = inputs.iter().collect();
        assert!(different.len() * 2 > inputs.len(), "{}", target.name);
        assert!(!(target.seeds)().is_empty(), "{} has no seeds", target.name);
    }
}
