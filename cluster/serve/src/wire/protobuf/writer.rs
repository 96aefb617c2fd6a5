//! Fields as they stand on the wire: a key of number and form, then the value.

pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

pub fn key(out: &mut Vec<u8>, number: u32, wire: u64) {
    varint(out, u64::from(number) << 3 | wire);
}

pub fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    key(out, number, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

pub fn integer(out: &mut Vec<u8>, number: u32, value: i64) {
    key(out, number, 0);
    varint(out, value.cast_unsigned());
}

pub fn double(out: &mut Vec<u8>, number: u32, value: f64) {
    key(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A message whose length is known only once `write` has written it.
pub fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, number, 2);
    let at = out.len();
    // Most messages need no more than this one byte for their length.
    out.push(0);
    write(out);
    let length = out.len().saturating_sub(at + 1);
    match (u8::try_from(length), out.get_mut(at)) {
        (Ok(short @ ..0x80), Some(first)) => *first = short,
        _ => {
            let mut head = Vec::with_capacity(8);
            varint(&mut head, length as u64);
            out.splice(at..=at, head);
        }
    }
}
