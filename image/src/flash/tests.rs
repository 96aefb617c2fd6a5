//! Real block devices: loop devices, which only root may make. Without root these tests say that they were skipped.

use super::*;
use crate::disk::compress;
use std::os::unix::fs::FileExt;

/// A loop device over a file of its own; gone with the value.
struct Loop {
    path: PathBuf,
    _backing: tempfile::NamedTempFile,
}

impl Loop {
    fn new(size: u64, arguments: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: it makes a loop device and needs root");
            return None;
        }
        let backing = tempfile::NamedTempFile::new().unwrap();
        backing.as_file().set_len(size).unwrap();
        let output =
            Command::new("losetup").args(["--find", "--show"]).args(arguments).arg(backing.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        Some(Self { path, _backing: backing })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

const SIZE: u64 = 16 << 20;

/// An image with something at its start, in its middle and at its end, and its map, which leaves the rest out.
fn image(folder: &Path) -> (PathBuf, BlockMap) {
    let path = folder.join("test.img");
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_len(SIZE).unwrap();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let ranges = [0..bytes.len() as u64, 5 << 20..(5 << 20) + 70_000, SIZE - 512..SIZE];
    for range in &ranges {
        file.write_all_at(&bytes[..(range.end - range.start) as usize], range.start).unwrap();
    }
    let map = BlockMap::of(&mut file, SIZE, &ranges).unwrap();
    std::fs::write(folder.join("test.img.bmap"), map.to_xml()).unwrap();
    compress::compress(&path, &folder.join("test.img.zst"), &|_| ()).unwrap();
    (path, map)
}

fn options(image: &Path, device: &Loop) -> Options {
    Options { image: image.to_owned(), device: device.path.clone(), map: None }
}

fn write(options: &Options) -> Result<Flashed, FlashError> {
    flash(options, &mut |_| true, Progress::Silent)
}

fn fill(device: &Path, byte: u8) {
    let file = File::options().write(true).open(device).unwrap();
    file.write_all_at(&vec![byte; SIZE as usize], 0).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn mapped_blocks_are_written_and_others_are_left_alone() {
    let Some(device) = Loop::new(SIZE + (1 << 20), &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, map) = image(folder.path());
    let image = std::fs::read(&path).unwrap();
    for name in ["test.img", "test.img.zst"] {
        fill(&device.path, 0xee);
        let done = write(&options(&folder.path().join(name), &device)).unwrap();
        assert_eq!((done.size, done.written), (SIZE, map.mapped()));
        assert!(done.model.unwrap().starts_with("loop device of "));
        let disk = std::fs::read(&device.path).unwrap();
        let mut expected = vec![0xee; SIZE as usize];
        for extent in &map.extents {
            let range = extent.bytes.start as usize..extent.bytes.end as usize;
            expected[range.clone()].copy_from_slice(&image[range]);
        }
        assert!(disk[..SIZE as usize] == expected, "{name}");
    }
}

#[test]
fn without_a_map_every_byte_is_written() {
    let Some(device) = Loop::new(SIZE, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = image(folder.path());
    std::fs::remove_file(folder.path().join("test.img.bmap")).unwrap();
    for name in ["test.img", "test.img.zst"] {
        fill(&device.path, 0xee);
        let done = write(&options(&folder.path().join(name), &device)).unwrap();
        assert_eq!((done.written, done.block_map), (SIZE, None));
        assert!(std::fs::read(&device.path).unwrap() == std::fs::read(&path).unwrap(), "{name}");
    }
}

#[test]
fn what_is_in_use_too_small_or_read_only_is_refused_before_anyone_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = image(folder.path());
    let refused = |device: &Loop, expected: &str| {
        let error = flash(&options(&path, device), &mut |_| panic!("asked"), Progress::Silent).unwrap_err().to_string();
        assert!(error.contains(&device.path.display().to_string()) && error.contains(expected), "{expected}: {error}");
    };
    let Some(small) = Loop::new(SIZE - 4096, &[]) else { return };
    refused(&small, "has 16.0 MiB (16773120 bytes), the image needs 16.0 MiB (16777216 bytes)");
    refused(&Loop::new(SIZE, &["--read-only"]).unwrap(), "is write-protected");

    let mounted = Loop::new(SIZE, &[]).unwrap();
    let at = folder.path().join("mnt");
    std::fs::create_dir(&at).unwrap();
    assert!(Command::new("mke2fs").args(["-q", "-F"]).arg(&mounted.path).status().unwrap().success());
    assert!(Command::new("mount").arg(&mounted.path).arg(&at).status().unwrap().success());
    refused(&mounted, &format!("is mounted at {}; unmount it", at.display()));
    assert!(Command::new("umount").arg(&at).status().unwrap().success());

    let taken = Loop::new(SIZE, &[]).unwrap();
    let alone = open_alone(&taken.path).unwrap();
    let error = write(&options(&path, &taken)).unwrap_err().to_string();
    assert!(error.contains("is in use: something opened it for itself alone"), "{error}");
    drop(alone);
}

#[test]
fn nobody_says_yes_and_nothing_is_written() {
    let Some(device) = Loop::new(SIZE, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = image(folder.path());
    fill(&device.path, 0xee);
    assert!(matches!(flash(&options(&path, &device), &mut |_| false, Progress::Silent), Err(FlashError::Declined)));
    assert!(std::fs::read(&device.path).unwrap().iter().all(|byte| *byte == 0xee));
}

#[test]
fn a_damaged_or_cut_image_and_a_map_of_another_are_told() {
    let Some(device) = Loop::new(SIZE, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = image(folder.path());
    let told = |image: &Path, expected: &str| {
        let error = write(&options(image, &device)).unwrap_err().to_string();
        assert!(error.contains(&image.display().to_string()) && error.contains(expected), "{expected}: {error}");
    };
    let zst = folder.path().join("test.img.zst");
    let whole = std::fs::read(&zst).unwrap();
    std::fs::write(&zst, &whole[..whole.len() / 2]).unwrap();
    told(&zst, "cut off");
    File::options().write(true).open(&path).unwrap().write_all_at(b"damage", 5 << 20).unwrap();
    told(&path, "is damaged: bytes 5242880 to ");
    File::options().write(true).open(&path).unwrap().set_len(SIZE - 4096).unwrap();
    told(&path, "the block map is for an image of 16777216 bytes");
}

#[test]
fn a_disk_that_does_not_keep_what_it_is_given_is_found_out() {
    let Some(device) = Loop::new(SIZE, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, map) = image(folder.path());
    write(&options(&path, &device)).unwrap();
    // As a worn card does: one bit is another after the write was confirmed.
    let disk = File::options().read(true).write(true).open(&device.path).unwrap();
    disk.write_all_at(b"x", 5 << 20).unwrap();
    disk.sync_all().unwrap();
    let error = write::verify(&disk, &device.path, &map.extents, &|_| ()).unwrap_err().to_string();
    assert!(error.contains("does not hold what was written: bytes 5242880 to "), "{error}");
}

#[test]
fn other_things_than_disks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = image(folder.path());
    let options = Options { image: path.clone(), device: path, map: None };
    let error = write(&options).unwrap_err().to_string();
    assert!(error.contains("test.img is no disk: name one such as /dev/sdb"), "{error}");
}

#[test]
fn maps_are_found_where_bmaptool_finds_them() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.img.bmap", "b.bmap"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let found = |name: &str| beside(&folder.path().join(name)).map(|path| path.file_name().unwrap().to_owned());
    assert_eq!(found("a.img.zst").unwrap(), "a.img.bmap");
    assert_eq!(found("b.img.zst").unwrap(), "b.bmap");
    assert_eq!(found("c.img.zst"), None);
}

#[test]
fn a_whole_image_on_a_used_disk_is_found_right_by_inspect() {
    let Some(device) = Loop::new(64 << 20, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let built = crate::build::tests::bake(folder.path(), "image");
    let disk = File::options().write(true).open(&device.path).unwrap();
    disk.write_all_at(&vec![0xee; 64 << 20], 0).unwrap();
    drop(disk);
    let done = write(&options(&built.image.with_added_extension("zst"), &device)).unwrap();
    assert!(done.written < done.size / 2, "{done:?}");
    let report = crate::inspect::Disk::open(&device.path).unwrap().report().unwrap();
    assert_eq!(report.problems, [""; 0]);
}

/// Debian's bmaptool, which other tools follow, reads our map and our compressed image and checks every digest.
#[test]
fn bmaptool_reads_what_we_write() {
    let Some(device) = Loop::new(SIZE, &[]) else { return };
    if Command::new("bmaptool").arg("--version").output().is_err() {
        eprintln!("SKIPPED: bmaptool is not installed (Debian's bmap-tools)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, map) = image(folder.path());
    let image = std::fs::read(&path).unwrap();
    for name in ["test.img", "test.img.zst"] {
        fill(&device.path, 0xee);
        let output =
            Command::new("bmaptool").arg("copy").arg(folder.path().join(name)).arg(&device.path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let disk = std::fs::read(&device.path).unwrap();
        for extent in &map.extents {
            let range = extent.bytes.start as usize..extent.bytes.end as usize;
            assert!(disk[range.clone()] == image[range], "{name}");
        }
        assert!(disk[2 << 20..4 << 20].iter().all(|byte| *byte == 0xee), "{name}: bmaptool wrote what is not mapped");
    }
}
