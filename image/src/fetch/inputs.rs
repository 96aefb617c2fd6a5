//! From a plan's sources to bytes: packages or files become a kernel, a boot loader and the two programs.

use super::apt::Scope;
use super::deb::{self, DebError};
use super::lock::Locked;
use super::packages::{self, Found, Order, PackageError};
use crate::build::Inputs;
use crate::disk::boot::{self, Files};
use crate::elf::{Elf, ElfError};
use crate::kernel::Kernel;
use crate::kernel::modules::{ModuleError, Modules};
use crate::licence::Licence;
use crate::plan::{KernelSource, LoaderSource, Plan};
use crate::progress::Progress;
use crate::secureboot;
use crate::tree::Content;
use kedge_config::board::Architecture;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    Deb(#[from] DebError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error("{package} holds no {what}")]
    Lacks { package: String, what: String },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} is not there: build it with \"make build\", or name it with --{option}")]
    NoProgram { path: String, option: &'static str },
    #[error("{path}: {source}")]
    Elf { path: String, source: ElfError },
    #[error("{path} is for {found}, the board is {wanted}")]
    Machine { path: String, found: &'static str, wanted: &'static str },
    #[error(
        "{path} needs {interpreter} at run time, which the device does not have: build it static (\"make build\" does)"
    )]
    Dynamic { path: String, interpreter: String },
    #[error("{path}: expected a folder named by the kernel's release, such as lib/modules/6.12.1")]
    Release { path: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Kernel,
    BootLoader,
    /// What drivers load by name.
    Firmware,
}

/// Something in the image that others made: a Debian package, or a file that a person gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supplied {
    pub role: Role,
    pub name: String,
    pub version: String,
    pub sha256: String,
    /// `None` for a file.
    pub debian: Option<Debian>,
    pub licence: Option<Licence>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debian {
    pub architecture: String,
    pub suite: String,
}

impl Supplied {
    fn package(role: Role, locked: &Locked, suite: &str) -> Self {
        Self {
            role,
            name: locked.name.clone(),
            version: locked.version.clone(),
            sha256: locked.sha256.clone(),
            debian: Some(Debian { architecture: locked.architecture.clone(), suite: suite.to_owned() }),
            licence: None,
        }
    }

    fn file(role: Role, path: &Path, version: &str, content: &Content) -> Result<Self, InputError> {
        let sha256 = content.sha256().map_err(|source| InputError::Io { path: path.display().to_string(), source })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { role, name, version: version.to_owned(), sha256, debian: None, licence: None })
    }

    /// What messages and the manifest call it.
    pub fn origin(&self) -> String {
        match &self.debian {
            Some(_) => format!("package {} {}", self.name, self.version),
            None => format!("file {}", self.name),
        }
    }
}

