//! What will be built, as a value: made from the command line and the board file without touching anything else, shown by
//! `--dry-run`, and carried out by [`crate::build`].

use crate::disk::boot;
use crate::disk::layout::Layout;
use crate::fetch::lock::{Lock, LockError};
use crate::oci::bake::Wanted;
use crate::secureboot::Owner;
use crate::show;
use kedge_config::board::BootloaderKind;
use kedge_config::{BoardConfig, ConfigError, MachineConfig};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("there is no board \"{name}\": looked for board-configs/{name}.yaml in {folder} and above{known}")]
    NoBoard { name: String, folder: String, known: String },
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("SOURCE_DATE_EPOCH is \"{0}\", expected seconds since 1970")]
    Epoch(String),
    #[error("--{given} needs --{lacking} as well: they are one build")]
    Half { given: &'static str, lacking: &'static str },
    #[error(
        "--secure-boot-key signs systemd's stub, which is in the boot loader's package: it cannot be given with --bootloader"
    )]
    NoStub,
    #[error("board {0} is not started by UEFI: it has no Secure Boot to sign for")]
    NoUefi(String),
}

/// What a person can say; the fields are the command line's options.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub board: String,
    pub kedge: Option<PathBuf>,
    pub stage1: Option<PathBuf>,
    pub images: Vec<Wanted>,
    pub machine: Option<PathBuf>,
    pub sign_key: Option<PathBuf>,
    pub trust: Vec<PathBuf>,
    pub secure_boot: Option<Owner>,
    pub system_version: String,
    pub rollback_index: u64,
    pub out: Option<PathBuf>,
    pub kernel: Option<PathBuf>,
    pub modules: Option<PathBuf>,
    pub device_trees: Option<PathBuf>,
    pub bootloader: Option<PathBuf>,
    pub mirror: Option<String>,
    pub update_lock: bool,
    pub allow_newer: bool,
    /// `SOURCE_DATE_EPOCH` of the environment.
    pub source_date_epoch: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "from")]
pub enum KernelSource {
    Package {
        package: String,
    },
    Files {
        image: PathBuf,
        modules: PathBuf,
        /// A folder; `None` where the board has no use for device trees.
        #[serde(rename = "deviceTrees", skip_serializing_if = "Option::is_none")]
        device_trees: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "from")]
pub enum LoaderSource {
    Package {
        package: String,
    },
    /// It lies on the board.
    Board,
    /// A file, or where the loader is several files a folder of them.
    File {
        path: PathBuf,
    },
}

/// A board file that was read and found right.
#[derive(Debug, Clone)]
pub struct Board {
    pub path: PathBuf,
    pub text: String,
    pub config: BoardConfig,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    #[serde(skip)]
    pub board: Board,
    #[serde(rename = "board")]
    pub name: String,
    pub architecture: &'static str,
    pub suite: String,
    pub kernel: KernelSource,
    pub bootloader: LoaderSource,
    pub lock: PathBuf,
    pub update_lock: bool,
    pub allow_newer: bool,
    pub mirror: Option<String>,
    pub kedge: PathBuf,
    pub stage1: PathBuf,
    pub images: Vec<Wanted>,
    /// The machine config's text.
    #[serde(skip)]
    pub machine: String,
    pub machine_file: Option<PathBuf>,
    /// What signs the system; without it a development key in `out` does.
    pub sign_key: Option<PathBuf>,
    /// Files of public keys that devices trust beside the one that signs.
    pub trust: Vec<PathBuf>,
    /// Whose firmware shall start it.
    pub secure_boot: Option<Owner>,
    /// A device that ran a system with a higher one takes none with a lower one.
    pub system_version: String,
    pub rollback_index: u64,
    /// Seconds since 1970; `None` until a lock file is written.
    pub epoch: Option<u32>,
    pub command_line: String,
    pub layout: Layout,
    pub out: PathBuf,
}

/// A server that asks DHCP for an address.
const DEFAULT_MACHINE: &str = "{}\n";
/// Where nothing tells a time: no later than the first image ever built.
pub const EARLIEST: u32 = 1_793_491_200;

