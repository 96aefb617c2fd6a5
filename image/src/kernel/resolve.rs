//! Which modules to bake for those a board names, and in which order they load. Packages have no `modules.dep`, so it is
//! worked out here, at bake time, from what each module says; on the device a list is read from top to bottom.
//!
//! Laws: each module stands once; after all that it depends on; in the order the board names them otherwise. What the kernel has
//! built in is left out. A soft dependency that nobody provides is no error (`modprobe.d(5)`: softdep).

use super::modinfo::{ModInfo, normal};
use std::collections::BTreeSet;

/// What is known of a kernel's modules. Names and aliases are in the kernel's form.
pub trait Catalogue {
    fn is_builtin(&self, name_or_alias: &str) -> bool;
    /// What the module called `name` says; `None` when there is none.
    fn module(&self, name: &str) -> Result<Option<ModInfo>, super::modules::ModuleError>;
    /// The modules that answer to exactly this alias, sorted.
    fn providers(&self, alias: &str) -> Result<Vec<String>, super::modules::ModuleError>;
    /// Names close to one that was not found, for the message.
    fn similar(&self, name: &str) -> Vec<String>;
}

#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("module \"{name}\" is neither in the kernel's packages nor built into it{hint}")]
    Missing { name: String, hint: String },
    #[error("module \"{name}\", which \"{by}\" depends on, is not in the kernel's packages")]
    MissingDependency { name: String, by: String },
    #[error("modules depend on each other in a circle: {0}")]
    Circle(String),
    #[error(transparent)]
    Module(#[from] super::modules::ModuleError),
}

/// Load order for `wanted`. What is in `loaded` already is left out, with what it depends on.
pub fn resolve(catalogue: &dyn Catalogue, wanted: &[String], loaded: &[String]) -> Result<Vec<String>, ResolveError> {
    let mut walk = Walk { catalogue, done: loaded.iter().cloned().collect(), path: Vec::new(), order: Vec::new() };
    for name in wanted {
        let name = normal(name);
        let found = walk.named(&name)?;
        if found.is_empty() && !catalogue.is_builtin(&name) {
            let similar = catalogue.similar(&name);
            let hint = if similar.is_empty() { String::new() } else { format!("; similar: {}", similar.join(", ")) };
            return Err(ResolveError::Missing { name, hint });
        }
        for module in found {
            walk.visit(&module, None)?;
        }
    }
    Ok(walk.order)
}

struct Walk<'c> {
    catalogue: &'c dyn Catalogue,
    done: BTreeSet<String>,
    /// The modules being visited, outermost first.
    path: Vec<String>,
    order: Vec<String>,
}

