//! Names of users and groups as an image has them, turned into numbers.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::User;

#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("the image's user is {asked:?}, but its /etc/{file} has no {name:?}")]
    Unknown { asked: String, file: &'static str, name: String },
    #[error("read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// A passwd file longer than this is somebody's attack.
const LONGEST: u64 = 4 << 20;

/// `USER`, `UID`, `USER:GROUP` or `UID:GID` in an image whose layers are given lowest first; empty is root.
/// A user known by name or number gets the groups that `/etc/group` gives him, as container runtimes do.
pub fn resolve_user(layers: &[PathBuf], asked: &str) -> Result<User, UserError> {
    let (user, group) = match asked.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (asked, None),
    };
    let passwd = read(layers, "passwd")?;
    let groups = read(layers, "group")?;
    decide(asked, if user.is_empty() { "0" } else { user }, group, &passwd, &groups)
}

fn decide(asked: &str, user: &str, group: Option<&str>, passwd: &str, groups: &str) -> Result<User, UserError> {
    let unknown = |file, name: &str| UserError::Unknown { asked: asked.to_owned(), file, name: name.to_owned() };
    // name:password:uid:gid:…
    let entries = || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let number = |fields: &[&str], at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    let entry = entries().find(|fields| fields.first() == Some(&user)).or_else(|| {
        let uid = user.parse::<u32>().ok()?;
        entries().find(|fields| number(fields, 2) == Some(uid))
    });
    let (name, uid, own_group) = match &entry {
        Some(fields) => {
            let uid = number(fields, 2).ok_or_else(|| unknown("passwd", user))?;
            (fields.first().copied(), uid, number(fields, 3).unwrap_or(0))
        }
        None => (None, user.parse().map_err(|_| unknown("passwd", user))?, 0),
    };
    // name:password:gid:member,member
    let memberships = || groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    if let Some(group) = group {
        let named = memberships().find(|fields| fields.first() == Some(&group)).and_then(|fields| number(&fields, 2));
        let gid = named.or_else(|| group.parse().ok()).ok_or_else(|| unknown("group", group))?;
        return Ok(User { uid, gid, groups: Vec::new() });
    }
    let member = |fields: &[&str]| {
        name.is_some_and(|name| fields.get(3).is_some_and(|all| all.split(',').any(|one| one == name)))
    };
    let groups = memberships().filter(|fields| member(fields)).filter_map(|fields| number(&fields, 2));
    Ok(User { uid, gid: own_group, groups: groups.filter(|gid| *gid != own_group).collect() })
}

/// The highest layer's file; empty where none has one.
fn read(layers: &[PathBuf], name: &str) -> Result<String, UserError> {
    for layer in layers.iter().rev() {
        let path = layer.join("etc").join(name);
        // A symbolic link would be followed on the host and not in the image.
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) && inside(layer, &path) {
            let mut text = String::new();
            let read = File::open(&path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
            return read.map(|_| text).map_err(|source| UserError::Read { path, source });
        }
    }
    Ok(String::new())
}

fn inside(layer: &Path, path: &Path) -> bool {
    match (layer.canonicalize(), path.canonicalize()) {
        (Ok(layer), Ok(path)) => path.starts_with(layer),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:\nbroken\n";
    const GROUP: &str = "root:x:0:root\nweb:x:33:\nmail:x:8:web,root\nadm:x:4:web\n";

    fn user(asked: &str) -> Result<(u32, u32, Vec<u32>), String> {
        let (name, group) = asked.split_once(':').map_or((asked, None), |(name, group)| (name, Some(group)));
        decide(asked, name, group, PASSWD, GROUP)
            .map(|user| (user.uid, user.gid, user.groups))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(user("web"), Ok((33, 33, vec![8, 4])));
        assert_eq!(user("33"), Ok((33, 33, vec![8, 4])));
        assert_eq!(user("web:mail"), Ok((33, 8, vec![])));
        assert_eq!(user("1000"), Ok((1000, 0, vec![])));
        assert_eq!(user("1000:1001"), Ok((1000, 1001, vec![])));
        assert_eq!(user("root"), Ok((0, 0, vec![8])));
        assert_eq!(user("nope").unwrap_err(), "the image's user is \"nope\", but its /etc/passwd has no \"nope\"");
        assert_eq!(user("0:nope").unwrap_err(), "the image's user is \"0:nope\", but its /etc/group has no \"nope\"");
        assert!(user("broken").is_err());
    }
}