impl Plan {
    pub fn new(options: &Options) -> Result<Self, PlanError> {
        let board = find_board(&options.board)?;
        let config = &board.config;
        let machine = match &options.machine {
            Some(path) => machine(path)?,
            None => DEFAULT_MACHINE.to_owned(),
        };
        let kernel = match (&options.kernel, &options.modules) {
            (Some(image), Some(modules)) => {
                let device_trees = options.device_trees.clone();
                if device_trees.is_none() && !config.bootloader.device_trees.is_empty() {
                    return Err(PlanError::Half { given: "kernel", lacking: "device-trees" });
                }
                KernelSource::Files { image: image.clone(), modules: modules.clone(), device_trees }
            }
            (None, None) => KernelSource::Package { package: config.kernel.package.clone() },
            (Some(_), None) => return Err(PlanError::Half { given: "kernel", lacking: "modules" }),
            (None, Some(_)) => return Err(PlanError::Half { given: "modules", lacking: "kernel" }),
        };
        if options.secure_boot.is_some() && config.bootloader.kind != BootloaderKind::SystemdBoot {
            return Err(PlanError::NoUefi(config.name.clone()));
        }
        if options.secure_boot.is_some() && options.bootloader.is_some() {
            return Err(PlanError::NoStub);
        }
        let bootloader = match &options.bootloader {
            Some(path) => LoaderSource::File { path: path.clone() },
            None => match &config.bootloader.package {
                Some(package) => LoaderSource::Package { package: package.clone() },
                None => LoaderSource::Board,
            },
        };
        let lock = Lock::path_for(&board.path);
        let locked = if options.update_lock { None } else { Lock::read(&lock)?.map(|lock| lock.epoch) };
        let name = config.name.clone();
        Ok(Self {
            architecture: config.architecture.as_str(),
            suite: config.kernel.suite.clone(),
            kernel,
            bootloader,
            lock,
            update_lock: options.update_lock,
            allow_newer: options.allow_newer,
            mirror: options.mirror.clone(),
            kedge: options.kedge.clone().unwrap_or_else(|| beside_us("kedge")),
            stage1: options.stage1.clone().unwrap_or_else(|| beside_us("kedge-stage1")),
            images: options.images.clone(),
            machine,
            machine_file: options.machine.clone(),
            sign_key: options.sign_key.clone(),
            trust: options.trust.clone(),
            secure_boot: options.secure_boot.clone(),
            system_version: options.system_version.clone(),
            rollback_index: options.rollback_index,
            epoch: epoch(options.source_date_epoch.as_deref(), &|| commit_time(&board.path), locked)?,
            command_line: boot::command_line(config),
            layout: Layout::new(config.bootloader.kind, &config.partitions),
            out: options.out.clone().unwrap_or_else(|| Path::new("out").join(&name)),
            name,
            board,
        })
    }

    /// Debian packages to get, the kernel's first.
    pub fn packages(&self) -> Vec<String> {
        let kernel = match &self.kernel {
            KernelSource::Package { package } => Some(package),
            KernelSource::Files { .. } => None,
        };
        let loader = match &self.bootloader {
            LoaderSource::Package { package } => Some(package),
            LoaderSource::File { .. } | LoaderSource::Board => None,
        };
        let firmware = self.board.config.firmware.iter().map(|one| &one.package);
        kernel.into_iter().chain(loader).chain(firmware).cloned().collect()
    }

    /// For eyes.
    pub fn show(&self) -> String {
        let path = |path: &Path| path.display().to_string();
        let mut rows: Vec<[String; 2]> = vec![
            ["board".into(), format!("{} ({})", self.name, path(&self.board.path))],
            ["architecture".into(), self.architecture.into()],
        ];
        rows.push(match &self.kernel {
            KernelSource::Package { package } => ["kernel".into(), format!("package {package} of {}", self.suite)],
            KernelSource::Files { image, modules, .. } => {
                ["kernel".into(), format!("{}, modules {}", path(image), path(modules))]
            }
        });
        rows.push(match &self.bootloader {
            LoaderSource::Package { package } => ["boot loader".into(), format!("package {package} of {}", self.suite)],
            LoaderSource::File { path: file } => ["boot loader".into(), path(file)],
            LoaderSource::Board => ["boot loader".into(), "the board's own".into()],
        });
        let firmware = self.board.config.firmware.iter();
        rows.extend(firmware.map(|one| ["firmware".into(), format!("package {} of {}", one.package, self.suite)]));
        rows.push([
            "lock file".into(),
            format!("{}{}", path(&self.lock), if self.update_lock { " (written anew)" } else { "" }),
        ]);
        rows.push(["kedge".into(), path(&self.kedge)]);
        rows.push(["stage 1".into(), path(&self.stage1)]);
        rows.push(["machine config".into(), self.machine_file.as_deref().map_or("default".into(), path)]);
        rows.push(["signed by".into(), self.sign_key.as_deref().map_or("a development key".into(), path)]);
        rows.extend(self.trust.iter().map(|file| ["trusted as well".into(), path(file)]));
        rows.extend(self.secure_boot.iter().map(|owner| ["Secure Boot by".into(), path(&owner.certificate)]));
        rows.push(["system version".into(), self.system_version.clone()]);
        rows.push(["rollback index".into(), self.rollback_index.to_string()]);
        rows.extend(self.images.iter().map(|image| ["container image".into(), path(&image.path)]));
        rows.push(["time".into(), self.epoch.map_or("the lock file's".into(), |epoch| epoch.to_string())]);
        rows.push(["command line".into(), self.command_line.clone()]);
        rows.push(["output".into(), path(&self.out)]);
        let width = rows.iter().map(|[key, _]| key.len()).max().unwrap_or(0);
        let lines: String = rows.iter().map(|[key, value]| format!("{key:<width$}  {value}\n")).collect();
        let places: Vec<Vec<String>> = self
            .layout
            .places
            .iter()
            .map(|place| vec![place.name.into(), show::size(place.start), show::size(place.size)])
            .collect();
        format!("{lines}\n{}", show::table(&["partition", "start", "size"], &places))
    }
}

