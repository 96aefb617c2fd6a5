//! Why a pattern is no regular expression, in the words of Go's parser.

use regex::Regex;

pub(crate) fn wrong(pattern: &str) -> Option<String> {
    let reason = reason(pattern);
    // What our parser takes and Go's does not.
    let nested = reason.starts_with("invalid nested repetition operator");
    (nested || Regex::new(pattern).is_err()).then(|| format!("error parsing regexp: {reason}"))
}

fn reason(pattern: &str) -> String {
    let chars: Vec<(usize, char)> = pattern.char_indices().collect();
    let from = |at: usize| pattern.get(at..).unwrap_or_default();
    let (mut depth, mut repeatable, mut at) = (0_usize, false, 0);
    while let Some(&(start, c)) = chars.get(at) {
        at += 1;
        match c {
            '\\' => match chars.get(at) {
                None => return "trailing backslash at end of expression: ``".to_owned(),
                Some((_, escaped)) => {
                    at += 1;
                    let known = !escaped.is_ascii_alphanumeric() || "aftnrvdDsSwWbBAzxpPQEC01234567".contains(*escaped);
                    if !known {
                        return format!("invalid escape sequence: `\\{escaped}`");
                    }
                    repeatable = true;
                }
            },
            '[' => {
                let mut end = at + usize::from(matches!(chars.get(at), Some((_, '^'))));
                // A bracket that comes first stands for itself.
                end += 1;
                while let Some((_, c)) = chars.get(end) {
                    match c {
                        ']' => break,
                        '\\' => end += 2,
                        _ => end += 1,
                    }
                }
                if end >= chars.len() {
                    return format!("missing closing ]: `{}`", from(start));
                }
                at = end + 1;
                repeatable = true;
            }
            '(' => {
                depth += 1;
                repeatable = false;
                let rest = from(start);
                if let Some(bad) = ["(?=", "(?!", "(?<=", "(?<!", "(?>"].into_iter().find(|bad| rest.starts_with(bad)) {
                    let shown = if bad.len() == 4 { bad } else { bad.get(..3).unwrap_or(bad) };
                    return format!("invalid or unsupported Perl syntax: `{shown}`");
                }
                if rest.starts_with("(?") {
                    while chars.get(at).is_some_and(|(_, c)| !matches!(c, ':' | ')' | '>')) {
                        at += 1;
                    }
                    at += usize::from(!matches!(chars.get(at), Some((_, ')'))));
                }
            }
            ')' => match depth.checked_sub(1) {
                Some(less) => {
                    depth = less;
                    repeatable = true;
                }
                None => return format!("unexpected ): `{pattern}`"),
            },
            '*' | '+' | '?' => {
                if !repeatable {
                    return format!("missing argument to repetition operator: `{c}`");
                }
                at += usize::from(matches!(chars.get(at), Some((_, '?'))));
                if let Some((_, next @ ('*' | '+' | '?'))) = chars.get(at) {
                    return format!("invalid nested repetition operator: `{c}{next}`");
                }
            }
            '|' | '^' => repeatable = false,
            _ => repeatable = true,
        }
    }
    if depth > 0 {
        format!("missing closing ): `{pattern}`")
    } else {
        format!("invalid character class range: `{pattern}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_gos() {
        for (pattern, why) in [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("\\y", "invalid escape sequence: `\\y`"),
        ] {
            assert_eq!(wrong(pattern), Some(format!("error parsing regexp: {why}")), "{pattern}");
        }
        assert_eq!(wrong("^[a-z]+(x|y)?$"), None);
    }
}
