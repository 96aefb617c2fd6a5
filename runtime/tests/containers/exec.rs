use std::time::Duration;

use kedge_runtime::{ExecSpec, Runtime, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::machine::Machine;

fn command(args: &[&str]) -> ExecSpec {
    ExecSpec { args: args.iter().map(|&arg| arg.to_owned()).collect(), ..ExecSpec::default() }
}

async fn sleeper() -> Machine {
    let machine = Machine::new().await;
    machine.start(machine.spec("sleeper", &["sleep", "1000"])).await;
    machine
}

async fn read(reader: Option<kedge_runtime::ExecReader>) -> String {
    let mut text = String::new();
    reader.expect("a stream").read_to_string(&mut text).await.expect("read");
    text
}

pub async fn output_and_exit_code() {
    let machine = sleeper().await;
    let mut spec = command(&["sh", "-c", "echo out $A; echo err >&2; id -u; head -c 5 /proc/1/cmdline; exit 9"]);
    spec.env = vec![("A".to_owned(), "1".to_owned())];
    spec.user = Some(User { uid: 1000, gid: 1000, groups: vec![] });
    let mut session = machine.runtime.exec("sleeper", spec).await.unwrap();
    assert!(session.stdin.is_none());
    // It is in the container's own pid namespace: its first process is the sleeper.
    assert_eq!(read(session.stdout.take()).await, "out 1\n1000\nsleep");
    assert_eq!(read(session.stderr.take()).await, "err\n");
    assert_eq!(session.wait().await.unwrap(), 9);

    let mut session = machine.runtime.exec("sleeper", command(&["sh", "-c", "kill -9 $$"])).await.unwrap();
    assert_eq!(session.wait().await.unwrap(), 137);
    machine.runtime.remove("sleeper").await.unwrap();
}

pub async fn standard_input_reaches_it_and_ends() {
    let machine = sleeper().await;
    let spec = ExecSpec { stdin: true, ..command(&["wc", "-c"]) };
    let mut session = machine.runtime.exec("sleeper", spec).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(&vec![b'x'; 300_000]).await.unwrap();
    drop(stdin);
    assert_eq!(read(session.stdout.take()).await, "300000\n");
    assert_eq!(session.wait().await.unwrap(), 0);
    machine.runtime.remove("sleeper").await.unwrap();
}

pub async fn a_terminal_has_a_size_that_changes() {
    let machine = sleeper().await;
    let spec = ExecSpec {
        tty: true,
        size: Some((80, 24)),
        ..command(&["sh", "-c", "read go; stty size; read go; stty size; tty; echo $TERM; exit 5"])
    };
    let mut session = machine.runtime.exec("sleeper", spec).await.unwrap();
    assert!(session.stderr.is_none());
    let mut stdin = session.stdin.take().unwrap();
    let mut stdout = session.stdout.take().unwrap();
    stdin.write_all(b"\n").await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 256];
    while !seen.contains("24 80") {
        let length = stdout.read(&mut buffer).await.unwrap();
        assert!(length > 0, "{seen:?}");
        seen += std::str::from_utf8(&buffer[..length]).unwrap();
    }
    session.resize(132, 43).unwrap();
    stdin.write_all(b"\n").await.unwrap();
    stdout.read_to_string(&mut seen).await.unwrap();
    assert!(seen.contains("43 132\r\n/dev/pts/0\r\nxterm\r\n"), "{seen:?}");
    assert_eq!(session.wait().await.unwrap(), 5);
    machine.runtime.remove("sleeper").await.unwrap();
}

pub async fn ten_at_once() {
    let machine = std::sync::Arc::new(sleeper().await);
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let machine = std::sync::Arc::clone(&machine);
            tokio::spawn(async move {
                let mut session = machine
                    .runtime
                    .exec("sleeper", command(&["sh", "-c", &format!("echo {n}; exit {n}")]))
                    .await
                    .unwrap();
                assert_eq!(read(session.stdout.take()).await, format!("{n}\n"));
                assert_eq!(session.wait().await.unwrap(), n);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    machine.runtime.remove("sleeper").await.unwrap();
}

pub async fn attach_to_the_first_process() {
    let mut machine = Machine::new().await;
    let mut spec =
        machine.spec("reader", &["sh", "-c", "while read line; do echo got $line; done; echo end >&2; exit 6"]);
    (spec.stdin, spec.stdin_once) = (true, true);
    machine.start(spec).await;
    // One that only looks on takes nothing away.
    let mut onlooker = machine.runtime.attach("reader", false).await.unwrap();
    assert!(onlooker.stdin.is_none());
    drop(onlooker.stdout.take());
    drop(onlooker);
    let mut session = machine.runtime.attach("reader", true).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    drop(stdin);
    assert_eq!(read(session.stdout.take()).await, "got one\ngot two\n");
    assert_eq!(read(session.stderr.take()).await, "end\n");
    assert_eq!(session.wait().await.unwrap(), 6);
    machine.exit("reader").await;
    assert!(machine.output("reader").contains("got one\ngot two\n"), "the log has it too");
    let error = machine.runtime.attach("reader", true).await.unwrap_err().to_string();
    assert_eq!(error, "container reader is exited: it must be running");
}

pub async fn the_first_process_on_a_terminal() {
    let mut machine = Machine::new().await;
    let mut spec = machine.spec("terminal", &["sh", "-c", "tty; read line; echo got $line; stty size; exit 2"]);
    (spec.tty, spec.stdin) = (true, true);
    machine.start(spec).await;
    let mut session = machine.runtime.attach("terminal", true).await.unwrap();
    session.resize(100, 50).unwrap();
    session.stdin.take().unwrap().write_all(b"it\n").await.unwrap();
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), session.wait()).await.unwrap().unwrap(), 2);
    machine.exit("terminal").await;
    let output = machine.output("terminal");
    assert!(output.contains("/dev/pts/0\r\n"), "{output:?}");
    assert!(output.contains("got it\r\n50 100\r\n"), "{output:?}");
}
