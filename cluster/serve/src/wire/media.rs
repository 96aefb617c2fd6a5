//! Which form of answer a client accepts, and which form its body has.

use kedge_api::metrics::Form as ReportForm;
use kedge_api::{PatchType, Reason, Status};

use super::protobuf::MEDIA_TYPE;

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    /// For built-in kinds; answers only where the client takes nothing else.
    Protobuf,
}

impl Format {
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => MEDIA_TYPE,
        }
    }
}

/// What an object is turned into before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Plain,
    Table,
    PartialObjectMetadata,
    PartialObjectMetadataList,
    /// `APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
    Discovery,
}

/// A form of answer that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub format: Format,
    pub shape: Shape,
    /// The version of `meta.k8s.io` that Tables and partial objects are of.
    pub meta_version: &'static str,
}

impl Accepted {
    pub const JSON: Self = Self { format: Format::Json, shape: Shape::Plain, meta_version: "v1" };
}

/// What an endpoint can offer beside plain objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Plain,
    /// Tables and partial objects.
    Objects,
    Discovery,
}

#[derive(Debug)]
struct Clause<'a> {
    media: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: u16,
}

fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept
        .split(',')
        .filter_map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().filter(|m| !m.is_empty())?;
            let mut quality = 1000;
            let mut params = Vec::new();
            for part in parts {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                let (name, value) = (name.trim(), value.trim().trim_matches('"'));
                match name {
                    "" => {}
                    "q" => quality = thousandths(value),
                    _ => params.push((name, value)),
                }
            }
            Some(Clause { media, params, quality })
        })
        .collect();
    // Stable: of equals the first wins.
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    clauses
}

fn thousandths(value: &str) -> u16 {
    let value = value.parse::<f32>().ok().filter(|q| q.is_finite()).unwrap_or(1.0);
    (value.clamp(0.0, 1.0) * 1000.0) as u16
}

/// The best form for an `Accept` header; none at all accepts JSON.
pub fn negotiate(accept: Option<&str>, offer: Offer) -> Result<Accepted, Status> {
    let accept = accept.map(str::trim).filter(|a| !a.is_empty()).unwrap_or("*/*");
    let clauses = clauses(accept);
    if !clauses.iter().any(|c| format(c.media).is_some()) {
        return Err(unknown_type());
    }
    let known = || clauses.iter().filter_map(|clause| accepted(clause, offer));
    // Stored bytes are JSON: who takes both gets them as they are.
    known().find(|a| a.format != Format::Protobuf).or_else(|| known().next()).ok_or_else(unknown_form)
}

/// In which form a document of OpenAPI `version` is answered.
pub fn document_form(accept: Option<&str>, version: &str) -> Option<Format> {
    let accept = accept.map(str::trim).filter(|a| !a.is_empty()).unwrap_or("*/*");
    let form = |clause: &Clause<'_>| match clause.media {
        "*/*" | "application/*" | "application/json" => Some(Format::Json),
        media => {
            let spec = media.strip_prefix("application/com.github.proto-openapi.spec.")?.strip_prefix(version)?;
            // The one with `@` is no media type, but what clients send.
            matches!(spec, "@v1.0+protobuf" | ".v1.0+protobuf").then_some(Format::Protobuf)
        }
    };
    clauses(accept).iter().find_map(form)
}

/// In which form `/metrics` answers.
pub fn report_form(accept: Option<&str>) -> ReportForm {
    let form = |clause: &Clause<'_>| {
        let version = clause.params.iter().find(|(name, _)| *name == "version").map(|(_, value)| *value);
        match (clause.media, version) {
            ("application/openmetrics-text", None | Some("0.0.1" | "1.0.0")) => Some(ReportForm::OpenMetrics),
            ("text/plain", None | Some("0.0.4")) => Some(ReportForm::Prometheus),
            _ => None,
        }
    };
    clauses(accept.unwrap_or_default()).iter().find_map(form).unwrap_or(ReportForm::Prometheus)
}

fn format(media: &str) -> Option<Format> {
    match media {
        "*/*" | "application/*" | "application/json" => Some(Format::Json),
        "application/yaml" => Some(Format::Yaml),
        MEDIA_TYPE => Some(Format::Protobuf),
        _ => None,
    }
}

