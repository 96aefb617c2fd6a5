//! Licences as SPDX expressions, from the ways in which Cargo and Debian write them.

use std::collections::BTreeSet;
use std::fmt;

/// An SPDX licence expression (SPDX 2.3, annex D). What SPDX's list does not have is a `LicenseRef-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Licence(String);

impl fmt::Display for Licence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Debian's short names (copyright-format 1.0, section 7.1) that SPDX writes otherwise.
const DEBIAN: &[(&str, &str)] = &[
    ("GPL-2", "GPL-2.0-only"),
    ("GPL-2+", "GPL-2.0-or-later"),
    ("GPL-3", "GPL-3.0-only"),
    ("GPL-3+", "GPL-3.0-or-later"),
    ("LGPL-2", "LGPL-2.0-only"),
    ("LGPL-2+", "LGPL-2.0-or-later"),
    ("LGPL-2.1", "LGPL-2.1-only"),
    ("LGPL-2.1+", "LGPL-2.1-or-later"),
    ("LGPL-3", "LGPL-3.0-only"),
    ("LGPL-3+", "LGPL-3.0-or-later"),
    ("Expat", "MIT"),
    ("BSD-2-clause", "BSD-2-Clause"),
    ("BSD-3-clause", "BSD-3-Clause"),
    ("Apache-2.0", "Apache-2.0"),
    ("ISC", "ISC"),
    ("CC0-1.0", "CC0-1.0"),
    ("GPL-2 with Linux-syscall-note exception", "GPL-2.0-only WITH Linux-syscall-note"),
];

impl Licence {
    /// Of a crate: an expression already, or the older form with `/` for "or" (Cargo's manifest reference, `license`).
    pub fn of_crate(text: &str) -> Self {
        let either: Vec<&str> = text.split('/').map(str::trim).collect();
        Self(either.join(" OR ").replace("MPL-2.0+", "MPL-2.0"))
    }

    /// What a Debian copyright file says of the package's files as a whole: its paragraph `Files: *`.
    pub fn of_debian(copyright: &str) -> Option<Self> {
        let mut of_all = false;
        for line in copyright.lines() {
            if let Some(files) = line.strip_prefix("Files:") {
                of_all = files.trim() == "*";
            } else if let Some(name) = line.strip_prefix("License:").map(str::trim).filter(|_| of_all) {
                return Some(Self::named(name));
            }
        }
        None
    }

    fn named(name: &str) -> Self {
        if let Some((_, spdx)) = DEBIAN.iter().find(|(debian, _)| *debian == name) {
            return Self((*spdx).to_owned());
        }
        let fits = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
        Self(format!("LicenseRef-Debian-{}", name.chars().map(fits).collect::<String>()))
    }

    /// The references of the expression that only the bill itself can explain.
    pub fn references(&self) -> BTreeSet<String> {
        let words = self.0.split(|c: char| c.is_whitespace() || c == '(' || c == ')');
        words.filter(|word| word.starts_with("LicenseRef-")).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_old_form_becomes_an_expression() {
        assert_eq!(Licence::of_crate("MIT/Apache-2.0").to_string(), "MIT OR Apache-2.0");
        assert_eq!(Licence::of_crate("Apache-2.0 / MIT").to_string(), "Apache-2.0 OR MIT");
        assert_eq!(
            Licence::of_crate("(MIT OR Apache-2.0) AND Unicode-3.0").to_string(),
            "(MIT OR Apache-2.0) AND Unicode-3.0"
        );
    }

    #[test]
    fn of_a_copyright_file_counts_what_all_files_are_under() {
        let text = "Format: x\n\nFiles: debian/*\nLicense: ISC\n\nFiles: *\nCopyright: many\nLicense: GPL-2\n long text\n\nFiles: a\nLicense: MIT\n";
        assert_eq!(Licence::of_debian(text).unwrap().to_string(), "GPL-2.0-only");
        let own = Licence::of_debian("Files: *\nLicense: Broadcom blob\n").unwrap();
        assert_eq!(own.to_string(), "LicenseRef-Debian-Broadcom-blob");
        assert_eq!(own.references().len(), 1);
        assert_eq!(Licence::of_debian("free text"), None);
    }
}
