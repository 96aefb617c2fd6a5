//! Paths that are no resources: what the server says of itself.

use std::sync::Arc;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use kedge_api::metrics;
use kedge_api::resource::known::ENDPOINT_SLICES;
use kedge_api::{Key, Resource, Status};
use serde_json::{Value, json};

use super::front::Front;
use crate::aggregate::discovery::Form;
use crate::authn::token::ISSUER;
use crate::clock::Clock;
use crate::describe::openapi::others::Spec;
use crate::describe::{discovery, openapi, version};
use crate::http::chunks;
use crate::http::respond::{self, Body, method_not_allowed, not_found, page_not_found};
use crate::wire::media::{Format, Offer, Shape, document_form, negotiate, report_form};
use crate::wire::query::Query;

impl Front {
    pub(super) fn path(
        &self,
        verb: &str,
        path: &str,
        query: &Query,
        request: &Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        let headers = request.headers();
        let reads = matches!(verb, "get" | "head");
        if let Some(response) = self.health.answer(path, query) {
            return if reads { Ok(response) } else { Err(method_not_allowed()) };
        }
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        match segments.as_slice() {
            // Upstream answers the list of groups to any method.
            ["apis"] => return self.groups(headers, false, query),
            ["api" | "version"] | ["api" | "apis", _] | ["apis", _, _] | ["openapi", ..] | ["metrics", ..] | []
                if !reads =>
            {
                return Err(method_not_allowed());
            }
            ["api" | "version"]
            | ["api" | "apis", _]
            | ["apis", _, _]
            | [".well-known", "openid-configuration"]
            | ["openid", "v1", "jwks"]
                if verb != "get" =>
            {
                return Err(method_not_allowed());
            }
            _ => {}
        }
        let rows = || self.catalog.rows();
        match segments.as_slice() {
            [] => {
                let mut paths = discovery::paths(&rows(), &self.health);
                self.aggregator.add_paths(&mut paths);
                self.document(headers, &paths, query)
            }
            ["version"] => self.document(headers, &version::version(), query),
            ["metrics"] => Ok(reported(headers, |form| self.metrics.report(form))),
            ["metrics", "slis"] => Ok(reported(headers, |form| self.health.report(form))),
            ["debug", "api_priority_and_fairness", dump] => {
                let details = query.first("includeRequestDetails").is_some_and(|value| !value.is_empty());
                let dump = self.flow.dump(dump, details, self.clock.now());
                Ok(dump.map_or_else(page_not_found, |text| respond::respond(200, respond::TEXT, respond::full(text))))
            }
            ["api"] => self.groups(headers, true, query),
            ["api", version] => {
                let list = discovery::resource_list(&rows(), "", version).ok_or_else(not_found)?;
                self.document(headers, &list, query)
            }
            ["apis", name] if !name.is_empty() => match self.aggregator.group(discovery::group(&rows(), name), name) {
                Some(group) => self.document(headers, &group, query),
                None => Ok(page_not_found()),
            },
            ["apis", group, version] => match discovery::resource_list(&rows(), group, version) {
                Some(list) => self.document(headers, &list, query),
                None if self.catalog.has_group(group) => Err(not_found()),
                None => Ok(page_not_found()),
            },
            ["openapi", "v2"] => Ok(openapi_v2(&rows(), &self.aggregator.specs(), headers)),
            ["openapi", "v3"] => {
                let mut index = openapi::index(&rows());
                self.aggregator.add_documents(&mut index);
                Ok(respond::respond(200, respond::TEXT, respond::full(index.to_string())))
            }
            ["openapi", "v3", name @ ..] => Ok(openapi_v3(&rows(), &name.join("/"), headers, query, &self.clock)),
            [".well-known", "openid-configuration"] => Ok(cached(respond::json(&json!({
                "issuer": ISSUER,
                "jwks_uri": format!("https://{}/openid/v1/jwks", self.reached_at()),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            })))),
            ["openid", "v1", "jwks"] => {
                let text = self.tokens.key_set().to_string();
                Ok(cached(respond::respond(200, "application/jwk-set+json", respond::full(text))))
            }
            _ => Ok(page_not_found()),
        }
    }

    /// Where others reach this server: what the service `kubernetes` leads to, or the node's name while it leads nowhere.
    fn reached_at(&self) -> String {
        let key = Key::new(ENDPOINT_SLICES, "default", "kubernetes");
        let slice: Option<Value> = self.informer.snapshot().get(&key).and_then(|slice| slice.decode().ok());
        let told = slice.as_ref().and_then(|slice| {
            let address = slice.pointer("/endpoints/0/addresses/0")?.as_str()?;
            Some(format!("{address}:{}", slice.pointer("/ports/0/port")?.as_u64()?))
        });
        told.unwrap_or_else(|| self.address.clone())
    }

