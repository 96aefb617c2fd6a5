//! Reading many objects, whole or in pages that together show one moment.

use std::sync::Arc;

use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use base64::{DecodeError, Engine as _};
use kedge_api::request::Payload;
use kedge_api::status::Details;
use kedge_api::{Answer, Key, Object, Reason, Request, Revision, Snapshot, Status};
use kedge_store::Range;
use serde::{Deserialize, Serialize};

use super::{answer, get, options};
use crate::Registry;
use crate::select::Selection;
use crate::table::Row;

/// As lenient as Go's.
const BASE64: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));
const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// Where a paged list goes on. Opaque to clients, but in upstream's form.
#[derive(Deserialize, Serialize)]
struct Token {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    /// `NAMESPACE/NAME` or `NAME` of the last object sent, then a zero byte: just after it in order.
    #[serde(default)]
    start: String,
}

pub(crate) async fn list(registry: &Registry, row: &Arc<Row>, request: &Request) -> Result<Answer, Status> {
    options::list(&request.options, false)?;
    let selection = Selection::parse(row, &request.target.namespace, &request.options)?;
    let (snapshot, after) = moment(registry, row, request).await?;
    all_readable(registry, row, &request.target.namespace, &selection)?;
    // Whoever takes any state has it from memory, whole.
    let continued = request.options.r#continue.is_some();
    let any = request.options.resource_version.as_deref() == Some("0") && !continued;
    let limit = request.options.limit.filter(|_| !any).unwrap_or(0);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = page(&snapshot, row, &request.target.namespace, &selection, after.as_ref(), limit);
    if page.next.is_some() {
        registry.cache.keep(&snapshot);
    }
    let r#continue = page.next.map(|start| token(snapshot.revision, start)).transpose()?;
    let items = get::alias_all(row, page.items).await?;
    let payload = Payload::List {
        api_version: row.resource.api_version(),
        kind: row.list_kind(),
        revision: snapshot.revision,
        r#continue,
        remaining: page.remaining,
        items,
    };
    Ok(answer(200, Vec::new(), payload))
}

/// One object that cannot be read fails the list that it would be in, in upstream's words.
fn all_readable(registry: &Registry, row: &Row, namespace: &str, selection: &Selection) -> Result<(), Status> {
    let found = match selection.name().filter(|_| !namespace.is_empty() || !row.resource.namespaced) {
        // Who asks for one by its name does not read the others.
        Some(name) => {
            let key = Key::new(row.storage(), namespace, name);
            registry.cache.unreadable(&key).map(|why| (key, why))
        }
        None if namespace.is_empty() => registry.cache.first_unreadable(&Range::Resource(row.storage())),
        None => registry.cache.first_unreadable(&Range::Namespace(row.storage(), namespace.into())),
    };
    let told = |(key, why)| get::unreadable(&format!("unable to transform key {:?}: {why}", kedge_store::place(&key)));
    found.map_or(Ok(()), |found| Err(told(found)))
}

struct Page {
    items: Vec<Arc<Object>>,
    /// Where the next page starts, if there is one.
    next: Option<String>,
    /// How many come after; not counted if a selector would have to look at each.
    remaining: Option<u64>,
}

type Place = (String, String);

fn page(
    snapshot: &Snapshot,
    row: &Row,
    namespace: &str,
    selection: &Selection,
    after: Option<&Place>,
    limit: usize,
) -> Page {
    let storage = row.storage();
    let mut items = Vec::new();
    if let Some(name) = selection.name().filter(|_| !namespace.is_empty() || !row.resource.namespaced) {
        let key = Key::new(storage, namespace, name);
        items.extend(snapshot.get(&key).filter(|o| selection.matches(o)).cloned());
        return Page { items, next: None, remaining: None };
    }
    let skipped = |o: &&Arc<Object>| after.is_some_and(|(ns, name)| (&*o.key.namespace, &*o.key.name) <= (ns, name));
    let mut found = snapshot.list(&storage, namespace).skip_while(skipped).filter(|o| selection.matches(o)).peekable();
    while let Some(object) = found.next() {
        items.push(object.clone());
        if limit > 0 && items.len() == limit && found.peek().is_some() {
            let start = if namespace.is_empty() && row.resource.namespaced {
                format!("{}/{}\0", object.key.namespace, object.key.name)
            } else {
                format!("{}\0", object.key.name)
            };
            let remaining = selection.is_everything().then(|| found.count() as u64);
            return Page { items, next: Some(start), remaining };
        }
    }
    Page { items, next: None, remaining: None }
}

