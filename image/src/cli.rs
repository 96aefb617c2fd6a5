//! What can be typed.

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use kedge_config::size::Size;
use kedge_image::flash;
use kedge_image::oci::bake;
use kedge_image::oci::from_dir::Recipe;
use kedge_image::plan;
use kedge_image::provision::authority::KeyKind;
use kedge_image::provision::order::Wanted;
use kedge_image::provision::{self, Form, Proof};
use kedge_image::qemu::command::{Accelerator, Forward};
use kedge_image::qemu::run::{self, Firmware};
use kedge_image::secureboot::Owner;
use std::path::{Path, PathBuf};

/// Bakes Kedge, a kernel and container images into a bootable disk image; runs it under QEMU; looks into it.
#[derive(Parser)]
#[command(name = "kedge-image", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Bake a disk image for a board
    Build(Build),
    /// Make the key pair by which systems are signed
    Keys(Keys),
    /// Make the file from which devices upgrade themselves
    Bundle(Bundle),
    /// Boot a board's image under QEMU
    Run(Run),
    /// Show what is in a disk image, and check it
    Inspect(Inspect),
    /// Write an image onto a disk or a card, and read it back
    Flash(Flash),
    /// Make identities, seeds or cards, a ledger and labels for many devices
    Provision(Provision),
    /// Make a container image from a folder, without a registry
    ImageFromDir(FromDir),
    /// Check a board file or a machine config as the device would
    Validate(Validate),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Args)]
