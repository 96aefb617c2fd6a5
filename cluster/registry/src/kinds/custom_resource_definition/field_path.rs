//! Paths from a schema to one of its fields: `.spec.a`, and `.spec['a-b']` where brackets are allowed.

use std::borrow::Cow;

use serde_json::Value;

use super::validate::map;
use crate::value::Look as _;

/// What a path leads to.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) names: Vec<Cow<'a, str>>,
    pub(super) schema: &'a Value,
}

/// Follows a path, or says why there is no such field.
pub(super) fn find<'a>(schema: &'a Value, path: &'a str, brackets: bool) -> Result<Found<'a>, String> {
    const END: &str = "unexpected end of JSON path";
    let mut found = Found { names: Vec::new(), schema };
    let mut rest = path;
    loop {
        match token(&mut rest) {
            None => return Ok(found),
            Some(".") => found.step(Cow::Borrowed(token(&mut rest).ok_or(END)?))?,
            Some("[") if !brackets => return Err("array notation is not allowed".to_owned()),
            Some("[") => {
                let text = token(&mut rest).ok_or(END)?;
                let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {text}"))?;
                found.step(unescaped(inner)?)?;
                match token(&mut rest).ok_or(END)? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            Some(other) => return Err(format!("expected [ or . but got: {other}")),
        }
    }
}

impl<'a> Found<'a> {
    fn step(&mut self, name: Cow<'a, str>) -> Result<(), String> {
        let named = map(self.schema, "properties").filter(|properties| !properties.is_empty());
        let any = self.schema.look("additionalProperties");
        let next = match named {
            Some(properties) => properties.get(&*name),
            None => Some(any).filter(|any| any.is_object()),
        };
        self.schema = next.ok_or("does not refer to a valid field")?;
        self.names.push(name);
        Ok(())
    }
}

/// The next delimiter, quoted text, or text up to a delimiter.
fn token<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = *rest;
    let end = match text.chars().next()? {
        '.' | '[' | ']' => 1,
        '\'' => quoted(text).unwrap_or(text.len()),
        _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
    };
    let (token, after) = text.split_at_checked(end)?;
    *rest = after;
    Some(token)
}

/// Where a quoted text ends.
fn quoted(text: &str) -> Option<usize> {
    let ends = text.char_indices().skip(1).filter(|(_, c)| *c == '\'').map(|(at, _)| at);
    ends.into_iter().find(|at| !text.get(..*at).is_some_and(|before| before.ends_with('\\'))).map(|at| at + 1)
}

fn unescaped(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match (c, c == '\\') {
            (plain, false) => plain,
            (_, true) => match chars.next().unwrap_or('\\') {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                same @ ('\'' | '\\') => same,
                other => return Err(format!("invalid string literal: invalid escape char \\{other}")),
            },
        });
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_followed_or_said_to_lead_nowhere() {
        let schema = json!({"properties": {"a": {"properties": {"b.c": {"type": "string"}}}, "m": {"additionalProperties": {"type": "integer"}}}});
        for (path, brackets, wanted) in [
            (".a", true, Ok("a")),
            (".a['b.c']", true, Ok("a|b.c")),
            (".m.x", true, Ok("m|x")),
            (".m['\\'']", true, Ok("m|'")),
            (".a['b.c']", false, Err("array notation is not allowed")),
            (".n", true, Err("does not refer to a valid field")),
            (".a.", true, Err("unexpected end of JSON path")),
            ("a", true, Err("expected [ or . but got: a")),
            (".m[0]", true, Err("expected single quoted string but got 0")),
            (".m['a'.b", true, Err("expected ] but got .")),
            (".m['\\q']", true, Err("invalid string literal: invalid escape char \\q")),
        ] {
            let found = find(&schema, path, brackets).map(|found| found.names.join("|"));
            assert_eq!(found, wanted.map(str::to_owned).map_err(str::to_owned), "{path}");
        }
    }
}
