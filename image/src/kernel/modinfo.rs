//! What a kernel module says about itself: `key=value` strings in its `.modinfo` section (`scripts/mod/modpost.c`), and the
//! same of built-in modules in `modules.builtin.modinfo`, where each key is led by the module's name.

use crate::elf::{Elf, ElfError};
use std::collections::BTreeSet;

/// Names are in the kernel's form: `-` is `_`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// Must be loaded before.
    pub depends: Vec<String>,
    /// Should be loaded before; names or aliases.
    pub soft_before: Vec<String>,
    /// Should be loaded after.
    pub soft_after: Vec<String>,
    /// Other names it answers to, some of them patterns.
    pub aliases: Vec<String>,
}

/// The name under which the kernel knows a module.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

impl ModInfo {
    /// From a module's file. A module without `.modinfo` says nothing.
    pub fn of_module(file: &[u8]) -> Result<Self, ElfError> {
        Ok(Elf::parse(file)?.section(".modinfo")?.map(Self::parse).unwrap_or_default())
    }

    fn parse(section: &[u8]) -> Self {
        let mut info = Self::default();
        for (key, value) in pairs(section) {
            match key {
                "depends" => info.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(normal)),
                "alias" => info.aliases.push(normal(value)),
                "softdep" => info.softdep(value),
                _ => {}
            }
        }
        info
    }

    /// `pre: a b post: c`; names before the first label are of no kind.
    fn softdep(&mut self, value: &str) {
        let mut before = None;
        for word in value.split_whitespace() {
            match (word, before) {
                ("pre:", _) => before = Some(true),
                ("post:", _) => before = Some(false),
                (name, Some(true)) => self.soft_before.push(normal(name)),
                (name, Some(false)) => self.soft_after.push(normal(name)),
                (_, None) => {}
            }
        }
    }
}

/// The names and aliases of everything that `modules.builtin.modinfo` lists.
pub fn builtin(file: &[u8]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in pairs(file) {
        let Some((module, key)) = key.split_once('.') else { continue };
        names.insert(normal(module));
        if key == "alias" {
            names.insert(normal(value));
        }
    }
    names
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    bytes.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok()?.split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::made;

    #[test]
    fn a_module_tells_what_it_needs_and_what_it_is() {
        let text = b"license=GPL\0depends=nf-defrag-ipv6,libcrc32c\0alias=nf-nat\0softdep=pre: crc32c sha-1 post: b\0softdep=stray\0";
        let info = ModInfo::of_module(&made::module(text)).unwrap();
        assert_eq!(info.depends, ["nf_defrag_ipv6", "libcrc32c"]);
        assert_eq!(info.aliases, ["nf_nat"]);
        assert_eq!((info.soft_before, info.soft_after), (vec!["crc32c".into(), "sha_1".into()], vec!["b".into()]));
    }

    #[test]
    fn an_empty_depends_is_none() {
        assert_eq!(ModInfo::of_module(&made::module(b"depends=\0")).unwrap(), ModInfo::default());
        assert_eq!(ModInfo::of_module(b"garbage"), Err(ElfError::NotElf));
    }

    #[test]
    fn builtin_modules_answer_to_name_and_alias() {
        let names =
            builtin(b"crc32c_generic.alias=crypto-crc32c\0crc32c_generic.license=GPL\0ext4.alias=fs-ext4\0junk\0");
        let expected = ["crc32c_generic", "crypto_crc32c", "ext4", "fs_ext4"];
        assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
    }
}