/// The state to list, and where in it to start.
async fn moment(registry: &Registry, row: &Row, request: &Request) -> Result<(Snapshot, Option<Place>), Status> {
    let options = &request.options;
    let version = options.resource_version.as_deref();
    let invalid = |status: Status| Status::bad_request(format!("invalid resource version: {}", status.message));
    if let Some(text) = options.r#continue.as_deref().filter(|t| !t.is_empty()) {
        if version.is_some_and(|v| !v.is_empty() && v != "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let token = parse_token(text)?;
        let place = place(&token.start, &request.target.namespace);
        let Ok(revision) = u64::try_from(token.rv) else {
            // -1: go on with whatever is there now.
            return Ok((registry.cache.snapshot(), Some(place)));
        };
        let Some(snapshot) = registry.cache.kept(Revision(revision)) else {
            let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list \
                           without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
                           results. Continuing with the provided token results in an inconsistent list - objects that were created, \
                           modified, or deleted between the time the first chunk was returned and now may show up in the list.";
            let details = Details { r#continue: Some(encoded(-1, token.start)?), ..Details::default() };
            return Err(Status { details: Some(Box::new(details)), ..Status::new(Reason::Expired, message) });
        };
        return Ok((snapshot, Some(place)));
    }
    let wanted = get::parse_version(version).map_err(invalid)?;
    if let Some(revision) = wanted {
        get::reach(registry, revision).await?;
        if options.resource_version_match.as_deref() == Some("Exact") {
            let kept = registry.cache.kept(revision).or_else(|| registry.cache.at(&row.storage(), revision));
            let gone = || {
                Status::new(
                    Reason::Expired,
                    format!("The resourceVersion for the provided list is too old: {revision}"),
                )
            };
            return Ok((kept.ok_or_else(gone)?, None));
        }
    }
    Ok((registry.cache.snapshot(), None))
}

fn token(revision: Revision, start: String) -> Result<String, Status> {
    encoded(i64::try_from(revision.0).unwrap_or(i64::MAX), start)
}

fn encoded(rv: i64, start: String) -> Result<String, Status> {
    let json = serde_json::to_vec(&Token { v: TOKEN_VERSION.into(), rv, start });
    json.map(|json| BASE64.encode(json)).map_err(|e| Status::internal(format!("encoding a continue token: {e}")))
}

fn parse_token(text: &str) -> Result<Token, Status> {
    let invalid =
        |what: String| Status::bad_request(format!("invalid continue token: continue key is not valid: {what}"));
    let bytes = BASE64.decode(text).map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len().saturating_sub(1),
        };
        invalid(format!("illegal base64 data at input byte {at}"))
    })?;
    let token: Token = serde_json::from_slice(&bytes)
        .map_err(|e| invalid(crate::gojson::error(&bytes).unwrap_or_else(|| e.to_string())))?;
    if token.v != TOKEN_VERSION {
        return Err(invalid(format!("server does not recognize this encoded version {}", token.v)));
    }
    if token.rv == 0 {
        return Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".into()));
    }
    if token.start.is_empty() {
        return Err(invalid("empty start key (version meta.k8s.io/v1)".into()));
    }
    if token.start.split('/').any(|part| part == ".." || part == ".") || token.start.starts_with('/') {
        return Err(invalid(token.start));
    }
    Ok(token)
}

/// The object that a token's `start` comes after.
fn place(start: &str, namespace: &str) -> Place {
    let last = start.strip_suffix('\0').unwrap_or(start);
    match last.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (namespace.to_owned(), last.to_owned()),
    }
}
