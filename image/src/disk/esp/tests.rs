//! The file system is read again by an independent reader, and its tables are looked at.

use super::*;
use crate::tree::Content;
use fatfs::{FatType, FileSystem, FsOptions};
use std::io::{Cursor, Read};

const SIZE: u64 = 34 << 20;

fn tree() -> Tree {
    let origin = "test".into();
    let mut tree = Tree::new();
    for (path, bytes) in [
        ("EFI/BOOT/BOOTX64.EFI", vec![1; 700]),
        ("loader/loader.conf", b"timeout 0\n".to_vec()),
        ("loader/entries/kedge-a.conf", b"title a".to_vec()),
        ("loader/entries/kedge-b.conf", Vec::new()),
        ("loader/entries/abcdefghijklmnopqrstuv.txt", b"x".to_vec()),
        ("kedge/a/linux", (0..100_000).map(|at| (at % 251) as u8).collect()),
    ] {
        tree.file(path, 0o644, Content::bytes(bytes), &origin).unwrap();
    }
    tree.directory("kedge/b", 0o755, &origin).unwrap();
    tree
}

fn disk(tree: &Tree) -> Vec<u8> {
    let mut disk = vec![0; SIZE as usize];
    for (at, bytes) in make(tree, SIZE, Volume { id: 0x1234_5678, label: LABEL, start: 1 << 20 }).unwrap() {
        disk[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
    }
    disk
}

fn list(folder: &fatfs::Dir<'_, Cursor<Vec<u8>>>, path: &str, into: &mut Vec<String>) {
    for entry in folder.iter().map(Result::unwrap) {
        let name = entry.file_name();
        into.push(format!("{path}/{name} {} {}", entry.short_file_name(), entry.len()));
        if entry.is_dir() && !name.starts_with('.') {
            list(&entry.to_dir(), &format!("{path}/{name}"), into);
        }
    }
}

#[test]
fn another_reader_finds_every_file() {
    let files = FileSystem::new(Cursor::new(disk(&tree())), FsOptions::new()).unwrap();
    assert_eq!((files.fat_type(), files.volume_id()), (FatType::Fat32, 0x1234_5678));
    assert_eq!(files.volume_label(), "KEDGE-ESP");
    let mut seen = Vec::new();
    list(&files.root_dir(), "", &mut seen);
    let expected = [
        "/EFI EFI 0",
        "/EFI/. . 0",
        "/EFI/.. .. 0",
        "/EFI/BOOT BOOT 0",
        "/EFI/BOOT/. . 0",
        "/EFI/BOOT/.. .. 0",
        "/EFI/BOOT/BOOTX64.EFI BOOTX64.EFI 700",
        "/kedge KEDGE 0",
        "/kedge/. . 0",
        "/kedge/.. .. 0",
        "/kedge/a A 0",
        "/kedge/a/. . 0",
        "/kedge/a/.. .. 0",
        "/kedge/a/linux LINUX 100000",
        "/kedge/b B 0",
        "/kedge/b/. . 0",
        "/kedge/b/.. .. 0",
        "/loader LOADER 0",
        "/loader/. . 0",
        "/loader/.. .. 0",
        "/loader/entries ENTRIES 0",
        "/loader/entries/. . 0",
        "/loader/entries/.. .. 0",
        "/loader/entries/abcdefghijklmnopqrstuv.txt ABCDEF~1.TXT 1",
        "/loader/entries/kedge-a.conf KEDGE-~1.CON 7",
        "/loader/entries/kedge-b.conf KEDGE-~2.CON 0",
        "/loader/loader.conf LOADER~1.CON 10",
    ];
    assert_eq!(seen, expected);
    let mut linux = Vec::new();
    files.root_dir().open_file("kedge/a/linux").unwrap().read_to_end(&mut linux).unwrap();
    assert!(linux.len() == 100_000 && linux.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
}

#[test]
fn tables_agree_and_the_bytes_are_the_same() {
    let (one, two) = (disk(&tree()), disk(&tree()));
    assert!(one == two);
    let geometry = Geometry::new(SIZE).unwrap();
    let length = geometry.table_sectors as usize * 512;
    let table = |number| &one[geometry.table(number) as usize..][..length];
    assert!(table(0) == table(1));
    let entries: Vec<u32> = table(0).chunks(4).map(|entry| u32::from_le_bytes(entry.try_into().unwrap())).collect();
    let used = entries[2..].iter().filter(|entry| **entry != 0).count() as u64;
    let free = u32::from_le_bytes(one[512 + 488..512 + 492].try_into().unwrap());
    assert_eq!(used + u64::from(free), geometry.clusters);
    assert!(entries.len() as u64 >= geometry.clusters + 2);
    assert_eq!(one[..512], one[6 * 512..7 * 512]);
}

#[test]
fn what_does_not_fit_is_told() {
    let mut tree = Tree::new();
    tree.file("big", 0o644, Content::bytes(vec![0; SIZE as usize]), &"test".into()).unwrap();
    assert!(matches!(make(&tree, SIZE, Volume { id: 0, label: LABEL, start: 1 << 20 }), Err(EspError::Full { .. })));
    assert!(matches!(
        make(&Tree::new(), 8 << 20, Volume { id: 0, label: LABEL, start: 1 << 20 }),
        Err(EspError::Size { .. })
    ));
    let mut tree = Tree::new();
    tree.symlink("link", "x", &"test".into()).unwrap();
    assert!(
        make(&tree, SIZE, Volume { id: 0, label: LABEL, start: 1 << 20 })
            .unwrap_err()
            .to_string()
            .contains("\"link\": FAT holds files and folders only")
    );
    let mut tree = Tree::new();
    tree.file("a:b", 0o644, Content::bytes(""), &"test".into()).unwrap();
    assert!(matches!(make(&tree, SIZE, Volume { id: 0, label: LABEL, start: 1 << 20 }), Err(EspError::Name { .. })));
}

#[test]
fn short_names_tell_long_ones_apart() {
    assert_eq!(&short_name("linux", 0), b"LINUX      ");
    assert_eq!(&short_name("kedge-a+3.conf", 0), b"KEDGE-~1CON");
    assert_eq!(&short_name("kedge-a+3.conf", 1), b"KEDGE-~2CON");
    assert_eq!(&short_name(".hidden", 0), b"HIDDEN~1   ");
}
