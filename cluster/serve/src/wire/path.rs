//! What a request is about, told from its method and path, as authorization and the registry name it.
//!
//! `/api/v1/namespaces/NS/RESOURCE/NAME/SUBRESOURCE`, `/apis/GROUP/VERSION/…`; all else is a non-resource path.

use http::Method;
use kedge_api::{GroupResource, Target, Verb};

use super::query::Query;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The path, percent-decoded.
    pub path: String,
    pub about: About,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    Resource(ResourceAsked),
    /// The method in lower case is the verb.
    Path {
        verb: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceAsked {
    pub verb: Verb,
    pub target: Target,
    /// What follows the subresource, e.g. the path behind `proxy`, without a leading slash.
    pub rest: String,
}

/// The path has an invalid percent escape, or what it stands for is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid URL escape in the path")]
pub struct BadPath;

pub fn parse(method: &Method, raw_path: &str, query: &Query) -> Result<Asked, BadPath> {
    let path = decode(raw_path)?;
    let other = About::Path { verb: method_verb(method) };
    let about = resource(method, &path, query).map_or(other, About::Resource);
    Ok(Asked { path, about })
}

fn resource(method: &Method, path: &str, query: &Query) -> Option<ResourceAsked> {
    let mut parts = path.trim_matches('/').split('/').peekable();
    let group = match parts.next()? {
        "api" => "",
        "apis" => parts.next()?,
        _ => return None,
    };
    let version = parts.next()?;
    let mut watch = false;
    // The older form of a watch: `/api/v1/watch/…`.
    if parts.next_if_eq(&"watch").is_some() {
        watch = true;
    }
    let mut resource = parts.next().filter(|part| !part.is_empty())?;
    let mut namespace = "";
    let name = match resource {
        "namespaces" => {
            let here = parts.next().unwrap_or_default();
            match parts.peek().copied() {
                None | Some("status" | "finalize") => here,
                Some(next) => {
                    (namespace, resource) = (here, next);
                    parts.next();
                    parts.next().unwrap_or_default()
                }
            }
        }
        _ => parts.next().unwrap_or_default(),
    };
    let subresource = parts.next().unwrap_or_default();
    let rest = parts.collect::<Vec<_>>().join("/");
    let verb = verb(method, name.is_empty(), watch || (query.flag("watch") && name.is_empty()))?;
    let target = Target {
        resource: GroupResource { group: group.into(), resource: resource.into() },
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    };
    Some(ResourceAsked { verb, target, rest })
}

fn verb(method: &Method, nameless: bool, watch: bool) -> Option<Verb> {
    Some(match *method {
        Method::GET | Method::HEAD if watch => Verb::Watch,
        Method::GET | Method::HEAD if nameless => Verb::List,
        Method::GET | Method::HEAD => Verb::Get,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if nameless => Verb::DeleteCollection,
        Method::DELETE => Verb::Delete,
        _ => return None,
    })
}

/// The name that `fieldSelector=metadata.name=NAME` selects: authorization counts it as the name.
pub fn selected_name(selector: &str) -> Option<&str> {
    selector.split(',').find_map(|term| {
        let (field, value) = term.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value).trim();
        (field.trim() == "metadata.name" && !value.is_empty()).then_some(value)
    })
}

/// A method as authorization of paths names it.
pub fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

/// Undoes percent escapes.
pub fn decode(text: &str) -> Result<String, BadPath> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or(BadPath);
        let value = digit()? * 16 + digit()?;
        out.push(u8::try_from(value).map_err(|_| BadPath)?);
    }
    String::from_utf8(out).map_err(|_| BadPath)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn about(method: &str, uri: &str) -> About {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        parse(&method.parse().unwrap(), path, &Query::parse(query)).unwrap().about
    }

    fn text(method: &str, uri: &str) -> String {
        match about(method, uri) {
            About::Path { verb } => format!("path {verb}"),
            About::Resource(ResourceAsked { verb, target, rest }) => format!(
                "{} {}|{}|{}|{}|{}|{rest}",
                verb.as_str(),
                target.resource,
                target.version,
                target.namespace,
                target.name,
                target.subresource,
            ),
        }
    }

    #[test]
    fn paths_of_resources() {
        for (method, uri, want) in [
            ("GET", "/api/v1/pods", "list pods|v1||||"),
            ("GET", "/api/v1/namespaces", "list namespaces|v1||||"),
            ("GET", "/api/v1/namespaces/a", "get namespaces|v1||a||"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update namespaces|v1||a|finalize|"),
            ("GET", "/api/v1/namespaces/a/pods", "list pods|v1|a|||"),
            ("GET", "/api/v1/namespaces/a/pods/p/log", "get pods|v1|a|p|log|"),
            ("POST", "/api/v1/namespaces/a/pods/p/exec?command=x", "create pods|v1|a|p|exec|"),
            ("GET", "/api/v1/nodes/n/proxy/stats/summary", "get nodes|v1||n|proxy|stats/summary"),
            ("GET", "/apis/apps/v1/namespaces/a/deployments?watch=1", "watch deployments.apps|v1|a|||"),
            ("GET", "/apis/apps/v1/namespaces/a/deployments?watch=false", "list deployments.apps|v1|a|||"),
            ("GET", "/apis/apps/v1/watch/namespaces/a/deployments", "watch deployments.apps|v1|a|||"),
            ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection deployments.apps|v1|a|||"),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", "patch deployments.apps|v1|a|d|scale|"),
            ("GET", "/api/v1/namespaces/a%20b/pods/%70/", "get pods|v1|a b|p||"),
            ("GET", "/api/v1", "path get"),
            ("GET", "/apis/apps/v1/", "path get"),
            ("GET", "/", "path get"),
            ("HEAD", "/healthz", "path head"),
            ("POST", "/apis", "path post"),
        ] {
            assert_eq!(text(method, uri), want, "{method} {uri}");
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        for path in ["/api/%", "/api/%4", "/api/%zz", "/%ff%fe"] {
            assert_eq!(parse(&Method::GET, path, &Query::parse("")), Err(BadPath), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_parsed_or_refused(path in "(/|api|apis|v1|watch|namespaces|[a-z%0-9A-F./ ]{0,6}){0,12}", query in ".{0,60}") {
            let query = Query::parse(&query);
            for method in [Method::GET, Method::POST, Method::DELETE, Method::TRACE] {
                if let Ok(Asked { about: About::Resource(asked), .. }) = parse(&method, &path, &query) {
                    prop_assert!(!asked.target.resource.resource.as_str().is_empty() || asked.target.namespace.is_empty());
                }
            }
        }
    }
}
