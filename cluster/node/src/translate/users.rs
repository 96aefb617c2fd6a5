//! Names of users and groups as an image's own passwd and group files resolve them.

use kedge_runtime::User;

use super::Error;

/// The texts of an image's `/etc/passwd` and `/etc/group`; empty where there is none.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    pub passwd: String,
    pub group: String,
}

/// One line of passwd: name, uid, gid, home.
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl Accounts {
    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Entry { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
        })
    }

    /// Name, gid and members of each group.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let gid = fields.nth(1)?.parse().ok()?;
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }

    /// `USER[:GROUP]`, each a name or a number; empty is root. Takes the supplementary groups of the user's name along.
    pub fn resolve(&self, text: &str) -> Result<User, Error> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let number: Option<u32> = if user.is_empty() { Some(0) } else { user.parse().ok() };
        let entry = self.entries().find(|e| e.name == user || Some(e.uid) == number);
        let uid = number.or(entry.as_ref().map(|e| e.uid)).ok_or_else(|| Error::User(user.to_owned()))?;
        let gid = match group.filter(|g| !g.is_empty()) {
            Some(group) => match group.parse() {
                Ok(gid) => gid,
                Err(_) => self.gid(group)?,
            },
            None => entry.as_ref().map_or(0, |e| e.gid),
        };
        let member = |members: &str| entry.as_ref().is_some_and(|e| members.split(',').any(|m| m == e.name));
        let mut groups: Vec<u32> = self.groups().filter(|(_, _, m)| member(m)).map(|(_, gid, _)| gid).collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(User { uid, gid, groups })
    }

    fn gid(&self, name: &str) -> Result<u32, Error> {
        let found = self.groups().find(|(n, _, _)| *n == name).map(|(_, gid, _)| gid);
        found.ok_or_else(|| Error::Group(name.to_owned()))
    }

    pub fn home(&self, uid: u32) -> Option<&str> {
        self.entries().find(|e| e.uid == uid).map(|e| e.home).filter(|h| !h.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_an_image() {
        let accounts = Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:www:/srv:/bin/false\n".into(),
            group: "root:x:0:\nwww:x:34:\nlogs:x:40:web,root\naudio:x:29:web\n".into(),
        };
        let user = |uid, gid, groups: &[u32]| Ok(User { uid, gid, groups: groups.to_vec() });
        for (text, expected) in [
            ("", user(0, 0, &[40])),
            ("0", user(0, 0, &[40])),
            ("web", user(33, 34, &[29, 40])),
            ("33", user(33, 34, &[29, 40])),
            ("web:logs", user(33, 40, &[29, 40])),
            ("1000", user(1000, 0, &[])),
            ("1000:1001", user(1000, 1001, &[])),
            ("nobody", Err(Error::User("nobody".into()))),
            ("web:none", Err(Error::Group("none".into()))),
        ] {
            assert_eq!(accounts.resolve(text), expected, "{text:?}");
        }
        assert_eq!((accounts.home(33), accounts.home(5)), (Some("/srv"), None));
    }
}
