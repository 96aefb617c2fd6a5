//! The rules for names, and their words. Source: "Object Names and IDs" of Kubernetes' documentation.

/// What is wrong with a name, each as one sentence; nothing if it is right.
pub(crate) type Check = fn(&str) -> Vec<String>;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
                     alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end \
                          with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                          '[a-z]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and \
                         end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case \
                        alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for \
                        validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const OLD_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end \
                         with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                         '[a-z]([-a-z0-9]*[a-z0-9])?')";
const SEARCH: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and \
                      end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                      '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or \
                          'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_VAR: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn too_long(text: &str, most: usize) -> Option<String> {
    (text.len() > most).then(|| format!("must be no more than {most} characters"))
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    end(bytes.first()) && end(bytes.last()) && bytes.iter().all(|b| inner(*b))
}

/// RFC 1123 label, e.g. a namespace.
pub(crate) fn label(text: &str) -> Vec<String> {
    let mut wrong: Vec<_> = too_long(text, 63).into_iter().collect();
    if !is_label(text) {
        // Dots in what must be a label deserve their own words.
        let is_subdomain = text.split('.').all(is_label);
        wrong.push(if is_subdomain && text.contains('.') {
            "must not contain dots".to_owned()
        } else {
            LABEL.to_owned()
        });
    }
    wrong
}

/// RFC 1035 label: as above, but beginning with a letter.
pub(crate) fn label_1035(text: &str) -> Vec<String> {
    let mut wrong: Vec<_> = too_long(text, 63).into_iter().collect();
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        wrong.push(LABEL_1035.to_owned());
    }
    wrong
}

/// RFC 1123 subdomain: most names.
pub(crate) fn subdomain(text: &str) -> Vec<String> {
    let mut wrong: Vec<_> = too_long(text, 253).into_iter().collect();
    if !text.split('.').all(is_label) {
        wrong.push(SUBDOMAIN.to_owned());
    }
    wrong
}

/// RFC 1035 label: as a label, but a letter stands first.
pub(crate) fn old_label(text: &str) -> Vec<String> {
    let mut wrong: Vec<_> = too_long(text, 63).into_iter().collect();
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        wrong.push(OLD_LABEL.to_owned());
    }
    wrong
}

/// A subdomain whose first part is `*`.
pub(crate) fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut wrong: Vec<_> = too_long(text, 253).into_iter().collect();
    if !text.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_label)) {
        wrong.push(WILDCARD.to_owned());
    }
    wrong
}

/// What can stand as one segment of a path.
pub(crate) fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// A domain that a resolver appends: a subdomain in which underscores are allowed.
pub(crate) fn search_domain(text: &str) -> Vec<String> {
    let mut wrong: Vec<_> = too_long(text, 253).into_iter().collect();
    let part = |p: &str| is_label(&p.strip_prefix('_').unwrap_or(p).replace('_', "-"));
    if !text.split('.').all(part) {
        wrong.push(SEARCH.to_owned());
    }
    wrong
}

/// What is wrong with a text that something may still be put behind: it may end as no whole name may.
pub(crate) fn prefix(check: Check, text: &str) -> Vec<String> {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => check(&format!("{rest}a")),
        _ => check(text),
    }
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let mut wrong: Vec<_> = too_long(text, 253).into_iter().collect();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        wrong.push(CONFIG_KEY.to_owned());
    }
    match text {
        "." => wrong.push("must not be '.'".into()),
        ".." => wrong.push("must not be '..'".into()),
        text if text.starts_with("..") => wrong.push("must not start with '..'".into()),
        _ => {}
    }
    wrong
}

/// The name of an environment variable.
pub(crate) fn env_var(text: &str) -> Vec<String> {
    let fine = !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=');
    if fine { Vec::new() } else { vec![ENV_VAR.to_owned()] }
}

/// The name of a port: IANA's service name syntax.
pub(crate) fn port(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') || text.is_empty() {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

pub(crate) fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

/// A label's or annotation's key, or the name of a condition or resource.
pub(crate) fn qualified(text: &str) -> Vec<String> {
    let mut wrong: Vec<String> = kedge_api::selector::label_key_error(text).into_iter().collect();
    if text.is_empty() || text.ends_with('/') && text.matches('/').count() == 1 {
        // An empty name also has not the shape of one; upstream says both.
        wrong.extend(kedge_api::selector::label_key_error("-"));
    }
    wrong
}

/// The end of a name that the server completes: five of characters that spell no words and are not mistaken for each other.
pub(crate) fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes
        .iter()
        .take(5)
        .filter_map(|b| ALPHABET.get(usize::from(*b) % ALPHABET.len()))
        .map(|b| char::from(*b))
        .collect()
}

/// `base` cut so that the suffix fits into a label.
pub(crate) fn generate(base: &str) -> String {
    const MOST: usize = 63 - 5;
    let mut end = base.len().min(MOST);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", base.get(..end).unwrap_or_default(), random_suffix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_takes_and_refuses() {
        let table: &[(Check, &[&str], &[&str])] = &[
            (label, &["a", "a-b", "0"], &["", "A", "-a", "a-", "a.b", "a_b", "\u{e4}"]),
            (subdomain, &["a", "a.b", "0.1-2"], &["", ".", "a.", "a..b", "A", "a_b", "a/b", "a b"]),
            (path_segment, &["a", "system:node", "A b", "..."], &[".", "..", "a/b", "a%b"]),
            (config_key, &["a", "KEY_name.x-1"], &["", ".", "..", "..a", "a/b", "a b"]),
            (env_var, &["A", "a.b", "1", "a b"], &["", "a=b", "a\n"]),
            (old_label, &["a", "v1"], &["", "1", "a.b", "A", "a-"]),
            (wildcard_subdomain, &["*.a", "*.a.b"], &["", "*", "*.", "a.b", "*.*.a", "a.*"]),
            (path_segment, &["a", "A_b", "..."], &[".", "..", "a/b", "%2f"]),
            (port, &["http", "a-1"], &["", "1", "a--b", "-a", "A", "aaaaaaaaaaaaaaaa"]),
        ];
        for (check, right, wrong) in table {
            for text in *right {
                assert_eq!(check(text), Vec::<String>::new(), "{text}");
            }
            for text in *wrong {
                assert!(!check(text).is_empty(), "{text}");
            }
        }
        assert_eq!(subdomain(&"a".repeat(254)), ["must be no more than 253 characters"]);
        assert_eq!(label("a.b"), ["must not contain dots"]);
    }

    #[test]
    fn generated_names_are_labels() {
        for base in ["a-", &"x".repeat(80), "\u{e4}".repeat(40).as_str()] {
            let name = generate(base);
            assert!(name.len() <= 63);
            assert_eq!(random_suffix().len(), 5);
        }
        assert!(label(&generate("web-")).is_empty());
        assert_ne!(generate("a-"), generate("a-"));
    }
}
