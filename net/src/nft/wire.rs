//! Netlink messages as bytes: headers, attributes, nesting. Knows nothing of what they mean.

/// `struct nlmsghdr` and `struct nfgenmsg` before the attributes.
const HEADER: usize = 16;
const NESTED: u16 = 0x8000;

pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;

/// Messages one after the other, as one datagram carries them.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    /// Sequence number of the last message.
    sequence: u32,
    /// Where the last message begins.
    last: usize,
}

impl Messages {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Appends a message; `body` writes its attributes.
    pub fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: impl FnOnce(&mut Attributes)) {
        self.last = self.bytes.len();
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        body(&mut Attributes { bytes: &mut self.bytes });
        let length = (self.bytes.len() - self.last) as u32;
        patch(&mut self.bytes, self.last, &length.to_ne_bytes());
    }

    /// Asks for an answer to the last message.
    pub fn acknowledge_last(&mut self) {
        let at = self.last + 6;
        let flags = self.bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_ne_bytes);
        patch(&mut self.bytes, at, &(flags | NLM_F_ACK).to_ne_bytes());
    }
}

/// Writes the attributes of one message.
#[derive(Debug)]
pub struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    pub fn raw(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |bytes| bytes.extend_from_slice(value));
    }

    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |bytes| {
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        });
    }

    /// Numbers are big-endian in nf_tables.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.raw(kind, &value.to_be_bytes());
    }

    pub fn long(&mut self, kind: u16, value: u64) {
        self.raw(kind, &value.to_be_bytes());
    }

    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Attributes)) {
        self.attribute(kind | NESTED, |bytes| body(&mut Attributes { bytes }));
    }

    /// An attribute that holds attributes already encoded.
    pub fn nested(&mut self, kind: u16, value: &[u8]) {
        self.raw(kind | NESTED, value);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(self.bytes);
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "attribute {kind} has {length} bytes");
        patch(self.bytes, start, &(length as u16).to_ne_bytes());
        self.bytes.resize(start + length.next_multiple_of(4), 0);
    }
}

fn patch(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(slot) = bytes.get_mut(at..at + value.len()) {
        slot.copy_from_slice(value);
    }
}

/// One message as it came from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    pub kind: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// Splits a datagram into its messages; ends at the first that does not fit.
pub fn split(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let (header, _) = datagram.split_first_chunk::<HEADER>()?;
        let [a, b, c, d, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let payload = datagram.get(HEADER..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        let sequence = u32::from_ne_bytes([s0, s1, s2, s3]);
        Some(Received { kind: u16::from_ne_bytes([k0, k1]), sequence, payload })
    })
}

/// Splits a message's body into its attributes, flags taken off their kinds; ends at the first that does not fit.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_laid_out_as_the_kernel_reads_it() {
        let mut messages = Messages::default();
        messages.message(0x0a00, NLM_F_CREATE, 1, 0, |attributes| {
            attributes.text(1, "kedge");
            attributes.nest(4, |inner| inner.number(2, 7));
        });
        messages.acknowledge_last();
        let expected: &[u8] = &[
            44, 0, 0, 0, 0, 0x0a, 0x05, 0x04, 1, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
            1, 0, 0, 0, // nfgenmsg
            10, 0, 1, 0, b'k', b'e', b'd', b'g', b'e', 0, 0, 0, // padded text
            12, 0, 4, 0x80, 8, 0, 2, 0, 0, 0, 0, 7, // nested number
        ];
        assert_eq!(messages.bytes(), expected);
    }

    proptest! {
        #[test]
        fn splitting_never_panics_and_ends(datagram in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(split(&datagram).count() <= datagram.len() / HEADER);
            prop_assert!(attributes(&datagram).count() <= datagram.len() / 4);
        }
    }
}
