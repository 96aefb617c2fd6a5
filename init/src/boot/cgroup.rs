//! The root of the cgroup tree (version 2): which controllers its children may use.

use super::Boot;
use anyhow::Context;
use std::fs;

const ROOT: &str = "/sys/fs/cgroup";
/// What Kubernetes' resources are made of; `io` and `hugetlb` where the kernel has them.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
const WELCOME: [&str; 2] = ["io", "hugetlb"];

pub fn enable(_: &Boot) -> anyhow::Result<()> {
    let available = fs::read_to_string(format!("{ROOT}/cgroup.controllers")).context("read the cgroup controllers")?;
    let (enable, missing) = choose(&available);
    fs::write(format!("{ROOT}/cgroup.subtree_control"), &enable)
        .with_context(|| format!("enable cgroup controllers {enable}"))?;
    anyhow::ensure!(
        missing.is_empty(),
        "the kernel lacks the cgroup controllers {} (cgroup_disable= on its command line?)",
        missing.join(", ")
    );
    Ok(())
}

/// What to write, and what is needed but not there.
fn choose(available: &str) -> (String, Vec<&'static str>) {
    let is_there = |name: &&str| available.split_whitespace().any(|have| have == *name);
    let enable: Vec<String> =
        NEEDED.iter().chain(&WELCOME).filter(|name| is_there(name)).map(|name| format!("+{name}")).collect();
    (enable.join(" "), NEEDED.into_iter().filter(|name| !is_there(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_enabled_and_what_lacks_is_told() {
        assert_eq!(
            choose("cpuset cpu io memory hugetlb pids rdma misc\n"),
            ("+cpu +cpuset +memory +pids +io +hugetlb".into(), vec![])
        );
        // The Raspberry Pi's kernel without `cgroup_enable=memory`.
        assert_eq!(choose("cpuset cpu io pids"), ("+cpu +cpuset +pids +io".into(), vec!["memory"]));
    }
}
