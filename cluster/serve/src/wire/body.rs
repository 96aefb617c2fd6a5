//! Bodies: JSON or YAML into a value, noting keys that stand twice, within bounds of depth and number.
//!
//! A repeated key is not an error here: whether it is one depends on `fieldValidation`. Its values are merged the way
//! that upstream's decoder does: objects into each other, all else replaced.

use kedge_api::Status;
use kedge_registry::gojson;
use serde::de::DeserializeSeed;
use serde_json::Value;

use super::media::Format;
use super::protobuf;
use super::walk::{Path, Seed, State};

/// A body that was read.
#[derive(Debug, Default, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// One line for each key that stood twice, as a warning shows it.
    pub duplicates: Vec<String>,
}

/// Reads a body; `strict` words YAML's duplicates as one error. The error is the text that upstream puts after
/// "couldn't get version/kind" or the like.
pub fn decode(bytes: &[u8], format: Format, strict: bool) -> Result<Decoded, String> {
    match format {
        Format::Json => json(bytes),
        // JSON is YAML, and kubectl labels JSON so: the quick parser first.
        Format::Yaml => match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'{') => json(bytes).or_else(|_| yaml(bytes, strict)),
            _ => yaml(bytes, strict),
        },
        Format::Protobuf => {
            let value = protobuf::decode(bytes, None).map_err(|e| e.to_string())?;
            Ok(Decoded { value, duplicates: Vec::new() })
        }
    }
}

fn json(bytes: &[u8]) -> Result<Decoded, String> {
    let state = State::once();
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = Seed { state: &state, path: Path::Root }
        .deserialize(&mut parser)
        .and_then(|value| parser.end().map(|()| value));
    match value {
        Ok(value) => {
            let duplicates =
                state.into_duplicates().into_iter().map(|path| format!("duplicate field {path:?}")).collect();
            Ok(Decoded { value, duplicates })
        }
        Err(e) => Err(gojson::error(bytes).unwrap_or_else(|| e.to_string())),
    }
}

fn yaml(bytes: &[u8], strict: bool) -> Result<Decoded, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    if brackets(bytes) > MAX_BRACKETS {
        return Err(format!("yaml: exceeded max depth of {MAX_BRACKETS}"));
    }
    let once = |stop_at| {
        let state = State::new(stop_at);
        // Of several documents the first counts.
        let value = match serde_yaml::Deserializer::from_str(text).next() {
            Some(document) => Seed { state: &state, path: Path::Root }.deserialize(document),
            None => Ok(Value::Null),
        };
        (value, state.into_duplicates())
    };
    let (value, duplicates) = once(None);
    let value = value.map_err(|e| yaml_error(&e))?;
    let mut lines = Vec::with_capacity(duplicates.len());
    for (nth, path) in duplicates.iter().enumerate().take(16) {
        // Only errors carry a position: fail at the nth duplicate on purpose.
        let line = once(Some(nth)).0.err().and_then(|e| e.location()).map_or(0, |at| at.line());
        let key = path.rsplit('.').next().unwrap_or(path);
        lines.push(format!("line {line}: key {key:?} already set in map"));
    }
    if strict && !lines.is_empty() {
        lines = vec![format!("yaml: unmarshal errors:\n  {}", lines.join("\n  "))];
    }
    Ok(Decoded { value, duplicates: lines })
}

/// libyaml's scanner looks at each open bracket again for every token, so that a body of nothing but brackets would take it minutes. No
/// document is read that is a tenth as deep.
const MAX_BRACKETS: usize = 1000;

