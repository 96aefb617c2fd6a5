//! The tag in an image's name. Source: the grammar of references that the OCI distribution project documents.

use std::sync::LazyLock;

use regex::Regex;

static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let domain = format!(r"(?:{label}(?:\.{label})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?");
    let part = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*";
    let digest = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
    Regex::new(&format!(
        r"^(?:{domain}/)?(?P<path>{part}(?:/{part})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>{digest}))?$"
    ))
    .ok()
});

/// Whether a node asks for the image anew each time: it has the tag that moves, or neither tag nor digest. What is no name has none of them.
pub(super) fn moves(image: &str) -> bool {
    const NAME: usize = 255;
    let Some(found) = REFERENCE.as_ref().and_then(|form| form.captures(image)) else { return false };
    let part = |name: &str| found.name(name).map(|part| part.as_str());
    // A bare digest is not taken for a name.
    let is_digest = image.len() == 64 && image.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_digest || part("path").unwrap_or_default().len() > NAME {
        return false;
    }
    match (part("tag"), part("digest")) {
        (None, None) => true,
        (tag, _) => tag == Some("latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_move_are_asked_for_each_time() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (image, expected) in [
            ("a", true),
            ("a:latest", true),
            ("reg:5000/a", true),
            ("localhost/a/b", true),
            ("Reg.io/a", true),
            ("[fd00::1]:5000/a", true),
            (&format!("a:latest@{digest}"), true),
            ("reg:5000/a:1", false),
            ("a:1", false),
            (&format!("a@{digest}"), false),
            // No names of images.
            ("", false),
            (" a", false),
            ("A", false),
            ("a/B", false),
            ("a@sha256:0", false),
            ("a:latest@sha256:0", false),
            (&"0".repeat(64), false),
        ] {
            assert_eq!(moves(image), expected, "{image}");
        }
    }
}