/// Gets all that the plan names.
pub fn get(plan: &Plan, cache: &Path, progress: Progress) -> Result<Inputs, InputError> {
    let architecture = plan.board.config.architecture;
    // What is quick to find wrong comes first.
    let kedge = program(&plan.kedge, "kedge", architecture)?;
    let stage1 = program(&plan.stage1, "stage1", architecture)?;
    let wanted = plan.packages();
    let mut files = Vec::new();
    let mut locked_epoch = None;
    if !wanted.is_empty() {
        let scope = Scope {
            suite: plan.suite.clone(),
            architecture: architecture.debian().to_owned(),
            components: plan.board.config.kernel.components.clone(),
            mirror: plan.mirror.clone(),
        };
        let order = Order {
            cache,
            scope,
            lock: &plan.lock,
            wanted: &wanted,
            update_lock: plan.update_lock,
            allow_newer: plan.allow_newer,
        };
        let (lock, found) = packages::fetch(&order, &progress)?;
        locked_epoch = u32::try_from(lock.epoch).ok();
        files = found;
    }
    let mut files = files.into_iter();
    let mut supplied = Vec::new();
    let config = &plan.board.config;
    let trees: BTreeSet<&str> = config.bootloader.device_trees.values().map(String::as_str).collect();
    let kernel = match &plan.kernel {
        KernelSource::Package { package } => {
            let parts = files.next().ok_or_else(|| lacks(package, "file"))?;
            let (packages, debs): (Vec<Supplied>, Vec<PathBuf>) = parts
                .into_iter()
                .map(|(locked, deb)| (Supplied::package(Role::Kernel, &locked, &plan.suite), deb))
                .unzip();
            let origin = packages.first().map_or_else(|| package.clone(), Supplied::origin);
            let step = progress.step(format!("unpacking {origin}"));
            let (kernel, copyright) = kernel_of_packages(&debs, &origin, &trees)?;
            step.done(&format!("{} modules", kernel.modules.len()));
            let licence = copyright.as_deref().and_then(Licence::of_debian);
            supplied.extend(packages.into_iter().map(|package| Supplied { licence: licence.clone(), ..package }));
            kernel
        }
        KernelSource::Files { image, modules, device_trees } => {
            let mut kernel = kernel_of_files(image, modules)?;
            if let Some(folder) = device_trees {
                let given = trees.iter().map(|name| Ok(((*name).to_owned(), given(&folder.join(name))?)));
                kernel.device_trees = given.collect::<Result<_, InputError>>()?;
            }
            supplied.push(Supplied::file(Role::Kernel, image, &kernel.release, &kernel.image)?);
            kernel
        }
    };
    let mut stub = None;
    let (loader, loader_origin) = match &plan.bootloader {
        LoaderSource::Package { package } => {
            let (locked, deb) = one(files.next(), package)?;
            let mut package = Supplied::package(Role::BootLoader, &locked, &plan.suite);
            let (loader, copyright) = files_of_package(&deb, &package.origin(), &boot::package_files(config))?;
            if plan.secure_boot.is_some() {
                let wanted = [(secureboot::STUB.to_owned(), secureboot::stub_path(architecture).to_owned())];
                stub = files_of_package(&deb, &package.origin(), &wanted)?.0.remove(secureboot::STUB);
            }
            package.licence = copyright.as_deref().and_then(Licence::of_debian);
            let origin = package.origin().into();
            supplied.push(package);
            (loader, origin)
        }
        LoaderSource::Board => (Files::new(), "the board".into()),
        LoaderSource::File { path } => {
            let mut loader = Files::new();
            for (name, _) in boot::package_files(config) {
                let file = if path.is_dir() { path.join(&name) } else { path.clone() };
                let content = given(&file)?;
                supplied.push(Supplied::file(Role::BootLoader, &file, "unknown", &content)?);
                loader.insert(name, content);
            }
            (loader, origin_of(path))
        }
    };
    let mut firmware = Vec::new();
    for wanted in &config.firmware {
        let (locked, deb) = one(files.next(), &wanted.package)?;
        let mut package = Supplied::package(Role::Firmware, &locked, &plan.suite);
        let paths = wanted.files.iter().map(|(name, file)| (name.clone(), format!("usr/lib/firmware/{file}")));
        let (found, copyright) = files_of_package(&deb, &package.origin(), &paths.collect::<Vec<_>>())?;
        package.licence = copyright.as_deref().and_then(Licence::of_debian);
        firmware.push((Arc::from(package.origin()), found));
        supplied.push(package);
    }
    Ok(Inputs { kernel, loader, loader_origin, firmware, stub, kedge, stage1, supplied, locked_epoch })
}

/// A package that is never split up.
fn one(found: Option<Vec<Found>>, package: &str) -> Result<Found, InputError> {
    found.and_then(|found| found.into_iter().next()).ok_or_else(|| lacks(package, "file"))
}

fn lacks(package: &str, what: &str) -> InputError {
    InputError::Lacks { package: package.to_owned(), what: what.to_owned() }
}

fn origin_of(path: &Path) -> Arc<str> {
    format!("file {}", path.file_name().unwrap_or_default().to_string_lossy()).into()
}

/// A file that a person gave, whole, so that it cannot change under us.
fn given(path: &Path) -> Result<Content, InputError> {
    let fail = |source| InputError::Io { path: path.display().to_string(), source };
    std::fs::read(path).map(Content::bytes).map_err(fail)
}

/// A program for the device: static, and for its machine.
fn program(path: &Path, option: &'static str, architecture: Architecture) -> Result<Content, InputError> {
    let shown = || path.display().to_string();
    if !path.is_file() {
        return Err(InputError::NoProgram { path: shown(), option });
    }
    let content = given(path)?;
    let bytes = content.read().map_err(|source| InputError::Io { path: shown(), source })?;
    let damaged = |source| InputError::Elf { path: shown(), source };
    let elf = Elf::parse(&bytes).map_err(damaged)?;
    let found = elf.architecture().map_err(damaged)?;
    if found != Some(architecture) {
        let found = found.map_or("another machine", Architecture::as_str);
        return Err(InputError::Machine { path: shown(), found, wanted: architecture.as_str() });
    }
    match elf.interpreter().map_err(damaged)? {
        Some(interpreter) => Err(InputError::Dynamic { path: shown(), interpreter }),
        None => Ok(content),
    }
}