fn accepted(clause: &Clause<'_>, offer: Offer) -> Option<Accepted> {
    let format = format(clause.media)?;
    let param = |name| clause.params.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
    if param("stream").is_some_and(|stream| stream != "watch") {
        return None;
    }
    let Some(kind) = param("as") else { return Some(Accepted { format, ..Accepted::JSON }) };
    let shape = match (offer, kind) {
        (Offer::Objects, "Table") => Shape::Table,
        (Offer::Objects, "PartialObjectMetadata") => Shape::PartialObjectMetadata,
        (Offer::Objects, "PartialObjectMetadataList") => Shape::PartialObjectMetadataList,
        (Offer::Discovery, "APIGroupDiscoveryList") => Shape::Discovery,
        _ => return None,
    };
    // There is no such message.
    if shape == Shape::Table && format == Format::Protobuf {
        return None;
    }
    let meta_version = match (shape, param("g")?, param("v")?) {
        (Shape::Discovery, "apidiscovery.k8s.io", "v2") => "v1",
        (Shape::Discovery, ..) => return None,
        (_, "meta.k8s.io", "v1") => "v1",
        (_, "meta.k8s.io", "v1beta1") => "v1beta1",
        _ => return None,
    };
    Some(Accepted { format, shape, meta_version })
}

/// Nothing the client names is a type we write.
fn unknown_type() -> Status {
    let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                   application/vnd.kubernetes.protobuf, application/json;stream=watch, \
                   application/vnd.kubernetes.protobuf;stream=watch";
    Status { details: Some(Box::default()), ..Status::new(Reason::NotAcceptable, message) }
}

/// The type is known, the form asked for (`as=…`) is not to be had here.
fn unknown_form() -> Status {
    Status::new(
        Reason::NotAcceptable,
        "only the following media types are accepted: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf",
    )
}

