//! The host's apt with a private state: its own lists, cache and sources, the host's mirror, proxies, keys and policies. The host's
//! own lists and packages are not touched, no root is needed, and packages of another architecture or release are no matter.

use super::mirror::{self, Mirrors};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[derive(Debug, thiserror::Error)]
pub enum AptError {
    #[error("{program} cannot be run ({source}): install apt, or give --kernel, --modules and --bootloader")]
    NoApt { program: &'static str, source: std::io::Error },
    #[error(
        "apt's sources name no Debian mirror: add one (sources.list(5)), name one with --mirror URI, or give --kernel, --modules and --bootloader"
    )]
    NoMirror,
    #[error("apt-get update for Debian suite {suite} failed: {said}")]
    Update { suite: String, said: String },
    #[error(
        "package {package} is not in Debian suite {suite} for {architecture}: check the name in the board file, or the suite"
    )]
    Missing { package: String, suite: String, architecture: String },
    #[error(
        "package {package} {version}, which the lock file names, has gone from Debian suite {suite}{now}: take what is there now with --update-lock"
    )]
    Gone { package: String, version: String, suite: String, now: String },
    #[error("downloading package {package} {version} failed: {said}")]
    Download { package: String, version: String, said: String },
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
}

/// One stanza of `apt-cache show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub version: String,
    pub sha256: String,
    pub depends: Vec<String>,
}

/// Which suite, for which machine, from where.
#[derive(Debug, Clone)]
pub struct Scope {
    pub suite: String,
    /// Debian's name.
    pub architecture: String,
    /// Of the suite, such as `main`.
    pub components: Vec<String>,
    /// Overrules the host's.
    pub mirror: Option<String>,
}

pub struct Apt {
    folder: PathBuf,
    scope: Scope,
}

/// Debian's keys where the package `debian-archive-keyring` puts them; absent, apt's trusted keys decide.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Apt {
    /// Sets the private state up below `cache`. Nothing is downloaded yet.
    pub fn new(cache: &Path, scope: Scope) -> Result<Self, AptError> {
        let further: String =
            scope.components.iter().filter(|name| *name != "main").map(|name| format!("-{name}")).collect();
        let folder = cache.join("apt").join(format!("{}-{}{further}", scope.suite, scope.architecture));
        for part in ["lists/partial", "archives/partial"] {
            make_folder(&folder.join(part))?;
        }
        let mirrors = match &scope.mirror {
            Some(uri) => Mirrors { main: uri.clone(), security: None },
            None => {
                let known = run("apt-get", Command::new("apt-get").args(["indextargets", "--format", mirror::FORMAT]))?;
                mirror::choose(&mirror::parse(&String::from_utf8_lossy(&known.stdout))).ok_or(AptError::NoMirror)?
            }
        };
        let host = run("apt-config", Command::new("apt-config").arg("dump"))?;
        write(&folder.join("status"), "")?;
        write(&folder.join("kedge.sources"), &sources(&mirrors, &scope, Path::new(KEYRING).exists()))?;
        write(&folder.join("apt.conf"), &config(&folder, &scope, &String::from_utf8_lossy(&host.stdout)))?;
        Ok(Self { folder, scope })
    }

    fn command(&self, program: &'static str, args: &[&str]) -> Result<Output, AptError> {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C")
            .current_dir(self.folder.join("archives"));
        run(program, command.args(args))
    }

    /// Downloads what the mirror has now. apt checks the signatures.
    pub fn update(&self) -> Result<(), AptError> {
        let output = self.command("apt-get", &["-q", "update", "--error-on=any"])?;
        if output.status.success() {
            return Ok(());
        }
        Err(AptError::Update { suite: self.scope.suite.clone(), said: complaint(&output) })
    }

    /// All versions of `package`, newest first.
    pub fn versions(&self, package: &str) -> Result<Vec<Candidate>, AptError> {
        let output = self.command("apt-cache", &["show", "--", package])?;
        let found = stanzas(&String::from_utf8_lossy(&output.stdout), package);
        if found.is_empty() {
            let Scope { suite, architecture, .. } = self.scope.clone();
            return Err(AptError::Missing { package: package.to_owned(), suite, architecture });
        }
        Ok(found)
    }

    /// Downloads one version; gives the file. The caller compares the digest.
    pub fn download(&self, package: &str, version: &str) -> Result<PathBuf, AptError> {
        // A kernel's package bears its version in its name: then the whole name has gone.
        let known = match self.versions(package) {
            Err(AptError::Missing { .. }) => Vec::new(),
            known => known?,
        };
        if !known.iter().any(|candidate| candidate.version == version) {
            let now = known.first().map(|newest| format!(" (it has {} now)", newest.version)).unwrap_or_default();
            let (package, version, suite) = (package.to_owned(), version.to_owned(), self.scope.suite.clone());
            return Err(AptError::Gone { package, version, suite, now });
        }
        let output = self.command("apt-get", &["-q", "download", "--", &format!("{package}={version}")])?;
        let archives = self.folder.join("archives");
        let path = archives.join(file_name(package, version, &self.scope.architecture));
        let portable = archives.join(file_name(package, version, "all"));
        match [path, portable].into_iter().find(|path| path.is_file()) {
            Some(path) if output.status.success() => Ok(path),
            _ => Err(AptError::Download {
                package: package.to_owned(),
                version: version.to_owned(),
                said: complaint(&output),
            }),
        }
    }
}

