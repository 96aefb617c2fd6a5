use std::fs;

use kedge_runtime::LogLimit;

use crate::machine::{Machine, parts};

pub async fn lines_of_both_streams() {
    let mut machine = Machine::new().await;
    let before = jiff::Timestamp::now();
    let (exit, _) = machine.shell("both", "echo out; echo err >&2; printf 'no end'").await;
    assert_eq!(exit.code, 0);
    let log = fs::read_to_string(machine.log("both")).unwrap();
    let mut entries: Vec<_> = log.lines().map(parts).collect();
    for (time, ..) in &entries {
        assert_eq!(time.len(), "2026-01-01T00:00:00.000000000Z".len());
        let time: jiff::Timestamp = time.parse().unwrap();
        assert!(before <= time && time <= jiff::Timestamp::now());
    }
    // The order between streams is not kept: they are two pipes.
    entries.sort_by_key(|entry| entry.1);
    let entries: Vec<_> = entries.into_iter().map(|(_, stream, tag, line)| (stream, tag, line)).collect();
    assert_eq!(entries, [("stderr", "F", "err"), ("stdout", "F", "out"), ("stdout", "P", "no end")]);
}

pub async fn a_megabyte_arrives_whole() {
    let mut machine = Machine::new().await;
    let (exit, lines) = machine.shell("lines", "seq 1 200000").await;
    assert_eq!(exit.code, 0);
    assert!(lines.len() > 1 << 20, "{}", lines.len());
    for (n, line) in lines.lines().enumerate() {
        assert_eq!(line, (n + 1).to_string());
    }
    assert_eq!(lines.lines().count(), 200_000);
    // One line of that size.
    let (_, line) = machine.shell("line", "yes x | head -c 2097152 | awk 'BEGIN { ORS = \"\" } { print }'; echo").await;
    assert_eq!(line.len(), (1 << 20) + 1);
    assert!(line.trim_end().bytes().all(|byte| byte == b'x'));
}

pub async fn a_log_is_rotated() {
    let mut machine = Machine::new().await;
    let mut spec = machine.spec("much", &["seq", "1", "100000"]);
    spec.log_limit = LogLimit { bytes: 256 << 10, files: 3 };
    machine.run(spec).await;
    let log = machine.log("much");
    let old = |n: u32| log.with_file_name(format!("0.log.{n}"));
    assert!(old(1).exists() && old(2).exists() && !old(3).exists());
    for path in [&log, &old(1), &old(2)] {
        // Whole turns are written, so a file may be short of its limit by one.
        assert!(fs::metadata(path).unwrap().len() <= 512 << 10);
    }
    let all: String = [old(2), old(1), log].iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    // A line that was held up on its way, as happens on a busy machine, is written in pieces.
    let pieces =
        all.lines().map(parts).map(|(_, _, tag, piece)| format!("{piece}{}", if tag == "F" { "\n" } else { "" }));
    let numbers: Vec<u32> = pieces.collect::<String>().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers.last(), Some(&100_000));
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "nothing is lost between files");
}
