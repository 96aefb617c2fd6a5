//! One virtual machine: started, watched over its serial console, driven over QMP, and never left running.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::kubectl::Kubectl;

/// Size of the disk that a test boots, in bytes; sparse.
const CARD: u64 = 1 << 30;

/// Where things are and what machine to start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Folder of `kedge-image`.
    pub bin: PathBuf,
    /// Folder of the device's static binaries.
    pub programs: PathBuf,
    /// The device's static busybox.
    pub busybox: PathBuf,
    pub board: String,
    /// Folder that `kedge-image build` wrote into.
    pub out: PathBuf,
    /// e.g. `256M`.
    pub memory: String,
}

/// A running guest. Dropping it ends its QEMU.
pub struct Guest {
    qemu: Child,
    dir: PathBuf,
    pub api_port: u16,
    pub node_port: u16,
    /// Leads to port 80, where a machine in recovery tells why.
    pub recovery_port: u16,
    accelerator: String,
    started: Instant,
}

impl Guest {
    /// Boots `disk` (changed by the run) with everything the guest says kept in `dir`. `append` is added to the kernel command line.
    pub fn boot(setup: &Setup, disk: &Path, dir: &Path, append: &str) -> Result<Self> {
        Self::start(setup, disk, dir, &["--append", append], &|line| line)
    }

    /// As a board without a clock does.
    pub fn boot_in_1970(setup: &Setup, disk: &Path, dir: &Path) -> Result<Self> {
        let clock = ["-rtc", "base=1970-01-01T00:00:00"].map(str::to_owned);
        Self::start(setup, disk, dir, &[], &move |line| line.into_iter().chain(clock.clone()).collect())
    }

    /// As a machine would: UEFI firmware finds the boot loader on the disk, and that the kernel.
    pub fn boot_through_firmware(setup: &Setup, disk: &Path, dir: &Path) -> Result<Self> {
        Self::start(setup, disk, dir, &["--firmware", "uefi"], &|line| line)
    }

    /// As a machine with Secure Boot would: this firmware, with the variables in a file that the guest may write to.
    pub fn boot_secured(setup: &Setup, disk: &Path, dir: &Path, code: &Path, variables: &Path) -> Result<Self> {
        let (code, variables) = (code.display().to_string(), variables.display().to_string());
        let secured = move |line: Vec<String>| {
            let word = |word: String| match word.as_str() {
                // The firmware keeps its variables to itself by the processor's system management mode.
                "q35" => "q35,smm=on".to_owned(),
                flash if flash.starts_with("if=pflash,unit=0") => {
                    format!("if=pflash,unit=0,format=raw,readonly=on,file={code}")
                }
                flash if flash.starts_with("if=pflash,unit=1") => {
                    format!("if=pflash,unit=1,format=raw,file={variables}")
                }
                _ => word,
            };
            let guarded = ["-global", "driver=cfi.pflash01,property=secure,value=on"].map(str::to_owned);
            line.into_iter().map(word).chain(guarded).collect()
        };
        Self::start(setup, disk, dir, &["--firmware", "uefi"], &secured)
    }

