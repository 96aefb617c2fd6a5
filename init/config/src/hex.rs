//! Bytes as lower-case hexadecimal digits, and nothing else read as such.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `N` bytes; `None` for anything that [`encode`] would not have written.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).and_then(|at| u8::try_from(at).ok());
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes?.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_is_read() {
        assert_eq!(encode(&[0, 0xa9, 0xff]), "00a9ff");
        assert_eq!(decode("00a9ff"), Some([0, 0xa9, 0xff]));
        for wrong in ["", "00a9f", "00A9ff", "00a9ff0", "00a9ff00", "00 9ff", "00a9fé"] {
            assert_eq!(decode::<3>(wrong), None, "{wrong}");
        }
    }
}