/// As apt names a file: the colon of an epoch is escaped.
fn file_name(package: &str, version: &str, architecture: &str) -> String {
    format!("{package}_{}_{architecture}.deb", version.replace(':', "%3a"))
}

fn run(program: &'static str, command: &mut Command) -> Result<Output, AptError> {
    command.stdin(std::process::Stdio::null()).output().map_err(|source| AptError::NoApt { program, source })
}

/// apt's own words for what went wrong, or the end of what it said.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let marked: Vec<&str> =
        said.lines().filter(|line| line.starts_with("E:") || line.starts_with("W:")).take(4).collect();
    let lines = if marked.is_empty() { said.lines().rev().take(2).collect() } else { marked };
    if lines.is_empty() { format!("it ended with {}", output.status) } else { lines.join("; ") }
}

fn make_folder(path: &Path) -> Result<(), AptError> {
    std::fs::create_dir_all(path).map_err(|source| AptError::Io { path: path.display().to_string(), source })
}

fn write(path: &Path, text: &str) -> Result<(), AptError> {
    std::fs::write(path, text).map_err(|source| AptError::Io { path: path.display().to_string(), source })
}

fn sources(mirrors: &Mirrors, scope: &Scope, keyring: bool) -> String {
    let mut text = String::new();
    let (suite, components) = (&scope.suite, scope.components.join(" "));
    // Backports have no security updates of their own.
    let security = mirrors.security.as_ref().filter(|_| !suite.ends_with("-backports"));
    let security = security.map(|uri| (uri, format!("{suite}-security")));
    for (uri, suite) in [(&mirrors.main, suite.clone())].into_iter().chain(security) {
        let keys = if keyring { format!("Signed-By: {KEYRING}\n") } else { String::new() };
        // Writing to a String cannot fail.
        let _ = write!(text, "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\n{keys}\n");
    }
    text
}

