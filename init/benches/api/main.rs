//! The API server's speed and size, as its clients see them: `cargo bench -p kedge --bench api`.
//!
//! ```text
//! Server (kedge server, on a disk) ◀── HTTP/2, TLS ── Clients (one thread) ──▶ measures ──▶ the table, with bars and upstream's figures
//! ```
//! Server and clients share the machine; what each worked is printed, so that a busy machine can be told from a slow server.
//! The bars are asserted by nobody: a figure is for a person to judge.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark stops by panicking")]

mod client;
mod measures;
mod server;

use std::path::Path;
use std::time::Duration;

use measures::{PROTOBUF, config_map, pod};
use server::{Server, worked};

const MAPS: usize = 11_000;
const PODS: usize = 10_000;
const CLIENTS: usize = 32;
const WATCHERS: usize = 1000;
/// A server lets a connection have 100 streams.
const WATCHER_CONNECTIONS: usize = 20;
const ROUNDS: usize = 200;

/// A measured figure beside its bar and beside kube-apiserver 1.36 with etcd on two cores, client included.
struct Figure {
    what: String,
    here: f64,
    unit: &'static str,
    bar: Option<f64>,
    upstream: Option<f64>,
    /// More is better.
    rate: bool,
}

impl Figure {
    fn print(&self) {
        let bar = match self.bar {
            None => String::new(),
            Some(bar) => {
                let met = if self.rate { self.here >= bar } else { self.here <= bar };
                format!("{} {bar} {}", if self.rate { "≥" } else { "≤" }, if met { "met" } else { "MISSED" })
            }
        };
        let ratio = self.upstream.map_or(String::new(), |upstream| {
            let ratio = if self.rate { self.here / upstream } else { upstream / self.here };
            format!("{upstream} ({ratio:.1} times better)")
        });
        println!("{:<58} {:>9.1} {:<4}  {:<14} {ratio}", self.what, self.here, self.unit, bar);
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    ms(sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)])
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let program = words.first().map_or(env!("CARGO_BIN_EXE_kedge"), String::as_str);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    println!("{:<58} {:>9} {:<4}  {:<14} upstream", "", "here", "", "bar");
    let figure = |what: &str, here, unit, bar, upstream, rate| {
        Figure { what: what.to_owned(), here, unit, bar, upstream, rate }.print();
    };

    let server = Server::start(program.as_ref(), folder);
    figure("memory after the start (PSS)", server.pss() as f64 / 1024.0, "MiB", None, None, false);
    let maps = measures::create(&server, "/api/v1/namespaces/default/configmaps", MAPS, CLIENTS, config_map);
    let rate = maps.each.len() as f64 / maps.seconds;
    figure("creates of 1 KB ConfigMaps, durable, 32 clients", rate, "/s", Some(5000.0), Some(760.0), true);
    figure("  each, p50", percentile(&maps.each, 50), "ms", None, Some(39.0), false);
    figure("  each, p99", percentile(&maps.each, 99), "ms", None, Some(103.0), false);
    measures::service_account(&server);
    let pods = measures::create(&server, "/api/v1/namespaces/default/pods", PODS, CLIENTS, pod);
    figure("creates of pods, 32 clients", pods.each.len() as f64 / pods.seconds, "/s", None, None, true);
    let memory = server.pss() as f64 / 1024.0;
    figure("memory with 10,000 pods and 11,000 ConfigMaps (PSS)", memory, "MiB", Some(120.0), Some(1089.0), false);
    for (name, accept, bar, upstream) in [
        ("list of 10,000 pods as JSON", "application/json", Some(100.0), 701.0),
        ("list of 10,000 pods as protobuf", PROTOBUF, None, 288.0),
    ] {
        let list = measures::list(&server, "/api/v1/pods", accept);
        figure(name, ms(list.time), "ms", bar, Some(upstream), false);
        figure("  its size", list.bytes as f64 / 1e6, "MB", None, None, false);
        figure("  memory beyond rest at its peak", list.peak as f64 / 1024.0, "MiB", None, None, false);
    }
    let (own, others) = (worked(Path::new("/proc/self/stat")), server.worked());
    let watches = measures::watch(&server, WATCHERS, WATCHER_CONNECTIONS, ROUNDS);
    let (own, others) = (worked(Path::new("/proc/self/stat")) - own, server.worked() - others);
    figure("1,000 watchers: delivery, p50", percentile(&watches.each, 50), "ms", None, None, false);
    figure("1,000 watchers: delivery, p99", percentile(&watches.each, 99), "ms", Some(5.0), None, false);
    figure("  the write itself, p50", percentile(&watches.writes, 50), "ms", None, None, false);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / (WATCHERS * (ROUNDS + 1)) as f64;
    figure("  the server's work for one delivery", each(others), "µs", None, None, false);
    figure("  the client's work for one delivery", each(own), "µs", None, None, false);
    figure("CRD: from apply to the first list", ms(measures::definition(&server)), "ms", None, None, false);
    figure("database file", server.database() as f64 / 1e6, "MB", None, None, false);
}
