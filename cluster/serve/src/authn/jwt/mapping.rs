//! From the claims of a token to a user: by claims' names or by expressions, and only if what is demanded of both holds.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kedge_api::User;
use kedge_cel::value::Key;
use kedge_cel::{Environment, Failure, Program, Type, Value as Cel, Variables};
use serde_json::Value;

/// What one expression may cost.
const CALL: u64 = 1_000_000;

type Extra = BTreeMap<String, Vec<String>>;

#[derive(Debug, Clone)]
pub enum Source {
    Claim { name: String, prefix: String },
    Expression(Program),
}

impl Default for Source {
    fn default() -> Self {
        Self::Claim { name: String::new(), prefix: String::new() }
    }
}

/// What must be so.
#[derive(Debug, Clone)]
pub enum Demand {
    Is { claim: String, value: String },
    Holds { program: Program, expression: String, message: String },
}

#[derive(Debug, Default)]
pub struct Mapping {
    pub username: Source,
    pub groups: Option<Source>,
    pub uid: Option<Source>,
    pub extra: Vec<(String, Program)>,
    pub claims: Vec<Demand>,
    pub users: Vec<Demand>,
}

/// What an expression sees, and must give.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Anything, of `claims`.
    Value,
    /// A truth about `claims`.
    Claims,
    /// A truth about `user`.
    User,
}

static OF_CLAIMS: LazyLock<Environment> =
    LazyLock::new(|| Environment::default().with("claims", Type::map(Type::String, Type::Dyn)));
static OF_USER: LazyLock<Environment> = LazyLock::new(|| {
    let strings = || Type::list(Type::String);
    let fields = BTreeMap::from([
        ("username".to_owned(), Type::String),
        ("uid".to_owned(), Type::String),
        ("groups".to_owned(), strings()),
        ("extra".to_owned(), Type::map(Type::String, strings())),
    ]);
    Environment::default().with("user", Type::object("kubernetes.UserInfo", fields))
});

pub fn compile(text: &str, wish: Wish) -> Result<Program, String> {
    let environment = if wish == Wish::User { &OF_USER } else { &OF_CLAIMS };
    let program = Program::compile(text, environment).map_err(|error| format!("compilation failed: {error}"))?;
    match program.result() {
        Type::Bool | Type::Dyn => Ok(program),
        _ if wish == Wish::Value => Ok(program),
        _ => Err("must evaluate to bool".to_owned()),
    }
}

/// Whether an expression reads a claim by its name.
pub fn selects(text: &str, claim: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = |after: &str| after.strip_prefix(claim).is_some_and(|rest| !rest.starts_with(word));
    text.match_indices("claims.")
        .any(|(at, found)| text.get(at + found.len()..).is_some_and(|after| named(after.trim_start_matches('?'))))
}

impl Mapping {
    /// Whom a token's claims make; the words of a refusal are upstream's.
    pub fn user(&self, claims: &Value) -> Result<User, String> {
        let variables = Variables::default().with("claims", Cel::of_json(claims));
        let name = self.name(claims, &variables)?;
        let groups = match &self.groups {
            None => Vec::new(),
            Some(Source::Claim { name, prefix }) => {
                let groups = claims.get(name).filter(|value| !value.is_null()).map(texts).unwrap_or(Some(Vec::new()));
                let groups =
                    groups.ok_or_else(|| format!("parse groups claim {name:?}: neither a text nor a list of such"))?;
                groups.into_iter().map(|group| format!("{prefix}{group}")).collect()
            }
            Some(Source::Expression(program)) => list(program, &variables).map_err(|why| about("groups", &why))?,
        };
        let uid = match &self.uid {
            None => String::new(),
            Some(Source::Claim { name, .. }) => match claims.get(name) {
                Some(Value::String(uid)) => uid.clone(),
                Some(_) => return Err(format!("parse uid claim {name:?}: no text")),
                None => return Err("claim not present".to_owned()),
            },
            Some(Source::Expression(program)) => text(program, &variables).map_err(|why| about("uid", &why))?,
        };
        let mut extra = Extra::new();
        for (key, program) in &self.extra {
            let values = list(program, &variables).map_err(|why| about("extra", &why))?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
            extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("JTI={id}")]);
        }
        for demand in &self.claims {
            demand.check(claims, &variables)?;
        }
        let of_user = Variables::default().with("user", user_value(&name, &uid, &groups, &extra));
        for demand in &self.users {
            demand.check(claims, &of_user)?;
        }
        Ok(crate::authn::user(&name, &uid, groups, extra))
    }

    fn name(&self, claims: &Value, variables: &Variables) -> Result<String, String> {
        let name = match &self.username {
            Source::Expression(program) => text(program, variables).map_err(|why| about("username", &why))?,
            Source::Claim { name, prefix } => {
                let value =
                    claims.get(name).ok_or_else(|| format!("parse username claims {name:?}: claim not present"))?;
                let value = value.as_str().ok_or_else(|| format!("parse username claims {name:?}: no text"))?;
                if name == "email"
                    && claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true))
                {
                    return Err("email not verified".to_owned());
                }
                if value.is_empty() { String::new() } else { format!("{prefix}{value}") }
            }
        };
        if name.is_empty() { Err("username claim must not be empty".to_owned()) } else { Ok(name) }
    }
}

