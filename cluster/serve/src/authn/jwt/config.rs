//! `AuthenticationConfiguration` of `apiserver.config.k8s.io`: whose tokens are believed, whom they make, and where nobody is welcome.
//!
//! Source: "Authentication configuration from a file" of Kubernetes' documentation; the rules are upstream's, in its words.

use std::collections::BTreeSet;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::mapping::{self, Demand, Mapping, Source, Wish};
use crate::authn::token::ISSUER;
use crate::document::{Checks, Document, Mistakes};

const VERSIONS: &[&str] = &["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"];
const MOST_ISSUERS: usize = 64;

/// A whole document that holds.
#[derive(Debug, Default)]
pub struct Authentication {
    pub issuers: Vec<Trusted>,
    pub anonymous: Anonymous,
}

/// An issuer, and what its tokens say.
#[derive(Debug)]
pub struct Trusted {
    pub url: String,
    /// Where it tells about itself, if not at the well-known place.
    pub discovery: Option<String>,
    /// Certificates in PEM; whom the host trusts, if there are none.
    pub authority: Vec<u8>,
    pub audiences: Vec<String>,
    pub mapping: Mapping,
}

/// Where a request may come from nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Anonymous {
    #[default]
    Everywhere,
    Nowhere,
    At(Vec<String>),
}

