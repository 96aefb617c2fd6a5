use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use kedge_runtime::engine::{Config, Containers};
use kedge_runtime::reaper::Reaper;
use kedge_runtime::{ExecSpec, Runtime, Status};
use tokio::io::AsyncReadExt as _;

use crate::machine::{self, Machine, base};

/// Writes numbers without end; told to, says the last and ends.
const COUNTER: &str = "trap 'echo last $n; exit 11' TERM; n=0; while :; do n=$((n+1)); echo $n; done";

/// Every number from 1 to the one that was said to be the last, in order. `gaps`: one may be missing what was in hand when its
/// process was replaced without warning.
fn check_count(output: &str, gaps: bool) {
    let mut lines: Vec<&str> = output.lines().collect();
    let last: usize = lines
        .pop()
        .unwrap()
        .strip_prefix("last ")
        .unwrap_or_else(|| panic!("{:?}", &output[output.len() - 99..]))
        .parse()
        .unwrap();
    assert!(last > 1000, "it wrote {last} lines only");
    if gaps {
        let number = |line: &str| line.parse::<usize>().unwrap_or(0);
        let torn = lines.windows(2).filter(|pair| number(pair[0]) + 1 != number(pair[1])).count();
        assert!(torn <= 2, "torn in {torn} places");
        return;
    }
    // The trap may come between adding and writing.
    assert!(lines.len() == last || lines.len() + 1 == last, "{} lines, the last is {last}", lines.len());
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(*line, (n + 1).to_string());
    }
}

pub async fn opened_anew_nothing_is_lost() {
    let mut machine = Machine::new().await;
    machine.start(machine.spec("counter", &["sh", "-c", COUNTER])).await;
    machine.runtime.create(machine.spec("waiting", &["sh", "-c", "exit 8"])).await.unwrap();
    machine.run(machine.spec("over", &["sh", "-c", "exit 5"])).await;
    let before = machine.runtime.list();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        machine.runtime.suspend().await;
        let directory = machine.directory.clone();
        drop(machine);
        // It writes on, into the pipe.
        tokio::time::sleep(Duration::from_millis(50)).await;
        machine = Machine::open(directory).await;
        assert_eq!(machine.runtime.list(), before);
    }
    let mut session = machine
        .runtime
        .exec("counter", ExecSpec { args: vec!["echo".to_owned(), "hi".to_owned()], ..ExecSpec::default() })
        .await
        .unwrap();
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), session.wait().await.unwrap()), ("hi\n", 0));
    machine.runtime.kill("counter", 15).await.unwrap();
    assert_eq!(machine.exit("counter").await.code, 11);
    check_count(&machine.output("counter"), false);
    machine.runtime.start("waiting").await.unwrap();
    assert_eq!(machine.exit("waiting").await.code, 8);
    for id in ["counter", "waiting", "over"] {
        machine.runtime.remove(id).await.unwrap();
    }
    assert_eq!(fs::read_dir(machine.directory.join("run")).unwrap().count(), 0);
}

fn alone(directory: &str, successor: bool) -> (tokio::runtime::Runtime, Containers, PathBuf) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = PathBuf::from(directory);
    let config = Config { successor, ..machine::config(&directory) };
    let runtime = tokio.block_on(Containers::open(config, Reaper::new().unwrap())).unwrap();
    (tokio, runtime, directory)
}

