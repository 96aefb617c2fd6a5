//! Image references as people write them, made complete: `busybox` is `docker.io/library/busybox:latest`.

use std::fmt;

/// A complete reference: registry and repository, and a tag or a digest (or both; the digest decides).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

const DEFAULT_REGISTRY: &str = "docker.io";

impl Reference {
    /// The grammar is that of the distribution project's `reference` package.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason| ReferenceError { text: text.chars().take(255).collect(), reason };
        if text.is_empty() || text.len() > 512 {
            return Err(wrong("it is empty or too long"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest {
            let hex = digest.strip_prefix("sha256:").ok_or_else(|| wrong("its digest is not a sha256"))?;
            if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(wrong("its digest is not 64 lower-case hexadecimal digits"));
            }
        }
        // A colon after the last slash begins a tag; one before belongs to the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            let first = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !first || tag.len() > 128 || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
                return Err(wrong("its tag has characters that a tag cannot have"));
            }
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
            _ => (DEFAULT_REGISTRY, name.to_owned()),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = match repository.contains('/') {
            false if registry == DEFAULT_REGISTRY => format!("library/{repository}"),
            _ => repository,
        };
        let part = |part: &str| {
            let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
            let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            part.bytes().all(known) && edge(part.bytes().next()) && edge(part.bytes().last())
        };
        if !repository.split('/').all(part) {
            return Err(wrong("its name has characters that a name cannot have (upper case is not allowed)"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_references_are_completed() {
        for (text, complete) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("rancher/klipper:v1", "docker.io/rancher/klipper:v1"),
            ("localhost/x", "localhost/x:latest"),
            ("reg.example:5000/a/b:1.0_x", "reg.example:5000/a/b:1.0_x"),
            ("reg.example:5000/a", "reg.example:5000/a:latest"),
            ("index.docker.io/library/a:b", "docker.io/library/a:b"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), complete);
        }
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert_eq!(Reference::parse(&digest).unwrap().to_string(), format!("docker.io/library/{digest}"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            "Busybox",
            "a:",
            "a:-",
            "a@sha256:12",
            "a@md5:0",
            "/a",
            "a//b",
            "a/../b",
            "a b",
            "-a",
            "é",
            ":",
            "@",
            "a:b:c/d@x",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
