//! How fields are called in expressions whose names are no identifiers, or words of the language.
//!
//! Source: "CustomResourceDefinition: property names" of Kubernetes' documentation.

/// Words of the language, and those it keeps for later.
const WORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "void",
    "var",
    "while",
];
/// Names that would read as escaped words.
const ESCAPED: [&str; 3] = ["__true__", "__in__", "__null__"];
const SIGNS: [(&str, &str); 4] = [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// Whether a name in expressions may be this.
pub fn is_identifier(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(fits) && !WORDS.contains(&name)
}

/// The name in expressions; none if no expression can name it.
pub fn escape(name: &str) -> Option<String> {
    if WORDS.contains(&name) || ESCAPED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some((sign, word)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            out.push_str(word);
            rest = rest.get(sign.len()..).unwrap_or_default();
            continue;
        }
        if !c.is_ascii_alphanumeric() && c != '_' {
            return None;
        }
        out.push(c);
        rest = rest.get(1..).unwrap_or_default();
    }
    let first = out.chars().next()?;
    (!first.is_ascii_digit()).then_some(out)
}