/// Whether a package's file is its copyright file (Debian policy 12.5).
fn is_copyright(path: &str) -> bool {
    path.starts_with("usr/share/doc/") && path.ends_with("/copyright")
}

fn read(content: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map(|_| bytes)
}

fn text(content: &mut dyn Read) -> io::Result<String> {
    read(content).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The kernel, and what its packages say of copyright.
fn kernel_of_packages(
    debs: &[PathBuf],
    origin: &str,
    trees: &BTreeSet<&str>,
) -> Result<(Kernel, Option<String>), InputError> {
    let (mut image, mut copyright) = (None, None);
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    let mut device_trees = Files::new();
    let mut each = |path: &str, content: &mut dyn Read| {
        if let Some(release) = image_release(path) {
            image = Some((release.to_owned(), read(content)?));
        } else if let Some(tree) = device_tree(path) {
            if trees.contains(tree) {
                device_trees.insert(tree.to_owned(), Content::bytes(read(content)?));
            }
        } else if let Some(below) = path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/") {
            parts.push((below.to_owned(), read(content)?));
        } else if is_copyright(path) {
            copyright = Some(text(content)?);
        }
        Ok(())
    };
    debs.iter().try_for_each(|deb| deb::each_file(deb, &mut each))?;
    let (release, image) = image.ok_or_else(|| lacks(origin, "kernel (vmlinuz)"))?;
    let mut modules = Modules::default();
    for (path, bytes) in parts {
        if let Some(path) = path.strip_prefix(&release).and_then(|path| path.strip_prefix('/')) {
            modules.add(path, Content::bytes(bytes))?;
        }
    }
    if modules.is_empty() {
        return Err(lacks(origin, "kernel modules"));
    }
    if let Some(missing) = trees.iter().find(|name| !device_trees.contains_key(**name)) {
        return Err(lacks(origin, &format!("device tree {missing}")));
    }
    Ok((Kernel { release, image: Content::bytes(image), modules, device_trees, origin: origin.into() }, copyright))
}

/// The release of a kernel image, where Debian's packages keep one: in `/boot`, since 7.2 with the modules.
fn image_release(path: &str) -> Option<&str> {
    let with_modules = || path.strip_prefix("usr/lib/modules/")?.strip_suffix("/vmlinuz");
    path.strip_prefix("boot/vmlinuz-").or_else(|| path.strip_prefix("boot/vmlinux-")).or_else(with_modules)
}

/// The name of a device tree, where Debian's packages keep them: in a folder of their own, since 7.2 with the modules.
fn device_tree(path: &str) -> Option<&str> {
    let with_modules = || Some(path.strip_prefix("usr/lib/modules/")?).filter(|below| below.contains("/dtb/"));
    let below = path.strip_prefix("usr/lib/linux-image-").or_else(with_modules)?;
    below.rsplit('/').next().filter(|name| name.ends_with(".dtb"))
}

fn kernel_of_files(image: &Path, folder: &Path) -> Result<Kernel, InputError> {
    let named =
        folder.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with(|c: char| c.is_ascii_digit()));
    let release = named.ok_or_else(|| InputError::Release { path: folder.display().to_string() })?.to_owned();
    let modules = Modules::from_folder(folder)?;
    Ok(Kernel { release, image: given(image)?, modules, device_trees: Files::new(), origin: origin_of(image) })
}

