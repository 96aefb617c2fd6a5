//! A tree of files as it will be on the device, kept in memory without touching the host's file system: owners, modes and
//! device nodes need no root that way, and a hostile path can lead nowhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub enum Content {
    Bytes(Arc<[u8]>),
    /// A file of the host, read when the tree is written.
    File(PathBuf),
}

impl Content {
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes.into().into())
    }

    pub fn len(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => Ok(std::fs::metadata(path)?.len()),
        }
    }

    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    pub fn open(&self) -> io::Result<Box<dyn Read>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(Cursor::new(Arc::clone(bytes)))),
            Self::File(path) => Ok(Box::new(File::open(path)?)),
        }
    }

    pub fn read(&self) -> io::Result<Arc<[u8]>> {
        match self {
            Self::Bytes(bytes) => Ok(Arc::clone(bytes)),
            Self::File(path) => Ok(std::fs::read(path)?.into()),
        }
    }

    pub fn sha256(&self) -> io::Result<String> {
        match self {
            Self::Bytes(bytes) => Ok(crate::digest::of_bytes(bytes)),
            Self::File(path) => crate::digest::of_file(path),
        }
    }
}

#[derive(Debug, Clone)]
pub enum Node {
    Directory,
    File(Content),
    Symlink(PathBuf),
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub node: Node,
    /// Permission bits with set-id and sticky bits, without the type.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970; `None` is the time of the image.
    pub mtime: Option<u32>,
    /// Where it came from, for the manifest.
    pub origin: Arc<str>,
}

impl Entry {
    pub fn new(node: Node, mode: u16, origin: &Arc<str>) -> Self {
        Self { node, mode, uid: 0, gid: 0, mtime: None, origin: Arc::clone(origin) }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    #[error("the path \"{0}\" leads out of its tree")]
    Outside(String),
    #[error("\"{path}\" lies below \"{parent}\", which is no directory")]
    NotADirectory { path: String, parent: String },
}

/// Paths are relative, without `.` and `..`, and every entry's parents are there, as directories.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

/// The path inside a tree that `path` means; `None` is the root. A leading `/` is taken off, as tar does.
pub fn inside(path: &Path) -> Result<Option<PathBuf>, TreeError> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(TreeError::Outside(path.display().to_string())),
        }
    }
    Ok((clean.components().next().is_some()).then_some(clean))
}

impl Tree {
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `entry` at `path`, with the parents it lacks. What was there is replaced; a directory keeps its children when
    /// a directory replaces it.
    pub fn insert(&mut self, path: impl AsRef<Path>, entry: Entry) -> Result<(), TreeError> {
        let Some(path) = inside(path.as_ref())? else { return Ok(()) };
        let mut parents: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        parents.reverse();
        for parent in parents {
            match self.entries.get(parent).map(|entry| &entry.node) {
                Some(Node::Directory) => {}
                Some(_) => {
                    let (path, parent) = (path.display().to_string(), parent.display().to_string());
                    return Err(TreeError::NotADirectory { path, parent });
                }
                None => {
                    self.entries.insert(parent.to_owned(), Entry::new(Node::Directory, 0o755, &entry.origin));
                }
            }
        }
        if !matches!(entry.node, Node::Directory) {
            self.remove_below(&path);
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    pub fn directory(&mut self, path: &str, mode: u16, origin: &Arc<str>) -> Result<(), TreeError> {
        self.insert(path, Entry::new(Node::Directory, mode, origin))
    }

    pub fn file(
        &mut self,
        path: impl AsRef<Path>,
        mode: u16,
        content: Content,
        origin: &Arc<str>,
    ) -> Result<(), TreeError> {
        self.insert(path, Entry::new(Node::File(content), mode, origin))
    }

    pub fn symlink(&mut self, path: &str, target: &str, origin: &Arc<str>) -> Result<(), TreeError> {
        self.insert(path, Entry::new(Node::Symlink(target.into()), 0o777, origin))
    }

    /// Takes `path` and all below it away.
    pub fn remove(&mut self, path: &Path) {
        self.remove_below(path);
        self.entries.remove(path);
    }

    pub fn remove_below(&mut self, path: &Path) {
        let below: Vec<PathBuf> = self.below(path).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.entries.remove(&path);
        }
    }

    fn below<'t>(&'t self, path: &'t Path) -> impl Iterator<Item = (&'t PathBuf, &'t Entry)> {
        let after = (std::ops::Bound::Excluded(path), std::ops::Bound::Unbounded);
        self.entries.range::<Path, _>(after).take_while(move |(candidate, _)| candidate.starts_with(path))
    }

    pub fn get(&self, path: &Path) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Parents before children, siblings by name.
    pub fn iter(&self) -> impl Iterator<Item = (&PathBuf, &Entry)> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts all of `other` below `path`.
    pub fn graft(&mut self, path: &Path, other: Tree) -> Result<(), TreeError> {
        for (name, entry) in other.entries {
            self.insert(path.join(name), entry)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Arc<str> {
        "test".into()
    }

    fn names(tree: &Tree) -> Vec<String> {
        tree.iter().map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    fn parents_come_with_their_children_and_order_is_by_path() {
        let mut tree = Tree::new();
        tree.file("/usr/bin/b", 0o755, Content::bytes("b"), &origin()).unwrap();
        tree.file("./usr/bin-x", 0o644, Content::bytes(""), &origin()).unwrap();
        tree.symlink("usr/bin/a", "b", &origin()).unwrap();
        assert_eq!(names(&tree), ["usr", "usr/bin", "usr/bin/a", "usr/bin/b", "usr/bin-x"]);
    }

    #[test]
    fn nothing_leads_out_and_nothing_lies_below_a_file() {
        let mut tree = Tree::new();
        let outside = tree.file("a/../../b", 0o644, Content::bytes(""), &origin()).unwrap_err();
        assert_eq!(outside.to_string(), "the path \"a/../../b\" leads out of its tree");
        tree.symlink("lib", "/etc", &origin()).unwrap();
        let below = tree.file("lib/x", 0o644, Content::bytes(""), &origin()).unwrap_err();
        assert_eq!(below.to_string(), "\"lib/x\" lies below \"lib\", which is no directory");
    }

    #[test]
    fn a_file_replaces_a_directory_with_all_below_it() {
        let mut tree = Tree::new();
        tree.file("a/b/c", 0o644, Content::bytes(""), &origin()).unwrap();
        tree.file("a-z", 0o644, Content::bytes(""), &origin()).unwrap();
        tree.directory("a", 0o700, &origin()).unwrap();
        assert_eq!(names(&tree), ["a", "a/b", "a/b/c", "a-z"]);
        tree.symlink("a/b", "x", &origin()).unwrap();
        assert_eq!(names(&tree), ["a", "a/b", "a-z"]);
    }
}
