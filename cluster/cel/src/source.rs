//! Places in an expression, and errors as cel-go prints them.

/// Something wrong at a byte of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) at: usize,
    pub(crate) what: String,
}

impl Wrong {
    pub(crate) fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

/// One paragraph for each: the message, the line, and a mark below the character.
pub(crate) fn render(text: &str, mut errors: Vec<Wrong>) -> String {
    errors.sort_by_key(|wrong| wrong.at);
    let one = |wrong: &Wrong| {
        let before = text.get(..wrong.at).unwrap_or(text);
        let line = before.matches('\n').count();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(start..).unwrap_or_default().chars().count();
        let shown = text.lines().nth(line).unwrap_or_default();
        format!("ERROR: <input>:{}:{}: {}\n | {shown}\n | {}^", line + 1, column + 1, wrong.what, ".".repeat(column))
    };
    errors.iter().map(one).collect::<Vec<_>>().join("\n")
}