/// Files of a package, each by the name it is to have and by its path there, and what the package says of copyright.
fn files_of_package(
    deb: &Path,
    origin: &str,
    wanted: &[(String, String)],
) -> Result<(Files, Option<String>), InputError> {
    let (mut found, mut copyright) = (Files::new(), None);
    deb::each_file(deb, &mut |path, content| {
        let mut names = wanted.iter().filter(|(_, file)| file == path).map(|(name, _)| name).peekable();
        if names.peek().is_some() {
            let bytes = Content::bytes(read(content)?);
            found.extend(names.map(|name| (name.clone(), bytes.clone())));
        } else if is_copyright(path) {
            copyright = Some(text(content)?);
        }
        Ok(())
    })?;
    match wanted.iter().find(|(name, _)| !found.contains_key(name)) {
        Some((_, missing)) => Err(lacks(origin, missing)),
        None => Ok((found, copyright)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::made;

    #[test]
    fn a_program_must_be_there_static_and_for_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kedge");
        let check = |architecture| program(&path, "kedge", architecture).map(|_| ()).map_err(|error| error.to_string());
        let error = check(Architecture::X86_64).unwrap_err();
        assert!(error.ends_with("is not there: build it with \"make build\", or name it with --kedge"), "{error}");
        std::fs::write(&path, made::program(Some("/lib64/ld.so"))).unwrap();
        let error = check(Architecture::X86_64).unwrap_err();
        assert!(error.contains("needs /lib64/ld.so at run time"), "{error}");
        std::fs::write(&path, made::program(None)).unwrap();
        check(Architecture::X86_64).unwrap();
        let error = check(Architecture::Aarch64).unwrap_err();
        assert!(error.ends_with("is for x86_64, the board is aarch64"), "{error}");
        std::fs::write(&path, "#!/bin/sh").unwrap();
        assert!(check(Architecture::X86_64).unwrap_err().ends_with("not an ELF file"));
    }

    #[test]
    fn a_kernel_package_is_taken_apart() {
        let folder = tempfile::tempdir().unwrap();
        let deb = folder.path().join("k.deb");
        let module = made::module(b"");
        let files: [(&str, &[u8]); 6] = [
            ("usr/lib/linux-image-6.1-x/broadcom/pi.dtb", b"tree"),
            ("usr/lib/linux-image-6.1-x/broadcom/other.dtb", b"no"),
            ("boot/vmlinuz-6.1-x", b"image"),
            ("usr/lib/modules/6.1-x/kernel/a.ko", &module),
            ("lib/modules/6.1-x/modules.builtin", b"kernel/b.ko\n"),
            ("usr/share/doc/k/copyright", b"Files: *\nLicense: GPL-2\n"),
        ];
        deb::made::package(&deb, &files);
        let (kernel, copyright) =
            kernel_of_packages(std::slice::from_ref(&deb), "package k 1", &BTreeSet::from(["pi.dtb"])).unwrap();
        assert_eq!(kernel.device_trees.keys().collect::<Vec<_>>(), ["pi.dtb"]);
        let error = kernel_of_packages(std::slice::from_ref(&deb), "package k 1", &BTreeSet::from(["pc.dtb"]))
            .err()
            .expect("refused");
        assert_eq!(error.to_string(), "package k 1 holds no device tree pc.dtb");
        assert_eq!(Licence::of_debian(&copyright.unwrap()).unwrap().to_string(), "GPL-2.0-only");
        assert_eq!((kernel.release.as_str(), kernel.modules.len()), ("6.1-x", 1));
        assert_eq!(kernel.modules.unpacked("a").unwrap(), Some(("kernel/a.ko".to_owned(), module.clone())));
        deb::made::package(&deb, &files[5..]);
        let error = kernel_of_packages(std::slice::from_ref(&deb), "package k 1", &BTreeSet::new())
            .err()
            .expect("refused")
            .to_string();
        assert_eq!(error, "package k 1 holds no kernel (vmlinuz)");
        // As Debian splits them since 7.2.
        let split: [(&str, &[u8]); 3] = [
            ("usr/lib/modules/7.3-x/vmlinuz", b"new image"),
            ("usr/lib/modules/7.3-x/kernel/a.ko", &module),
            ("usr/lib/modules/7.3-x/dtb/broadcom/pi.dtb", b"tree"),
        ];
        let debs: Vec<PathBuf> = (0..3).map(|number| folder.path().join(format!("{number}.deb"))).collect();
        debs.iter().zip(split).for_each(|(deb, file)| deb::made::package(deb, &[file]));
        let (kernel, _) = kernel_of_packages(&debs, "package k 2", &BTreeSet::from(["pi.dtb"])).unwrap();
        let found = (kernel.release.as_str(), kernel.modules.len(), kernel.device_trees.len());
        assert_eq!((found, &kernel.image.read().unwrap()[..]), (("7.3-x", 1, 1), &b"new image"[..]));

        let wanted = [("X.EFI".to_owned(), "usr/x.efi".to_owned())];
        let error = files_of_package(&deb, "systemd-boot-efi", &wanted).unwrap_err().to_string();
        assert_eq!(error, "systemd-boot-efi holds no usr/x.efi");
    }
}
