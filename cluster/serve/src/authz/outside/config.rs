//! `AuthorizationConfiguration` of `apiserver.config.k8s.io`: who is asked what a user may do, in order.
//!
//! Source: "Authorization configuration from a file" of Kubernetes' documentation; the rules are upstream's, in its words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use kedge_cel::value::parse_duration;
use serde::Deserialize;

use super::conditions::Condition;
use crate::document::{Checks, Document, Mistakes};
use crate::reach::kubeconfig::Destination;
use crate::wire::is_subdomain;

const VERSIONS: &[&str] = &["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"];
const TYPES: &[&str] = &["Node", "RBAC", "Webhook"];
const REVIEW: &str = "v1";
const LONGEST_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);

/// One of those that are asked.
#[derive(Debug)]
pub enum Asked {
    Node,
    Rbac,
    Webhook(Box<Settings>),
}

#[derive(Debug)]
pub struct Settings {
    pub name: String,
    pub destination: Destination,
    pub timeout: std::time::Duration,
    /// How long an allowance is good for, and anything else.
    pub allowed_life: SignedDuration,
    pub refused_life: SignedDuration,
    pub keeps_allowed: bool,
    pub keeps_refused: bool,
    /// Whether one that cannot be asked forbids, rather than leaves it to the next.
    pub failure_denies: bool,
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    #[serde(rename = "apiVersion")]
    _version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    authorizers: Vec<AuthorizerForm>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AuthorizerForm {
    r#type: String,
    name: String,
    webhook: Option<WebhookForm>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WebhookForm {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    cache_unauthorized_requests: Option<bool>,
    timeout: Option<String>,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: ConnectionForm,
    match_conditions: Vec<ConditionForm>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ConnectionForm {
    r#type: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ConditionForm {
    expression: String,
}

pub fn parse(document: &Document) -> Result<Vec<Asked>, Mistakes> {
    let form: Form = document.parse("AuthorizationConfiguration", VERSIONS)?;
    let mut checks = Checks::of(document);
    if form.authorizers.is_empty() {
        checks.required("authorizers", "at least one authorization mode must be defined");
    }
    let (mut types, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut order = Vec::new();
    for (at, authorizer) in form.authorizers.iter().enumerate() {
        let path = format!("authorizers[{at}]");
        let (of, name) = (authorizer.r#type.as_str(), authorizer.name.as_str());
        if of.is_empty() {
            checks.required(&format!("{path}.type"), "");
        } else if !TYPES.contains(&of) {
            checks.unsupported(&format!("{path}.type"), of, TYPES);
        } else if of != "Webhook" && !types.insert(of) {
            checks.duplicate(&format!("{path}.type"), of);
        }
        if name.is_empty() {
            checks.required(&format!("{path}.name"), "");
        } else if !is_subdomain(name) {
            let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
                       and end with an alphanumeric character";
            checks.invalid(&format!("{path}.name"), name, why);
        } else if !names.insert(name) {
            checks.duplicate(&format!("{path}.name"), name);
        }
        let under = format!("{path}.webhook");
        match (of, &authorizer.webhook) {
            ("Webhook", None) => checks.required(&under, "required when type=Webhook"),
            ("Webhook", Some(form)) => {
                order.extend(
                    webhook(name, form, &under, &mut checks).map(|settings| Asked::Webhook(Box::new(settings))),
                );
            }
            (_, Some(_)) => checks.wrong(&under, "Invalid value: may only be specified when type=Webhook".to_owned()),
            ("Node", None) => order.push(Asked::Node),
            (_, None) => order.push(Asked::Rbac),
        }
    }
    checks.done()?;
    Ok(order)
}

/// None where something of it is wrong, which is then told.
fn webhook(name: &str, form: &WebhookForm, path: &str, checks: &mut Checks<'_>) -> Option<Settings> {
    let field = |name: &str| format!("{path}.{name}");
    let timeout = match &form.timeout {
        None => {
            checks.required(&field("timeout"), "");
            None
        }
        Some(text) => duration(text, &field("timeout"), checks),
    };
    if timeout.is_some_and(|timeout| timeout > LONGEST_TIMEOUT) {
        checks.invalid(&field("timeout"), form.timeout.as_deref().unwrap_or_default(), "must be <= 30s");
    }
    let mut life = |text: Option<&String>, seconds: i64, name: &str| match text {
        None => Some(SignedDuration::from_secs(seconds)),
        Some(text) => duration(text, &field(name), checks),
    };
    let allowed_life = life(form.authorized_ttl.as_ref(), 300, "authorizedTTL");
    let refused_life = life(form.unauthorized_ttl.as_ref(), 30, "unauthorizedTTL");
    one_of(&form.subject_access_review_version, &[REVIEW], &field("subjectAccessReviewVersion"), checks);
    let conditional = &form.match_condition_subject_access_review_version;
    if !form.match_conditions.is_empty() || !conditional.is_empty() {
        one_of(conditional, &[REVIEW], &field("matchConditionSubjectAccessReviewVersion"), checks);
    }
    one_of(&form.failure_policy, &["Deny", "NoOpinion"], &field("failurePolicy"), checks);
    let destination = connection(&form.connection_info, &field("connectionInfo"), checks);
    let conditions = conditions(&form.match_conditions, &field("matchConditions"), checks);
    Some(Settings {
        name: name.to_owned(),
        destination: destination?,
        timeout: timeout?.unsigned_abs(),
        allowed_life: allowed_life?,
        refused_life: refused_life?,
        keeps_allowed: form.cache_authorized_requests.unwrap_or(true),
        keeps_refused: form.cache_unauthorized_requests.unwrap_or(true),
        failure_denies: form.failure_policy == "Deny",
        conditions,
    })
}

fn conditions(forms: &[ConditionForm], path: &str, checks: &mut Checks<'_>) -> Vec<Condition> {
    let mut seen = BTreeSet::new();
    let mut conditions = Vec::new();
    for (at, ConditionForm { expression }) in forms.iter().enumerate() {
        let path = format!("{path}[{at}].expression");
        if expression.trim().is_empty() {
            checks.required(&path, "");
            continue;
        }
        if !seen.insert(expression) {
            checks.duplicate(&path, expression);
        }
        match Condition::compile(expression) {
            Ok(condition) => conditions.push(condition),
            Err(why) => checks.invalid(&path, expression, &why),
        }
    }
    conditions
}

fn duration(text: &str, path: &str, checks: &mut Checks<'_>) -> Option<SignedDuration> {
    match parse_duration(text) {
        None => {
            checks.invalid(path, text, "expected a duration such as \"30s\"");
            None
        }
        Some(duration) if duration <= SignedDuration::ZERO => {
            checks.invalid(path, text, "must be > 0s");
            None
        }
        Some(duration) => Some(duration),
    }
}

fn one_of(text: &str, supported: &[&str], path: &str, checks: &mut Checks<'_>) {
    if text.is_empty() {
        checks.required(path, "");
    } else if !supported.contains(&text) {
        checks.unsupported(path, text, supported);
    }
}

fn connection(form: &ConnectionForm, path: &str, checks: &mut Checks<'_>) -> Option<Destination> {
    one_of(&form.r#type, &["KubeConfigFile"], &format!("{path}.type"), checks);
    let path = format!("{path}.kubeConfigFile");
    let Some(file) = form.kube_config_file.as_deref().filter(|file| !file.as_os_str().is_empty()) else {
        checks.required(&path, "");
        return None;
    };
    let shown = file.display().to_string();
    if !file.is_absolute() {
        checks.invalid(&path, &shown, "must be an absolute path");
        return None;
    }
    let text = std::fs::read_to_string(file).map_err(|error| crate::tls::plain(error).to_string());
    let folder = file.parent().unwrap_or(Path::new("/"));
    match text.and_then(|text| Destination::parse(&text, folder)) {
        Ok(destination) => Some(destination),
        Err(why) => {
            checks.invalid(&path, &shown, &why);
            None
        }
    }
}
