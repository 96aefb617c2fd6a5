//! What `inspect` tells, for programs (JSON, names are a promise) and for eyes.

use crate::show;
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub path: String,
    /// Bytes.
    pub size: u64,
    pub disk_guid: String,
    pub partitions: Vec<PartitionLine>,
    /// Of the FAT partitions.
    pub boot_files: Vec<FileLine>,
    pub slots: Vec<SlotLine>,
    pub state: Option<State>,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PartitionLine {
    pub number: u32,
    pub name: String,
    /// Bytes from the disk's start.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    #[serde(rename = "type")]
    pub kind: String,
    pub guid: String,
}

#[derive(Debug, Serialize)]
pub struct FileLine {
    pub partition: &'static str,
    pub path: String,
    pub size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotLine {
    pub slot: String,
    pub partition: &'static str,
    pub verdict: Option<String>,
    pub priority: Option<u8>,
    pub tries: Option<u8>,
    pub note: Option<String>,
    pub seal: Option<Seal>,
    pub system: Option<System>,
}

/// What a slot's manifest says of it. All of it was found to be so where the report has no problem with the slot.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    /// The key that the signature is by.
    pub key: String,
    pub board: String,
    pub version: String,
    pub kernel_release: String,
    pub rollback_index: u64,
    pub root_hash: String,
    pub salt: String,
    /// Bytes of the hash tree.
    pub tree: u64,
    /// Signed by a key that is trusted, and every block is what the tree says.
    pub verified: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    pub version: Option<String>,
    pub board: Option<String>,
    pub kernel_release: Option<String>,
    /// Of the squashfs.
    pub bytes: u64,
    pub files: u64,
    /// Bytes of all files, unpacked.
    pub unpacked: u64,
    pub modules: u64,
    /// Seconds since 1970.
    pub epoch: u32,
    pub container_images: Vec<ContainerImage>,
}

#[derive(Debug, Serialize)]
pub struct ContainerImage {
    pub names: Vec<String>,
    pub digest: String,
    pub layers: usize,
    pub size: u64,
}

/// The STATE file system.
#[derive(Debug, Serialize)]
pub struct State {
    pub label: String,
    pub uuid: String,
    pub size: u64,
    pub free: u64,
}

impl Report {
    /// For eyes.
    pub fn show(&self) -> String {
        let mut text = format!("{}: {}, disk {}\n\n", self.path, show::size(self.size), self.disk_guid);
        let row = |p: &PartitionLine| {
            vec![p.number.to_string(), p.name.clone(), show::size(p.start), show::size(p.size), p.guid.clone()]
        };
        text += &show::table(
            &["", "partition", "start", "size", "guid"],
            &self.partitions.iter().map(row).collect::<Vec<_>>(),
        );
        let row = |file: &FileLine| vec![file.partition.to_owned(), file.path.clone(), show::size(file.size)];
        text += &format!(
            "\n{}\n",
            show::table(&["on", "boot file", "size"], &self.boot_files.iter().map(row).collect::<Vec<_>>())
        );
        let rows: Vec<Vec<String>> = self.slots.iter().map(SlotLine::row).collect();
        text += &show::table(
            &["slot", "partition", "verdict", "version", "kernel", "squashfs", "files", "modules", "note"],
            &rows,
        );
        let rows: Vec<Vec<String>> =
            self.slots.iter().filter_map(|slot| slot.seal.as_ref().map(|seal| seal.row(&slot.slot))).collect();
        if !rows.is_empty() {
            let columns = ["manifest", "signed by key", "rollback index", "root hash", "hash tree", ""];
            text += &format!("\n{}", show::table(&columns, &rows));
        }
        let images: Vec<Vec<String>> = self
            .slots
            .iter()
            .filter_map(|slot| Some((slot, slot.system.as_ref()?)))
            .flat_map(|(slot, system)| system.container_images.iter().map(|image| image.row(&slot.slot)))
            .collect();
        if !images.is_empty() {
            text += &format!("\n{}", show::table(&["container image", "slot", "layers", "size", "digest"], &images));
        }
        if let Some(state) = &self.state {
            text += &format!(
                "\nSTATE: ext4 of {}, {} free, {}\n",
                show::size(state.size),
                show::size(state.free),
                state.uuid
            );
        }
        text
    }
}

impl SlotLine {
    fn row(&self) -> Vec<String> {
        let unknown = || "-".to_owned();
        let mut row = vec![self.slot.clone(), self.partition.to_owned(), self.verdict.clone().unwrap_or_else(unknown)];
        match &self.system {
            Some(system) => row.extend([
                system.version.clone().unwrap_or_else(unknown),
                system.kernel_release.clone().unwrap_or_else(unknown),
                show::size(system.bytes),
                system.files.to_string(),
                system.modules.to_string(),
            ]),
            None => row.extend((0..5).map(|_| unknown())),
        }
        row.push(self.note.clone().unwrap_or_default());
        row
    }
}

impl Seal {
    fn row(&self, slot: &str) -> Vec<String> {
        vec![
            slot.to_owned(),
            self.key.clone(),
            self.rollback_index.to_string(),
            self.root_hash.clone(),
            show::size(self.tree),
            if self.verified { "verified" } else { "NOT VERIFIED" }.to_owned(),
        ]
    }
}

impl ContainerImage {
    fn row(&self, slot: &str) -> Vec<String> {
        let digest = self.digest.chars().take(19).collect();
        vec![self.names.join(", "), slot.to_owned(), self.layers.to_string(), show::size(self.size), digest]
    }
}
