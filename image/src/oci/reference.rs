//! Image references, in the full form that Kubernetes and registries mean by a short one.

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is no image name, expected [REGISTRY/]NAME[:TAG], such as \"busybox:1.37\"")]
pub struct ReferenceError(String);

/// What a name without a registry means (the OCI distribution ecosystem's convention, which Kubernetes documents under "Image names").
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_FOLDER: &str = "library";
const DEFAULT_TAG: &str = "latest";

/// `busybox` is `<default registry>/library/busybox:latest`.
pub fn full(name: &str) -> Result<String, ReferenceError> {
    let refuse = || ReferenceError(name.to_owned());
    let (path, digest) = name.split_once('@').map_or((name, None), |(path, digest)| (path, Some(digest)));
    let last = path.rfind('/').map_or(0, |at| at + 1);
    let tag_at = path.get(last..).and_then(|tail| tail.find(':')).map(|at| last + at);
    let (path, tag) = match tag_at {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..)),
        None => (path, None),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let (registry, folders) = match parts.split_first() {
        Some((first, rest)) if !rest.is_empty() && (first.contains(['.', ':']) || *first == "localhost") => {
            (*first, rest.to_vec())
        }
        _ => (DEFAULT_REGISTRY, parts),
    };
    let fits = |part: &&str| {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().next().is_some_and(letter) && part.bytes().all(|byte| letter(byte) || b"._-".contains(&byte))
    };
    let tag_fits = |tag: &str| {
        (1..=128).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let registry_fits = registry.starts_with(|first: char| first.is_ascii_alphanumeric())
        && registry.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-".contains(&byte));
    if !registry_fits
        || !folders.iter().all(fits)
        || !tag.is_none_or(tag_fits)
        || digest.is_some_and(|digest| !digest.starts_with("sha256:"))
    {
        return Err(refuse());
    }
    let folder =
        if registry == DEFAULT_REGISTRY && folders.len() == 1 { format!("{DEFAULT_FOLDER}/") } else { String::new() };
    let end = match (tag, digest) {
        (Some(tag), _) => format!(":{tag}"),
        (None, Some(digest)) => format!("@{digest}"),
        (None, None) => format!(":{DEFAULT_TAG}"),
    };
    Ok(format!("{registry}/{folder}{}{end}", folders.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed() {
        let cases = [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:debian", "docker.io/library/busybox:debian"),
            ("team/app:1", "docker.io/team/app:1"),
            ("registry.test:5000/app", "registry.test:5000/app:latest"),
            ("localhost/app:x", "localhost/app:x"),
            ("app@sha256:ab", "docker.io/library/app@sha256:ab"),
        ];
        for (short, long) in cases {
            assert_eq!(full(short).as_deref(), Ok(long));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in ["", "Busybox", "a//b", "a:", "a b", "../a", "a:b/../c", "a@md5:1"] {
            assert!(full(wrong).is_err(), "{wrong}");
        }
    }
}
