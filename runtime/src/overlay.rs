//! Decides how a container's root file system is put together. Pure.

use std::path::{Path, PathBuf};

/// A root file system to be mounted, or a directory used as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// Options of an overlay mount at the bundle's `rootfs`.
    Overlay(String),
    /// One layer that nobody writes to and that has every mount point already.
    InPlace(PathBuf),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("layer path {0:?} cannot be mounted: it has ':', ',' or '\\', or is not text")]
    Path(PathBuf),
    #[error("{layers} layers need mount options of {length} bytes; the kernel takes 4095: flatten the image")]
    TooLong { layers: usize, length: usize },
}

/// The kernel takes one page of mount options, with the NUL and the `,volatile` that is tried first.
const LONGEST: usize = 4095 - ",volatile".len();

/// `layers` lowest first; `writable` is the directory that holds `upper` and `work`; `complete` says that the only layer has every
/// mount point.
pub fn plan(layers: &[PathBuf], readonly: bool, complete: bool, writable: &Path) -> Result<Root, Error> {
    if let ([layer], true, true) = (layers, readonly, complete) {
        return Ok(Root::InPlace(layer.clone()));
    }
    let text = |path: &Path| match path.to_str() {
        // The kernel's overlay parser takes these three for itself.
        Some(text) if !text.contains([':', ',', '\\']) => Ok(text.to_owned()),
        _ => Err(Error::Path(path.to_owned())),
    };
    // overlayfs names the highest first.
    let lower = layers.iter().rev().map(|layer| text(layer)).collect::<Result<Vec<_>, _>>()?.join(":");
    let upper = text(writable)?;
    let options = format!("lowerdir={lower},upperdir={upper}/upper,workdir={upper}/work");
    if options.len() > LONGEST {
        return Err(Error::TooLong { layers: layers.len(), length: options.len() });
    }
    Ok(Root::Overlay(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_highest_layer_is_named_first() {
        let root = plan(&layers(&["/l/1", "/l/2"]), false, true, Path::new("/w/c")).unwrap();
        assert_eq!(root, Root::Overlay("lowerdir=/l/2:/l/1,upperdir=/w/c/upper,workdir=/w/c/work".to_owned()));
    }

    #[test]
    fn only_a_complete_readonly_layer_is_used_in_place() {
        let one = layers(&["/l/1"]);
        assert_eq!(plan(&one, true, true, Path::new("/w")), Ok(Root::InPlace("/l/1".into())));
        for (readonly, complete) in [(false, true), (true, false), (false, false)] {
            assert!(matches!(plan(&one, readonly, complete, Path::new("/w")), Ok(Root::Overlay(_))));
        }
        assert!(matches!(plan(&layers(&["/a", "/b"]), true, true, Path::new("/w")), Ok(Root::Overlay(_))));
    }

    #[test]
    fn what_the_kernel_would_misread_is_refused() {
        assert_eq!(plan(&layers(&["/a:b"]), false, true, Path::new("/w")), Err(Error::Path("/a:b".into())));
        let many = vec![PathBuf::from(format!("/{}", "x".repeat(100))); 50];
        let error = plan(&many, false, true, Path::new("/w")).unwrap_err();
        assert!(error.to_string().starts_with("50 layers need mount options of"), "{error}");
    }
}
