//! Texts and regular expressions. Positions count characters, as cel-go's do.

use regex::{Regex, RegexBuilder};

use crate::eval::{Evaluated, Failure, failed};
use crate::value::Value;

/// What a compiled expression may take up: more than any that is meant well.
const REGEX_BYTES: usize = 1 << 20;

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    use Value::{Int, List, String};
    Some(match (function, args) {
        ("jsonpatch.escapeKey", [Value::String(key)]) => Ok(key.replace('~', "~0").replace('/', "~1").into()),
        ("contains", [String(text), String(part)]) => Ok(text.contains(&**part).into()),
        ("startsWith", [String(text), String(part)]) => Ok(text.starts_with(&**part).into()),
        ("endsWith", [String(text), String(part)]) => Ok(text.ends_with(&**part).into()),
        ("matches", [String(text), String(pattern)]) => regex(pattern).map(|regex| regex.is_match(text).into()),
        ("find", [String(text), String(pattern)]) => {
            regex(pattern).map(|regex| regex.find(text).map_or("", |found| found.as_str()).into())
        }
        ("findAll", [String(text), String(pattern)]) => regex(pattern).map(|regex| find_all(&regex, text, -1)),
        ("findAll", [String(text), String(pattern), Int(most)]) => {
            regex(pattern).map(|regex| find_all(&regex, text, *most))
        }
        ("charAt", [String(text), Int(at)]) => char_at(text, *at),
        ("indexOf", [String(text), String(part)]) => index_of(text, part, 0),
        ("indexOf", [String(text), String(part), Int(from)]) => index_of(text, part, *from),
        ("lastIndexOf", [String(text), String(part)]) => last_index_of(text, part, None),
        ("lastIndexOf", [String(text), String(part), Int(from)]) => last_index_of(text, part, Some(*from)),
        ("lowerAscii", [String(text)]) => Ok(text.to_ascii_lowercase().into()),
        ("upperAscii", [String(text)]) => Ok(text.to_ascii_uppercase().into()),
        ("trim", [String(text)]) => Ok(text.trim().into()),
        ("replace", [String(text), String(from), String(to)]) => Ok(text.replace(&**from, to).into()),
        ("replace", [String(text), String(from), String(to), Int(most)]) => Ok(match usize::try_from(*most) {
            Ok(most) => text.replacen(&**from, to, most).into(),
            Err(_) => text.replace(&**from, to).into(),
        }),
        ("split", [String(text), String(by)]) => Ok(split(text, by, -1)),
        ("split", [String(text), String(by), Int(most)]) => Ok(split(text, by, *most)),
        ("substring", [String(text), Int(from)]) => substring(text, *from, None),
        ("substring", [String(text), Int(from), Int(to)]) => substring(text, *from, Some(*to)),
        ("join", [List(items)]) => join(items, ""),
        ("join", [List(items), String(by)]) => join(items, by),
        ("strings.quote", [String(text)]) => Ok(quote(text).into()),
        _ => return None,
    })
}

pub(crate) fn regex(pattern: &str) -> Result<Regex, Failure> {
    let built = RegexBuilder::new(pattern).size_limit(REGEX_BYTES).build();
    built.map_err(|error| failed(format!("error parsing regexp: {error}")))
}

fn find_all(regex: &Regex, text: &str, most: i64) -> Value {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    regex.find_iter(text).take(most).map(|found| Value::from(found.as_str())).collect::<Vec<_>>().into()
}

fn out_of_range(at: i64) -> Failure {
    failed(format!("index out of range: {at}"))
}

/// The byte where a character begins; the end counts as one.
fn byte(text: &str, at: i64) -> Result<usize, Failure> {
    let at_char = usize::try_from(at).map_err(|_| out_of_range(at))?;
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.skip(at_char).map(Some).next().flatten().ok_or_else(|| out_of_range(at))
}

fn characters(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

fn char_at(text: &str, at: i64) -> Evaluated {
    let start = byte(text, at)?;
    let found = text.get(start..).and_then(|rest| rest.chars().next());
    Ok(found.map(std::string::String::from).unwrap_or_default().into())
}

fn index_of(text: &str, part: &str, from: i64) -> Evaluated {
    let start = byte(text, from)?;
    let rest = text.get(start..).unwrap_or_default();
    let found = rest.find(part).and_then(|at| rest.get(..at));
    Ok(Value::Int(found.map_or(-1, |before| from + characters(before))))
}

fn last_index_of(text: &str, part: &str, from: Option<i64>) -> Evaluated {
    let end = match from {
        None => text.len(),
        Some(from) => (byte(text, from)? + part.len()).min(text.len()),
    };
    // The end may stand inside of a character only where no match can end.
    let searched = (end..=text.len()).find_map(|end| text.get(..end)).unwrap_or(text);
    let found = searched.rfind(part).and_then(|at| text.get(..at));
    Ok(Value::Int(found.map_or(-1, characters)))
}

fn substring(text: &str, from: i64, to: Option<i64>) -> Evaluated {
    let start = byte(text, from)?;
    let end = to.map_or(Ok(text.len()), |to| byte(text, to))?;
    match text.get(start..end) {
        Some(part) => Ok(part.into()),
        None => Err(failed(format!("invalid substring range. start: {from}, end: {}", to.unwrap_or(0)))),
    }
}

fn split(text: &str, by: &str, most: i64) -> Value {
    let parts: Vec<Value> = match (usize::try_from(most), by) {
        (Ok(0), _) => Vec::new(),
        (Ok(most), "") => {
            let mut parts: Vec<String> = text.chars().map(String::from).collect();
            if parts.len() > most {
                let rest = parts.split_off(most - 1).concat();
                parts.push(rest);
            }
            parts.into_iter().map(Value::from).collect()
        }
        (Err(_), "") => text.chars().map(|c| Value::from(String::from(c))).collect(),
        (Ok(most), by) => text.splitn(most, by).map(Value::from).collect(),
        (Err(_), by) => text.split(by).map(Value::from).collect(),
    };
    parts.into()
}

fn join(items: &[Value], by: &str) -> Evaluated {
    let texts: Option<Vec<&str>> =
        items.iter().map(|v| if let Value::String(text) = v { Some(&**text) } else { None }).collect();
    texts.map(|texts| texts.join(by).into()).ok_or(Failure::NoOverload)
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
