//! Rules of roles: what one allows, and whether rules together cover others. Source: "Using RBAC Authorization" of Kubernetes'
//! documentation.
//!
//! Owns the meaning of a `PolicyRule`. Never knows who has a role.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// Its members may do anything, and are not asked about roles.
pub const MASTERS: &str = "system:masters";

const ALL: &str = "*";

/// `rbac.authorization.k8s.io/v1 PolicyRule`: what is allowed. Rules about resources have no URLs, rules about URLs no resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// None means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// May end in `*`.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// Something that a rule may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    Resource { group: &'a str, resource: &'a str, subresource: &'a str, name: &'a str },
    Path(&'a str),
}

impl Rule {
    pub fn allows(&self, verb: &str, wish: Wish<'_>) -> bool {
        has(&self.verbs, verb)
            && match wish {
                Wish::Path(path) => self.non_resource_urls.iter().any(|url| url_covers(url, path)),
                Wish::Resource { group, resource, subresource, name } => {
                    has(&self.api_groups, group)
                        && self.resources.iter().any(|rule| is_resource(rule, resource, subresource))
                        && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == name))
                }
            }
    }

    fn is_about_all(&self) -> bool {
        self.resource_names.is_empty()
    }

    /// Whether all that `other` allows is allowed by this rule alone. `other` is one of [`pieces`].
    fn covers(&self, other: &Self) -> bool {
        let within = |own: &[String], others: &[String]| others.iter().all(|item| has(own, item));
        within(&self.verbs, &other.verbs)
            && within(&self.api_groups, &other.api_groups)
            && other.resources.iter().all(|resource| self.names_resource(resource))
            && other.non_resource_urls.iter().all(|url| self.non_resource_urls.iter().any(|own| url_covers(own, url)))
            && match (self.is_about_all(), other.is_about_all()) {
                (true, _) => true,
                (false, true) => false,
                (false, false) => other.resource_names.iter().all(|name| self.resource_names.contains(name)),
            }
    }

    /// `pods/log` is also named by `*/log`, `pods` by nothing but itself and `*`.
    fn names_resource(&self, resource: &str) -> bool {
        has(&self.resources, resource)
            || resource.split_once('/').is_some_and(|(_, sub)| self.resources.iter().any(|own| is_any(own, sub)))
    }

    /// This rule as rules of one verb, group, resource and name, or of one verb and URL.
    fn pieces(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut pieces = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                pieces.push(Self { verbs: one(verb), non_resource_urls: one(url), ..Self::default() });
            }
        }
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let base =
                        Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    let named = self.resource_names.iter();
                    pieces.extend(named.map(|name| Self { resource_names: one(name), ..base.clone() }));
                    if self.is_about_all() {
                        pieces.push(base);
                    }
                }
            }
        }
        pieces
    }

    /// What makes two pieces about resources alike but for the verb.
    fn same_resource(&self) -> Option<Self> {
        let single = self.api_groups.len() == 1
            && self.resources.len() == 1
            && self.resource_names.len() <= 1
            && self.non_resource_urls.is_empty();
        single.then(|| Self { verbs: Vec::new(), ..self.clone() })
    }
}

/// As upstream names a rule in its messages.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let parts = parts.into_iter().filter(|(_, list)| !list.is_empty());
        let parts: Vec<String> = parts.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// Go's `%q` of a list: `["a" "b"]`.
pub fn quoted(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" "))
}

/// The parts of `wanted` that `held` does not allow, each as small as can be; none if all is allowed.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let pieces = wanted.iter().flat_map(Rule::pieces);
    pieces.filter(|piece| !held.iter().any(|rule| rule.covers(piece))).collect()
}

/// Rules that differ in their verbs only as one.
pub fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out = Vec::new();
    let mut simple: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    for rule in rules {
        match rule.same_resource() {
            Some(key) => simple.entry(key).or_default().extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out.extend(simple.into_iter().map(|(rule, verbs)| Rule { verbs, ..rule }));
    out
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|item| item == ALL || item == text)
}

