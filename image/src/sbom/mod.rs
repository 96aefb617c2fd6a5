//! Bills of materials: what an image is made of, for auditors and their programs.
//!
//! ```text
//! Inputs, images, crates ──▶ Bill (components, who needs whom) ──▶ spdx (2.3) · cyclonedx (1.6) · licence list
//! ```
//! The same image gives the same bytes: the only time in them is the image's, the only identifiers are digests.

pub mod crates;
pub mod cyclonedx;
pub mod spdx;

use crate::fetch::inputs::{Role, Supplied};
use crate::licence::Licence;
use crate::oci::bake::Baked;
use crate::show;
use serde_json::Value;

/// What is being described, and when it was built.
#[derive(Debug, Clone)]
pub struct Subject {
    pub board: String,
    /// Of the disk image.
    pub sha256: String,
    /// Seconds since 1970.
    pub epoch: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The image itself.
    Image,
    Kernel,
    BootLoader,
    Firmware,
    /// One of ours.
    Program,
    Crate,
    Container,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Unique in the bill; letters, digits, `.` and `-`.
    pub id: String,
    pub kind: Kind,
    pub name: String,
    pub version: String,
    pub licence: Option<Licence>,
    pub sha256: Option<String>,
    /// Package URL (github.com/package-url/purl-spec).
    pub purl: Option<String>,
    /// What it contains or is built from, by their ids.
    pub needs: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Bill {
    pub subject: Subject,
    /// The image first, the rest by id.
    pub components: Vec<Component>,
}

/// What a bill is made from.
pub struct Parts<'p> {
    pub subject: Subject,
    pub packages: &'p [Supplied],
    /// SHA-256 of the programs, by name.
    pub programs: &'p [(&'static str, String)],
    pub images: &'p [Baked],
}

impl Bill {
    pub fn new(parts: Parts<'_>) -> Result<Self, serde_json::Error> {
        let Parts { subject, packages, programs, images } = parts;
        let mut components: Vec<Component> = packages.iter().map(package).collect();
        for mut one in crates::read()? {
            if let Some((_, sha256)) = programs.iter().find(|(name, _)| *name == one.name) {
                one.kind = Kind::Program;
                one.sha256 = Some(sha256.clone());
            }
            components.push(one);
        }
        components.extend(images.iter().map(container));
        components.sort_by(|a, b| a.id.cmp(&b.id));
        let in_image = components.iter().filter(|one| one.kind != Kind::Crate).map(|one| one.id.clone());
        let whole = Component {
            id: "image".into(),
            kind: Kind::Image,
            name: format!("kedge-{}", subject.board),
            version: kedge_config::VERSION.into(),
            licence: None,
            sha256: Some(subject.sha256.clone()),
            purl: None,
            needs: in_image.collect(),
        };
        components.insert(0, whole);
        Ok(Self { subject, components })
    }

    /// Licences, with what is under each: for eyes.
    pub fn licences(&self) -> String {
        let mut rows: Vec<Vec<String>> = self
            .components
            .iter()
            .filter(|one| one.kind != Kind::Image)
            .map(|one| {
                let licence = one.licence.as_ref().map_or_else(|| "unknown".to_owned(), |licence| licence.to_string());
                vec![licence, one.name.clone(), one.version.clone()]
            })
            .collect();
        rows.sort();
        show::table(&["licence", "component", "version"], &rows)
    }
}

/// As both forms want it; a bill is a page or a hundred, and read by programs first.
pub fn to_text(document: &Value) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(document).map(|text| text + "\n")
}

fn package(supplied: &Supplied) -> Component {
    let (prefix, kind) = match supplied.role {
        Role::Kernel => ("kernel", Kind::Kernel),
        Role::BootLoader => ("boot", Kind::BootLoader),
        Role::Firmware => ("firmware", Kind::Firmware),
    };
    let purl = supplied.debian.as_ref().map(|debian| {
        let (name, version) = (encode(&supplied.name), encode(&supplied.version));
        format!("pkg:deb/debian/{name}@{version}?arch={}&distro={}", debian.architecture, encode(&debian.suite))
    });
    Component {
        id: id(&[prefix, &supplied.name]),
        kind,
        name: supplied.name.clone(),
        version: supplied.version.clone(),
        licence: supplied.licence.clone(),
        sha256: Some(supplied.sha256.clone()),
        purl,
        needs: Vec::new(),
    }
}

fn container(image: &Baked) -> Component {
    let name = image.names.first().cloned().unwrap_or_default();
    let (repository, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((&name, "latest"));
    let short = repository.rsplit('/').next().unwrap_or(repository);
    // An OCI digest keeps its colon in a package URL only as an escape.
    let purl = format!(
        "pkg:oci/{}@{}?repository_url={}&tag={}",
        encode(short),
        encode(&image.digest),
        encode(repository),
        encode(tag)
    );
    Component {
        id: id(&["container", &name]),
        kind: Kind::Container,
        name: repository.to_owned(),
        version: tag.to_owned(),
        licence: None,
        sha256: image.digest.strip_prefix("sha256:").map(str::to_owned),
        purl: Some(purl),
        needs: Vec::new(),
    }
}

/// SPDX takes letters, digits, `.` and `-` (2.3, clause 3.2).
fn id(parts: &[&str]) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
    parts.join("-").chars().map(fits).collect()
}

/// RFC 3986's escapes, as package URLs want them.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// `2026-11-26T07:00:00Z`.
fn time(epoch: u32) -> String {
    let time = time::OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(i64::from(epoch));
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
}

#[cfg(test)]
mod tests;
