//! Who someone is or wants to be, as headers say it: a name, a uid, groups, and further facts, by one prefix or another.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};

use crate::wire::path::decode;

/// What the headers of one prefix say; what they do not is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Names are in UTF-8. Bytes that are not still stand for somebody: whoever reads over them would take one user for another.
pub fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

impl Said {
    /// `prefix` is such as `x-remote-`.
    pub fn read(headers: &HeaderMap, prefix: &str) -> Self {
        let mut said = Self::default();
        for (header, value) in headers {
            let Some(rest) = header.as_str().strip_prefix(prefix) else { continue };
            let value = text(value).into_owned();
            match (rest, rest.strip_prefix("extra-")) {
                // The first one counts.
                ("user", _) if said.name.is_empty() => said.name = value,
                ("uid", _) if said.uid.is_empty() => said.uid = value,
                ("group", _) if !value.is_empty() => said.groups.push(value),
                (_, Some(key)) => {
                    let key = decode(key).unwrap_or_else(|_| key.to_owned());
                    said.extra.entry(key).or_default().push(value);
                }
                _ => {}
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_read_over() {
        let mut headers = HeaderMap::new();
        assert_eq!(Said::read(&headers, "x-"), Said::default());
        for (name, value) in [
            ("x-user", "J\u{fc}rgen".as_bytes()),
            ("x-user", b"second"),
            ("x-group", b"a\xff"),
            ("x-group", b""),
            ("x-extra-e.com%2fscope", b"1"),
            ("y-uid", b"7"),
        ] {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let extra = BTreeMap::from([("e.com/scope".to_owned(), vec!["1".to_owned()])]);
        let groups = vec!["a\u{fffd}".to_owned()];
        assert_eq!(Said::read(&headers, "x-"), Said { name: "J\u{fc}rgen".into(), uid: String::new(), groups, extra });
    }
}