/// How many brackets are open at once at most: those counted that stand where a value may begin, whatever is around them.
fn brackets(bytes: &[u8]) -> usize {
    let (mut open, mut most, mut begins) = (0_usize, 0, true);
    for byte in bytes {
        match byte {
            b'[' | b'{' if begins => {
                open += 1;
                most = most.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        begins = byte.is_ascii_whitespace() || matches!(byte, b'[' | b'{' | b',' | b':' | b'-' | b'?');
    }
    most
}

/// As Go's parser says it: the line in front, unless it is the first, and where a construct is at fault, that of its begin. Its grammar
/// counts lines from zero, its scanner from one.
fn yaml_error(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let (problem, rest) = text.split_once(" at line ").unwrap_or((&text, ""));
    let (place, context) = rest.split_once(", ").unwrap_or((rest, ""));
    let line = |place: &str| place.split(' ').next().and_then(|line| line.parse::<usize>().ok()).unwrap_or(1);
    let begin = context.split_once(" at line ").map_or(1, |(_, place)| line(place));
    let line = if begin > 1 { begin } else { line(place) };
    let of_grammar = problem.starts_with("did not find expected");
    match line {
        1 => format!("yaml: {problem}"),
        line => format!("yaml: line {}: {problem}", line - usize::from(of_grammar)),
    }
}

/// The error of a body that is no object of `kind`, as upstream words it.
pub fn unrecognized(kind: &str, why: &str, bytes: &[u8], format: Format) -> Status {
    let prefix = match format {
        Format::Json => "couldn't get version/kind; json parse error: ",
        Format::Yaml | Format::Protobuf => "",
    };
    let seen = excerpt(bytes);
    Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {prefix}{why} ({seen})"))
}

/// The beginning of a body: as it is if it looks like JSON, else in hexadecimal.
pub fn excerpt(bytes: &[u8]) -> String {
    const MAX: usize = 30;
    let (head, more) = bytes
        .split_at_checked(MAX)
        .map_or((bytes, ""), |(head, tail)| (head, if tail.is_empty() { "" } else { " ..." }));
    match head.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => {
            let hex = head.iter().fold(String::new(), |mut hex, byte| {
                hex.push_str(&format!("{byte:02x}"));
                hex
            });
            format!("{hex}{more}")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire::walk::MAX_NODES;

    #[test]
    fn brackets_are_counted_where_values_begin() {
        for (text, most) in [
            ("{a: {b: [1, [2]]}}", 4),
            ("a: [[\n - {x}", 3),
            ("a: text[ with(brackets{\nb: [c]", 1),
            ("a: !t &x [!t {", 2),
            ("[a, b], [c], [d]", 1),
            ("]]]}}", 0),
        ] {
            assert_eq!(brackets(text.as_bytes()), most, "{text}");
        }
        let deep = "[".repeat(MAX_BRACKETS + 1);
        assert_eq!(decode(deep.as_bytes(), Format::Yaml, false), Err("yaml: exceeded max depth of 1000".to_owned()));
    }

    #[test]
    fn repeated_keys_are_merged_and_reported() {
        let body = br#"{"kind":"ConfigMap","data":{"k":"1","k":"2"},"data":{"z":"3"},"l":[{"a":1,"a":2}]}"#;
        let decoded = decode(body, Format::Json, false).unwrap();
        assert_eq!(decoded.value, json!({"kind": "ConfigMap", "data": {"k": "2", "z": "3"}, "l": [{"a": 2}]}));
        assert_eq!(
            decoded.duplicates,
            [r#"duplicate field "data.k""#, r#"duplicate field "data""#, r#"duplicate field "l[0].a""#]
        );
    }

    #[test]
    fn yaml_names_the_line() {
        let body = b"kind: ConfigMap\ndata:\n  k: '1'\n  1: x\n  k: '2'\nkind: X\n---\nkind: Y\n";
        let decoded = decode(body, Format::Yaml, false).unwrap();
        assert_eq!(decoded.value, json!({"kind": "X", "data": {"k": "2", "1": "x"}}));
        assert_eq!(
            decoded.duplicates,
            [r#"line 5: key "k" already set in map"#, r#"line 6: key "kind" already set in map"#]
        );
        let strict = decode(body, Format::Yaml, true).unwrap().duplicates;
        assert_eq!(
            strict,
            [
                "yaml: unmarshal errors:\n  line 5: key \"k\" already set in map\n  line 6: key \"kind\" already set in map"
            ]
        );
    }

    #[test]
    fn broken_bodies_are_worded_as_upstream_does() {
        assert_eq!(decode(b"{", Format::Json, false).unwrap_err(), "unexpected end of JSON input");
        assert_eq!(decode(b"", Format::Json, false).unwrap_err(), "unexpected end of JSON input");
        let unquoted = "invalid character 'k' looking for beginning of object key string";
        assert_eq!(decode(b"{kind: x", Format::Json, false).unwrap_err(), unquoted);
        assert_eq!(decode(b"{} {}", Format::Json, false).unwrap_err(), "invalid character '{' after top-level value");
        assert!(
            decode(b"a: b: c", Format::Yaml, false).unwrap_err().starts_with("yaml: mapping values are not allowed")
        );
        for (text, why) in [
            ("a: [", "yaml: line 1: did not find expected node content"),
            ("a: b\nc: [\n", "yaml: line 2: did not find expected node content"),
            ("a: b\n  c: d\n", "yaml: line 2: mapping values are not allowed in this context"),
            ("a: &a [*a]", "yaml: recursion limit exceeded"),
        ] {
            assert_eq!(decode(text.as_bytes(), Format::Yaml, false).unwrap_err(), why, "{text}");
        }
        let status = unrecognized("ConfigMap", "x", b"[]", Format::Json);
        assert!(status.message.ends_with(": x (5b5d)"), "{}", status.message);
    }

    #[test]
    fn bombs_are_refused() {
        let deep = "[".repeat(100_000);
        assert!(decode(deep.as_bytes(), Format::Json, false).is_err());
        assert!(decode(deep.as_bytes(), Format::Yaml, false).is_err());
        let wide = format!("[{}0]", "0,".repeat(MAX_NODES));
        assert!(decode(wide.as_bytes(), Format::Json, false).unwrap_err().contains("more than"));
        let mut aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..12 {
            aliases.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(",")));
        }
        assert!(decode(aliases.as_bytes(), Format::Yaml, false).is_err());
    }

    #[test]
    fn a_long_key_is_not_told_for_each_that_stands_twice_below_it() {
        let long = format!(r#"{{"{}":{{{}"a":1}}}}"#, "k".repeat(1 << 20), r#""a":1,"#.repeat(200_000));
        let decoded = decode(long.as_bytes(), Format::Json, true).unwrap();
        assert_eq!(decoded.duplicates.len(), 1);
        let many: String = (0..1000).map(|n| format!("a{n}: 1\na{n}: 2\n")).collect();
        assert_eq!(decode(many.as_bytes(), Format::Yaml, false).unwrap().duplicates.len(), 16);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), strict: bool) {
            for format in [Format::Json, Format::Yaml] {
                if let Err(why) = decode(&bytes, format, strict) {
                    prop_assert!(!why.is_empty());
                    prop_assert!(!unrecognized("X", &why, &bytes, format).message.is_empty());
                }
            }
        }

        #[test]
        fn almost_documents_never_panic(text in r#"([{}\[\]":,&* \n0-9a-z.~|>-]|true|null|- |a: ){0,80}"#) {
            for format in [Format::Json, Format::Yaml] {
                let decoded = decode(text.as_bytes(), format, false);
                if let (Ok(decoded), Format::Json) = (decoded, format) {
                    prop_assert_eq!(decoded.duplicates.is_empty(), serde_json::from_str::<Value>(&text).is_ok_and(|v| v == decoded.value) || !decoded.duplicates.is_empty());
                }
            }
        }
    }
}