impl Anonymous {
    pub fn allows(&self, path: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Nowhere => false,
            Self::At(paths) => paths.iter().any(|allowed| allowed == path),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    #[serde(rename = "apiVersion")]
    _version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    jwt: Vec<JwtForm>,
    anonymous: Option<AnonymousForm>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnonymousForm {
    enabled: bool,
    #[serde(default)]
    conditions: Vec<PathForm>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PathForm {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JwtForm {
    issuer: IssuerForm,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<UserRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct IssuerForm {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: String,
    certificate_authority: String,
    audiences: Vec<String>,
    audience_match_policy: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct UserRule {
    expression: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Mappings {
    username: ClaimForm,
    groups: ClaimForm,
    uid: ClaimForm,
    extra: Vec<ExtraForm>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ClaimForm {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ExtraForm {
    key: String,
    value_expression: String,
}

impl Authentication {
    pub fn parse(document: &Document) -> Result<Self, Mistakes> {
        let form: Form = document.parse("AuthenticationConfiguration", VERSIONS)?;
        let mut checks = Checks::of(document);
        if form.jwt.len() > MOST_ISSUERS {
            checks.wrong("jwt", format!("Too many: {}: must have at most {MOST_ISSUERS} items", form.jwt.len()));
        }
        let (mut urls, mut discoveries) = (BTreeSet::new(), BTreeSet::new());
        let mut issuers = Vec::new();
        for (at, jwt) in form.jwt.into_iter().enumerate() {
            let path = format!("jwt[{at}]");
            let mapping = mapping(&jwt, &path, &mut checks);
            let issuer = jwt.issuer;
            self::issuer(&issuer, &format!("{path}.issuer"), &mut checks);
            if !urls.insert(issuer.url.clone()) {
                checks.duplicate(&format!("{path}.issuer.url"), &issuer.url);
            }
            if !issuer.discovery_url.is_empty() && !discoveries.insert(issuer.discovery_url.clone()) {
                checks.duplicate(&format!("{path}.issuer.discoveryURL"), &issuer.discovery_url);
            }
            issuers.push(Trusted {
                url: issuer.url,
                discovery: Some(issuer.discovery_url).filter(|url| !url.is_empty()),
                authority: issuer.certificate_authority.into_bytes(),
                audiences: issuer.audiences,
                mapping,
            });
        }
        let anonymous = anonymous(form.anonymous, &mut checks);
        checks.done()?;
        Ok(Self { issuers, anonymous })
    }
}

fn anonymous(form: Option<AnonymousForm>, checks: &mut Checks<'_>) -> Anonymous {
    let Some(AnonymousForm { enabled, conditions }) = form else { return Anonymous::Everywhere };
    if !enabled && !conditions.is_empty() {
        checks.wrong(
            "anonymous.conditions",
            "Invalid value: enabled should be set to true when conditions are defined".into(),
        );
    }
    match (enabled, conditions.is_empty()) {
        (false, _) => Anonymous::Nowhere,
        (true, true) => Anonymous::Everywhere,
        (true, false) => Anonymous::At(conditions.into_iter().map(|condition| condition.path).collect()),
    }
}

fn issuer(issuer: &IssuerForm, path: &str, checks: &mut Checks<'_>) {
    let field = |name: &str| format!("{path}.{name}");
    if issuer.url.is_empty() {
        checks.required(&field("url"), "URL is required");
    } else if issuer.url == ISSUER {
        let why = format!("URL must not overlap with disallowed issuers: [{ISSUER}]");
        checks.invalid(&field("url"), &issuer.url, &why);
    } else {
        url(&issuer.url, &field("url"), checks);
    }
    if !issuer.discovery_url.is_empty() {
        if issuer.url.trim_end_matches('/') == issuer.discovery_url.trim_end_matches('/') {
            checks.invalid(&field("discoveryURL"), &issuer.discovery_url, "discoveryURL must be different from URL");
        }
        url(&issuer.discovery_url, &field("discoveryURL"), checks);
    }
    if issuer.audiences.is_empty() {
        checks.required(&field("audiences"), &format!("at least one {} is required", field("audiences")));
    }
    let mut seen = BTreeSet::new();
    for (at, audience) in issuer.audiences.iter().enumerate() {
        let path = format!("{path}.audiences[{at}]");
        if audience.is_empty() {
            checks.required(&path, "audience can't be empty");
        } else if !seen.insert(audience) {
            checks.duplicate(&path, audience);
        }
    }
    let (policy, at) = (issuer.audience_match_policy.as_str(), field("audienceMatchPolicy"));
    match (issuer.audiences.len(), policy) {
        (_, "MatchAny") | (0 | 1, "") => {}
        (0 | 1, _) => checks.invalid(&at, policy, "audienceMatchPolicy must be empty or MatchAny for single audience"),
        (_, _) => checks.invalid(&at, policy, "audienceMatchPolicy must be MatchAny for multiple audiences"),
    }
    let pem = issuer.certificate_authority.as_bytes();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    if !pem.is_empty() && certificates.is_ok_and(|found| found.is_empty()) {
        let why = "data does not contain any valid RSA or ECDSA certificates";
        checks.invalid(&field("certificateAuthority"), "<omitted>", why);
    }
}

fn url(text: &str, path: &str, checks: &mut Checks<'_>) {
    let (before, query) = text.split_once('?').map_or((text, None), |(before, query)| (before, Some(query)));
    let parsed: Result<http::Uri, _> = before.split('#').next().unwrap_or_default().parse();
    let uri = match parsed {
        Ok(uri) => uri,
        Err(error) => return checks.invalid(path, text, &error.to_string()),
    };
    if uri.scheme_str() != Some("https") {
        checks.invalid(path, text, "URL scheme must be https");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        checks.invalid(path, text, "URL must not contain a username or password");
    }
    if query.is_some() {
        checks.invalid(path, text, "URL must not contain a query");
    }
    if text.contains('#') {
        checks.invalid(path, text, "URL must not contain a fragment");
    }
}

fn mapping(jwt: &JwtForm, path: &str, checks: &mut Checks<'_>) -> Mapping {
    let JwtForm { claim_validation_rules, claim_mappings: mappings, user_validation_rules, .. } = jwt;
    let mut seen = BTreeSet::new();
    let claims = claim_validation_rules.iter().enumerate().filter_map(|(at, rule)| {
        let path = format!("{path}.claimValidationRules[{at}]");
        claim_rule(rule, &path, &mut seen, checks)
    });
    let claims = claims.collect();
    let under = format!("{path}.claimMappings");
    let username = source(&mappings.username, true, &format!("{under}.username"), true, checks);
    let groups = source(&mappings.groups, true, &format!("{under}.groups"), false, checks);
    let uid = source(&mappings.uid, false, &format!("{under}.uid"), false, checks);
    let extra = extra(&mappings.extra, &under, checks);
    let mut seen = BTreeSet::new();
    let users = user_validation_rules.iter().enumerate().filter_map(|(at, rule)| {
        let path = format!("{path}.userValidationRules[{at}]");
        if rule.expression.is_empty() {
            checks.required(&format!("{path}.expression"), "expression is required");
        } else if !seen.insert(&rule.expression) {
            checks.duplicate(&format!("{path}.expression"), &rule.expression);
        }
        let program = compiled(&rule.expression, Wish::User, &format!("{path}.expression"), checks)?;
        Some(Demand::Holds { program, expression: rule.expression.clone(), message: rule.message.clone() })
    });
    let users = users.collect();
    verified_email(jwt, &format!("{under}.username.expression"), checks);
    Mapping { username: username.unwrap_or_default(), groups, uid, extra, claims, users }
}

fn claim_rule<'a>(
    rule: &'a ClaimRule,
    path: &str,
    seen: &mut BTreeSet<&'a str>,
    checks: &mut Checks<'_>,
) -> Option<Demand> {
    let (claim, expression) = (&rule.claim, &rule.expression);
    match (claim.is_empty(), expression.is_empty()) {
        (true, true) => {
            checks.required(path, "claim or expression is required");
            None
        }
        (false, false) => {
            checks.invalid(path, claim, "claim and expression can't both be set");
            None
        }
        (false, true) => {
            if !rule.message.is_empty() {
                checks.invalid(&format!("{path}.message"), &rule.message, "message can't be set when claim is set");
            }
            if !seen.insert(claim) {
                checks.duplicate(&format!("{path}.claim"), claim);
            }
            Some(Demand::Is { claim: claim.clone(), value: rule.required_value.clone() })
        }
        (true, false) => {
            if !rule.required_value.is_empty() {
                let why = "requiredValue can't be set when expression is set";
                checks.invalid(&format!("{path}.requiredValue"), &rule.required_value, why);
            }
            if !seen.insert(expression) {
                checks.duplicate(&format!("{path}.expression"), expression);
            }
            let program = compiled(expression, Wish::Claims, &format!("{path}.expression"), checks)?;
            Some(Demand::Holds { program, expression: expression.clone(), message: rule.message.clone() })
        }
    }
}

/// `prefixed`: whether a claim's value gets something put before it, which must then be said, if only to be nothing.
fn source(form: &ClaimForm, prefixed: bool, path: &str, needed: bool, checks: &mut Checks<'_>) -> Option<Source> {
    let ClaimForm { claim, prefix, expression } = form;
    let at = format!("{path}.prefix");
    if !prefixed && prefix.is_some() {
        checks.wrong(&at, "unknown field".into());
    }
    match (claim.is_empty(), expression.is_empty()) {
        (true, true) => {
            if needed {
                checks.required(path, "claim or expression is required");
            }
            if prefix.as_ref().is_some_and(|prefix| !prefix.is_empty()) {
                checks.invalid(&at, prefix.as_deref().unwrap_or_default(), "prefix can't be set when claim is not set");
            }
            None
        }
        (false, false) => {
            checks.invalid(path, "", "claim and expression can't both be set");
            None
        }
        (true, false) => {
            if let Some(prefix) = prefix {
                checks.invalid(&at, prefix, "prefix can't be set when expression is set");
            }
            compiled(expression, Wish::Value, &format!("{path}.expression"), checks).map(Source::Expression)
        }
        (false, true) => {
            if prefixed && prefix.is_none() {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                checks.required(&at, why);
            }
            Some(Source::Claim { name: claim.clone(), prefix: prefix.clone().unwrap_or_default() })
        }
    }
}

fn extra(forms: &[ExtraForm], path: &str, checks: &mut Checks<'_>) -> Vec<(String, kedge_cel::Program)> {
    let mut seen = BTreeSet::new();
    let mut extra = Vec::new();
    for (at, ExtraForm { key, value_expression }) in forms.iter().enumerate() {
        let path = format!("{path}.extra[{at}]");
        extra_key(key, &format!("{path}.key"), checks);
        if !key.is_empty() && !seen.insert(key) {
            checks.duplicate(&format!("{path}.key"), key);
        }
        let path = format!("{path}.valueExpression");
        if value_expression.is_empty() {
            checks.required(&path, "valueExpression is required");
        }
        extra.extend(compiled(value_expression, Wish::Value, &path, checks).map(|program| (key.clone(), program)));
    }
    extra
}

fn extra_key(key: &str, path: &str, checks: &mut Checks<'_>) {
    if key.is_empty() {
        return checks.required(path, "key is required");
    }
    if key.chars().any(char::is_uppercase) {
        checks.invalid(path, key, "key must be lowercase");
    }
    match key.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            let reserved = |own: &str| domain == own || domain.ends_with(&format!(".{own}"));
            if reserved("kubernetes.io") || reserved("k8s.io") {
                let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
                checks.invalid(path, key, why);
            }
        }
        _ => checks.invalid(path, key, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// None for no expression, which is told elsewhere, and for one that is wrong.
fn compiled(text: &str, wish: Wish, path: &str, checks: &mut Checks<'_>) -> Option<kedge_cel::Program> {
    if text.is_empty() {
        return None;
    }
    match mapping::compile(text, wish) {
        Ok(program) => Some(program),
        Err(why) => {
            checks.invalid(path, text, &why);
            None
        }
    }
}

/// A name that is somebody's mail address counts only where its issuer made sure of it.
fn verified_email(jwt: &JwtForm, path: &str, checks: &mut Checks<'_>) {
    let expression = &jwt.claim_mappings.username.expression;
    let extra = jwt.claim_mappings.extra.iter().map(|extra| &extra.value_expression);
    let all = jwt.claim_validation_rules.iter().map(|rule| &rule.expression).chain(extra).chain([expression]);
    if mapping::selects(expression, "email") && !all.into_iter().any(|text| mapping::selects(text, "email_verified")) {
        let why = "claims.email_verified must be used in claimMappings.username.expression or \
                   claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in \
                   claimMappings.username.expression";
        checks.invalid(path, expression, why);
    }
}

#[cfg(test)]
mod tests;
