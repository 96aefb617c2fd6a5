//! Packages by digest: from the cache, else downloaded; and the lock file, made when there is none or a new one is asked for.

use super::apt::{Apt, AptError, Candidate, Scope};
use super::lock::{Lock, LockError, Locked};
use crate::digest;
use crate::progress::Progress;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error(transparent)]
    Apt(#[from] AptError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(
        "package {package} {version} has SHA-256 {found}, the lock file says {expected}: if the new file is right, take it with --update-lock"
    )]
    Digest { package: String, version: String, found: String, expected: String },
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("the meta package {0} leads to no package with a kernel in it")]
    Meta(String),
}

/// What to get, and how.
pub struct Order<'o> {
    pub cache: &'o Path,
    pub scope: Scope,
    pub lock: &'o Path,
    pub wanted: &'o [String],
    pub update_lock: bool,
    /// Take what is there now for a locked version that has gone; the lock file stays as it is.
    pub allow_newer: bool,
}

/// Meta packages of kernels bear the name of what they depend on, less the version.
const FOLLOWED: &str = "linux-image-";
const META_DEPTH: usize = 3;
/// What Debian splits a kernel's package into since 7.2: image, modules, and what modules are built in with the device trees.
const PARTS: [&str; 3] = ["linux-binary-", "linux-modules-", "linux-base-"];

/// A package as the lock names it, and its file.
pub type Found = (Locked, PathBuf);

/// What was wanted, in order, each as the packages it is made of; and the lock that names them.
pub fn fetch(order: &Order<'_>, progress: &Progress) -> Result<(Lock, Vec<Vec<Found>>), PackageError> {
    let apt = LazyApt { order, progress, ready: std::cell::OnceCell::new() };
    let old = if order.update_lock { None } else { Lock::read(order.lock)? };
    let complete = |lock: &Lock| {
        lock.suite == order.scope.suite && order.wanted.iter().all(|wanted| lock.packages(wanted).next().is_some())
    };
    let lock = match old.filter(complete) {
        Some(lock) => lock,
        None => write_lock(order, apt.get()?, progress)?,
    };
    let mut found = Vec::new();
    for wanted in order.wanted {
        let locked: Vec<Locked> = lock.packages(wanted).cloned().collect();
        found.push(match all(order, locked, &apt) {
            Err(PackageError::Apt(gone @ AptError::Gone { .. })) if order.allow_newer => {
                let now = newest(order, apt.get()?, wanted)?;
                let names: Vec<String> = now.iter().map(|one| format!("{} {}", one.name, one.version)).collect();
                progress.note(&format!("  note: {gone}; taking {}", names.join(", ")));
                all(order, now, &apt)?
            }
            got => got?,
        });
    }
    Ok((lock, found))
}

fn all(order: &Order<'_>, locked: Vec<Locked>, apt: &LazyApt<'_>) -> Result<Vec<Found>, PackageError> {
    locked.into_iter().map(|one| get(order, &one, apt).map(|path| (one, path))).collect()
}

/// apt, set up and updated at the first need: a build whose packages are in the cache needs no network.
struct LazyApt<'o> {
    order: &'o Order<'o>,
    progress: &'o Progress,
    ready: std::cell::OnceCell<Apt>,
}

impl LazyApt<'_> {
    fn get(&self) -> Result<&Apt, AptError> {
        if let Some(apt) = self.ready.get() {
            return Ok(apt);
        }
        let Scope { suite, architecture, .. } = &self.order.scope;
        let step = self.progress.step(format!("asking the mirror for {suite}/{architecture}"));
        let apt = Apt::new(self.order.cache, self.order.scope.clone())?;
        apt.update()?;
        step.done("");
        Ok(self.ready.get_or_init(|| apt))
    }
}

