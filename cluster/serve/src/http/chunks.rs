//! Large answers as a stream of buffers: a list is never held encoded as a whole, and is compressed on the way.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue, VARY};

use super::respond::{Body, full, stream};

const CHUNK: usize = 64 * 1024;
/// Upstream compresses answers larger than this.
const WORTH: usize = 128 * 1024;

/// Whether the client takes gzip.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|p| matches!(p.replace(' ', "").as_str(), "q=0" | "q=0.0"))
    })
}

/// A body of `parts`, whose sizes add up to about `size`; headers for its coding go to `headers`.
pub fn body(
    parts: impl Iterator<Item = Bytes> + Send + 'static,
    size: usize,
    gzip: bool,
    headers: &mut HeaderMap,
) -> Body {
    if gzip && size > WORTH {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
        return stream(futures::stream::iter(Gzip {
            parts,
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }));
    }
    let mut chunks = Plain { parts };
    match chunks.next() {
        None => full(Bytes::new()),
        Some(whole) if size <= CHUNK => match chunks.next() {
            None => full(whole),
            // Larger than was thought.
            Some(more) => stream(futures::stream::iter([whole, more].into_iter().chain(chunks).map(Ok))),
        },
        Some(first) => stream(futures::stream::iter(std::iter::once(first).chain(chunks).map(Ok))),
    }
}

/// Joins small parts into chunks; passes large ones through uncopied.
struct Plain<I> {
    parts: I,
}

impl<I: Iterator<Item = Bytes>> Iterator for Plain<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let first = self.parts.next()?;
        if first.len() >= CHUNK {
            return Some(first);
        }
        let mut chunk = Vec::with_capacity(first.len() * 2);
        chunk.extend_from_slice(&first);
        while chunk.len() < CHUNK {
            let Some(part) = self.parts.next() else { break };
            chunk.extend_from_slice(&part);
        }
        Some(chunk.into())
    }
}

struct Gzip<I> {
    parts: I,
    /// Gone when finished.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I: Iterator<Item = Bytes>> Iterator for Gzip<I> {
    type Item = Result<Bytes, std::io::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let encoder = self.encoder.as_mut()?;
        while encoder.get_ref().len() < CHUNK {
            let Some(part) = self.parts.next() else {
                return self.encoder.take().map(|encoder| encoder.finish().map(Bytes::from));
            };
            if let Err(error) = encoder.write_all(&part) {
                return Some(Err(error));
            }
        }
        Some(Ok(std::mem::take(encoder.get_mut()).into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http_body_util::BodyExt;

    use super::*;

    fn parts() -> Vec<Bytes> {
        (0..5000)
            .map(|n| Bytes::from(format!("{{\"name\":\"object-{n}\",\"padding\":\"{}\"}},", "x".repeat(n % 97))))
            .collect()
    }

    #[tokio::test]
    async fn both_ways_give_the_same_bytes() {
        let want: Vec<u8> = parts().into_iter().flatten().collect();
        for gzip in [false, true] {
            let mut headers = HeaderMap::new();
            let got = body(parts().into_iter(), want.len(), gzip, &mut headers).collect().await.unwrap().to_bytes();
            let got = match headers.get(CONTENT_ENCODING) {
                None => got.to_vec(),
                Some(_) => {
                    assert!(got.len() < want.len() / 3);
                    let mut out = Vec::new();
                    flate2::read::GzDecoder::new(&got[..]).read_to_end(&mut out).unwrap();
                    out
                }
            };
            assert_eq!(gzip, headers.contains_key(CONTENT_ENCODING));
            assert!(got == want);
        }
        let small =
            body(parts().into_iter().take(3), 100, true, &mut HeaderMap::new()).collect().await.unwrap().to_bytes();
        assert_eq!(small, parts().into_iter().take(3).flatten().collect::<Vec<u8>>());
    }

    #[test]
    fn gzip_must_be_asked_for() {
        let takes = |value: &str| takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]));
        assert!(takes("gzip") && takes("deflate, gzip;q=0.5"));
        assert!(!takes("identity") && !takes("gzip;q=0") && !takes_gzip(&HeaderMap::new()));
    }
}
