//! Which mirror the host's apt is configured for. The tool has none of its own: it asks apt what repositories it knows.

/// A repository as `apt-get indextargets` tells it; what the host has not downloaded yet is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub uri: String,
    pub origin: String,
    pub label: String,
}

/// The format handed to `apt-get indextargets`.
pub const FORMAT: &str = "$(REPO_URI)\t$(ORIGIN)\t$(LABEL)";

/// Reads lines of [`FORMAT`]; a field that apt does not know stays as it stands in the format.
pub fn parse(text: &str) -> Vec<Repository> {
    let mut found: Vec<Repository> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t').map(|field| if field.starts_with("$(") { "" } else { field });
        let uri = fields.next().unwrap_or_default();
        let (origin, label) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        if uri.is_empty() || found.iter().any(|known| known.uri == uri) {
            continue;
        }
        found.push(Repository { uri: uri.to_owned(), origin: origin.to_owned(), label: label.to_owned() });
    }
    found
}

/// The one that has Debian's suites, and the one that has their security updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    pub main: String,
    pub security: Option<String>,
}

/// Debian's repositories among `known`: by what they say they are, else, before the host's first `apt-get update`, by their path.
pub fn choose(known: &[Repository]) -> Option<Mirrors> {
    let path_is = |repository: &Repository, name: &str| {
        repository.label.is_empty() && repository.uri.trim_end_matches('/').rsplit('/').next() == Some(name)
    };
    let find = |label: &str, path: &str| {
        known
            .iter()
            .find(|repository| repository.origin == "Debian" && repository.label == label)
            .or_else(|| known.iter().find(|repository| path_is(repository, path)))
            .map(|repository| repository.uri.clone())
    };
    Some(Mirrors { main: find("Debian", "debian")?, security: find("Debian-Security", "debian-security") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_known_by_its_label() {
        let text = "http://a.test/x/\tNode\tNode\nhttp://a.test/mirror/\tDebian\tDebian\nhttp://a.test/mirror/\tDebian\tDebian\n\
                    http://a.test/sec/\tDebian\tDebian-Security\n";
        let known = parse(text);
        assert_eq!(known.len(), 3);
        let expected = Mirrors { main: "http://a.test/mirror/".into(), security: Some("http://a.test/sec/".into()) };
        assert_eq!(choose(&known), Some(expected));
    }

    #[test]
    fn before_the_first_update_debian_is_known_by_its_path() {
        let known = parse("http://a.test/debian/\t$(ORIGIN)\t$(LABEL)\nhttp://a.test/ubuntu/\tUbuntu\tUbuntu\n");
        assert_eq!(choose(&known), Some(Mirrors { main: "http://a.test/debian/".into(), security: None }));
        assert_eq!(choose(&parse("http://a.test/ubuntu/\tUbuntu\tUbuntu\n")), None);
    }
}
