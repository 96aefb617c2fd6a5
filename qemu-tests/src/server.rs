//! A web server on the host, whose files a guest fetches ranges of: it counts what it gives, and can be slow, or give less than there is.

use std::fs::File;
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How the host is called from within a guest (QEMU's user network).
const HOST: &str = "10.0.2.2";
/// Bytes between two pauses.
const STEP: usize = 64 << 10;

#[derive(Debug, Clone)]
pub struct Given {
    pub path: PathBuf,
    /// The file ends here.
    pub most: Option<u64>,
    pub bytes_per_second: Option<u64>,
}

pub struct Server {
    port: u16,
    files: Arc<Mutex<Vec<(String, Given)>>>,
    given: Arc<AtomicU64>,
}

impl Server {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Self { port: listener.local_addr()?.port(), files: Arc::default(), given: Arc::default() };
        let (files, given) = (Arc::clone(&server.files), Arc::clone(&server.given));
        // Ends with the process: a test's guests may ask as long as it runs.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, given) = (Arc::clone(&files), Arc::clone(&given));
                // A guest that is killed in the middle leaves a connection that breaks.
                std::thread::spawn(move || drop(talk(&stream, &files, &given)));
            }
        });
        Ok(server)
    }

    /// Serves `path` as `name`; gives the address that a guest knows it by.
    pub fn serve(&self, name: &str, path: &Path) -> String {
        self.serve_so(name, Given { path: path.to_owned(), most: None, bytes_per_second: None })
    }

    pub fn serve_so(&self, name: &str, given: Given) -> String {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(other, _)| other != name);
        files.push((name.to_owned(), given));
        format!("http://{HOST}:{}/{name}", self.port)
    }

    /// Bytes of files that were given so far.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }
}

fn talk(stream: &TcpStream, files: &Mutex<Vec<(String, Given)>>, count: &AtomicU64) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let Some(first) = lines.next().transpose()? else { return Ok(()) };
        let mut range = None;
        for line in lines.by_ref() {
            let line = line?.to_lowercase();
            if let Some(found) = line.strip_prefix("range: bytes=") {
                range = found.split_once('-').and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
            }
            if line.is_empty() {
                break;
            }
        }
        let name = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let all = files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((_, given)) = all.into_iter().find(|(other, _)| *other == name) else {
            write!(&*stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        };
        let file = File::open(&given.path)?;
        let size = file.metadata()?.len().min(given.most.unwrap_or(u64::MAX));
        let Some((start, end)) = range.filter(|(start, _)| *start < size) else {
            write!(&*stream, "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        };
        let end = end.min(size - 1);
        let length = end + 1 - start;
        write!(
            &*stream,
            "HTTP/1.1 206 Partial Content\r\ncontent-length: {length}\r\ncontent-range: bytes {start}-{end}/{size}\r\netag: \"{size}\"\r\n\r\n"
        )?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start)?;
        for part in bytes.chunks(STEP) {
            if let Some(rate) = given.bytes_per_second {
                std::thread::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64));
            }
            (&*stream).write_all(part)?;
            count.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
    }
}
