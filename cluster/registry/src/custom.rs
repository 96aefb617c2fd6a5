//! Custom resources: rows of the table that are made at run time, each from one version of a CustomResourceDefinition.
//!
//! ```text
//! tasks::definitions ─▶ status (who is called what) ─▶ written to the definition
//!                    └▶ rows ─▶ Table::with ─▶ the verbs, which ask Version how an object is shaped, checked, stored and shown
//! ```

mod columns;
mod conversion;
mod formats;
pub(crate) mod json_path;
mod merge;
pub(crate) mod rows;
pub(crate) mod rules;
pub(crate) mod schema;
pub(crate) mod shape;
pub(crate) mod status;
pub(crate) mod validate;
pub(crate) mod version;