    fn start(
        setup: &Setup,
        disk: &Path,
        dir: &Path,
        options: &[&str],
        change: &dyn Fn(Vec<String>) -> Vec<String>,
    ) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        for old in ["console.log", "kubeconfig", "qmp.sock"] {
            match std::fs::remove_file(dir.join(old)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    bail!("removing {}: {e}", dir.join(old).display())
                }
                _ => {}
            }
        }
        let (api_port, node_port, recovery_port) = (free_port()?, free_port()?, free_port()?);
        let mut command = Command::new(setup.bin.join("kedge-image"));
        command.args(["run", "--board", &setup.board, "--memory", &setup.memory, "--print", "--out"]);
        command.arg(&setup.out).arg("--disk").arg(disk).args(options);
        command.arg("--console").arg(dir.join("console.log")).arg("--kubeconfig").arg(dir.join("kubeconfig"));
        command.args(["--forward", &format!("{api_port}:6443"), "--forward", &format!("{node_port}:30080")]);
        command.args(["--forward", &format!("{recovery_port}:80")]);
        let plan = command.output().context("running kedge-image run --print")?;
        ensure!(plan.status.success(), "kedge-image run --print: {}", String::from_utf8_lossy(&plan.stderr));
        let argv: Vec<String> =
            serde_json::from_slice(&plan.stdout).context("kedge-image run --print: not a JSON list")?;
        let argv = change(argv);
        let accelerator = argv.iter().skip_while(|word| *word != "-accel").nth(1).cloned().unwrap_or_default();
        let (program, args) = argv.split_first().context("kedge-image run --print gave no command")?;
        let log = std::fs::File::create(dir.join("qemu.log"))?;
        let qemu = Command::new(program)
            .args(args)
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", dir.join("qmp.sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Self { qemu, dir: dir.to_owned(), api_port, node_port, recovery_port, accelerator, started: Instant::now() })
    }

    /// As QEMU names it, e.g. `tcg,thread=multi` for emulation or `kvm`.
    pub fn accelerator(&self) -> &str {
        &self.accelerator
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// All that the guest wrote to its console so far.
    pub fn console(&self) -> String {
        std::fs::read(self.dir.join("console.log"))
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    pub fn console_path(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// Waits until the console holds `text`.
    pub fn wait_console(&mut self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("\"{text}\" on the console");
        self.wait(&what, limit, |guest| guest.console().contains(text).then_some(()))
    }

    /// The administrator's kubectl, once the guest has handed out its kubeconfig.
    pub fn kubectl(&mut self, limit: Duration) -> Result<Kubectl> {
        let path = self.dir.join("kubeconfig");
        let port = self.api_port;
        let text = self.wait("the kubeconfig", limit, |_| {
            // It comes over a serial port: whole only when its last line is there.
            std::fs::read_to_string(&path).ok().filter(|text| text.trim_end().ends_with("# end"))
        })?;
        let text = text.replace("https://127.0.0.1:6443", &format!("https://127.0.0.1:{port}"));
        let ours = self.dir.join("admin.kubeconfig");
        std::fs::write(&ours, text)?;
        Kubectl::new(&ours)
    }

    fn wait<T>(&mut self, what: &str, limit: Duration, look: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(status) = self.qemu.try_wait()? {
                bail!("the guest ended ({status}) before {what}; {}", self.tail());
            }
            if start.elapsed() > limit {
                bail!("no {what} within {limit:?}; {}", self.tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The end of the console, for error messages.
    pub fn tail(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().rev().take(25).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        format!("the console ends with (whole in {}):\n{}", self.console_path().display(), tail.join("\n"))
    }

    pub fn press_power_button(&self) -> Result<()> {
        self.qmp("system_powerdown", json!({}))
    }

    /// The disk answers no more until the watchdog fires, and the machine is reset. Firmware reads disks as well: from then on it answers again.
    pub fn hang_disk_until_watchdog(&self, limit: Duration) -> Result<()> {
        let mut monitor = self.monitor()?;
        // Bytes a second; 0 is no limit, and 1 as good as nothing.
        let throttle = |monitor: &mut Monitor, bytes: u64| {
            let limits = json!({"device": "disk", "bps": bytes, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0});
            monitor.ask(json!({"execute": "block_set_io_throttle", "arguments": limits}))
        };
        // Of its own accord QEMU resets while requests are held back, and waits for them without end: told what fired, the reset is ours to give.
        monitor.ask(json!({"execute": "watchdog-set-action", "arguments": {"action": "none"}}))?;
        throttle(&mut monitor, 1)?;
        let reset = monitor.event("WATCHDOG", limit);
        throttle(&mut monitor, 0)?;
        reset?;
        monitor.ask(json!({"execute": "watchdog-set-action", "arguments": {"action": "reset"}}))?;
        monitor.ask(json!({"execute": "system_reset"}))
    }

    /// How often stage 1 began.
    pub fn starts(&self) -> usize {
        self.console().matches("kedge: stage 1").count()
    }

    /// Sends Ctrl-Alt-Del from the guest's keyboard.
    pub fn press_ctrl_alt_del(&self) -> Result<()> {
        let key = |code: &str| json!({"type": "qcode", "data": code});
        self.qmp("send-key", json!({"keys": [key("ctrl"), key("alt"), key("delete")]}))
    }

    fn qmp(&self, execute: &str, arguments: Value) -> Result<()> {
        self.monitor()?.ask(json!({"execute": execute, "arguments": arguments}))
    }

    /// QEMU's monitor. It talks to one at a time.
    fn monitor(&self) -> Result<Monitor> {
        let stream = UnixStream::connect(self.dir.join("qmp.sock")).context("connecting to QEMU's monitor")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut monitor = Monitor { lines: BufReader::new(stream.try_clone()?).lines(), stream };
        monitor.ask(json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.qemu.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("the guest did not end within {limit:?}; {}", self.tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The plug is pulled: SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(())
    }
}

struct Monitor {
    stream: UnixStream,
    lines: std::io::Lines<BufReader<UnixStream>>,
}

impl Monitor {
    fn next(&mut self) -> Result<Value> {
        let line = self.lines.next().context("QEMU's monitor closed")??;
        Ok(serde_json::from_str(&line)?)
    }

    fn ask(&mut self, message: Value) -> Result<()> {
        writeln!(&self.stream, "{message}")?;
        loop {
            let answer = self.next()?;
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {message}: {error}");
            }
        }
    }

    fn event(&mut self, name: &str, limit: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        loop {
            let answer = self.next().with_context(|| format!("no {name} within {limit:?}"))?;
            if answer.get("event").is_some_and(|event| event == name) {
                return Ok(());
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Already gone is fine; nothing else can be done about a failure here.
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

/// A copy of the baked disk that a test may write to; holes stay holes.
pub fn fresh_disk(setup: &Setup, dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let (from, to) = (setup.out.join(format!("{}.img", setup.board)), dir.join("disk.img"));
    let status = Command::new("cp").arg("--sparse=always").arg(&from).arg(&to).status()?;
    ensure!(status.success(), "copying {} to {}: {status}", from.display(), to.display());
    // As a card is larger than the image written to it: first boot grows STATE into the rest.
    let file = std::fs::OpenOptions::new().write(true).open(&to)?;
    file.set_len(CARD)?;
    Ok(to)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
