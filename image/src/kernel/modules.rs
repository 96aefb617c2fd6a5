//! A kernel's modules as a package or a folder has them: packed files by name, unpacked when asked for.

use super::lean::lean;
use super::modinfo::{self, ModInfo};
use super::resolve::Catalogue;
use crate::elf::ElfError;
use crate::tree::Content;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

/// No module of any kernel comes near; a damaged archive could claim anything.
const MAX_MODULE: u64 = 128 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("module {path}: {source}")]
    Unpack { path: String, source: io::Error },
    #[error("module {path}: more than {MAX_MODULE} bytes when unpacked")]
    TooLarge { path: String },
    #[error("module {path}: {source}")]
    Elf { path: String, source: ElfError },
    #[error("{path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path} holds no kernel modules")]
    Empty { path: String },
}

struct Module {
    /// Below `/usr/lib/modules/RELEASE/`, without the ending of its packing.
    path: String,
    packing: Packing,
    packed: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Xz,
    Zstd,
    Gzip,
}

const PACKINGS: [(&str, Packing); 4] =
    [(".ko", Packing::None), (".ko.xz", Packing::Xz), (".ko.zst", Packing::Zstd), (".ko.gz", Packing::Gzip)];

/// The modules of one kernel.
#[derive(Default)]
pub struct Modules {
    /// Whether modules keep their signatures.
    signed: bool,
    modules: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
    known: RefCell<BTreeMap<String, ModInfo>>,
    /// Every alias of every module; unpacks them all, so it is made only when a name is no module's.
    aliases: OnceCell<BTreeMap<String, Vec<String>>>,
}

impl Modules {
    /// Takes a file of `lib/modules/RELEASE/`; `path` is relative to that folder. Files that are no concern of ours are passed by.
    pub fn add(&mut self, path: &str, content: Content) -> Result<(), ModuleError> {
        let read =
            |content: &Content| content.read().map_err(|source| ModuleError::Read { path: path.to_owned(), source });
        match path {
            "modules.builtin" => {
                let text = read(&content)?;
                let text = String::from_utf8_lossy(&text);
                self.builtin.extend(text.lines().filter_map(|line| Some(module_name(line)?.0)));
            }
            "modules.builtin.modinfo" => self.builtin.extend(modinfo::builtin(&read(&content)?)),
            _ => {
                let Some((name, packing, plain)) = module_name(path) else { return Ok(()) };
                self.modules.insert(name, Module { path: plain, packing, packed: content });
            }
        }
        Ok(())
    }

    /// All of a `lib/modules/RELEASE` folder.
    pub fn from_folder(folder: &Path) -> Result<Self, ModuleError> {
        let mut modules = Self::default();
        let mut waiting = vec![folder.to_owned()];
        while let Some(next) = waiting.pop() {
            let fail = |source| ModuleError::Read { path: next.display().to_string(), source };
            for entry in std::fs::read_dir(&next).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                let (path, kind) = (entry.path(), entry.file_type().map_err(fail)?);
                if kind.is_dir() {
                    waiting.push(path);
                } else if let Some(name) =
                    path.strip_prefix(folder).ok().and_then(Path::to_str).filter(|_| kind.is_file())
                {
                    modules.add(name, Content::File(path.clone()))?;
                }
            }
        }
        if modules.modules.is_empty() {
            return Err(ModuleError::Empty { path: folder.display().to_string() });
        }
        Ok(modules)
    }

    pub fn len(&self) -> usize {
        self.modules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// From now on modules stay as their makers signed them: a kernel that Secure Boot started takes no others.
    pub fn keep_signatures(&mut self) {
        self.signed = true;
    }

    /// The module called `name`, unpacked and, where its signature need not stay, made lean; and its path below `/usr/lib/modules/RELEASE/`.
    pub fn unpacked(&self, name: &str) -> Result<Option<(String, Vec<u8>)>, ModuleError> {
        let Some(module) = self.modules.get(name) else { return Ok(None) };
        let bytes = module.unpack()?;
        Ok(Some((module.path.clone(), if self.signed { bytes } else { lean(bytes) })))
    }

    fn all_aliases(&self) -> Result<&BTreeMap<String, Vec<String>>, ModuleError> {
        if let Some(aliases) = self.aliases.get() {
            return Ok(aliases);
        }
        let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in self.modules.keys() {
            for alias in self.info(name)?.map(|info| info.aliases).unwrap_or_default() {
                aliases.entry(alias).or_default().push(name.clone());
            }
        }
        Ok(self.aliases.get_or_init(|| aliases))
    }

    fn info(&self, name: &str) -> Result<Option<ModInfo>, ModuleError> {
        if let Some(info) = self.known.borrow().get(name) {
            return Ok(Some(info.clone()));
        }
        let Some(module) = self.modules.get(name) else { return Ok(None) };
        let info = ModInfo::of_module(&module.unpack()?)
            .map_err(|source| ModuleError::Elf { path: module.path.clone(), source })?;
        self.known.borrow_mut().insert(name.to_owned(), info.clone());
        Ok(Some(info))
    }
}

