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
