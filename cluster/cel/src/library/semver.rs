//! Semantic versions (semver.org, 2.0.0).

use std::cmp::Ordering;

use super::quantity::number;
use crate::eval::{Evaluated, failed};
use crate::value::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    core: [u64; 3],
    pre: Vec<String>,
}

impl Version {
    /// A lenient reading fills up `v1.2` and drops leading zeros.
    fn parse(text: &str, lenient: bool) -> Option<Self> {
        let text = if lenient { text.trim().trim_start_matches('v') } else { text };
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
        let mut numbers: Vec<u64> = Vec::new();
        for part in core.split('.') {
            let zeros = part.len() > 1 && part.starts_with('0');
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            numbers.push(part.parse().ok().filter(|_| digits && (lenient || !zeros))?);
        }
        if lenient {
            numbers.resize(3.max(numbers.len()), 0);
        }
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let counted = |part: &str| part.bytes().all(|b| b.is_ascii_digit()) && part.len() > 1 && part.starts_with('0');
        let pre: Vec<String> = pre.into_iter().flat_map(|pre| pre.split('.')).map(str::to_owned).collect();
        let fine =
            pre.iter().all(|part| word(part) && !counted(part)) && build.is_none_or(|build| build.split('.').all(word));
        Some(Self { core: <[u64; 3]>::try_from(numbers).ok()?, pre }).filter(|_| fine)
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let pre = |a: &[String], b: &[String]| match (a.is_empty(), b.is_empty()) {
            (true, true) => Ordering::Equal,
            // What is released comes after what is not yet.
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = a.iter().zip(b).map(|(a, b)| match (a.parse::<u64>(), b.parse::<u64>()) {
                    (Ok(a), Ok(b)) => a.cmp(&b),
                    (Ok(_), Err(_)) => Ordering::Less,
                    (Err(_), Ok(_)) => Ordering::Greater,
                    (Err(_), Err(_)) => a.cmp(b),
                });
                pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
        };
        self.core.cmp(&other.core).then_with(|| pre(&self.pre, &other.pre))
    }
}

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    use Value::{Bool, Int, Semver, String};
    let [major, minor, patch] = match args {
        [Semver(version), ..] => version.core,
        _ => [0; 3],
    };
    let int = |n: u64| Ok(Int(i64::try_from(n).unwrap_or(i64::MAX)));
    Some(match (function, args) {
        ("semver", [String(text)]) => parsed(text, false),
        ("semver", [String(text), Bool(lenient)]) => parsed(text, *lenient),
        ("isSemver", [String(text)]) => Ok(Version::parse(text, false).is_some().into()),
        ("isSemver", [String(text), Bool(lenient)]) => Ok(Version::parse(text, *lenient).is_some().into()),
        ("major", [Semver(_)]) => int(major),
        ("minor", [Semver(_)]) => int(minor),
        ("patch", [Semver(_)]) => int(patch),
        ("isLessThan", [Semver(a), Semver(b)]) => Ok((a.compare(b) == Ordering::Less).into()),
        ("isGreaterThan", [Semver(a), Semver(b)]) => Ok((a.compare(b) == Ordering::Greater).into()),
        ("compareTo", [Semver(a), Semver(b)]) => Ok(Int(number(a.compare(b)))),
        _ => return None,
    })
}

fn parsed(text: &str, lenient: bool) -> Evaluated {
    match Version::parse(text, lenient) {
        Some(version) => Ok(Value::Semver(version.into())),
        None => Err(failed(format!("invalid semantic version {text:?}"))),
    }
}