fn write_lock(order: &Order<'_>, apt: &Apt, progress: &Progress) -> Result<Lock, PackageError> {
    let mut packages = Vec::new();
    for wanted in order.wanted {
        packages.extend(newest(order, apt, wanted)?);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let lock = Lock { suite: order.scope.suite.clone(), epoch: now, packages };
    lock.write(order.lock)?;
    progress.note(&format!("  note: wrote {}; commit it", order.lock.display()));
    Ok(lock)
}

/// What the mirror has now.
fn newest(order: &Order<'_>, apt: &Apt, wanted: &str) -> Result<Vec<Locked>, PackageError> {
    let locked = |found: Candidate| Locked {
        wanted: wanted.to_owned(),
        name: found.name,
        version: found.version,
        architecture: order.scope.architecture.clone(),
        sha256: found.sha256,
    };
    Ok(follow(wanted, &|name| apt.versions(name))?.into_iter().map(locked).collect())
}

/// From a meta package to the package it stands for, or to those that it is split into.
fn follow(
    wanted: &str,
    versions: &dyn Fn(&str) -> Result<Vec<Candidate>, AptError>,
) -> Result<Vec<Candidate>, PackageError> {
    let lost = || PackageError::Meta(wanted.to_owned());
    let newest = |name: &str| versions(name)?.into_iter().next().ok_or_else(lost);
    let mut name = wanted.to_owned();
    for _ in 0..META_DEPTH {
        let found = newest(&name)?;
        let Some(release) = name.strip_prefix(FOLLOWED) else { return Ok(vec![found]) };
        match found.depends.iter().find(|dependency| dependency.starts_with(FOLLOWED)) {
            Some(next) => name = next.clone(),
            None => {
                let parts = PARTS.iter().map(|part| format!("{part}{release}"));
                let parts: Vec<String> = parts.filter(|part| found.depends.contains(part)).collect();
                let parts = parts.iter().map(|part| newest(part)).collect::<Result<Vec<_>, PackageError>>()?;
                return Ok(if parts.is_empty() { vec![found] } else { parts });
            }
        }
    }
    Err(lost())
}

fn get(order: &Order<'_>, locked: &Locked, apt: &LazyApt<'_>) -> Result<PathBuf, PackageError> {
    let Locked { name, version, sha256, .. } = locked;
    let folder = order.cache.join("packages");
    let path = folder.join(format!("{name}-{sha256}.deb"));
    let io = |source| PackageError::Io { path: path.display().to_string(), source };
    if path.is_file() && digest::of_file(&path).map_err(io)? == *sha256 {
        return Ok(path);
    }
    std::fs::create_dir_all(&folder).map_err(io)?;
    let apt_ready = apt.get()?;
    let step = apt.progress.step(format!("downloading {name} {version}"));
    let file = apt_ready.download(name, version)?;
    let found = digest::of_file(&file).map_err(io)?;
    if found != *sha256 {
        std::fs::remove_file(&file).map_err(io)?;
        let (package, version, expected) = (name.clone(), version.clone(), sha256.clone());
        return Err(PackageError::Digest { package, version, found, expected });
    }
    std::fs::rename(&file, &path).map_err(io)?;
    step.done("");
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, depends: &[&str]) -> Candidate {
        let depends = depends.iter().map(|d| (*d).to_owned()).collect();
        Candidate { name: name.into(), version: "1".into(), sha256: "0".repeat(64), depends }
    }

    #[test]
    fn a_meta_package_is_followed_and_others_are_not() {
        let versions = |name: &str| {
            Ok(vec![match name {
                "linux-image-amd64" => candidate(name, &["linux-image-6.12-amd64"]),
                "linux-image-6.12-amd64" => candidate(name, &["kmod", "linux-base"]),
                "linux-image-new" => candidate(name, &["linux-base-new (= 1)", "linux-image-7.3-new"]),
                "linux-image-7.3-new" => {
                    candidate(name, &["linux-base-7.3-new", "linux-modules-7.3-new", "linux-binary-7.3-new"])
                }
                _ if name.ends_with("-7.3-new") => candidate(name, &[]),
                "linux-image-circle" => candidate(name, &["linux-image-circle"]),
                _ => candidate(name, &["linux-image-6.12-amd64"]),
            }])
        };
        let followed = |wanted: &str| -> Vec<String> {
            follow(wanted, &versions).unwrap().into_iter().map(|found| found.name).collect()
        };
        assert_eq!(followed("linux-image-amd64"), ["linux-image-6.12-amd64"]);
        assert_eq!(
            followed("linux-image-new"),
            ["linux-binary-7.3-new", "linux-modules-7.3-new", "linux-base-7.3-new"]
        );
        assert_eq!(followed("systemd-boot-efi"), ["systemd-boot-efi"]);
        assert!(matches!(follow("linux-image-circle", &versions), Err(PackageError::Meta(_))));
    }

    #[test]
    fn what_the_lock_names_and_the_cache_has_needs_no_apt() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("b.lock");
        let sha256 = digest::of_bytes(b"package");
        let locked =
            Locked { wanted: "a".into(), name: "a".into(), version: "1".into(), architecture: "amd64".into(), sha256 };
        Lock { suite: "s".into(), epoch: 5, packages: vec![locked.clone()] }.write(&lock).unwrap();
        let path = folder.path().join("packages").join(format!("a-{}.deb", locked.sha256));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "package").unwrap();
        let scope = Scope { suite: "s".into(), architecture: "amd64".into(), components: Vec::new(), mirror: None };
        let wanted = ["a".to_owned()];
        let order =
            Order { cache: folder.path(), scope, lock: &lock, wanted: &wanted, update_lock: false, allow_newer: false };
        let (lock, found) = fetch(&order, &Progress::silent()).unwrap();
        assert_eq!((lock.epoch, found), (5, vec![vec![(locked, path)]]));
    }
}
