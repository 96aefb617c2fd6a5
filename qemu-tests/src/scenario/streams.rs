//! What lasts and goes both ways: exec, attach, cp and port-forward, as kubectl speaks them now and as it did before.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::SOON;
use super::boot::http_get;
use crate::guest::Guest;
use crate::kubectl::Kubectl;

pub fn over_websocket(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    all(&Client { kubectl, websockets: true })
}

pub fn over_spdy(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    all(&Client { kubectl, websockets: false })
}

fn all(client: &Client<'_>) -> Result<()> {
    exec(client)?;
    terminal(client)?;
    attach(client)?;
    cp(client)?;
    port_forward(client)
}

/// A kubectl that is told what to speak.
struct Client<'a> {
    kubectl: &'a Kubectl,
    websockets: bool,
}

impl Client<'_> {
    fn tell(&self, command: &mut Command) {
        for name in ["KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"] {
            command.env(name, self.websockets.to_string());
        }
    }

    /// Exit code and output of a command that is given its input and then an end.
    fn feed(&self, args: &[&str], input: &[u8]) -> Result<(Option<i32>, String)> {
        let mut command = self.kubectl.within(SOON, args);
        self.tell(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("standard input")?;
        let output = std::thread::scope(|scope| {
            // A command may end without reading all of it.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output()
        })?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code(), said))
    }

    fn what(&self) -> &'static str {
        if self.websockets { "websocket" } else { "spdy" }
    }
}

fn exec(client: &Client<'_>) -> Result<()> {
    let megabyte = vec![b'x'; 1 << 20];
    let count = client.feed(&["exec", "-i", "client", "--", "sh", "-c", "wc -c; exit 5"], &megabyte)?;
    ensure!(count.0 == Some(5) && count.1.contains("1048576"), "exec with input: {count:?}");
    Ok(())
}

/// Gives its arguments a terminal of 33 rows and 111 columns, and says what is written there.
const ON_A_TERMINAL: &str = "
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 111, 0, 0))
try:
    while text := os.read(terminal, 1000):
        os.write(1, text)
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

fn terminal(client: &Client<'_>) -> Result<()> {
    let mut command = Command::new("python3");
    command.args(["-c", ON_A_TERMINAL]).arg(client.kubectl.program());
    command.arg("--kubeconfig").arg(client.kubectl.kubeconfig());
    // The size comes when the command has begun.
    command.args(["exec", "-it", "client", "--", "sh", "-c", "sleep 2; tty; stty size; exit 6"]);
    client.tell(&mut command);
    let output = command.stdin(Stdio::null()).output().context("python3")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(6) && said.contains("/dev/pts/"), "on a terminal: {} {said}", output.status);
    ensure!(said.contains("33 111"), "the terminal's size: {said}");
    Ok(())
}

fn attach(client: &Client<'_>) -> Result<()> {
    let name = format!("reader-{}", client.what());
    let pod = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"restartPolicy":"Never","containers":[{{"name":"c",
        "image":"busybox:debian","stdin":true,"stdinOnce":true,
        "command":["sh","-c","while read line; do echo got $line; done; echo end"]}}]}}}}"#
    );
    let created = client.feed(&["create", "-f", "-"], pod.as_bytes())?;
    ensure!(created.0 == Some(0), "create {name}: {created:?}");
    client.kubectl.run(&[
        "wait",
        "--for=condition=Ready",
        &format!("pod/{name}"),
        &format!("--timeout={}s", SOON.as_secs()),
    ])?;
    let (code, said) = client.feed(&["attach", "-i", &name], b"one\ntwo\n")?;
    ensure!(code == Some(0) && said.contains("got one\ngot two\nend\n"), "attach: {code:?} {said:?}");
    client.kubectl.until(SOON, &["get", "pod", &name, "-o", "jsonpath={.status.phase}"], |t| t == "Succeeded")?;
    client.kubectl.run(&["delete", "pod", &name, "--now"]).map(drop)
}

fn cp(client: &Client<'_>) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("kedge-cp-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let text: Vec<u8> = (0..500_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    std::fs::write(path("here"), &text)?;
    for (from, to) in [(path("here"), "client:/tmp/there".to_owned()), ("client:/tmp/there".to_owned(), path("back"))] {
        let copied = client.feed(&["cp", &from, &to], b"")?;
        ensure!(copied.0 == Some(0), "cp {from} {to}: {copied:?}");
    }
    let back = std::fs::read(path("back"))?;
    std::fs::remove_dir_all(&dir)?;
    ensure!(back == text, "cp brought {} bytes back of {}, or others", back.len(), text.len());
    Ok(())
}

fn port_forward(client: &Client<'_>) -> Result<()> {
    let mut command = client.kubectl.command(&["port-forward", "service/web", ":80"]);
    client.tell(&mut command);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut ask = || -> Result<()> {
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().context("standard output")?).read_line(&mut line)?;
        let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
        let port = port.and_then(|port| port.parse().ok()).with_context(|| format!("port-forward: {line:?}"))?;
        for _ in 0..3 {
            let page = http_get(port)?;
            ensure!(page.contains("Hello from a Kedge pod"), "a forwarded port: {page:?}");
        }
        Ok(())
    };
    let asked = ask();
    child.kill()?;
    child.wait()?;
    asked
}
