//! `audit.k8s.io/v1` Policy: which requests are noted, at which stages, and how much of them.

use kedge_api::User;
use serde::{Deserialize, Serialize};

use crate::authz::{Attributes, What};

/// How much is noted; each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When it is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Of what lasts: the answer has begun.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("failed decoding: {0}")]
    Decode(#[from] serde_yaml::Error),
    #[error("unknown group version field {version}, Kind={kind} in policy")]
    Version { version: String, kind: String },
    #[error("{0}")]
    Invalid(String),
    #[error("loaded illegal policy with 0 rules")]
    Empty,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy file, in YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = serde_yaml::from_str(text)?;
        if (policy.api_version.as_str(), policy.kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            let (version, kind) = (policy.api_version, policy.kind);
            return Err(PolicyError::Version { version, kind });
        }
        let wrong: Vec<String> = policy.rules.iter().enumerate().flat_map(|(at, rule)| rule.wrong(at)).collect();
        match wrong.as_slice() {
            [] if policy.rules.is_empty() => Err(PolicyError::Empty),
            [] => Ok(policy),
            [one] => Err(PolicyError::Invalid(one.clone())),
            many => Err(PolicyError::Invalid(format!("[{}]", many.join(", ")))),
        }
    }

    /// By the first rule that matches. `user` is nobody where authentication failed.
    pub fn judge(&self, user: Option<&User>, asked: &Attributes<'_>) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, asked)) else {
            return Verdict { level: Level::None, omit_stages: vec![], omit_managed_fields: self.omit_managed_fields };
        };
        Verdict {
            level: rule.level,
            omit_stages: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn wrong(&self, at: usize) -> Vec<String> {
        let invalid = |field: &str, value: &dyn std::fmt::Debug, why: &str| {
            format!("rules[{at}].{field}: Invalid value: {value:?}: {why}")
        };
        let mut wrong = Vec::new();
        for (n, path) in self.paths.iter().enumerate().filter(|(_, path)| *path != "*") {
            let field = format!("nonResourceURLs[{n}]");
            if !path.starts_with('/') {
                wrong.push(invalid(&field, path, "non-resource URL rules must begin with a '/' character"));
            }
            if path.strip_suffix('*').unwrap_or(path).contains('*') {
                let why = "non-resource URL wildcards '*' must be the final character of the rule";
                wrong.push(invalid(&field, path, why));
            }
        }
        for named in &self.resources {
            if named.group.contains('/') || named.group != named.group.to_ascii_lowercase() {
                let why =
                    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'";
                wrong.push(invalid("resources.group", &named.group, why));
            }
            if !named.resource_names.is_empty() && named.resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                wrong.push(invalid("resources.resourceNames", &named.resource_names, why));
            }
        }
        let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if !self.paths.is_empty() && about_resources {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            wrong.push(invalid("nonResourceURLs", &self.paths, why));
        }
        wrong
    }

    fn matches(&self, user: Option<&User>, asked: &Attributes<'_>) -> bool {
        let named = |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
        let by_name = self.users.is_empty() || user.is_some_and(|user| named(&self.users, &user.name));
        let grouped = |user: &User| user.groups.iter().any(|group| self.user_groups.contains(group));
        let by_group = self.user_groups.is_empty() || user.is_some_and(grouped);
        if !(by_name && by_group && named(&self.verbs, asked.verb)) {
            return false;
        }
        let about_resources = !(self.namespaces.is_empty() && self.resources.is_empty());
        match asked.what {
            What::Resource if about_resources => {
                named(&self.namespaces, asked.namespace)
                    && (self.resources.is_empty() || self.resources.iter().any(|named| named.matches(asked)))
            }
            What::Resource => self.paths.is_empty(),
            What::Path(path) => {
                !about_resources && (self.paths.is_empty() || self.paths.iter().any(|spec| fits(path, spec)))
            }
        }
    }
}

