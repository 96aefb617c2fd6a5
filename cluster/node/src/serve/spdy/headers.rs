//! Header blocks: names and values, compressed over all frames of a connection as one zlib stream (draft 3, section 2.6.10).
//!
//! Read with the dictionary that both sides know. What is written is a zlib stream, too, but of stored blocks and without the
//! dictionary, which RFC 1950 leaves to the writer: our replies have no headers at all.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress};

use super::frame::number;

/// A block's longest text: what Kubernetes says in headers is a few words.
const LONGEST: usize = 16 << 10;

/// Words that stand in the dictionary with their length before them, then text that stands as it is.
const WORDS: &str = "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,accept-language,accept-ranges,age,\
    allow,authorization,cache-control,connection,content-base,content-encoding,content-language,content-length,\
    content-location,content-md5,content-range,content-type,date,etag,expect,expires,from,host,if-match,if-modified-since,\
    if-none-match,if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,proxy-authenticate,\
    proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,user-agent,vary,via,warning,\
    www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,public,set-cookie,keep-alive,origin";
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
/// The dictionary's Adler-32, by which a zlib stream names it.
const DICTIONARY: [u8; 4] = [0xe3, 0xc6, 0xa7, 0xc2];

fn dictionary() -> Vec<u8> {
    let mut all = Vec::with_capacity(1423);
    for word in WORDS.split(',') {
        all.extend_from_slice(&u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
        all.extend_from_slice(word.as_bytes());
    }
    all.extend_from_slice(TEXT.as_bytes());
    all
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("headers are not compressed by zlib with SPDY's dictionary")]
    Zlib,
    #[error("headers are longer than {LONGEST} bytes")]
    Long,
    #[error("headers end in the middle")]
    Short,
    #[error("headers are not UTF-8")]
    Text,
}

/// Names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn parse(block: &[u8]) -> Result<Self, Error> {
        let count = number(block, 0).ok_or(Error::Short)?;
        let mut rest = block.get(4..).unwrap_or_default();
        let mut word = || -> Result<String, Error> {
            let length = number(rest, 0).ok_or(Error::Short)? as usize;
            let text = rest.get(4..).and_then(|r| r.get(..length)).ok_or(Error::Short)?;
            rest = rest.get(4 + length..).unwrap_or_default();
            String::from_utf8(text.to_vec()).map_err(|_| Error::Text)
        };
        // Not taken at its word: each pair must be there.
        let pairs: Result<Vec<_>, Error> = (0..count).map(|_| Ok((word()?.to_ascii_lowercase(), word()?))).collect();
        pairs.map(Self)
    }
}

/// Reads the blocks of one connection, in order.
pub struct Reader {
    state: Box<DecompressorOxide>,
    /// The last 32 KiB, in a ring; at first, what the dictionary has.
    window: Vec<u8>,
    at: usize,
    begun: bool,
}

impl Default for Reader {
    fn default() -> Self {
        let mut window = dictionary();
        let at = window.len();
        window.resize(TINFL_LZ_DICT_SIZE, 0);
        Self { state: Box::default(), window, at, begun: false }
    }
}

impl Reader {
    pub fn read(&mut self, mut block: &[u8]) -> Result<Headers, Error> {
        if !self.begun {
            // RFC 1950: deflate, checksum of the two bytes, with a dictionary: this one.
            let Some(([method, flags, name @ ..], rest)) = block.split_first_chunk::<6>() else {
                return Err(Error::Zlib);
            };
            let sound = method & 15 == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0 && flags & 0x20 != 0;
            if !sound || *name != DICTIONARY {
                return Err(Error::Zlib);
            }
            (block, self.begun) = (rest, true);
        }
        let mut text = Vec::new();
        loop {
            let (status, read, made) =
                decompress(&mut self.state, block, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            text.extend_from_slice(self.window.get(self.at..self.at + made).unwrap_or_default());
            self.at = (self.at + made) % TINFL_LZ_DICT_SIZE;
            block = block.get(read..).unwrap_or_default();
            if text.len() > LONGEST {
                return Err(Error::Long);
            }
            match status {
                TINFLStatus::NeedsMoreInput if block.is_empty() => return Headers::parse(&text),
                TINFLStatus::HasMoreOutput => {}
                _ => return Err(Error::Zlib),
            }
        }
    }
}

/// Writes blocks without headers.
#[derive(Default)]
pub struct Writer {
    begun: bool,
}

impl Writer {
    pub fn empty(&mut self) -> &'static [u8] {
        // A zlib header, then a stored block of four bytes: the number of headers. An empty block after it has readers give out what they
        // read, as a flush does.
        const FIRST: &[u8] = &[0x78, 0x01, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        let skipped = if self.begun { 2 } else { 0 };
        self.begun = true;
        FIRST.get(skipped..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// Of zlib itself: `streamtype: error`, `port: 8080`, and then the same with `data`.
    const FIRST: &str = "78f9e3c6a7c202e50e703a2b294a4dcc851625aca9a0808614cb45e01c6061606100000000ffff";
    const SECOND: &str = "c2aa1454ea24a2ab04000000ffff";
    /// 70,000 times `a`.
    const BOMB: &str = "78f9e3c6a7c2ecd2311100300800319080441c74acfc520f8cc9dd3bf8f9287f37b24e0300000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000eb1e000000ffff";

    #[test]
    fn the_dictionary_is_the_one_of_the_specification() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((b << 16 | a).to_be_bytes(), DICTIONARY);
    }

    #[test]
    fn blocks_go_on_from_each_other() {
        let mut reader = Reader::default();
        for (block, kind) in [(FIRST, "error"), (SECOND, "data")] {
            let headers = reader.read(&bytes(block)).unwrap();
            assert_eq!((headers.get("streamtype"), headers.get("port")), (Some(kind), Some("8080")));
        }
        // More than the window holds: the ring goes round.
        let mut writer = Writer::default();
        let first = writer.empty().to_vec();
        for _ in 0..20_000 {
            assert_eq!(reader.read(&first[2..]).unwrap(), Headers::default());
        }
        assert_eq!(writer.empty(), &first[2..]);
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let good = bytes(FIRST);
        let cut = &good[..good.len() - 12];
        let mut other = good.clone();
        other[3] ^= 1;
        let mut broken = good.clone();
        broken[6] = 0xff;
        for (block, why) in [
            (&good[..5], Error::Zlib),
            (&other, Error::Zlib),
            (&broken, Error::Zlib),
            (cut, Error::Short),
            (&bytes(BOMB), Error::Long),
        ] {
            assert_eq!(Reader::default().read(block), Err(why));
        }
        for (text, why) in [
            (&b"\0\0\0\x01"[..], Error::Short),
            (b"\xff\xff\xff\xff", Error::Short),
            (b"\0\0\0\x01\xff\xff\xff\xffa", Error::Short),
            (b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0", Error::Text),
        ] {
            assert_eq!(Headers::parse(text), Err(why));
        }
    }
}