/// Reads the board `name`, or the file at the path `name`.
pub fn find_board(name: &str) -> Result<Board, PlanError> {
    let here = std::env::current_dir().map_err(|source| PlanError::Io { path: ".".into(), source })?;
    let path = if name.ends_with(".yaml") {
        PathBuf::from(name)
    } else {
        let folders: Vec<PathBuf> = here.ancestors().map(|folder| folder.join("board-configs")).collect();
        let found = folders.iter().map(|folder| folder.join(format!("{name}.yaml"))).find(|path| path.is_file());
        let Some(path) = found else {
            let known = folders
                .iter()
                .find_map(|folder| known(folder))
                .map(|known| format!("; there are {known}"))
                .unwrap_or_default();
            return Err(PlanError::NoBoard { name: name.to_owned(), folder: here.display().to_string(), known });
        };
        path.strip_prefix(&here).map(Path::to_owned).unwrap_or(path)
    };
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|source| PlanError::Io { path: shown.clone(), source })?;
    let config = BoardConfig::parse(&shown, &text)?;
    Ok(Board { path, text, config })
}

fn known(folder: &Path) -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .collect();
    names.sort();
    Some(names.join(", "))
}

/// A machine config's text, after it was found right.
pub fn machine(path: &Path) -> Result<String, PlanError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| PlanError::Io { path: shown.clone(), source })?;
    MachineConfig::parse(&shown, &text)?;
    Ok(text)
}

/// The static binaries are built into the folder that this tool is built into.
fn beside_us(name: &str) -> PathBuf {
    std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name))).unwrap_or_else(|| name.into())
}

/// The image's time: what the environment says (reproducible-builds.org), else the checkout's, else the lock file's.
fn epoch(named: Option<&str>, commit: &dyn Fn() -> Option<u64>, locked: Option<u64>) -> Result<Option<u32>, PlanError> {
    let fits = |seconds: u64| u32::try_from(seconds).ok();
    match named {
        Some(text) => text.parse().map(Some).map_err(|_| PlanError::Epoch(text.to_owned())),
        None => Ok(commit().or(locked).and_then(fits)),
    }
}

/// When the checkout that holds `path` was last committed to.
fn commit_time(path: &Path) -> Option<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let output =
        std::process::Command::new("git").arg("-C").arg(folder).args(["log", "-1", "--format=%ct"]).output().ok()?;
    std::str::from_utf8(&output.stdout).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_the_environments_then_the_checkouts_then_the_locks() {
        let commit = || Some(2);
        assert_eq!(epoch(Some("1"), &commit, Some(3)).unwrap(), Some(1));
        assert_eq!(epoch(None, &commit, Some(3)).unwrap(), Some(2));
        assert_eq!(epoch(None, &|| None, Some(3)).unwrap(), Some(3));
        assert_eq!(epoch(None, &|| None, None).unwrap(), None);
        assert_eq!(
            epoch(Some("now"), &commit, None).unwrap_err().to_string(),
            "SOURCE_DATE_EPOCH is \"now\", expected seconds since 1970"
        );
    }

    #[test]
    fn a_board_that_is_not_there_is_told_with_those_that_are() {
        let error = find_board("toaster").unwrap_err().to_string();
        assert!(error.contains("board-configs/toaster.yaml") && error.contains("; there are "), "{error}");
        assert!(error.contains("qemu-x86_64"), "{error}");
    }

    #[test]
    fn kernel_and_modules_come_together() {
        let options = Options { board: "qemu-x86_64".into(), kernel: Some("k".into()), ..Options::default() };
        let error = Plan::new(&options).unwrap_err().to_string();
        assert_eq!(error, "--kernel needs --modules as well: they are one build");
    }

    #[test]
    fn the_plan_of_a_board_says_what_it_takes() {
        let options =
            Options { board: "qemu-x86_64".into(), source_date_epoch: Some("7".into()), ..Options::default() };
        let plan = Plan::new(&options).unwrap();
        assert_eq!(plan.packages(), ["linux-image-cloud-amd64", "systemd-boot-efi"]);
        assert!(plan.command_line.ends_with("console=tty0 console=ttyS0"), "{}", plan.command_line);
        let shown = plan.show();
        assert!(shown.contains("SYSTEM-A") && shown.contains("package systemd-boot-efi of trixie"), "{shown}");
    }
}