fn fits(path: &str, spec: &str) -> bool {
    spec == path || spec.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

impl Resources {
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        let (resource, subresource) = (asked.resource, asked.subresource);
        let one = |spec: &String| match spec.split_once('/') {
            None => spec == "*" || (subresource.is_empty() && spec == resource),
            Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
            Some((of, "*")) => of == resource,
            Some((of, sub)) => of == resource && sub == subresource,
        };
        let names = self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == asked.name);
        (self.group == "*" || self.group == asked.group)
            && (self.resources.is_empty() || names && self.resources.iter().any(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: ['system:kube-proxy'], verbs: [watch], resources: [{group: '', resources: [endpoints]}]}
- {level: None, userGroups: ['system:authenticated'], nonResourceURLs: ['/api*', /version]}
- {level: Request, omitManagedFields: false, resources: [{group: '', resources: [configmaps], resourceNames: [one]}], namespaces: [ns]}
- {level: Metadata, resources: [{group: '', resources: [secrets, 'pods/*', '*/scale']}]}
- {level: RequestResponse, omitStages: [Panic], resources: [{group: apps}, {group: '*', resources: [widgets]}]}
- {level: Metadata, namespaces: ['']}
";

    #[test]
    fn the_first_rule_that_matches_counts() {
        let policy = Policy::parse(POLICY).unwrap();
        let (proxy, jane) = (User::new("system:kube-proxy", &[]), User::new("jane", &["system:authenticated"]));
        let of = |verb, group, resource| Attributes {
            namespace: "ns",
            name: "one",
            ..Attributes::resource(&jane, verb, group, resource)
        };
        let sub = |resource, subresource| Attributes { subresource, ..of("get", "", resource) };
        use Level::{Metadata, None, Request, RequestResponse};
        for (user, asked, want) in [
            (Some(&proxy), of("watch", "", "endpoints"), None),
            (Some(&jane), of("watch", "", "endpoints"), None),
            (Some(&jane), Attributes::path(&jane, "get", "/apis"), None),
            (Some(&jane), Attributes::path(&jane, "get", "/version"), None),
            (Option::None, Attributes::path(&jane, "get", "/version"), None),
            (Some(&jane), of("update", "", "configmaps"), Request),
            (Some(&jane), Attributes { name: "two", ..of("update", "", "configmaps") }, None),
            (Some(&jane), of("get", "", "secrets"), Metadata),
            (Some(&jane), sub("pods", "log"), Metadata),
            (Some(&jane), sub("pods", ""), Metadata),
            (Some(&jane), sub("secrets", "x"), None),
            (Some(&jane), sub("things", "scale"), Metadata),
            (Some(&jane), of("get", "apps", "deployments"), RequestResponse),
            (Some(&jane), of("get", "example.com", "widgets"), RequestResponse),
            (Some(&jane), Attributes { namespace: "", ..of("get", "", "nodes") }, Metadata),
        ] {
            assert_eq!(policy.judge(user, &asked).level, want, "{user:?} {asked:?}");
        }
        let verdict = policy.judge(Some(&jane), &of("get", "apps", "deployments"));
        assert_eq!(verdict.omit_stages, [Stage::RequestReceived, Stage::Panic]);
        assert!(
            verdict.omit_managed_fields
                && !policy.judge(Some(&jane), &of("update", "", "configmaps")).omit_managed_fields
        );
    }

    #[test]
    fn a_wrong_policy_is_told() {
        let of = |rules: &str| format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}\n");
        for (text, want) in [
            (of("[]"), "loaded illegal policy with 0 rules"),
            (of("[{level: All}]"), "unknown variant `All`"),
            (of("[{users: [a]}]"), "missing field `level`"),
            (of("[{level: None, user: [a]}]"), "unknown field `user`"),
            (of("[{level: None, omitStages: [End]}]"), "unknown variant `End`"),
            (
                of("[{level: None, nonResourceURLs: [x, '/a*b']}]"),
                "[rules[0].nonResourceURLs[0]: Invalid value: \"x\": non-resource URL rules must begin with a '/' character, \
                 rules[0].nonResourceURLs[1]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the final character of the rule]",
            ),
            (of("[{level: None, nonResourceURLs: [/x], namespaces: [a]}]"), "rules cannot apply to both"),
            (of("[{level: None, resources: [{group: apps/v1}]}]"), "a lowercase RFC 1123 subdomain"),
            (of("[{level: None, resources: [{resourceNames: [a]}]}]"), "requires at least one resource"),
            (of("[{level: None}]").replace("/v1", "/v1beta1"), "unknown group version field audit.k8s.io/v1beta1"),
        ] {
            let told = Policy::parse(&text).unwrap_err().to_string();
            assert!(told.contains(want), "{text}: {told}");
        }
    }
}
