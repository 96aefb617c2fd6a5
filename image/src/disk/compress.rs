//! The image as one zstd frame, on every processor. The bytes do not depend on how many there are.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// What is large in an image is compressed already: above this, time grows and the file does not shrink.
const LEVEL: i32 = 9;
const CHUNK: usize = 1 << 20;

/// Compresses `from` into `to`, telling `read` of each piece; gives the bytes written. The frame says how long its content is and has a
/// digest of it, so that who unpacks it knows both.
pub fn compress(from: &Path, to: &Path, read: &dyn Fn(u64)) -> io::Result<u64> {
    let mut image = File::open(from)?;
    let size = image.metadata()?.len();
    let workers = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    let mut encoder = zstd::Encoder::new(BufWriter::new(File::create(to)?), LEVEL)?;
    // One worker cuts the work up as several do; none would not.
    encoder.multithread(workers.max(1))?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(size))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = image.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        encoder.write_all(chunk.get(..count).unwrap_or_default())?;
        read(count as u64);
    }
    let file = encoder.finish()?.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_each_time_and_they_say_how_long_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.img");
        let bytes: Vec<u8> =
            (0..5_000_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect();
        std::fs::write(&image, &bytes).unwrap();
        let made = ["a", "b"].map(|name| {
            let to = folder.path().join(name);
            let length = compress(&image, &to, &|_| ()).unwrap();
            let bytes = std::fs::read(&to).unwrap();
            assert_eq!(bytes.len() as u64, length);
            bytes
        });
        assert!(made[0] == made[1]);
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&made[0]).unwrap(), Some(bytes.len() as u64));
        assert!(zstd::decode_all(&made[0][..]).unwrap() == bytes);
    }
}
