//! What Go's JSON decoder says of a text that is no JSON.

/// Nothing is nested deeper.
const DEEPEST: usize = 10_000;

/// The error, or nothing if the text is one value.
pub fn error(text: &[u8]) -> Option<String> {
    let mut scan = Scan { text, at: 0 };
    scan.value().and_then(|()| scan.end()).err()
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) -> Option<u8> {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.peek()
    }

    fn wrong(&self, place: &str) -> Result<(), String> {
        match self.peek() {
            None => Err("unexpected end of JSON input".to_owned()),
            Some(byte) => Err(format!("invalid character {} {place}", quoted(byte))),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        match self.space() {
            None => Ok(()),
            Some(_) => self.wrong("after top-level value"),
        }
    }

    /// With all values in it: what is open is noted, not called, since a text may be all brackets.
    fn value(&mut self) -> Result<(), String> {
        let mut open = Vec::new();
        loop {
            match self.space() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    let close = if bracket == b'{' { b'}' } else { b']' };
                    if open.len() == DEEPEST {
                        return Err("exceeded max depth".to_owned());
                    }
                    open.push(close);
                    if self.space() != Some(close) {
                        self.key(close)?;
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return self.wrong("looking for beginning of value"),
            }
            loop {
                let Some(close) = open.last().copied() else { return Ok(()) };
                match self.space() {
                    Some(b',') => {
                        self.at += 1;
                        self.key(close)?;
                        break;
                    }
                    Some(byte) if byte == close => {
                        self.at += 1;
                        open.pop();
                    }
                    _ if close == b'}' => return self.wrong("after object key:value pair"),
                    _ => return self.wrong("after array element"),
                }
            }
        }
    }

    /// In an object, the key that the next value has.
    fn key(&mut self, close: u8) -> Result<(), String> {
        if close != b'}' {
            return Ok(());
        }
        match self.space() {
            Some(b'"') => self.string()?,
            _ => return self.wrong("looking for beginning of object key string"),
        }
        match self.space() {
            Some(b':') => self.at += 1,
            _ => return self.wrong("after object key"),
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..0x20) | None => return self.wrong("in string literal"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        self.at += 1;
        match self.peek() {
            Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => self.at += 1,
            Some(b'u') => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                        return self.wrong("in \\u hexadecimal character escape");
                    }
                }
                self.at += 1;
            }
            _ => return self.wrong("in string escape code"),
        }
        Ok(())
    }

    fn digits(&mut self, place: &str) -> Result<(), String> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return self.wrong(place);
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return self.wrong(&format!("in literal {word} (expecting {})", quoted(expected)));
            }
            self.at += 1;
        }
        Ok(())
    }
}

/// Go's decoder sees bytes: of a character beyond ASCII the first.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        b'\t' => "'\\t'".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        0x07 => "'\\a'".to_owned(),
        0x08 => "'\\b'".to_owned(),
        0x0b => "'\\v'".to_owned(),
        0x0c => "'\\f'".to_owned(),
        0..0x20 | 0x7f.. => format!("'\\x{byte:02x}'"),
        byte => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_gos_words() {
        assert_eq!(error("[".repeat(1_000_000).as_bytes()).as_deref(), Some("exceeded max depth"));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(error(deep.as_bytes()), None);
        for right in ["{}", " [1, -0.5e+3, \"a\\u00e4\\n\", true, null] ", "0"] {
            assert_eq!(error(right.as_bytes()), None, "{right}");
        }
        for (wrong, why) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{b", "invalid character 'b' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{\"a\":[1,{}],}", "invalid character '}' looking for beginning of object key string"),
            ("[[1]}", "invalid character '}' after array element"),
            ("\u{e4}", "invalid character '\\xc3' looking for beginning of value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("not", "invalid character 'o' in literal null (expecting 'u')"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u00g\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("'", "invalid character '\\'' looking for beginning of value"),
        ] {
            assert_eq!(error(wrong.as_bytes()).as_deref(), Some(why), "{wrong}");
        }
    }
}