/// `pods` is not `pods/log`; `*` is everything; `*/scale` is the scale of everything.
fn is_resource(rule: &str, resource: &str, subresource: &str) -> bool {
    match subresource {
        _ if rule == ALL => true,
        "" => rule == resource,
        sub => is_any(rule, sub) || rule.split_once('/') == Some((resource, sub)),
    }
}

/// Whether the rule is `*/SUBRESOURCE`.
fn is_any(rule: &str, subresource: &str) -> bool {
    rule.strip_prefix("*/") == Some(subresource)
}

/// `/healthz/*` covers `/healthz/ping`, and also `/healthz/*` itself.
fn url_covers(rule: &str, path: &str) -> bool {
    rule == path || rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn on(verbs: &str, groups: &[&str], resources: &str, names: &str) -> Rule {
        Rule {
            verbs: words(verbs),
            api_groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            resources: words(resources),
            resource_names: words(names),
            ..Rule::default()
        }
    }

    fn wish<'a>(group: &'a str, resource: &'a str, subresource: &'a str, name: &'a str) -> Wish<'a> {
        Wish::Resource { group, resource, subresource, name }
    }

    #[test]
    fn a_rule_allows_what_it_names_and_no_more() {
        for (rule, verb, wish, want) in [
            (on("get", &[""], "pods", ""), "get", wish("", "pods", "", "a"), true),
            (on("get", &[""], "pods", ""), "list", wish("", "pods", "", ""), false),
            (on("get", &[""], "pods", ""), "get", wish("apps", "pods", "", ""), false),
            (on("get", &[""], "pods", ""), "get", wish("", "pods", "log", "a"), false),
            (on("get", &[""], "pods/log", ""), "get", wish("", "pods", "log", "a"), true),
            (on("get", &[""], "pods/log", ""), "get", wish("", "pods", "", "a"), false),
            (on("*", &["*"], "*", ""), "bind", wish("x.y", "things", "part", "z"), true),
            (on("*", &["*"], "*/scale", ""), "get", wish("apps", "deployments", "scale", "d"), true),
            (on("*", &["*"], "*/scale", ""), "get", wish("apps", "deployments", "status", "d"), false),
            (on("*", &["*"], "*/scale", ""), "get", wish("apps", "deployments", "", "d"), false),
            // A star stands for a whole name only.
            (on("get", &[""], "pods/*", ""), "get", wish("", "pods", "log", "a"), false),
            (on("get", &[""], "po*", ""), "get", wish("", "pods", "", "a"), false),
            (on("get create", &[""], "pods", "a b"), "get", wish("", "pods", "", "b"), true),
            (on("get create", &[""], "pods", "a b"), "get", wish("", "pods", "", "c"), false),
            // A creation has no name yet.
            (on("get create", &[""], "pods", "a b"), "create", wish("", "pods", "", ""), false),
            (on("*", &["*"], "*", ""), "get", Wish::Path("/metrics"), false),
        ] {
            assert_eq!(rule.allows(verb, wish), want, "{rule} {verb} {wish:?}");
        }
        let urls = |text: &str| Rule { verbs: words("get"), non_resource_urls: words(text), ..Rule::default() };
        for (rule, path, want) in [
            ("/version", "/version", true),
            ("/version", "/version/", false),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/*", "/healthz", false),
            ("/healthz*", "/healthz", true),
            ("*", "/anything/at/all", true),
        ] {
            assert_eq!(urls(rule).allows("get", Wish::Path(path)), want, "{rule} {path}");
        }
        assert!(!urls("*").allows("get", wish("", "pods", "", "")));
    }

    #[test]
    fn what_is_missing_is_told_by_resource() {
        let held = [on("get list", &["", "apps"], "pods deployments */scale", ""), on("get", &[""], "secrets", "a")];
        let lacking = |wanted: Rule| -> Vec<String> {
            compact(missing(&held, &[wanted])).iter().map(ToString::to_string).collect()
        };
        assert_eq!(lacking(on("get list", &["", "apps"], "pods deployments", "x")), Vec::<String>::new());
        assert_eq!(lacking(on("get", &["apps"], "replicasets/scale", "")), Vec::<String>::new());
        assert_eq!(lacking(on("get", &[""], "secrets", "a")), Vec::<String>::new());
        assert_eq!(
            lacking(on("get list watch", &[""], "pods secrets", "")),
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list" "watch"]}"#
            ]
        );
        assert_eq!(
            lacking(on("get", &[""], "secrets", "a b")),
            [r#"{APIGroups:[""], Resources:["secrets"], ResourceNames:["b"], Verbs:["get"]}"#]
        );
        let urls = Rule { verbs: words("get"), non_resource_urls: words("/a /b*"), ..Rule::default() };
        assert_eq!(lacking(urls.clone()).len(), 2);
        assert_eq!(missing(&[Rule { non_resource_urls: words("/*"), ..urls.clone() }], &[urls]), []);
    }

    #[test]
    fn rules_read_as_they_are_written() {
        let json = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]});
        let rule: Rule = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&rule).unwrap(), json);
        let json = json!({"verbs": ["get"], "nonResourceURLs": ["/x"]});
        assert_eq!(serde_json::to_value(serde_json::from_value::<Rule>(json.clone()).unwrap()).unwrap(), json);
    }

    fn some(of: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<String>> {
        proptest::sample::subsequence(of, least..=of.len()).prop_map(|v| v.into_iter().map(str::to_owned).collect())
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let resources =
            (some(&["", "apps", "*"], 1), some(&["pods", "pods/log", "*/log", "*"], 1), some(&["a", "b"], 0));
        let about_resources =
            (some(&["get", "list", "*"], 1), resources).prop_map(|(verbs, (groups, resources, names))| Rule {
                verbs,
                api_groups: groups,
                resources,
                resource_names: names,
                ..Rule::default()
            });
        let about_urls = (some(&["get", "list", "*"], 1), some(&["/a", "/a/*", "/b*", "*"], 1))
            .prop_map(|(verbs, urls)| Rule { verbs, non_resource_urls: urls, ..Rule::default() });
        prop_oneof![3 => about_resources, 1 => about_urls]
    }

    fn wishes() -> Vec<(&'static str, Wish<'static>)> {
        let mut all = Vec::new();
        for verb in ["get", "list", "watch"] {
            for group in ["", "apps", "batch"] {
                for (resource, subresource) in [("pods", ""), ("pods", "log"), ("jobs", "log"), ("jobs", "")] {
                    for name in ["", "a", "b", "c"] {
                        all.push((verb, Wish::Resource { group, resource, subresource, name }));
                    }
                }
            }
            all.extend(["/a", "/a/x", "/b", "/bx", "/c"].map(|path| (verb, Wish::Path(path))));
        }
        all
    }

    proptest! {
        /// Nobody can hand on what they may not do: where nothing is missing, every wish that the wanted rules grant is granted already.
        #[test]
        fn covered_rules_allow_nothing_new(held in proptest::collection::vec(rule(), 0..4), wanted in proptest::collection::vec(rule(), 1..3)) {
            let allowed = |rules: &[Rule], (verb, wish): (&str, Wish<'_>)| rules.iter().any(|r| r.allows(verb, wish));
            if missing(&held, &wanted).is_empty() {
                for wish in wishes().into_iter().filter(|w| allowed(&wanted, *w)) {
                    prop_assert!(allowed(&held, wish), "{wish:?}");
                }
            }
        }

        /// What is missing is exactly what has to be added; and a rule covers itself.
        #[test]
        fn the_missing_rules_close_the_gap(held in proptest::collection::vec(rule(), 0..4), wanted in proptest::collection::vec(rule(), 1..3)) {
            prop_assert_eq!(missing(&wanted, &wanted), Vec::<Rule>::new());
            let lacking = compact(missing(&held, &wanted));
            let all: Vec<Rule> = held.iter().cloned().chain(lacking.iter().cloned()).collect();
            prop_assert_eq!(missing(&all, &wanted), Vec::<Rule>::new());
            for wish in wishes() {
                let allows = |rules: &[Rule]| rules.iter().any(|rule| rule.allows(wish.0, wish.1));
                prop_assert_eq!(allows(&held) || allows(&lacking), allows(&held) || allows(&wanted), "{:?}", wish);
            }
        }
    }
}
