//! Reads one log file to a client, from where its last lines begin to its end, and on from there when it grows.

use std::io::{self, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};
use tokio::sync::mpsc::Sender;

use super::entries::{Entries, Wanted};
use super::follow::{Source, Watch, Woken};
use crate::pod::after;
use crate::serve::route::{LogOptions, Since};

const CHUNK: usize = 16 << 10;

pub type Chunks = Sender<Result<Bytes, io::Error>>;

/// Ends at the file's end, or with `follow` at the container's; also when nobody listens any more.
pub async fn send(
    path: &Path,
    options: &LogOptions,
    now: Timestamp,
    follow: Option<Source>,
    chunks: &Chunks,
) -> io::Result<()> {
    let mut entries = Entries::new(Wanted {
        timestamps: options.timestamps,
        since: options.since.map(|s| match s {
            Since::Seconds(seconds) => after(now, -seconds),
            Since::Time(time) => time,
        }),
        stream: options.stream.clone(),
        limit: options.limit,
    });
    // Before the first read: nothing that is written after it is missed.
    let mut watch = follow.map(|source| Watch::new(path, source)).transpose()?;
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail {
        let from = tail(&mut file, lines).await?;
        file.seek(SeekFrom::Start(from)).await?;
    }
    loop {
        if !copy(&mut file, &mut entries, chunks).await? {
            return Ok(());
        }
        let Some(watch) = watch.as_mut() else { return Ok(()) };
        let woken = tokio::select! {
            woken = watch.next() => woken?,
            () = chunks.closed() => return Ok(()),
        };
        match woken {
            Woken::Grown => {}
            Woken::Renamed => {
                // The rest of the old file, then the new one from its beginning.
                if !copy(&mut file, &mut entries, chunks).await? {
                    return Ok(());
                }
                if let Ok(next) = File::open(path).await {
                    file = next;
                }
            }
            Woken::Ended => {
                copy(&mut file, &mut entries, chunks).await?;
                return Ok(());
            }
        }
    }
}

/// Sends what there is up to the end of the file. `false`: no more is wanted.
async fn copy(file: &mut File, entries: &mut Entries, chunks: &Chunks) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok(true);
        }
        let mut out = Vec::new();
        let more = entries.push(buffer.get(..read).unwrap_or_default(), &mut out);
        if !out.is_empty() && chunks.send(Ok(Bytes::from(out))).await.is_err() {
            return Ok(false);
        }
        if !more {
            return Ok(false);
        }
    }
}

/// Where the last `lines` lines begin. Reads backwards, a block at a time.
async fn tail(file: &mut (impl AsyncRead + AsyncSeek + Unpin), lines: usize) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(length);
    }
    let mut seen = 0;
    let mut end = length;
    let mut buffer = vec![0; CHUNK];
    while end > 0 {
        let size = u64::try_from(CHUNK).unwrap_or(u64::MAX).min(end);
        let start = end - size;
        file.seek(SeekFrom::Start(start)).await?;
        let block = buffer.get_mut(..usize::try_from(size).unwrap_or(CHUNK)).unwrap_or_default();
        file.read_exact(block).await?;
        for (at, byte) in block.iter().enumerate().rev() {
            let position = start + u64::try_from(at).unwrap_or(0);
            // The newline that ends the last line separates nothing.
            if *byte == b'\n' && position + 1 < length {
                seen += 1;
                if seen == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_found_across_blocks() {
        let long = "x".repeat(CHUNK - 1);
        for (text, lines, expected) in [
            ("a\nb\nc\n".to_owned(), 1, "c\n"),
            ("a\nb\nc\n".to_owned(), 2, "b\nc\n"),
            ("a\nb\nc\n".to_owned(), 9, "a\nb\nc\n"),
            ("a\nb\nc\n".to_owned(), 0, ""),
            ("a\nb".to_owned(), 1, "b"),
            (String::new(), 3, ""),
            (format!("a\n{long}\nc\n"), 2, &format!("{long}\nc\n")),
            (format!("a\n{long}{long}\n"), 1, &format!("{long}{long}\n")),
        ] {
            let from = tail(&mut std::io::Cursor::new(text.as_bytes()), lines).await.unwrap();
            assert_eq!(&text[usize::try_from(from).unwrap()..], expected, "{lines} of {} bytes", text.len());
        }
    }
}
