//! Paths that are about no resource: discovery and what the server says of itself.

use kedge_api::schema;
use serde_json::json;

use super::names::{Identity, group_version};
use super::paths::response;
use super::types::reference;
use super::{Edition, Entry};
use crate::wire::set;

/// One path, its one operation and what it answers.
pub struct Plain {
    path: String,
    id: Identity,
    text: &'static str,
    /// The type's name; a string where there is none.
    pub answer: Option<&'static str>,
}

const OPENID: &str = ".well-known/openid-configuration";

/// A row of this table is a document of `/openapi/v3`: name, operation, what it does, type.
type Row = (&'static str, &'static str, &'static str, &'static str);
const ALONE: &[Row] = &[
    ("api", "getAPIVersions", "get available API versions", "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions"),
    ("apis", "getAPIVersions", "get available API versions", "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList"),
    ("version", "getCodeVersion", "get the version of this server", "io.k8s.apimachinery.pkg.version.Info"),
    (OPENID, "getServiceAccountIssuerOpenIDConfiguration", "get the service account issuer's discovery document", ""),
    ("openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset", "get the keys of service account tokens", ""),
];
const GROUP: Row = ("", "getAPIGroup", "get information of a group", "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup");
const GROUP_VERSION: Row =
    ("", "getAPIResources", "get available resources", "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList");

/// Names of the documents that are there whatever is served.
pub fn alone() -> impl Iterator<Item = &'static str> {
    ALONE.iter().map(|(name, ..)| *name)
}

impl Plain {
    /// The path of which a document is named.
    pub fn of(name: &str) -> Self {
        let alone = ALONE.iter().find(|(known, ..)| *known == name);
        let versioned = group_version(name);
        let (_, operation, text, answer) = *alone
            .unwrap_or(if versioned.is_some_and(|(_, version)| !version.is_empty()) { &GROUP_VERSION } else { &GROUP });
        Self {
            // Upstream has them with a slash behind.
            path: format!("/{name}/"),
            id: Identity::of(operation, name),
            text,
            answer: Some(answer).filter(|answer| schema::get(answer).is_some()),
        }
    }

    pub fn entry(&self, edition: Edition) -> Entry {
        let mut get = json!({"description": self.text, "operationId": self.id.id, "tags": self.id.tags});
        let types: &[&str] = match self.answer {
            Some(_) => &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"],
            None => &["application/json"],
        };
        let answer = self.answer.map_or_else(|| json!({"type": "string"}), |name| reference(name, edition));
        set(
            &mut get,
            "responses",
            json!({
                "200": response("OK", Some(&answer), types, edition),
                "401": {"description": "Unauthorized"},
            }),
        );
        if edition == Edition::V2 {
            set(&mut get, "produces", json!(types));
            set(&mut get, "schemes", json!(["https"]));
        }
        (self.path.clone(), json!({"get": get}))
    }
}
