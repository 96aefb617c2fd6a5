//! QEMU's command line. Pure: what to start is decided before, and the result can be printed instead of run.

use kedge_config::board::Qemu;
use kedge_config::names;
use std::path::{Path, PathBuf};

/// How the machine gets its kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// QEMU loads it, as firmware would from the image: seconds faster.
    Direct { kernel: PathBuf, initramfs: PathBuf, device_tree: Option<PathBuf>, command_line: String },
    /// UEFI firmware loads systemd-boot from the image. `append` reaches the kernel through SMBIOS (systemd-stub(7),
    /// `io.systemd.boot.kernel-cmdline-extra`).
    Uefi { code: PathBuf, variables: Option<PathBuf>, append: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    Tcg,
}

impl Accelerator {
    fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }
}

/// A TCP port of 127.0.0.1 that leads to one of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

impl std::str::FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("\"{text}\", expected HOST:GUEST, two port numbers such as 8080:80");
        let (host, guest) = text.split_once(':').ok_or_else(refuse)?;
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0);
        Ok(Self { host: port(host).ok_or_else(refuse)?, guest: port(guest).ok_or_else(refuse)? })
    }
}

/// Everything that the command line says.
#[derive(Debug, Clone)]
pub struct Guest<'g> {
    pub qemu: &'g Qemu,
    pub start: Start,
    pub accelerator: Accelerator,
    pub disk: &'g Path,
    pub memory: String,
    pub cpus: u32,
    pub forwards: &'g [Forward],
    /// A file that takes what the guest writes to its serial port; else the terminal.
    pub console: Option<&'g Path>,
    /// A file that takes what the guest writes to its port [`KUBECONFIG_PORT`].
    pub kubeconfig: Option<&'g Path>,
    pub machine: Option<&'g Path>,
    pub reboot: bool,
}

/// Name of the virtio serial port through which the guest hands out the administrator's kubeconfig: in the guest it is
/// `/dev/vportNpM`, found by `/sys/class/virtio-ports/*/name`.
pub const KUBECONFIG_PORT: &str = "kedge.kubeconfig";

