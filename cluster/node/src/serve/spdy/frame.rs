//! Frames of SPDY/3.1 (draft 3, section 2.2) as values. Pure.

/// What the eight bytes say that begin each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Control { version: u16, kind: u16, flags: u8, length: usize },
    Data { stream: u32, fin: bool, length: usize },
}

pub const VERSION: u16 = 3;
pub const HEAD: usize = 8;
/// All that streams have to agree on fits in by far; data frames are not bounded, since they are passed on in pieces.
pub const LONGEST_CONTROL: usize = 16 << 10;

pub const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
pub const RST_STREAM: u16 = 3;
pub const PING: u16 = 6;
pub const GOAWAY: u16 = 7;
pub const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

pub const FIN: u8 = 1;

/// Why a stream is reset (2.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    ProtocolError = 1,
    RefusedStream = 3,
    Cancel = 5,
}

/// Why a connection ends (2.6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    Ok = 0,
    ProtocolError = 1,
}

/// Stream numbers have 31 bits.
const NUMBER: u32 = 0x7fff_ffff;

pub fn head(bytes: [u8; HEAD]) -> Head {
    let [a, b, c, d, flags, x, y, z] = bytes;
    let length = u32::from_be_bytes([0, x, y, z]) as usize;
    if a & 0x80 == 0 {
        return Head::Data { stream: u32::from_be_bytes([a, b, c, d]), fin: flags & FIN != 0, length };
    }
    Head::Control { version: u16::from_be_bytes([a & 0x7f, b]), kind: u16::from_be_bytes([c, d]), flags, length }
}

/// The 32 bits at `at`; stream numbers without their reserved bit.
pub fn number(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

pub fn stream(payload: &[u8]) -> Option<u32> {
    number(payload, 0).map(|n| n & NUMBER)
}

pub fn data(stream: u32, fin: bool, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = (stream & NUMBER).to_be_bytes();
    let [_, x, y, z] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, u8::from(fin), x, y, z]
}

fn control(kind: u16, payload: &[&[u8]]) -> Vec<u8> {
    let length: usize = payload.iter().map(|p| p.len()).sum();
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&u32::try_from(length).unwrap_or_default().to_be_bytes());
    payload.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

pub fn syn_reply(stream: u32, headers: &[u8]) -> Vec<u8> {
    control(SYN_REPLY, &[&stream.to_be_bytes(), headers])
}

pub fn rst_stream(stream: u32, why: Reset) -> Vec<u8> {
    control(RST_STREAM, &[&stream.to_be_bytes(), &(why as u32).to_be_bytes()])
}

pub fn ping(id: u32) -> Vec<u8> {
    control(PING, &[&id.to_be_bytes()])
}

pub fn goaway(last: u32, why: Goodbye) -> Vec<u8> {
    control(GOAWAY, &[&last.to_be_bytes(), &(why as u32).to_be_bytes()])
}

/// Stream 0 is the connection as a whole (SPDY/3.1).
pub fn window_update(stream: u32, more: u32) -> Vec<u8> {
    control(WINDOW_UPDATE, &[&stream.to_be_bytes(), &more.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        for (bytes, expected) in [
            ([0, 0, 0, 5, 1, 0, 1, 2], Head::Data { stream: 5, fin: true, length: 258 }),
            ([0x7f, 255, 255, 255, 0, 255, 255, 255], Head::Data { stream: NUMBER, fin: false, length: 0xff_ffff }),
            ([0x80, 3, 0, 1, 1, 0, 0, 10], Head::Control { version: 3, kind: SYN_STREAM, flags: FIN, length: 10 }),
        ] {
            assert_eq!(head(bytes), expected);
        }
        assert_eq!(data(5, true, 258), [0, 0, 0, 5, 1, 0, 1, 2]);
        assert_eq!(rst_stream(7, Reset::RefusedStream), [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 3]);
        assert_eq!(ping(9), [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]);
        assert_eq!(stream(&[0xff, 0, 0, 1]), Some(0x7f00_0001));
        assert_eq!(number(&[0, 0, 1], 0), None);
    }
}
