//! Tokens that stand in a file: `TOKEN,USER,UID,"GROUP,GROUP"`, one a line. Source: "Static token file" of Kubernetes' documentation.

use std::collections::{BTreeMap, HashMap};

use kedge_api::User;
use sha2::{Digest as _, Sha256};

type Hash = [u8; 32];

/// Known by their hashes: finding one takes no time that depends on how much of it is right.
#[derive(Default)]
pub struct FixedTokens(HashMap<Hash, User>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FixedError {
    #[error("line {0} of the token file has no token, user name and uid")]
    Short(usize),
    #[error("line {0} of the token file opens a quotation that it does not close")]
    Quote(usize),
}

impl FixedTokens {
    pub fn parse(text: &str) -> Result<Self, FixedError> {
        let mut tokens = HashMap::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fields = fields(line).ok_or(FixedError::Quote(at + 1))?;
            let [token, name, uid, rest @ ..] = fields.as_slice() else { return Err(FixedError::Short(at + 1)) };
            if token.is_empty() || name.is_empty() {
                return Err(FixedError::Short(at + 1));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default().split(',').filter(|g| !g.is_empty());
            let user = super::user(name, uid, groups.map(str::to_owned).collect(), BTreeMap::new());
            tokens.insert(hash(token), user);
        }
        Ok(Self(tokens))
    }

    pub fn user(&self, token: &str) -> Option<&User> {
        self.0.get(&hash(token))
    }
}

impl std::fmt::Debug for FixedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FixedTokens({})", self.0.len())
    }
}

/// Whether two secrets are the same; takes as long for any that is wrong.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    hash(one) == hash(other)
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}

/// The fields of one line of CSV (RFC 4180); `None` if a quotation stays open.
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_user() {
        let tokens = FixedTokens::parse("t1,admin,1,\"system:masters,ops\"\n\nt2,\"o\"\"neil, j\",\n").unwrap();
        let admin = tokens.user("t1").unwrap();
        assert_eq!((&*admin.name, &*admin.uid), ("admin", "1"));
        assert_eq!(&*admin.groups, ["system:masters", "ops", "system:authenticated"]);
        assert_eq!(&*tokens.user("t2").unwrap().name, "o\"neil, j");
        assert_eq!(tokens.user("t3"), None);
        assert_eq!(format!("{tokens:?}"), "FixedTokens(2)");
        for (text, want) in
            [("t,u", FixedError::Short(1)), ("a,b,c\n,u,1", FixedError::Short(2)), ("t,u,1,\"g", FixedError::Quote(1))]
        {
            assert_eq!(FixedTokens::parse(text).unwrap_err(), want);
        }
    }
}
