//! A file that is read by ranges, and is the same file all the while.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::client::{self, Answer, Client, collect, refused};
use crate::oci::{self, Blob};
use crate::url::Url;
use crate::{FetchError, Resolve};

/// The most that one read may ask for.
const MOST: u64 = 64 << 20;

pub struct File {
    client: Client,
    place: Place,
    /// The strong validator of what was read first (RFC 9110, 8.8.3).
    tag: Option<HeaderValue>,
}

enum Place {
    Url(Url),
    /// Content-addressed: what it is called is what it is.
    Blob(Blob),
}

impl File {
    /// `source` is an address that [`Url`] or [`oci`] knows. Only a registry is asked anything yet.
    pub async fn open(source: &str, tls: rustls::ClientConfig, resolve: Resolve) -> Result<Self, FetchError> {
        let mut client = Client::new(tls, resolve);
        let place = match oci::Reference::parse(source)? {
            Some(reference) => Place::Blob(oci::find(&mut client, &reference).await?),
            None => Place::Url(Url::parse(source)?),
        };
        Ok(Self { client, place, tag: None })
    }

    /// These bytes, all of them.
    pub async fn read(&mut self, at: u64, length: u64) -> Result<Vec<u8>, FetchError> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let last = at.saturating_add(length - 1);
        let range = HeaderValue::from_str(&format!("bytes={at}-{last}")).unwrap_or(HeaderValue::from_static(""));
        let mut headers = HeaderMap::from_iter([(header::RANGE, range)]);
        // What is packed on the way has other ranges.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(tag) = &self.tag {
            headers.insert(header::IF_MATCH, tag.clone());
        }
        let answered = match &mut self.place {
            Place::Url(url) => self.client.get(url, &headers).await?,
            Place::Blob(blob) => blob.get(&mut self.client, headers).await?,
        };
        let url = &answered.url;
        let wrong = |what: String| client::answer(url, &what);
        match answered.response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::PRECONDITION_FAILED => return Err(FetchError::Changed { url: url.to_string() }),
            StatusCode::OK => return Err(wrong("the server gives no ranges of it, only the whole".into())),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(wrong(format!("it ends before byte {at}: it is cut off, or no bundle")));
            }
            _ => return Err(refused(answered).await),
        }
        let told = text(&answered, header::CONTENT_RANGE);
        let (start, end) = content_range(&told).ok_or_else(|| wrong(format!("its Content-Range is {told:?}")))?;
        if start != at || end > last {
            return Err(wrong(format!("asked for bytes {at} to {last} it gives {start} to {end}")));
        }
        if end < last {
            return Err(wrong(format!("it ends after byte {end}, and {last} was to be read: it is cut off")));
        }
        let tag =
            answered.response.headers().get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned();
        if self.tag.is_some() && tag != self.tag {
            return Err(FetchError::Changed { url: url.to_string() });
        }
        let address = url.to_string();
        let most = usize::try_from(length.min(MOST)).unwrap_or(usize::MAX);
        let bytes = collect(answered, most).await?;
        if bytes.len() as u64 != length {
            let what = format!("{length} bytes were announced, {} came", bytes.len());
            return Err(FetchError::Answer { url: address, what });
        }
        self.tag = tag;
        Ok(bytes)
    }
}

fn text(answered: &Answer, name: HeaderName) -> String {
    let value = answered.response.headers().get(name);
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// First and last byte of `bytes 0-499/1234` (RFC 9110, 14.4).
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, _size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    (start <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_nonsense_is_none() {
        assert_eq!(content_range("bytes 0-499/1234"), Some((0, 499)));
        assert_eq!(content_range("bytes 5-5/*"), Some((5, 5)));
        for text in ["", "bytes */1234", "bytes 9-5/10", "0-5/10", "bytes -5/10", "bytes 99999999999999999999-5/6"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