    fn document(&self, headers: &HeaderMap, value: &Value, query: &Query) -> Result<Response<Body>, Status> {
        let accepted = negotiate(accept(headers), Offer::Plain)?;
        Ok(respond::value(200, value, accepted, query.flag("pretty")))
    }

    /// `/api` or `/apis`, each in the older form or aggregated.
    fn groups(&self, headers: &HeaderMap, core: bool, query: &Query) -> Result<Response<Body>, Status> {
        let accepted = negotiate(accept(headers), Offer::Discovery)?;
        let rows = self.catalog.rows();
        if accepted.shape != Shape::Discovery {
            let mut value =
                if core { discovery::core_versions(&self.reached_at()) } else { discovery::group_list(&rows) };
            self.aggregator.merge(&mut value, Form::Legacy);
            let mut response = respond::value(200, &value, accepted, query.flag("pretty"));
            response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
            return Ok(response);
        }
        let mut value = discovery::aggregated(&rows, core);
        if !core {
            self.aggregator.merge(&mut value, Form::Aggregated);
        }
        let bytes = respond::write(&value, accepted.format, false)?;
        let tag = discovery::etag(&bytes);
        let mut response = if matches_tag(headers, &tag) {
            respond::respond(304, respond::JSON, respond::full(""))
        } else {
            respond::respond(200, respond::JSON, respond::full(bytes))
        };
        let out = response.headers_mut();
        out.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
        );
        out.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        out.insert(VARY, HeaderValue::from_static("Accept"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            out.insert(ETAG, tag);
        }
        Ok(response)
    }
}

pub(super) fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(ACCEPT).and_then(|v| v.to_str().ok())
}

/// For those who check tokens themselves: keys change seldom.
fn cached(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn matches_tag(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|v| matches!(v.trim(), "*") || v.trim() == tag)
}

fn reported(headers: &HeaderMap, report: impl FnOnce(metrics::Form) -> String) -> Response<Body> {
    let form = report_form(accept(headers));
    let mut coding = HeaderMap::new();
    let report = std::iter::once(report(form).into());
    let body = chunks::body(report, usize::MAX, chunks::takes_gzip(headers), &mut coding);
    let mut response = respond::respond(200, form.media_type(), body);
    response.headers_mut().extend(coding);
    response
}

const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const OPENAPI_V3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

fn openapi_v2(rows: &[Arc<Resource>], others: &[Arc<Spec>], headers: &HeaderMap) -> Response<Body> {
    let Some(format) = document_form(accept(headers), "v2") else { return bare(406) };
    let (hash, parts) = openapi::v2(rows, others, format);
    streamed(parts, &hash, if format == Format::Protobuf { OPENAPI_V2 } else { respond::JSON }, headers)
}

fn openapi_v3(rows: &[Arc<Resource>], name: &str, headers: &HeaderMap, query: &Query, clock: &Clock) -> Response<Body> {
    let format = document_form(accept(headers), "v3");
    let Some((hash, parts)) = openapi::v3(rows, name, format.unwrap_or(Format::Json)) else { return bare(404) };
    let Some(format) = format else { return bare(406) };
    let asked = query.first("hash").filter(|asked| !asked.is_empty());
    if asked.is_some_and(|asked| asked != hash) {
        let to = format!("/openapi/v3/{name}?hash={hash}");
        let page = format!("<a href=\"{to}\">Moved Permanently</a>.\n\n");
        let mut moved = respond::respond(301, "text/html; charset=utf-8", respond::full(page));
        if let Ok(to) = HeaderValue::from_str(&to) {
            moved.headers_mut().insert(LOCATION, to);
        }
        return moved;
    }
    let mut response =
        streamed(parts, &hash, if format == Format::Protobuf { OPENAPI_V3 } else { respond::JSON }, headers);
    // The index names documents by their content: such a one never changes.
    if asked.is_some() {
        let out = response.headers_mut();
        out.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let year = jiff::SignedDuration::from_hours(365 * 24);
        let until = clock.now().checked_add(year).unwrap_or(jiff::Timestamp::MAX);
        if let Ok(until) = HeaderValue::from_str(&until.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()) {
            out.insert(EXPIRES, until);
        }
    }
    response
}

/// Upstream's handlers of documents refuse without a word.
fn bare(code: u16) -> Response<Body> {
    let mut refused = respond::respond(code, respond::TEXT, respond::full(""));
    refused.headers_mut().remove(CONTENT_TYPE);
    refused
}

fn streamed(parts: openapi::Parts, hash: &str, media: &'static str, headers: &HeaderMap) -> Response<Body> {
    let tag = format!("\"{hash}\"");
    let mut response = if matches_tag(headers, &tag) {
        respond::respond(304, media, respond::full(""))
    } else {
        let mut coding = HeaderMap::new();
        // Every such document is worth compressing.
        let body = chunks::body(parts, usize::MAX, chunks::takes_gzip(headers), &mut coding);
        let mut response = respond::respond(200, media, body);
        response.headers_mut().extend(coding);
        response
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    response
}
