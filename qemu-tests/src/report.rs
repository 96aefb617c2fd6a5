//! What a person sees while a scenario runs: a line a step with its time, and tables.

use std::time::Instant;

use anyhow::{Context, Result};

/// Runs one step and says how it went.
pub fn step<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    eprint!("  {name} … ");
    let result = run();
    let seconds = start.elapsed().as_secs_f64();
    match &result {
        Ok(_) => eprintln!("{seconds:.1} s"),
        Err(_) => eprintln!("FAILED after {seconds:.1} s"),
    }
    result.with_context(|| format!("step \"{name}\" failed"))
}

/// Prints rows in columns as wide as their widest cell.
pub fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        println!("{}", cells.join("   ").trim_end());
    }
}