/// The private configuration, and from the host's how things are got: proxies, time limits, what is checked. Not taken are hooks, which
/// act on the host's own state, and further index files, which nobody here reads.
fn config(folder: &Path, scope: &Scope, host: &str) -> String {
    let at = |part: &str| folder.join(part).display().to_string();
    let mut text = String::new();
    let settings = [
        ("Dir::Etc::parts", "/dev/null".to_owned()),
        ("Dir::Etc::main", "/dev/null".to_owned()),
        ("Dir::Etc::preferences", "/dev/null".to_owned()),
        ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
        ("Dir::Etc::sourcelist", at("kedge.sources")),
        ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
        ("Dir::State", at("")),
        ("Dir::State::lists", at("lists")),
        ("Dir::State::status", at("status")),
        ("Dir::Cache", at("")),
        ("Dir::Cache::archives", at("archives")),
        ("APT::Architecture", scope.architecture.clone()),
        ("APT::Architectures::", scope.architecture.clone()),
        ("Acquire::Languages", "none".to_owned()),
        // The cache lies in the caller's home, where apt's own user has no access.
        ("APT::Sandbox::User", "root".to_owned()),
    ];
    for (key, value) in settings {
        let _ = writeln!(text, "{key} \"{value}\";");
    }
    let taken = |line: &&str| {
        line.starts_with("Acquire::")
            && !line.starts_with("Acquire::IndexTargets")
            && !line.starts_with("Acquire::Languages")
    };
    for line in host.lines().filter(taken) {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn stanzas(text: &str, package: &str) -> Vec<Candidate> {
    let field = |stanza: &str, key: &str| {
        stanza
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": ").map(str::to_owned))
            .unwrap_or_default()
    };
    text.split("\n\n")
        .filter(|stanza| field(stanza, "Package") == package)
        .map(|stanza| Candidate {
            name: package.to_owned(),
            version: field(stanza, "Version"),
            sha256: field(stanza, "SHA256"),
            depends: field(stanza, "Depends")
                .split([',', '|'])
                .filter_map(|dependency| dependency.split_whitespace().next().map(str::to_owned))
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let components = vec!["main".into()];
        Scope { suite: "trixie".into(), architecture: "arm64".into(), components, mirror: None }
    }

    #[test]
    fn the_hosts_checks_and_proxies_are_kept_and_its_hooks_are_not() {
        let host = "APT::Update::Post-Invoke:: \"rm -rf x\";\nAcquire::Check-Valid-Until \"false\";\nAcquire::http::Proxy \"http://p.test\";\n\
                    Acquire::IndexTargets::deb::DEP-11::MetaKey \"x\";\nDir::Etc::parts \"apt.conf.d\";\n";
        let text = config(Path::new("/c"), &scope(), host);
        assert!(
            text.contains("Acquire::Check-Valid-Until \"false\";\nAcquire::http::Proxy \"http://p.test\";\n"),
            "{text}"
        );
        assert!(
            text.contains("APT::Architecture \"arm64\";") && text.contains("Dir::State::lists \"/c/lists\";"),
            "{text}"
        );
        for absent in ["Post-Invoke", "DEP-11", "apt.conf.d"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
    }

    #[test]
    fn sources_name_the_boards_suite_and_its_security_updates() {
        let mirrors = Mirrors { main: "http://m.test/debian".into(), security: Some("http://m.test/sec".into()) };
        let expected = "Types: deb\nURIs: http://m.test/debian\nSuites: trixie\nComponents: main\n\n\
                        Types: deb\nURIs: http://m.test/sec\nSuites: trixie-security\nComponents: main\n\n";
        assert_eq!(sources(&mirrors, &scope(), false), expected);
        let backports = Scope { suite: "trixie-backports".into(), ..scope() };
        assert!(!sources(&mirrors, &backports, false).contains("security"));
        let scope = Scope { components: vec!["main".into(), "non-free-firmware".into()], ..scope() };
        assert!(sources(&mirrors, &scope, true).contains("main non-free-firmware\nSigned-By: /usr/"));
    }

    #[test]
    fn stanzas_give_version_digest_and_dependencies() {
        let text = "Package: a\nVersion: 2-1\nDepends: b (= 2-1), c | d, e:any\nDescription: x\n y\nSHA256: ab\n\n\
                    Package: a\nVersion: 1-1\nSHA256: cd\n\nPackage: other\nVersion: 9\n";
        let found = stanzas(text, "a");
        let shown: Vec<_> = found.iter().map(|c| (c.version.as_str(), c.sha256.as_str())).collect();
        assert_eq!(shown, [("2-1", "ab"), ("1-1", "cd")]);
        assert_eq!(found[0].depends, ["b", "c", "d", "e:any"]);
        assert_eq!(file_name("busybox", "1:1.37-6", "amd64"), "busybox_1%3a1.37-6_amd64.deb");
    }
}