/// The program and its arguments.
pub fn command(guest: &Guest<'_>) -> Vec<String> {
    let qemu = guest.qemu;
    let network = network(guest.forwards);
    let mut line: Vec<String> = vec![qemu.binary.clone()];
    let mut add = |parts: &[&str]| line.extend(parts.iter().map(|part| (*part).to_owned()));
    add(&["-machine", &qemu.machine, "-accel", guest.accelerator.argument(), "-cpu", &qemu.cpu]);
    add(&["-smp", &guest.cpus.to_string(), "-m", &guest.memory]);
    add(&["-nodefaults", "-no-user-config", "-display", "none"]);
    let console = match guest.console {
        Some(path) => {
            add(&["-chardev", &format!("file,id=console,path={}", escape(path))]);
            "chardev:console"
        }
        None => "mon:stdio",
    };
    let placed = |what: &str| qemu.args.iter().any(|argument| argument.contains(what));
    if !placed("{console}") {
        add(&["-serial", console]);
    }
    if !placed("{disk}") {
        let drive = format!("if=none,id=disk,format=raw,discard=unmap,file={}", escape(guest.disk));
        add(&["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"]);
    }
    if !placed("{network}") {
        // Without its boot ROM, which would only cost time.
        add(&["-netdev", &network, "-device", "virtio-net-pci,netdev=net,romfile="]);
    }
    for argument in &qemu.args {
        let argument = argument.replace("{disk}", &escape(guest.disk)).replace("{network}", &network);
        add(&[&argument.replace("{console}", console)]);
    }
    // A machine as it was built has no bus for it.
    if let Some(path) = guest.kubeconfig.filter(|_| !qemu.fixed) {
        let port = format!("virtserialport,chardev=kubeconfig,name={KUBECONFIG_PORT}");
        add(&[
            "-chardev",
            &format!("file,id=kubeconfig,path={}", escape(path)),
            "-device",
            "virtio-serial-pci",
            "-device",
            &port,
        ]);
    }
    if let Some(path) = guest.machine {
        add(&["-fw_cfg", &format!("name={},file={}", names::FW_CFG_MACHINE, escape(path))]);
    }
    if !guest.reboot {
        add(&["-no-reboot"]);
    }
    match &guest.start {
        Start::Direct { kernel, initramfs, device_tree, command_line } => {
            add(&[
                "-kernel",
                &kernel.display().to_string(),
                "-initrd",
                &initramfs.display().to_string(),
                "-append",
                command_line,
            ]);
            if let Some(device_tree) = device_tree {
                add(&["-dtb", &device_tree.display().to_string()]);
            }
        }
        Start::Uefi { code, variables, append } => {
            add(&["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escape(code))]);
            if let Some(variables) = variables {
                add(&["-drive", &format!("if=pflash,unit=1,format=raw,file={}", escape(variables))]);
            }
            if !append.is_empty() {
                let value = append.replace(',', ",,");
                add(&["-smbios", &format!("type=11,value=io.systemd.boot.kernel-cmdline-extra={value}")]);
            }
        }
    }
    line
}

fn network(forwards: &[Forward]) -> String {
    let forward = |forward: &Forward| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest);
    format!("user,id=net{}", forwards.iter().map(forward).collect::<String>())
}

/// A comma ends an option's value unless it stands twice.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::size::Size;

    fn qemu(args: &[&str]) -> Qemu {
        Qemu {
            binary: "qemu-system-x86_64".into(),
            machine: "q35".into(),
            cpu: "max".into(),
            cpus: 2,
            memory: Size::mib(256),
            fixed: false,
            append: String::new(),
            firmware: Vec::new(),
            args: args.iter().map(|argument| (*argument).to_owned()).collect(),
        }
    }

    fn guest<'g>(qemu: &'g Qemu, start: Start) -> Guest<'g> {
        Guest {
            qemu,
            start,
            accelerator: Accelerator::Tcg,
            disk: Path::new("/o/d,1.img"),
            memory: "256M".into(),
            cpus: 2,
            forwards: &[Forward { host: 16443, guest: 6443 }, Forward { host: 8080, guest: 80 }],
            console: None,
            kubeconfig: None,
            machine: None,
            reboot: true,
        }
    }

    #[test]
    fn the_whole_line_of_a_direct_boot() {
        let qemu = qemu(&["-device", "virtio-rng-pci"]);
        let start = Start::Direct {
            kernel: "/o/k".into(),
            initramfs: "/o/i".into(),
            device_tree: None,
            command_line: "quiet panic=5".into(),
        };
        let expected = "qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 256M -nodefaults -no-user-config \
             -display none -serial mon:stdio -drive if=none,id=disk,format=raw,discard=unmap,file=/o/d,,1.img -device virtio-blk-pci,drive=disk \
             -netdev user,id=net,hostfwd=tcp:127.0.0.1:16443-:6443,hostfwd=tcp:127.0.0.1:8080-:80 \
             -device virtio-net-pci,netdev=net,romfile= -device virtio-rng-pci -kernel /o/k -initrd /o/i -append quiet panic=5";
        assert_eq!(command(&guest(&qemu, start)).join(" "), expected);
    }

    #[test]
    fn a_machine_as_it_was_built_has_its_device_tree_and_its_second_serial_port() {
        let mut qemu = qemu(&["-serial", "null", "-serial", "{console}"]);
        qemu.fixed = true;
        let (kernel, initramfs, device_tree) = ("k".into(), "i".into(), Some("t.dtb".into()));
        let start = Start::Direct { kernel, initramfs, device_tree, command_line: "quiet".into() };
        let mut guest = guest(&qemu, start);
        (guest.console, guest.kubeconfig) = (Some(Path::new("c.log")), Some(Path::new("kc")));
        let line = command(&guest).join(" ");
        assert!(line.contains("-chardev file,id=console,path=c.log -drive"), "{line}");
        assert!(line.contains("-serial null -serial chardev:console") && !line.contains("virtserialport"), "{line}");
        assert!(line.ends_with("-append quiet -dtb t.dtb"), "{line}");
    }

    #[test]
    fn a_board_may_place_disk_and_network_itself() {
        let qemu = qemu(&["-sd", "{disk}", "-nic", "{network}"]);
        let start = Start::Uefi { code: "/f/CODE".into(), variables: None, append: "a=1,2".into() };
        let line = command(&guest(&qemu, start)).join(" ");
        assert!(line.contains("-sd /o/d,,1.img -nic user,id=net,hostfwd="), "{line}");
        assert!(!line.contains("virtio-blk") && !line.contains("virtio-net"), "{line}");
        assert!(line.ends_with("-smbios type=11,value=io.systemd.boot.kernel-cmdline-extra=a=1,,2"), "{line}");
    }

    #[test]
    fn files_of_the_guest_have_their_devices() {
        let qemu = qemu(&[]);
        let mut guest =
            guest(&qemu, Start::Uefi { code: "c".into(), variables: Some("v".into()), append: String::new() });
        (guest.console, guest.kubeconfig) = (Some(Path::new("c.log")), Some(Path::new("kc")));
        (guest.machine, guest.reboot, guest.accelerator) = (Some(Path::new("k.yaml")), false, Accelerator::Kvm);
        let line = command(&guest).join(" ");
        for part in [
            "-chardev file,id=console,path=c.log -serial chardev:console",
            "-device virtserialport,chardev=kubeconfig,name=kedge.kubeconfig",
            "-fw_cfg name=opt/kedge/kedge.yaml,file=k.yaml",
            "-no-reboot",
            "-accel kvm",
            "if=pflash,unit=1,format=raw,file=v",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn a_forward_is_two_ports() {
        assert_eq!("16443:6443".parse(), Ok(Forward { host: 16443, guest: 6443 }));
        for wrong in ["6443", "0:1", "1:0", "a:b", "1:70000"] {
            assert!(wrong.parse::<Forward>().is_err(), "{wrong}");
        }
    }
}