/// A process that makes containers and, without any farewell, becomes another program or dies.
pub fn predecessor(directory: &str) -> ExitCode {
    let (tokio, runtime, path) = alone(directory, false);
    let layer = machine::busybox_layer(&path);
    let spec = |id: &str, args: &[&str]| machine::spec(&path, &layer, id, args);
    tokio.block_on(async {
        let mut terminal = spec("terminal", &["sh", "-c", "read line; echo got $line; exit 12"]);
        (terminal.tty, terminal.stdin) = (true, true);
        let mut reader = spec("reader", &["sh", "-c", "read line; echo got $line; exit 13"]);
        reader.stdin = true;
        let ends = spec("ends", &["sh", "-c", "sleep 0.3; echo farewell; exit 14"]);
        for spec in [spec("counter", &["sh", "-c", COUNTER]), terminal, reader, ends] {
            let id = spec.id.clone();
            runtime.create(spec).await.unwrap();
            runtime.start(&id).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
        if path.join("suspend").exists() {
            runtime.suspend().await;
        }
    });
    if path.join("die").exists() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    let error = Command::new("/proc/self/exe").args(["successor", directory]).exec();
    panic!("{error}");
}

/// The same process after `execve`: checks what it finds, by way of its exit code.
pub fn successor(directory: &str) -> ExitCode {
    // Long enough for the container `ends` to end while nobody looks.
    std::thread::sleep(Duration::from_millis(600));
    let (tokio, runtime, path) = alone(directory, true);
    tokio.block_on(async {
        let mut events = runtime.subscribe();
        let mut attached =
            [runtime.attach("terminal", true).await.unwrap(), runtime.attach("reader", true).await.unwrap()];
        for session in &mut attached {
            tokio::io::AsyncWriteExt::write_all(session.stdin.as_mut().unwrap(), b"it\n").await.unwrap();
        }
        runtime.kill("counter", 15).await.unwrap();
        let code = |id: &str| {
            runtime.list().into_iter().find(|state| state.id == id).and_then(|state| match state.status {
                Status::Exited(exit) => Some(exit.code),
                Status::Created | Status::Running => None,
            })
        };
        let ids = ["counter", "terminal", "reader", "ends"];
        while ids.iter().any(|id| code(id).is_none()) {
            let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await;
            assert!(event.is_ok(), "{:?}", runtime.list());
        }
        assert_eq!(ids.map(code), [11, 12, 13, 14].map(Some));
        let output = |id: &str| machine::text(&fs::read_to_string(path.join(format!("log/{id}/0.log"))).unwrap());
        check_count(&output("counter"), !path.join("suspend").exists());
        assert_eq!(output("ends"), "farewell\n", "what waited in the pipe of an ended container is kept");
        assert!(output("terminal").contains("got it\r\n"));
        assert_eq!(output("reader"), "got it\n");
        for id in ids {
            runtime.remove(id).await.unwrap();
        }
        drop(attached);
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        let left: Vec<_> = open.filter(|target| target.starts_with(&path)).collect();
        assert!(left.is_empty(), "{left:?}");
    });
    ExitCode::SUCCESS
}

async fn run_predecessor(directory: &Path) -> (kedge_runtime::reaper::Ended, String) {
    let mut command = Command::new("/proc/self/exe");
    command.arg("predecessor").arg(directory).stderr(Stdio::piped());
    let mut process = machine::reaper().spawn(&mut command).unwrap();
    let mut stderr = process.stderr.take().unwrap();
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let ended = process.ended.await.unwrap();
    (ended, text.await.unwrap())
}

pub async fn a_process_replaces_itself() {
    for (n, suspend) in [true, false].into_iter().enumerate() {
        let directory = base().join(format!("replaced-{n}"));
        fs::create_dir_all(&directory).unwrap();
        if suspend {
            fs::write(directory.join("suspend"), "").unwrap();
        }
        let (ended, stderr) = run_predecessor(&directory).await;
        assert!(ended.success(), "{ended}: {stderr}");
    }
}

pub async fn the_containers_of_a_dead_process_are_watched() {
    Reaper::become_subreaper().unwrap();
    let directory = base().join("dead");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("die"), "").unwrap();
    let hold = machine::reaper().hold();
    let (ended, stderr) = run_predecessor(&directory).await;
    assert_eq!(ended.signal, Some(9), "{stderr}");
    // This process is a subreaper, so they are its children now and their exit codes are seen, as they would be by PID 1.
    let mut machine = Machine::open(directory).await;
    drop(hold);
    machine.runtime.kill("counter", 15).await.unwrap();
    assert_eq!(machine.exit("counter").await.code, 11);
    assert_eq!(machine.exit("ends").await.code, 14);
    // Its terminal died with the process that held it.
    let exit = machine.exit("terminal").await;
    assert!(exit.code == 129 || exit.code == 12, "{exit:?}");
    // So did its standard input: the shell read the end of it, unless we were quicker to hold it open again.
    machine.runtime.kill("reader", 9).await.unwrap();
    let exit = machine.exit("reader").await;
    assert!(exit.code == 13 || exit.code == 137, "{exit:?}");
    for state in machine.runtime.list() {
        machine.runtime.remove(&state.id).await.unwrap();
    }
}
