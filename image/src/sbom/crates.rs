//! The crates that `kedge` and its stage 1 are made of: the table that the build script took from `cargo metadata`.

use super::{Component, Kind, id};
use crate::licence::Licence;
use serde::Deserialize;

const TABLE: &str = include_str!(concat!(env!("OUT_DIR"), "/crates.json"));

#[derive(Deserialize)]
struct Row {
    name: String,
    version: String,
    licence: Option<String>,
    /// Of the package that the registry gave; the house's own crates have none.
    sha256: Option<String>,
    /// `NAME@VERSION` each.
    needs: Vec<String>,
}

/// Every crate, with those that it is linked with.
pub fn read() -> Result<Vec<Component>, serde_json::Error> {
    let rows: Vec<Row> = serde_json::from_str(TABLE)?;
    let component = |row: Row| Component {
        id: id(&["crate", &row.name, &row.version]),
        kind: Kind::Crate,
        purl: row.sha256.is_some().then(|| format!("pkg:cargo/{}@{}", row.name, super::encode(&row.version))),
        licence: row.licence.as_deref().map(Licence::of_crate),
        sha256: row.sha256,
        needs: row.needs.iter().map(|need| id(&["crate", &need.replace('@', "-")])).collect(),
        name: row.name,
        version: row.version,
    };
    Ok(rows.into_iter().map(component).collect())
}