/// What is written at once cannot be a stream.
pub fn unknown_stream() -> Status {
    Status::new(
        Reason::NotAcceptable,
        "only the following media types are accepted: application/json;stream=watch, \
         application/vnd.kubernetes.protobuf;stream=watch",
    )
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyType {
    Object(Format),
    Patch(PatchType, Format),
}

/// The form of a body, from `Content-Type`; JSON where none is given, except for patches, which must say what they are.
pub fn body_type(content_type: Option<&str>, patch: bool) -> Result<BodyType, Status> {
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if patch {
        return Ok(match media {
            "application/json-patch+json" => BodyType::Patch(PatchType::Json, Format::Json),
            "application/merge-patch+json" => BodyType::Patch(PatchType::Merge, Format::Json),
            "application/strategic-merge-patch+json" => BodyType::Patch(PatchType::Strategic, Format::Json),
            "application/apply-patch+yaml" => BodyType::Patch(PatchType::Apply, Format::Yaml),
            _ => {
                let bare = Status::new(Reason::UnsupportedMediaType, "415: Unsupported Media Type");
                return Err(Status { details: Some(Box::default()), ..bare });
            }
        });
    }
    let given = content_type.filter(|given| !given.is_empty()).unwrap_or("application/json");
    match media_type(given).ok_or_else(unsupported)?.as_str() {
        "application/json" => Ok(BodyType::Object(Format::Json)),
        "application/yaml" => Ok(BodyType::Object(Format::Yaml)),
        MEDIA_TYPE => Ok(BodyType::Object(Format::Protobuf)),
        _ => Err(unsupported()),
    }
}

/// Without its parameters, which have to be some.
fn media_type(text: &str) -> Option<String> {
    let (media, rest) = text.split_once(';').unwrap_or((text, ""));
    let is_parameter = |part: &str| {
        part.trim_start().split_once('=').is_some_and(|(name, value)| {
            let odd = |c: char| c.is_whitespace() || c.is_control() || "()<>@,;:\\\"/[]?=".contains(c);
            !name.is_empty() && !name.contains(odd) && !value.is_empty()
        })
    };
    let rest = rest.trim_end_matches([';', ' ']);
    (rest.is_empty() || rest.split(';').all(is_parameter)).then(|| media.trim().to_ascii_lowercase())
}

const OBJECT_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
fn unsupported() -> Status {
    let message =
        format!("the body of the request was in an unknown format - accepted media types include: {OBJECT_TYPES}");
    Status::new(Reason::UnsupportedMediaType, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

    #[test]
    fn the_first_known_form_of_the_best_quality_wins() {
        let form =
            |accept: &str, offer| negotiate(Some(accept), offer).map(|a| (a.format, a.shape, a.meta_version)).ok();
        let plain = |format| Some((format, Shape::Plain, "v1"));
        assert_eq!(form(KUBECTL, Offer::Objects), Some((Format::Json, Shape::Table, "v1")));
        assert_eq!(form(KUBECTL, Offer::Plain), plain(Format::Json));
        assert_eq!(form("*/*", Offer::Objects), plain(Format::Json));
        assert_eq!(form("application/yaml;q=0.1,application/json", Offer::Objects), plain(Format::Json));
        assert_eq!(form("application/yaml, */*;q=0.8", Offer::Objects), plain(Format::Yaml));
        assert_eq!(form("application/vnd.kubernetes.protobuf,application/json", Offer::Objects), plain(Format::Json));
        assert_eq!(form("application/json;stream=watch", Offer::Objects), plain(Format::Json));
        assert_eq!(
            form("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", Offer::Discovery),
            Some((Format::Json, Shape::Discovery, "v1"))
        );
        for bad in [
            "application/json;as=Table;v=v9;g=meta.k8s.io",
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
            "text/html",
            "application/cbor",
            "application/json;as=Nope;v=v1;g=meta.k8s.io",
        ] {
            assert_eq!(negotiate(Some(bad), Offer::Objects).unwrap_err().reason.code(), 406, "{bad}");
        }
        assert_eq!(negotiate(None, Offer::Plain).unwrap(), Accepted::JSON);
    }

    #[test]
    fn documents_have_two_forms() {
        let v2 = |accept: &str| document_form(Some(accept), "v2");
        assert_eq!(v2("application/com.github.proto-openapi.spec.v2@v1.0+protobuf"), Some(Format::Protobuf));
        assert_eq!(
            v2("text/html,application/com.github.proto-openapi.spec.v2.v1.0+protobuf,*/*;q=0.1"),
            Some(Format::Protobuf)
        );
        assert_eq!(v2("application/com.github.proto-openapi.spec.v3@v1.0+protobuf"), None);
        assert_eq!(
            (v2("application/*"), v2("application/yaml"), document_form(None, "v3")),
            (Some(Format::Json), None, Some(Format::Json))
        );
    }

    #[test]
    fn a_report_is_in_the_form_asked_for_first() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(report_form(Some(prometheus)), ReportForm::OpenMetrics);
        assert_eq!(report_form(Some("application/openmetrics-text;version=9,text/plain")), ReportForm::Prometheus);
        assert_eq!(report_form(Some("application/openmetrics-text;q=0.1,text/plain")), ReportForm::Prometheus);
        assert_eq!(report_form(None), ReportForm::Prometheus);
    }

    #[test]
    fn a_patch_must_say_what_it_is() {
        assert_eq!(body_type(Some("application/json; charset=utf-8"), false).unwrap(), BodyType::Object(Format::Json));
        assert_eq!(body_type(None, false).unwrap(), BodyType::Object(Format::Json));
        for (content_type, patch) in [(None, true), (Some("application/json"), true), (Some("text/plain"), false)] {
            assert_eq!(body_type(content_type, patch).unwrap_err().reason, Reason::UnsupportedMediaType);
        }
    }

    #[test]
    fn what_a_body_is_may_be_written_in_capitals_and_with_parameters() {
        for (given, json) in [
            ("", true),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;", true),
            ("application/json; charset=\"utf-8\"; a=b", true),
            ("application/json;x", false),
            ("application/json; =x", false),
            (";", false),
            ("json", false),
            ("application/json,application/yaml", false),
        ] {
            assert_eq!(body_type(Some(given), false).is_ok(), json, "{given:?}");
        }
        assert!(body_type(None, false).is_ok());
        assert!(body_type(Some("APPLICATION/MERGE-PATCH+JSON"), true).is_err());
    }
}
