//! Carries a plan out.
//!
//! ```text
//! inputs(plan) ──▶ assemble ──▶ initramfs, system.squashfs, ESP, META, STATE ──▶ disk::write ──▶ BOARD.img, .img.bmap, .img.zst
//!   packages, files    trees                                                          manifest.json, bills of materials
//! ```

use crate::assemble::initramfs::InitramfsError;
use crate::assemble::root::{self, RootError};
use crate::assemble::slot::{self, Slot, SlotError};
use crate::assemble::squashfs::{self, SquashfsError};
use crate::assemble::{cpio, initramfs};
use crate::disk::blockmap::{self, BlockMap};
use crate::disk::boot::{self, Boot, Files};
use crate::disk::compress;
use crate::disk::esp::{self, EspError, Volume};
use crate::disk::state::{self, StateError};
use crate::disk::write::{self, Body, WriteError};
use crate::fetch::inputs::Supplied;
use crate::kernel::Kernel;
use crate::manifest::{self, Manifest};
use crate::oci::bake::{self, BakeError, Baked};
use crate::oci::layer::Spool;
use crate::plan::{EARLIEST, Plan};
use crate::progress::Progress;
use crate::sbom::{self, Bill, Subject};
use crate::secureboot::{self, Sealer, SecureBootError};
use crate::signing::{KeyError, Signing};
use crate::tree::{Content, Tree, TreeError};
use crate::{digest, show};
use kedge_config::names;
use kedge_config::slot::Record;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Squashfs(#[from] SquashfsError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    SecureBoot(#[from] SecureBootError),
    #[error(transparent)]
    Slot(#[from] SlotError),
    #[error(transparent)]
    Bake(#[from] BakeError),
    #[error(transparent)]
    Esp(#[from] EspError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("boot files: {0}")]
    BootTree(TreeError),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

/// The bytes that the plan asked for.
pub struct Inputs {
    pub kernel: Kernel,
    pub loader: Files,
    pub loader_origin: Arc<str>,
    /// What drivers load by name, with where it comes from.
    pub firmware: Vec<(Arc<str>, Files)>,
    /// What starts a unified kernel image, where one is asked for.
    pub stub: Option<Content>,
    pub kedge: Content,
    pub stage1: Content,
    /// Kernel and boot loader as others made them.
    pub supplied: Vec<Supplied>,
    /// The lock file's time, for a plan that had none yet.
    pub locked_epoch: Option<u32>,
}

/// What was written.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    pub image: PathBuf,
    pub manifest: PathBuf,
    pub kernel_release: String,
    pub epoch: u32,
    /// The key that signed the system.
    pub key: String,
    pub root_hash: String,
    pub rollback_index: u64,
    pub sizes: Vec<Part>,
    pub container_images: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Part {
    pub name: &'static str,
    pub path: PathBuf,
    pub size: u64,
    pub sha256: String,
}

impl Built {
    /// For eyes.
    pub fn show(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .sizes
            .iter()
            .map(|part| {
                vec![
                    part.name.into(),
                    show::size(part.size),
                    part.sha256.chars().take(16).collect(),
                    part.path.display().to_string(),
                ]
            })
            .collect();
        let images: String = self.container_images.iter().map(|name| format!("container image {name}\n")).collect();
        let table = show::table(&["what", "size", "sha256", "file"], &rows);
        let Self { kernel_release, key, root_hash, rollback_index, .. } = self;
        format!(
            "{table}{images}kernel {kernel_release}\nroot hash {root_hash}, rollback index {rollback_index}, signed by key {key}\n"
        )
    }
}

pub fn build(plan: &Plan, mut inputs: Inputs, progress: Progress) -> Result<Built, BuildError> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |source| BuildError::Io { path, source }
    };
    std::fs::create_dir_all(&plan.out).map_err(io(&plan.out))?;
    let out = |name: &str| plan.out.join(name);
    let epoch = plan.epoch.or(inputs.locked_epoch).unwrap_or(EARLIEST);
    let config = &plan.board.config;
    let release = inputs.kernel.release.clone();

    if plan.secure_boot.is_some() {
        inputs.kernel.modules.keep_signatures();
    }
    let signing = Signing::get(plan.sign_key.as_deref(), &plan.trust, &plan.out)?;
    if let Some(warning) = signing.warning() {
        progress.note(&warning);
    }

    let step = progress.step("container images");
    let spool = Spool::new().map_err(io(Path::new("the temporary folder")))?;
    let programs = [("kedge", &inputs.kedge), ("kedge-stage1", &inputs.stage1)].map(|(name, content)| {
        let sha256 = content.sha256().map_err(io(Path::new(name)))?;
        Ok::<_, BuildError>((name, sha256))
    });
    let programs = programs.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (images, index) = bake::bake(&plan.images, config.architecture.oci(), &spool)?;
    step.done(&index.images.len().to_string());
    if spool.bare.get() > 0 {
        progress.note(&format!("  note: extended attributes of {} files in images are left out", spool.bare.get()));
    }

    let step = progress.step("initramfs");
    let (mut early, loaded) = initramfs::tree(&inputs.kernel, config, &signing.trusted, inputs.stage1)?;
    let initramfs_path = out("initramfs");
    let pack = |early: &Tree| {
        let mut archive = Vec::new();
        // Of no time: one with the same files is the same, and need not come again with an upgrade.
        cpio::write(early, EARLIEST, &mut archive).map_err(io(&initramfs_path)).map(|()| archive)
    };
    let mut boot = Boot {
        loader: inputs.loader,
        unified: None,
        loader_origin: inputs.loader_origin,
        kernel: inputs.kernel.image.clone(),
        kernel_origin: Arc::clone(&inputs.kernel.origin),
        device_trees: inputs.kernel.device_trees.clone(),
        initramfs: Content::bytes(pack(&early)?),
    };
    let boot_id = boot::id(config, &boot).map_err(io(&initramfs_path))?;
    let line = Content::bytes(format!("{boot_id}\n"));
    early.file(names::STAGE1_BOOT_ID, 0o644, line, &"generated".into()).map_err(BuildError::BootTree)?;
    let archive = pack(&early)?;
    std::fs::write(&initramfs_path, &archive).map_err(io(&initramfs_path))?;
    step.done(&show::size(archive.len() as u64));

    let step = progress.step("system");
    let parts = root::Parts {
        kedge: inputs.kedge,
        kernel: &inputs.kernel,
        modules: &config.modules.system,
        loaded: &loaded,
        firmware: &inputs.firmware,
        board: &plan.board.text,
        board_name: &plan.name,
        machine: &plan.machine,
        images,
        epoch,
    };
    let system = root::tree(parts)?;
    let system_path = out("system.squashfs");
    let mut file = BufWriter::new(File::create(&system_path).map_err(io(&system_path))?);
    let length = squashfs::write(&system, epoch, &mut file)?;
    file.flush().map_err(io(&system_path))?;
    step.done(&show::size(length));

    let kernel_path = out("kernel");
    let kernel = inputs.kernel.image.read().map_err(io(&kernel_path))?;
    std::fs::write(&kernel_path, &kernel).map_err(io(&kernel_path))?;

    if let (Some(owner), Some(stub)) = (&plan.secure_boot, &inputs.stub) {
        let sealer = Sealer::read(owner)?;
        let stub = stub.read().map_err(io(Path::new("systemd's stub")))?;
        for (name, content) in &mut boot.loader {
            *content = sealer.loader(&content.read().map_err(io(Path::new(name)))?)?;
        }
        let parts = secureboot::Parts {
            stub: &stub,
            kernel: &kernel,
            kernel_release: &release,
            initramfs: &archive,
            board: config,
        };
        boot.unified = Some(sealer.unified(&parts)?);
    }
    boot.initramfs = Content::bytes(archive);
    let listed = boot::listed(&boot::slot_files(config, &boot)).map_err(io(&kernel_path))?;
    let about = slot::About {
        board: &plan.name,
        kernel_release: &release,
        version: &plan.system_version,
        rollback_index: plan.rollback_index,
        boot_id,
        boot: &listed,
        epoch,
    };
    let slot = slot::seal(&system_path, &about, &signing.key)?;
    let (verity_path, sealed_path) = (out("system.verity"), out("system.manifest"));
    std::fs::write(&verity_path, &slot.verity).map_err(io(&verity_path))?;
    std::fs::write(&sealed_path, &slot.text).map_err(io(&sealed_path))?;

    let mut digests = Vec::new();
    let parts = [
        ("kernel", &kernel_path),
        ("initramfs", &initramfs_path),
        ("system", &system_path),
        ("hash tree", &verity_path),
        ("slot manifest", &sealed_path),
    ];
    for (name, path) in parts {
        digests.push(part(name, path)?);
    }
    // Identifiers tell images apart and are the same for the same image.
    let seed = digests
        .iter()
        .map(|part| part.sha256.as_str())
        .chain([plan.board.text.as_str()])
        .collect::<Vec<_>>()
        .join("\n");

    let boot_files = boot::partitions(config, &boot, &listed).map_err(BuildError::BootTree)?;
    let image = out(&format!("{}.img", plan.name));
    let bodies = bodies(plan, &boot_files, (&system_path, &slot), &seed, epoch)?;
    let step = progress.bytes("disk image", plan.layout.size);
    write::write(&image, &plan.layout, &bodies, &seed, &|bytes| step.advance(bytes))?;
    step.done(&show::size(plan.layout.size));
    let map_path = out(&format!("{}.img.bmap", plan.name));
    let meant = blockmap::meant(&plan.layout, &bodies).map_err(io(&map_path))?;
    std::fs::remove_file(out("state.ext4")).map_err(io(&out("state.ext4")))?;
    let mut disk = File::open(&image).map_err(io(&image))?;
    let map = BlockMap::of(&mut disk, plan.layout.size, &meant).map_err(io(&image))?;
    std::fs::write(&map_path, map.to_xml()).map_err(io(&map_path))?;
    let compressed = out(&format!("{}.img.zst", plan.name));
    let step = progress.bytes("compressed image", plan.layout.size);
    let length = compress::compress(&image, &compressed, &|bytes| step.advance(bytes)).map_err(io(&compressed))?;
    step.done(&show::size(length));

    let manifest_path = out("manifest.json");
    let mut files = Vec::new();
    let boot_files = boot_files.iter().map(|(name, tree)| (name.to_lowercase(), tree));
    for (of, tree) in boot_files.chain([("initramfs".to_owned(), &early), ("system".to_owned(), &system)]) {
        files.extend(manifest::lines(&of, tree).map_err(io(&manifest_path))?);
    }
    let list = Manifest {
        board: plan.name.clone(),
        version: kedge_config::VERSION,
        epoch,
        kernel_release: release.clone(),
        origins: origins(&inputs.supplied, &programs, &index.images),
        files,
    };
    let text = serde_json::to_string_pretty(&list).map_err(|error| io(&manifest_path)(error.into()))?;
    std::fs::write(&manifest_path, text + "\n").map_err(io(&manifest_path))?;

    let whole = part("image", &image)?;
    let subject = Subject { board: plan.name.clone(), sha256: whole.sha256.clone(), epoch };
    digests.push(whole);
    digests.push(part("compressed image", &compressed)?);
    digests.push(part("block map", &map_path)?);
    let parts = sbom::Parts { subject, packages: &inputs.supplied, programs: &programs, images: &index.images };
    digests.extend(bills(plan, parts)?);
    let container_images = index.images.into_iter().flat_map(|image| image.names).collect();
    Ok(Built {
        image,
        manifest: manifest_path,
        kernel_release: release,
        epoch,
        key: signing.key.public().id().to_string(),
        root_hash: slot.manifest.root_hash.to_string(),
        rollback_index: plan.rollback_index,
        sizes: digests,
        container_images,
    })
}

/// By the names that files' origins have in the manifest.
fn origins(supplied: &[Supplied], programs: &[(&str, String)], images: &[Baked]) -> BTreeMap<String, String> {
    let packages = supplied.iter().map(|one| (one.origin(), one.sha256.clone()));
    let programs = programs.iter().map(|(name, sha256)| ((*name).to_owned(), sha256.clone()));
    let image = |image: &Baked| {
        let name = image.names.first().cloned().unwrap_or_default();
        (bake::origin(&name), image.digest.trim_start_matches("sha256:").to_owned())
    };
    packages.chain(programs).chain(images.iter().map(image)).collect()
}

/// Writes the bills of materials and the list of licences.
fn bills(plan: &Plan, parts: sbom::Parts<'_>) -> Result<Vec<Part>, BuildError> {
    let json = |error: serde_json::Error| BuildError::Io { path: "the bill of materials".into(), source: error.into() };
    let bill = Bill::new(parts).map_err(json)?;
    let forms = [
        ("SPDX bill", "sbom.spdx.json", sbom::to_text(&sbom::spdx::document(&bill)).map_err(json)?),
        ("CycloneDX bill", "sbom.cdx.json", sbom::to_text(&sbom::cyclonedx::document(&bill)).map_err(json)?),
        ("licences", "licences.txt", bill.licences()),
    ];
    let write = |(name, file, text): (&'static str, &str, String)| {
        let path = plan.out.join(file);
        std::fs::write(&path, text).map_err(|source| BuildError::Io { path: path.display().to_string(), source })?;
        part(name, &path)
    };
    forms.into_iter().map(write).collect()
}

fn part(name: &'static str, path: &Path) -> Result<Part, BuildError> {
    let io = |source| BuildError::Io { path: path.display().to_string(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    Ok(Part { name, path: path.to_owned(), size, sha256: digest::of_file(path).map_err(io)? })
}

/// The FAT partitions, with the names that other computers show.
const LABELS: [(&str, esp::Label); 3] =
    [(names::ESP.name, esp::LABEL), (names::BOOT_A.name, esp::LABEL_A), (names::BOOT_B.name, esp::LABEL_B)];

/// What goes into each partition, in the layout's order.
fn bodies(
    plan: &Plan,
    boot_files: &[boot::Partition],
    (system, slot): (&Path, &Slot),
    seed: &str,
    epoch: u32,
) -> Result<Vec<Body>, BuildError> {
    let mut bodies = Vec::new();
    for place in &plan.layout.places {
        let id = |what: &str| digest::uuid(seed, what);
        let fat = LABELS.iter().find(|(name, _)| *name == place.name);
        let tree = boot_files.iter().find(|(name, _)| *name == place.name);
        if let (Some((_, label)), Some((_, tree))) = (fat, tree) {
            let id = id(&place.name.to_lowercase()).as_fields().0;
            bodies.push(Body::Pieces(esp::make(tree, place.size, Volume { id, label: *label, start: place.start })?));
            continue;
        }
        bodies.push(match place.name {
            name if name == names::SYSTEM_A.name => {
                let needed = slot.needs();
                if needed > place.size {
                    return Err(WriteError::TooSmall { name, size: place.size, needed }.into());
                }
                Body::Parts(slot.parts(system, place.size))
            }
            name if name == names::META.name => {
                Body::Pieces(Record::fresh().initial_writes().map(|(at, bytes)| (at, bytes.to_vec())).to_vec())
            }
            name if name == names::STATE.name => {
                let path = plan.out.join("state.ext4");
                state::make(&path, place.size, id("state"), id("state hashes"), epoch)?;
                Body::FileSystem { used: state::used(&path)?, path }
            }
            _ => Body::Empty,
        });
    }
    Ok(bodies)
}

#[cfg(test)]
pub(crate) mod tests;
