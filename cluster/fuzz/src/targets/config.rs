//! What a user writes for a board or a machine, and what lies on its disk.

use kedge_config::boot_entry::{self, Name};
use kedge_config::slot::Record;
use kedge_config::slot_manifest::{Sealed, SlotManifest};
use kedge_config::{BoardConfig, MachineConfig};

use crate::texts;

pub fn board(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(refused) = BoardConfig::parse("board.yaml", text) {
        assert!(refused.to_string().contains("board.yaml"), "{refused}");
    }
}

pub fn board_seeds() -> Vec<Vec<u8>> {
    texts(&[include_str!("../../../../board-configs/qemu-x86_64.yaml")])
}

pub fn machine(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match MachineConfig::parse("kedge.yaml", text) {
        Ok(config) => {
            let Ok(written) = serde_json::to_string(&config) else { return };
            assert_eq!(MachineConfig::parse("kedge.yaml", &written).as_ref(), Ok(&config), "{written}");
        }
        Err(refused) => assert!(refused.to_string().contains("kedge.yaml"), "{refused}"),
    }
}

pub fn machine_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "hostname: edge-1\nrole: server\nlogs: {level: debug}\ntime: {servers: [pool.ntp.org]}\n",
        "role: agent\nserver: https://10.0.0.1:6443\ntoken: abcdef.0123456789abcdef\nnode:\n  labels: {a: b}\n  taints: [{key: k, effect: NoSchedule}]\n  maxPods: 5\n",
        "network:\n  dhcp: false\n  interfaces:\n  - name: eth0\n    addresses: [10.0.0.2/24, 'fd00::2/64']\n    gateway: 10.0.0.1\n    mtu: 1400\n  nameservers: [10.0.0.1]\nsysctls: {net.ipv4.ip_forward: '1'}\n",
        "cluster:\n  clusterCidr: 10.42.0.0/16\n  serviceCidr: 10.43.0.0/16\n  clusterDns: 10.43.0.10\n  nodePorts: {first: 30000, last: 30100}\n  apiPort: 6443\nmanifests:\n- name: a\n  content: 'kind: X'\n",
    ])
}

/// Both copies of the record, one after the other.
pub fn slot(data: &[u8]) {
    let (first, second) = data.split_at(data.len() / 2);
    let Ok(mut record) = Record::decode(first, second) else { return };
    let (_, written) = record.next_write();
    // Whatever the other copy is, the newest is what was written last.
    assert_eq!(Record::decode(&written, first).as_ref(), Ok(&record));
    assert_eq!(Record::decode(second, &written).as_ref(), Ok(&record));
}

pub fn slot_seeds() -> Vec<Vec<u8>> {
    let copies = Record::fresh().initial_writes().map(|(_, copy)| copy);
    vec![copies.concat(), vec![0; 16]]
}

/// What a system partition ends with, and the same without a signature.
pub fn slot_manifest(data: &[u8]) {
    if let Ok(sealed) = Sealed::read(data) {
        assert_eq!(Sealed::read(sealed.to_text().as_bytes()).as_ref(), Ok(&sealed));
        assert!(sealed.open(&[]).is_err(), "nobody is trusted");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(manifest) = SlotManifest::parse(text) {
        assert_eq!(manifest.body().as_deref(), Ok(text));
        assert!(manifest.fits(manifest.tree_offset).is_err(), "a slot without room for its tree");
    }
}

pub fn slot_manifest_seeds() -> Vec<Vec<u8>> {
    let (digest, signature) = ("0a".repeat(32), "0b".repeat(64));
    let body = format!(
        "kedge slot manifest 1\nboard test\nversion 0.1.0\nkernel-release 6.12\nrollback-index 3\nboot-id {digest}\n\
         command-line 33 {digest} cmdline.txt\ninitramfs 22 {digest} initramfs\nkernel 11 {digest} linux\n\
         file 44 {digest} overlays/x.dtbo\nsystem-bytes 8193\ntree-offset 12288\nroot-hash {digest}\nsalt {digest}\nepoch 1700000000\n"
    );
    vec![format!("{body}signature 0123456789abcdef {signature}\n\0\0").into_bytes(), body.into_bytes()]
}

/// A file's name, and what stands in it.
pub fn boot_entry(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, text) = text.split_once('\n').unwrap_or((text, ""));
    if let Some(name) = Name::parse(file) {
        assert_eq!(Name::parse(&name.to_string()), Some(name), "{file}");
    }
    let ranked = boot_entry::with_rank(text, 7);
    let has_one = text.lines().any(|line| line.starts_with("version "));
    assert_eq!(boot_entry::rank(&ranked), if has_one { 7 } else { 0 });
    assert_eq!(boot_entry::with_rank(&ranked, 7), ranked);
}

pub fn boot_entry_seeds() -> Vec<Vec<u8>> {
    let text = "title Kedge 1 (slot a)\nsort-key kedge\nversion 3\nlinux /kedge/a/linux\n";
    texts(&[&format!("kedge-a.conf\n{text}"), &format!("kedge-b+2-1.conf\n{text}"), "kedge-a-force.conf\nversion"])
}