fn run(program: &Program, variables: &Variables) -> Result<Cel, Failure> {
    let mut budget = CALL;
    program.evaluate(variables, &mut budget)
}

fn about(what: &str, why: &str) -> String {
    format!("error evaluating {what} claim expression: {why}")
}

impl Demand {
    fn check(&self, claims: &Value, variables: &Variables) -> Result<(), String> {
        match self {
            Self::Is { claim, value } => match claims.get(claim) {
                None => Err(format!("required claim {claim} not present in ID token")),
                Some(Value::String(found)) if found == value => Ok(()),
                Some(Value::String(found)) => {
                    Err(format!("required claim {claim} value does not match. Got = {found}, want = {value}"))
                }
                Some(_) => Err(format!("parse claim {claim}: no text")),
            },
            Self::Holds { program, expression, message } => match run(program, variables) {
                Ok(Cel::Bool(true)) => Ok(()),
                Ok(_) if message.is_empty() => Err(format!("validation expression '{expression}' failed")),
                Ok(_) => Err(format!("validation expression '{expression}' failed: {message}")),
                Err(why) => Err(format!("expression '{expression}' resulted in error: {why}")),
            },
        }
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn text(program: &Program, variables: &Variables) -> Result<String, String> {
    match run(program, variables) {
        Ok(Cel::String(text)) => Ok(text.to_string()),
        Ok(_) => Err("expression must return a string".to_owned()),
        Err(why) => Err(why.to_string()),
    }
}

/// Nothing, an empty text and an empty list are no value.
fn list(program: &Program, variables: &Variables) -> Result<Vec<String>, String> {
    let one = |value: &Cel| match value {
        Cel::String(text) => Ok(text.to_string()),
        _ => Err("expression must return a string or a list of strings".to_owned()),
    };
    match run(program, variables) {
        Ok(Cel::Null) => Ok(Vec::new()),
        Ok(Cel::List(items)) => items.iter().map(one).filter(|item| *item != Ok(String::new())).collect(),
        Ok(value) => Ok(vec![one(&value)?].into_iter().filter(|text| !text.is_empty()).collect()),
        Err(why) => Err(why.to_string()),
    }
}

fn user_value(name: &str, uid: &str, groups: &[String], extra: &Extra) -> Cel {
    let strings = |items: &[String]| Cel::from(items.iter().map(|item| Cel::from(item.as_str())).collect::<Vec<_>>());
    let key = |name: &str| Key::String(name.into());
    let extra: BTreeMap<Key, Cel> = extra.iter().map(|(name, values)| (key(name), strings(values))).collect();
    Cel::from(BTreeMap::from([
        (key("username"), name.into()),
        (key("uid"), uid.into()),
        (key("groups"), strings(groups)),
        (key("extra"), extra.into()),
    ]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expression(text: &str) -> Source {
        Source::Expression(compile(text, Wish::Value).unwrap())
    }

    fn holds(text: &str, wish: Wish) -> Demand {
        let program = compile(text, wish).unwrap();
        Demand::Holds { program, expression: text.to_owned(), message: "m".to_owned() }
    }

    fn claim(name: &str, prefix: &str) -> Source {
        Source::Claim { name: name.into(), prefix: prefix.into() }
    }

    #[test]
    fn claims_make_a_user() {
        let mapping = Mapping {
            username: claim("sub", "oidc:"),
            groups: Some(claim("roles", "g:")),
            uid: Some(claim("id", "")),
            extra: vec![
                ("acme.io/team".into(), compile("claims.team", Wish::Value).unwrap()),
                ("acme.io/none".into(), compile("claims.?gone.orValue('')", Wish::Value).unwrap()),
            ],
            ..Mapping::default()
        };
        let user =
            mapping.user(&json!({"sub": "jane", "roles": ["a", "b"], "id": "7", "team": "t", "jti": "j"})).unwrap();
        assert_eq!((&*user.name, &*user.uid), ("oidc:jane", "7"));
        assert_eq!(&*user.groups, ["g:a", "g:b", "system:authenticated"]);
        let extra = BTreeMap::from([
            ("acme.io/team".to_owned(), vec!["t".to_owned()]),
            ("authentication.kubernetes.io/credential-id".to_owned(), vec!["JTI=j".to_owned()]),
        ]);
        assert_eq!(*user.extra, extra);
        let one = mapping.user(&json!({"sub": "jane", "roles": "a", "id": "7", "team": ["t", "u"]})).unwrap();
        assert_eq!((&*one.groups[0], &one.extra["acme.io/team"][..]), ("g:a", &["t".to_owned(), "u".to_owned()][..]));
        for (claims, why) in [
            (json!({"roles": []}), "parse username claims \"sub\": claim not present"),
            (json!({"sub": "", "id": "7"}), "username claim must not be empty"),
            (
                json!({"sub": "j", "roles": 1, "id": "7"}),
                "parse groups claim \"roles\": neither a text nor a list of such",
            ),
            (json!({"sub": "j"}), "claim not present"),
            (
                json!({"sub": "j", "id": "7", "team": 1}),
                "error evaluating extra claim expression: expression must return a string or a list of strings",
            ),
        ] {
            assert_eq!(mapping.user(&claims).unwrap_err(), why, "{claims}");
        }
    }

    #[test]
    fn expressions_make_a_user() {
        let mapping = Mapping {
            username: expression("claims.given + '.' + claims.family"),
            groups: Some(expression("claims.roles.split(',').filter(r, r != 'x')")),
            uid: Some(expression("string(claims.id)")),
            claims: vec![holds("claims.exp - claims.nbf <= 3600", Wish::Claims)],
            users: vec![holds("!user.username.startsWith('system:') && user.groups.all(g, g != 'bad')", Wish::User)],
            ..Mapping::default()
        };
        let claims = |roles: &str, given: &str, exp: i64| json!({"given": given, "family": "doe", "roles": roles, "id": 5, "nbf": 0, "exp": exp});
        let user = mapping.user(&claims("a,x,b", "jane", 3600)).unwrap();
        assert_eq!(
            (&*user.name, &*user.uid, &user.groups[..2]),
            ("jane.doe", "5", &["a".to_owned(), "b".to_owned()][..])
        );
        for (claims, why) in [
            (claims("a", "jane", 3601), "validation expression 'claims.exp - claims.nbf <= 3600' failed: m"),
            (
                claims("bad", "jane", 1),
                "validation expression '!user.username.startsWith('system:') && user.groups.all(g, g != 'bad')' failed: m",
            ),
            (json!({"given": "a"}), "error evaluating username claim expression: no such key: family"),
        ] {
            assert_eq!(mapping.user(&claims).unwrap_err(), why, "{claims}");
        }
    }

    #[test]
    fn an_address_is_a_name_once_it_is_verified() {
        let mapping = Mapping { username: claim("email", ""), ..Mapping::default() };
        let user = |claims: Value| mapping.user(&claims).map(|user| user.name.to_string());
        assert_eq!(user(json!({"email": "a@b.c"})).unwrap(), "a@b.c");
        assert_eq!(user(json!({"email": "a@b.c", "email_verified": true})).unwrap(), "a@b.c");
        assert_eq!(user(json!({"email": "a@b.c", "email_verified": false})).unwrap_err(), "email not verified");
        assert!(selects("claims.email", "email") && selects("claims.?email.orValue('')", "email"));
        assert!(!selects("claims.email_verified", "email") && !selects("claims.mail", "email"));
    }

    #[test]
    fn a_value_that_is_demanded_is_compared() {
        let is = Demand::Is { claim: "hd".into(), value: "acme.io".into() };
        let mapping = Mapping { username: claim("sub", ""), claims: vec![is], ..Mapping::default() };
        assert!(mapping.user(&json!({"sub": "j", "hd": "acme.io"})).is_ok());
        for (hd, why) in [
            (json!("b"), "required claim hd value does not match. Got = b, want = acme.io"),
            (json!(1), "parse claim hd: no text"),
        ] {
            assert_eq!(mapping.user(&json!({"sub": "j", "hd": hd})).unwrap_err(), why);
        }
        assert_eq!(mapping.user(&json!({"sub": "j"})).unwrap_err(), "required claim hd not present in ID token");
    }
}