impl Walk<'_> {
    /// The modules that a name or alias means; none where it is built in.
    fn named(&self, name: &str) -> Result<Vec<String>, ResolveError> {
        if self.catalogue.module(name)?.is_some() {
            return Ok(vec![name.to_owned()]);
        }
        if self.catalogue.is_builtin(name) {
            return Ok(Vec::new());
        }
        let providers = self.catalogue.providers(name)?;
        // Several drivers may offer an algorithm; the portable one does on every processor.
        let portable = providers.iter().find(|provider| provider.ends_with("_generic")).cloned();
        Ok(portable.map_or(providers, |one| vec![one]))
    }

    fn visit(&mut self, name: &str, by: Option<&str>) -> Result<(), ResolveError> {
        if self.done.contains(name) {
            return Ok(());
        }
        if self.path.iter().any(|above| above == name) {
            let circle = self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>();
            return Err(ResolveError::Circle(circle.join(" → ")));
        }
        let Some(info) = self.catalogue.module(name)? else {
            if self.catalogue.is_builtin(name) {
                return Ok(());
            }
            return Err(ResolveError::MissingDependency {
                name: name.to_owned(),
                by: by.unwrap_or_default().to_owned(),
            });
        };
        self.path.push(name.to_owned());
        self.soft(&info.soft_before)?;
        for dependency in &info.depends {
            self.visit(dependency, Some(name))?;
        }
        self.path.pop();
        self.done.insert(name.to_owned());
        self.order.push(name.to_owned());
        self.soft(&info.soft_after)
    }

    /// Soft dependencies: a circle through one is no circle, for the kernel does not insist on it.
    fn soft(&mut self, names: &[String]) -> Result<(), ResolveError> {
        for name in names {
            for module in self.named(name)? {
                if !self.path.contains(&module) {
                    self.visit(&module, None)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Fake {
        modules: BTreeMap<String, ModInfo>,
        builtin: BTreeSet<String>,
    }

    impl Fake {
        fn with(mut self, name: &str, text: &str) -> Self {
            let info = ModInfo::of_module(&crate::elf::made::module(text.replace(';', "\0").as_bytes())).unwrap();
            self.modules.insert(name.into(), info);
            self
        }
    }

    impl Catalogue for Fake {
        fn is_builtin(&self, name: &str) -> bool {
            self.builtin.contains(name)
        }
        fn module(&self, name: &str) -> Result<Option<ModInfo>, super::super::modules::ModuleError> {
            Ok(self.modules.get(name).cloned())
        }
        fn providers(&self, alias: &str) -> Result<Vec<String>, super::super::modules::ModuleError> {
            let has = |info: &ModInfo| info.aliases.iter().any(|a| a == alias);
            Ok(self.modules.iter().filter(|(_, info)| has(info)).map(|(name, _)| name.clone()).collect())
        }
        fn similar(&self, _: &str) -> Vec<String> {
            vec!["nft_nat".into()]
        }
    }

    fn order(fake: &Fake, wanted: &[&str]) -> Result<Vec<String>, String> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        resolve(fake, &wanted, &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn dependencies_stand_before_what_needs_them_and_once() {
        let fake = Fake::default()
            .with("virtio_net", "depends=net_failover")
            .with("net_failover", "depends=failover")
            .with("failover", "")
            .with("bridge", "depends=stp,llc")
            .with("stp", "depends=llc")
            .with("llc", "");
        let expected = ["llc", "stp", "bridge", "failover", "net_failover", "virtio_net"];
        assert_eq!(order(&fake, &["bridge", "virtio-net", "llc"]).unwrap(), expected);
    }

    #[test]
    fn soft_dependencies_are_found_by_alias_and_may_be_absent() {
        let fake = Fake::default()
            .with("nf_tables", "depends=libcrc32c")
            .with("libcrc32c", "softdep=pre: crc32c absent post: late")
            .with("crc32c_intel", "alias=crc32c")
            .with("crc32c_generic", "alias=crc32c")
            .with("late", "depends=libcrc32c");
        assert_eq!(order(&fake, &["nf_tables"]).unwrap(), ["crc32c_generic", "libcrc32c", "late", "nf_tables"]);
    }

    #[test]
    fn what_is_built_in_or_loaded_is_left_out() {
        let mut fake = Fake::default().with("ext9", "depends=jbd9,crc").with("jbd9", "");
        fake.builtin.insert("crc".into());
        assert_eq!(order(&fake, &["crc", "ext9"]).unwrap(), ["jbd9", "ext9"]);
        assert_eq!(resolve(&fake, &["ext9".into()], &["jbd9".into()]).unwrap(), ["ext9"]);
    }

    #[test]
    fn what_is_missing_is_named_with_what_is_similar() {
        let fake = Fake::default().with("a", "depends=gone").with("c", "depends=d").with("d", "depends=c");
        let expected = "module \"nft_nta\" is neither in the kernel's packages nor built into it; similar: nft_nat";
        assert_eq!(order(&fake, &["nft_nta"]).unwrap_err(), expected);
        let expected = "module \"gone\", which \"a\" depends on, is not in the kernel's packages";
        assert_eq!(order(&fake, &["a"]).unwrap_err(), expected);
        assert_eq!(order(&fake, &["c"]).unwrap_err(), "modules depend on each other in a circle: c → d → c");
    }

    #[test]
    fn a_soft_circle_is_none() {
        let fake = Fake::default().with("a", "softdep=pre: b").with("b", "softdep=pre: a");
        assert_eq!(order(&fake, &["a"]).unwrap(), ["b", "a"]);
    }
}