impl Module {
    fn unpack(&self) -> Result<Vec<u8>, ModuleError> {
        let fail = |source| ModuleError::Unpack { path: self.path.clone(), source };
        let packed = self.packed.open().map_err(fail)?;
        let mut reader: Box<dyn Read> = match self.packing {
            Packing::None => packed,
            Packing::Xz => Box::new(xz2::read::XzDecoder::new(packed)),
            Packing::Zstd => Box::new(zstd::Decoder::new(packed).map_err(fail)?),
            Packing::Gzip => Box::new(flate2::read::GzDecoder::new(packed)),
        };
        let mut bytes = Vec::new();
        (&mut reader).take(MAX_MODULE + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > MAX_MODULE {
            return Err(ModuleError::TooLarge { path: self.path.clone() });
        }
        Ok(bytes)
    }
}

/// `kernel/fs/nf-x.ko.xz` is `nf_x`, packed with xz, `kernel/fs/nf-x.ko`.
fn module_name(path: &str) -> Option<(String, Packing, String)> {
    let (ending, packing) = PACKINGS.into_iter().find(|(ending, _)| path.ends_with(ending))?;
    let plain = path.strip_suffix(ending)?;
    let name = plain.rsplit('/').next()?;
    Some((modinfo::normal(name), packing, format!("{plain}.ko")))
}

impl Catalogue for Modules {
    fn is_builtin(&self, name_or_alias: &str) -> bool {
        self.builtin.contains(name_or_alias)
    }

    fn module(&self, name: &str) -> Result<Option<ModInfo>, ModuleError> {
        self.info(name)
    }

    fn providers(&self, alias: &str) -> Result<Vec<String>, ModuleError> {
        Ok(self.all_aliases()?.get(alias).cloned().unwrap_or_default())
    }

    /// Those that share the longest beginning, if that is more than half of the name.
    fn similar(&self, name: &str) -> Vec<String> {
        let shared = |other: &str| other.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let most = self.modules.keys().map(|other| shared(other)).max().unwrap_or(0);
        let close = |other: &&String| most * 2 > name.len() && shared(other) == most;
        self.modules.keys().filter(close).take(3).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::made;

    fn packed(bytes: &[u8]) -> Content {
        Content::bytes(zstd::encode_all(bytes, 1).unwrap())
    }

    #[test]
    fn modules_are_unpacked_and_known_by_the_kernels_name() {
        let mut modules = Modules::default();
        let raw = made::module(b"alias=fs-x\0depends=y\0");
        modules.add("kernel/fs/x-fs.ko.zst", packed(&raw)).unwrap();
        modules.add("kernel/fs/y.ko", Content::bytes(made::module(b""))).unwrap();
        modules.add("modules.order", Content::bytes("kernel/fs/x-fs.ko\n")).unwrap();
        modules.add("modules.builtin", Content::bytes("kernel/fs/ext9.ko\n")).unwrap();
        modules.add("modules.builtin.modinfo", Content::bytes("ext9.alias=fs-ext9\0")).unwrap();
        assert_eq!(modules.len(), 2);
        assert_eq!(modules.unpacked("x_fs").unwrap(), Some(("kernel/fs/x-fs.ko".into(), raw)));
        assert_eq!(modules.module("x_fs").unwrap().unwrap().depends, ["y"]);
        assert_eq!(modules.providers("fs_x").unwrap(), ["x_fs"]);
        assert!(modules.is_builtin("ext9") && modules.is_builtin("fs_ext9") && !modules.is_builtin("y"));
        assert_eq!(modules.similar("x_ft"), ["x_fs"]);
        assert!(modules.similar("zzz").is_empty());
    }

    #[test]
    fn a_damaged_module_is_named() {
        let mut modules = Modules::default();
        modules.add("kernel/a.ko.zst", Content::bytes("not zstd")).unwrap();
        modules.add("kernel/b.ko", Content::bytes("not elf")).unwrap();
        assert!(modules.module("a").unwrap_err().to_string().starts_with("module kernel/a.ko: "));
        assert_eq!(modules.module("b").unwrap_err().to_string(), "module kernel/b.ko: not an ELF file");
    }
}