pub struct Build {
    /// Name of a file in board-configs/, or a path that ends in .yaml
    #[arg(long)]
    board: String,
    /// The static binary `kedge` [default: beside this program]
    #[arg(long)]
    kedge: Option<PathBuf>,
    /// The static binary `kedge-stage1` [default: beside this program]
    #[arg(long)]
    stage1: Option<PathBuf>,
    /// Container image to bake in: an OCI layout (folder or tar) or an archive of `docker save`; may be repeated
    #[arg(long = "image", value_name = "[NAME=]FILE")]
    images: Vec<bake::Wanted>,
    /// Machine config to bake in
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,
    /// Private key that signs the system (see "keys") [default: a development key, made once in the output folder]
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// Public keys that devices shall trust beside that key's; may be repeated
    #[arg(long, value_name = "FILE.pub")]
    trust: Vec<PathBuf>,
    /// Owner's RSA key for UEFI Secure Boot (PKCS #8 in PEM): signs the boot loader and one program of kernel, initramfs and command line
    #[arg(long, value_name = "FILE", requires = "secure_boot_cert")]
    secure_boot_key: Option<PathBuf>,
    /// The certificate of that key (PEM), which the firmware trusts
    #[arg(long, value_name = "FILE", requires = "secure_boot_key")]
    secure_boot_cert: Option<PathBuf>,
    /// What the system is called, as upgrades tell it [default: the version of kedge]
    #[arg(long, value_name = "WORD", default_value = kedge_config::VERSION)]
    system_version: String,
    /// Devices that ran a system with a higher one refuse this one
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    rollback_index: u64,
    /// Folder to write to [default: out/BOARD]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Kernel image, instead of the board's package
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Modules of that kernel: a folder such as lib/modules/6.12.1
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Device trees of that kernel: a folder that holds those which the board names
    #[arg(long, value_name = "DIR")]
    device_trees: Option<PathBuf>,
    /// Boot loader instead of the board's package: an EFI program, or for a Raspberry Pi a folder with the firmware's files
    #[arg(long, value_name = "PATH")]
    bootloader: Option<PathBuf>,
    /// Debian mirror [default: the one that the host's apt uses]
    #[arg(long, value_name = "URI")]
    mirror: Option<String>,
    /// Take the newest packages and write the lock file anew
    #[arg(long)]
    update_lock: bool,
    /// Where a version that the lock file names has gone from the mirror, take what is there now, and say so
    #[arg(long)]
    allow_newer: bool,
    /// Show what would be done and stop
    #[arg(long)]
    pub dry_run: bool,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

impl Build {
    pub fn into_options(self, source_date_epoch: Option<String>) -> plan::Options {
        let Self {
            board,
            kedge,
            stage1,
            images,
            machine,
            sign_key,
            trust,
            secure_boot_key,
            secure_boot_cert,
            system_version,
            rollback_index,
            out,
            kernel,
            modules,
            device_trees,
            bootloader,
            mirror,
            update_lock,
            allow_newer,
            ..
        } = self;
        plan::Options {
            board,
            kedge,
            stage1,
            images,
            machine,
            sign_key,
            trust,
            secure_boot: secure_boot_key.zip(secure_boot_cert).map(|(key, certificate)| Owner { key, certificate }),
            system_version,
            rollback_index,
            out,
            kernel,
            modules,
            device_trees,
            bootloader,
            mirror,
            update_lock,
            allow_newer,
            source_date_epoch,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FirmwareChoice {
    /// QEMU loads the kernel from the image's boot files: quick
    Direct,
    /// UEFI firmware and the boot loader do
    Uefi,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AcceleratorChoice {
    /// KVM if a guest really boots with it
    Auto,
    Kvm,
    Tcg,
}

#[derive(Args)]
pub struct Run {
    /// Name of a file in board-configs/, or a path that ends in .yaml
    #[arg(long)]
    pub board: String,
    /// Folder that `build` wrote to [default: out/BOARD]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Disk to boot and to write to [default: a copy of the image, kept as disk.img beside it]
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Make that copy anew
    #[arg(long)]
    fresh: bool,
    /// Size of that copy
    #[arg(long, default_value = "1GiB")]
    disk_size: Size,
    /// Memory, as QEMU writes it [default: the board's]
    #[arg(long)]
    memory: Option<String>,
    /// Processors [default: the board's; 1 when emulated]
    #[arg(long)]
    cpus: Option<u32>,
    /// Words to add to the kernel's command line
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Port of 127.0.0.1 that leads into the guest; may be repeated [default: 6443:6443]
    #[arg(long = "forward", value_name = "HOST:GUEST")]
    forwards: Vec<Forward>,
    /// File for what the guest writes to its console [default: this terminal]
    #[arg(long, value_name = "FILE")]
    pub console: Option<PathBuf>,
    /// File for the administrator's kubeconfig that the guest hands out [default: kubeconfig beside the image]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Machine config to hand to the guest
    #[arg(long, value_name = "FILE")]
    pub machine: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "direct")]
    firmware: FirmwareChoice,
    #[arg(long, value_enum, default_value = "auto")]
    accel: AcceleratorChoice,
    /// End when the guest reboots
    #[arg(long)]
    no_reboot: bool,
    /// Print the command as a JSON list instead of running it
    #[arg(long)]
    pub print: bool,
}

impl Run {
    pub fn into_options(self, board: &str) -> run::Options {
        let out = self.out.unwrap_or_else(|| Path::new("out").join(board));
        let forwards = if self.forwards.is_empty() { vec![Forward { host: 6443, guest: 6443 }] } else { self.forwards };
        run::Options {
            kubeconfig: Some(self.kubeconfig.unwrap_or_else(|| out.join("kubeconfig"))),
            out,
            disk: self.disk,
            fresh: self.fresh,
            disk_size: self.disk_size.bytes(),
            memory: self.memory,
            cpus: self.cpus,
            append: self.append,
            forwards,
            console: self.console,
            machine: self.machine,
            firmware: match self.firmware {
                FirmwareChoice::Direct => Firmware::Direct,
                FirmwareChoice::Uefi => Firmware::Uefi,
            },
            accelerator: match self.accel {
                AcceleratorChoice::Auto => None,
                AcceleratorChoice::Kvm => Some(Accelerator::Kvm),
                AcceleratorChoice::Tcg => Some(Accelerator::Tcg),
            },
            reboot: !self.no_reboot,
        }
    }
}

#[derive(Args)]
pub struct Keys {
    /// File for the private key; the public one is written beside it, as FILE.pub. What is there is never overwritten
    pub file: PathBuf,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Args)]
pub struct Inspect {
    pub image: PathBuf,
    /// Public keys that systems must be signed by; may be repeated [default: those in each slot's own initramfs]
    #[arg(long = "key", value_name = "FILE.pub")]
    pub keys: Vec<PathBuf>,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Args)]
pub struct Flash {
    /// The image (.img or .img.zst) [default: out/BOARD/BOARD.img]
    #[arg(required_unless_present = "board")]
    image: Option<PathBuf>,
    /// Board whose image is written
    #[arg(long, conflicts_with = "image")]
    board: Option<String>,
    /// The disk, such as /dev/sdb; all on it is lost
    #[arg(long)]
    device: PathBuf,
    /// Block map [default: the .bmap beside the image, if there is one]
    #[arg(long, value_name = "FILE")]
    bmap: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

impl Flash {
    pub fn options(&self) -> flash::Options {
        let of_board = |board: &String| Path::new("out").join(board).join(format!("{board}.img"));
        let image = self.image.clone().or(self.board.as_ref().map(of_board)).unwrap_or_default();
        flash::Options { image, device: self.device.clone(), map: self.bmap.clone() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormChoice {
    /// NAME.tar, to be unpacked onto a card's FAT partition
    Archive,
    /// NAME.seed.img, a disk with the seed on it: a USB stick, or a second disk
    Disk,
    /// NAME.img, the image of --image with the seed on it
    Card,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProofChoice {
    /// A key of its own, and the fleet authority's certificate of it
    Certificate,
    /// A bootstrap token of its own
    Token,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyChoice {
    Ed25519,
    EcdsaP256,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Provision {
    #[command(subcommand)]
    pub command: Option<ProvisionCommand>,
    /// Machine config that all devices have in common
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Table of devices: columns "name", "label:KEY", and fields of the machine config such as "network.dhcp"
    #[arg(long, value_name = "FILE", conflicts_with_all = ["count", "prefix"])]
    csv: Option<PathBuf>,
    /// So many devices, called PREFIX-0001 and so on
    #[arg(long, required_unless_present = "csv")]
    count: Option<u32>,
    #[arg(long, default_value = "edge")]
    prefix: String,
    /// Folder to write to; a second run goes on where the first one ended
    #[arg(long, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "archive")]
    form: FormChoice,
    /// Image that cards are made from
    #[arg(long, value_name = "FILE", required_if_eq("form", "card"))]
    image: Option<PathBuf>,
    /// How a device proves who it is
    #[arg(long, value_enum, default_value = "certificate")]
    identity: ProofChoice,
    #[arg(long, value_enum, default_value = "ed25519")]
    key: KeyChoice,
    /// Certificate of the fleet's authority [default: one made in the folder]
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// For how many days certificates are valid
    #[arg(long, default_value = "7300")]
    days: u32,
    /// For how many days join tokens are valid
    #[arg(long, default_value = "90")]
    token_days: u32,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Subcommand)]
pub enum ProvisionCommand {
    /// Put devices on the revocation list
    Revoke(Revoke),
}

#[derive(Args)]
pub struct Revoke {
    /// Folder that was provisioned to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Names or serial numbers
    #[arg(required = true)]
    pub devices: Vec<String>,
    #[arg(long, default_value = "")]
    pub reason: String,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

impl Provision {
    pub fn into_options(self) -> provision::Options {
        let wanted = match (self.csv, self.count) {
            (Some(path), _) => Wanted::Table(path),
            (None, count) => Wanted::Count { count: count.unwrap_or(0), prefix: self.prefix },
        };
        provision::Options {
            template: self.template,
            wanted,
            out: self.out.unwrap_or_default(),
            form: match self.form {
                FormChoice::Archive => Form::Archive,
                FormChoice::Disk => Form::Disk,
                FormChoice::Card => Form::Card { image: self.image.unwrap_or_default() },
            },
            proof: match self.identity {
                ProofChoice::Certificate => Proof::Certificate,
                ProofChoice::Token => Proof::Token,
            },
            key: match self.key {
                KeyChoice::Ed25519 => KeyKind::Ed25519,
                KeyChoice::EcdsaP256 => KeyKind::EcdsaP256,
            },
            authority: self.ca_cert.zip(self.ca_key),
            days: self.days,
            token_days: self.token_days,
        }
    }
}

#[derive(Args)]
pub struct Bundle {
    /// Disk image with the new system in slot A
    pub image: PathBuf,
    /// An earlier version, as image or bundle: devices that run it fetch what differs; may be repeated
    #[arg(long = "from", value_name = "FILE")]
    pub earlier: Vec<PathBuf>,
    /// File to write [default: the image's name, ending in .kedge]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write it also as an OCI layout, for "skopeo copy oci:DIR:VERSION docker://..."
    #[arg(long, value_name = "DIR")]
    pub oci: Option<PathBuf>,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Args)]
pub struct FromDir {
    /// The container's root
    pub folder: PathBuf,
    /// Reference, such as busybox:1.37
    #[arg(long)]
    pub name: String,
    /// What a container runs; one word each time
    #[arg(long, allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// What it runs, or the entrypoint's arguments; one word each time
    #[arg(long, allow_hyphen_values = true)]
    cmd: Vec<String>,
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,
    #[arg(long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// OCI's name of the architecture [default: this machine's]
    #[arg(long)]
    arch: Option<String>,
    /// An OCI layout: a tar file where it ends in .tar, else a folder
    #[arg(long)]
    pub out: PathBuf,
}

impl FromDir {
    pub fn recipe(&self) -> Result<Recipe> {
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is \"{text}\""))?,
            Err(_) => 0,
        };
        let host = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Recipe {
            name: self.name.clone(),
            architecture: self.arch.clone().unwrap_or_else(|| host.to_owned()),
            entrypoint: self.entrypoint.clone(),
            cmd: self.cmd.clone(),
            env: self.env.clone(),
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            epoch,
        })
    }
}

#[derive(Args)]
pub struct Validate {
    pub file: PathBuf,
}
