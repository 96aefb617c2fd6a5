//! What upstream's authors wrote of each type and field, which is what `kubectl explain` shows. Packed by `build.rs`, unpacked while a
//! document is written, and then forgotten.

use std::io::Read;

use flate2::read::DeflateDecoder;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/texts.deflate"));

/// Any type with all three of the fields that every kind has, and one with those of a list.
const KIND: &str = "io.k8s.api.core.v1.ConfigMap";
const LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

pub struct Texts {
    records: String,
    /// Where each record ends.
    ends: Vec<usize>,
    /// The record that parts the types from the texts.
    middle: usize,
}

impl Texts {
    pub fn unpack() -> Self {
        let mut records = String::new();
        if let Err(error) = DeflateDecoder::new(PACKED).read_to_string(&mut records) {
            tracing::error!(%error, "the descriptions of types cannot be unpacked");
        }
        let ends: Vec<usize> = records.match_indices('\0').map(|(at, _)| at).collect();
        let mut texts = Self { records, ends, middle: 0 };
        texts.middle = (0..texts.ends.len()).find(|at| texts.record(*at).is_empty()).unwrap_or_default();
        texts
    }

    fn record(&self, at: usize) -> &str {
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| end + 1);
        self.ends.get(at).and_then(|end| self.records.get(start..*end)).unwrap_or_default()
    }

    /// What is written of a type.
    pub fn of_type(&self, name: &str) -> Option<String> {
        if let Some(text) = self.get(name, "") {
            return Some(text.to_owned());
        }
        let kind = name.strip_suffix("List")?;
        self.get(kind, "")?;
        let kind = kind.rsplit('.').next().unwrap_or_default();
        Some(format!("{kind}List is a list of {kind} objects."))
    }

    /// What is written of a type's field. Lists have no texts of their own, but say the same of theirs.
    pub fn of_field(&self, name: &str, field: &str) -> Option<String> {
        if let Some(text) = self.get(name, field) {
            return Some(text.to_owned());
        }
        let kind = name.strip_suffix("List")?;
        self.get(kind, "")?;
        match field {
            "items" => Some(format!("List of {} objects.", kind.rsplit('.').next().unwrap_or_default())),
            "metadata" => self.of_list(),
            _ => self.of_any(field),
        }
    }

    /// What is written of `apiVersion`, `kind` and `metadata` of every kind.
    pub fn of_any(&self, field: &str) -> Option<String> {
        self.get(KIND, field).map(str::to_owned)
    }

    /// What is written of `metadata` of every list.
    pub fn of_list(&self) -> Option<String> {
        self.get(LIST, "metadata").map(str::to_owned)
    }

    fn get(&self, name: &str, field: &str) -> Option<&str> {
        let (mut low, mut high) = (0, self.middle / 2);
        while low < high {
            let half = low.midpoint(high);
            match self.record(half * 2).cmp(name) {
                std::cmp::Ordering::Less => low = half + 1,
                std::cmp::Ordering::Greater => high = half,
                std::cmp::Ordering::Equal => {
                    let mut fields = self.record(half * 2 + 1).split(' ').filter_map(|word| word.split_once('='));
                    let number: usize = fields.find(|(known, _)| *known == field)?.1.parse().ok()?;
                    return Some(self.record(self.middle + 1 + number));
                }
            }
        }
        None
    }
}
