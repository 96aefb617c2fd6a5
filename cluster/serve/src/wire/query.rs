//! Query parameters: split once, then read by those who know their names.

use std::num::{IntErrorKind, ParseIntError};

use kedge_api::{Options, Status};

use super::path::decode;

/// The parameters in order, decoded; a repeated one stands several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// What cannot be decoded is dropped, as upstream's parser does.
    pub fn parse(text: &str) -> Self {
        let plain = |text: &str| decode(&text.replace('+', " ")).ok();
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .filter_map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((plain(name)?, plain(value)?))
                })
                .collect(),
        )
    }

    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `?name` and `?name=x` are true; `false` and `0` are false.
    pub fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(truth)
    }

    /// All that the verbs read.
    pub fn options(&self) -> Result<Options, Status> {
        let text = |name| self.first(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let unsigned = |name| Ok::<_, Status>(self.integer(name)?.and_then(|n| u64::try_from(n).ok()));
        let orphan = self.first("orphanDependents").map(|v| if truth(v) { "Orphan" } else { "Background" });
        Ok(Options {
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            limit: unsigned("limit")?,
            r#continue: text("continue"),
            allow_watch_bookmarks: self.flag("allowWatchBookmarks"),
            send_initial_events: self.first("sendInitialEvents").map(truth),
            timeout_seconds: self.integer("timeoutSeconds")?,
            dry_run: self.all("dryRun").map(str::to_owned).collect(),
            field_validation: text("fieldValidation"),
            field_manager: text("fieldManager"),
            force: self.first("force").map(truth),
            grace_period_seconds: self.integer("gracePeriodSeconds")?,
            propagation_policy: text("propagationPolicy").or_else(|| orphan.map(str::to_owned)),
        })
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.first(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|error: ParseIntError| {
                // Go's words: clients show them as they are.
                let why = match error.kind() {
                    IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                Status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", quoted(text)))
            }),
        }
    }
}

fn truth(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")
}

/// A string in double quotes, with quotes and control characters escaped.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_options() {
        let query = Query::parse(
            "limit=5&labelSelector=a%3Db%2Cc+in+(d)&dryRun=All&watch&force=false&gracePeriodSeconds=-3&x=%zz&continue=",
        );
        let options = query.options().unwrap();
        assert_eq!(options.limit, Some(5));
        assert_eq!(options.label_selector.as_deref(), Some("a=b,c in (d)"));
        assert_eq!(options.dry_run, ["All"]);
        assert!(query.flag("watch") && options.force == Some(false));
        assert_eq!(options.grace_period_seconds, Some(-3));
        assert_eq!((query.first("x"), options.r#continue), (None, None));
    }

    #[test]
    fn a_bad_number_is_named() {
        let error = Query::parse("timeoutSeconds=x%22").options().unwrap_err();
        assert_eq!(error.message, r#"strconv.ParseInt: parsing "x\"": invalid syntax"#);
    }
}
