use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use kedge_api::{Reason, Resource};

use super::*;
use crate::http::respond;
use crate::wire::path::parse;
use crate::wire::query::Query;

fn row(resource: &str) -> Resource {
    let template = crate::review::rows().remove(0);
    let id = kedge_api::GroupResource { group: "apps".into(), resource: resource.into() };
    Resource { id, version: "v1".into(), ..template }
}

fn subject(method: &str, uri: &str, media: &str) -> Option<Subject> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let query = Query::parse(query);
    let asked = parse(&method.parse::<Method>().unwrap(), path, &query).unwrap();
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, media.parse().unwrap())]);
    Subject::of(&asked, Some(&row("deployments")), &query, &headers)
}

#[test]
fn requests_are_counted_as_upstream_names_them() {
    let named = |method: &str, uri: &str, media: &str| {
        let subject = subject(method, uri, media)?;
        let [component, group, resource, scope, subresource, verb, version] = subject.labels();
        Some([verb, scope, component, group, version, resource, subresource, subject.dry_run].join(" "))
    };
    let all = "/apis/apps/v1/deployments";
    let own = "/apis/apps/v1/namespaces/n/deployments";
    for (method, uri, media, want) in [
        ("GET", all.to_owned(), "", "LIST cluster"),
        ("GET", own.to_owned(), "", "LIST namespace"),
        ("GET", format!("{own}?watch=1"), "", "WATCH namespace"),
        ("GET", format!("{own}/d"), "", "GET resource"),
        ("HEAD", format!("{own}/d"), "", "GET resource"),
        ("POST", own.to_owned(), "", "POST resource"),
        ("PUT", format!("{own}/d"), "", "PUT resource"),
        ("PATCH", format!("{own}/d"), "application/merge-patch+json", "PATCH resource"),
        ("PATCH", format!("{own}/d"), "application/apply-patch+yaml", "APPLY resource"),
        ("DELETE", format!("{own}/d"), "", "DELETE resource"),
        ("DELETE", own.to_owned(), "", "DELETECOLLECTION namespace"),
    ] {
        assert_eq!(
            named(method, &uri, media),
            Some(format!("{want} apiserver apps v1 deployments  ")),
            "{method} {uri}"
        );
    }
    let dry = named("POST", &format!("{own}?dryRun=All"), "");
    assert_eq!(dry.as_deref(), Some("POST resource apiserver apps v1 deployments  All"));
    assert_eq!(named("GET", "/readyz", "").as_deref(), Some("GET      /readyz "));
    assert_eq!(named("GET", "/readyz/ping", ""), None);
    assert_eq!(named("GET", "/apis", ""), None);
}

/// Reads a report as strictly as a Prometheus server: names, types, and what must hold between samples.
fn parsed(report: &str) -> BTreeMap<String, BTreeMap<String, f64>> {
    let (mut families, mut kinds) = (BTreeMap::<String, BTreeMap<String, f64>>::new(), BTreeMap::new());
    let mut current = String::new();
    assert!(report.ends_with('\n'));
    for line in report.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && !families.contains_key(name), "{line}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
            current = name.to_owned();
            families.insert(current.clone(), BTreeMap::new());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current);
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
            let name = series.split('{').next().unwrap();
            let kind = kinds[&current].as_str();
            let suffix = name.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{line} below {current}"));
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix) && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            let mut names = BTreeSet::new();
            if let Some(labels) = series[name.len()..].strip_prefix('{') {
                let mut rest = labels.strip_suffix('}').unwrap();
                while !rest.is_empty() {
                    let (label, behind) = rest.split_once("=\"").unwrap();
                    let end = behind.match_indices('"').find(|(at, _)| !behind[..*at].ends_with('\\')).unwrap().0;
                    assert!(names.insert(label.to_owned()), "{line}");
                    rest = behind[end + 1..].trim_start_matches(',');
                }
            }
            assert_eq!(names.contains("le"), suffix == "_bucket", "{line}");
            assert!(families.get_mut(&current).unwrap().insert(series.to_owned(), value).is_none(), "{line} twice");
        }
    }
    for (name, series) in &families {
        assert!(!series.is_empty(), "{name} has no samples");
        let bucket = |series: &str| series.starts_with(&format!("{name}_bucket"));
        for (whole, count) in series.iter().filter(|(series, _)| series.starts_with(&format!("{name}_count"))) {
            let labels = whole[name.len() + 6..].trim_matches(['{', '}']);
            let own = |s: &str| bucket(s) && s.contains(&format!("{{{labels}")) && s.contains("le=\"+Inf\"");
            assert!(series.iter().any(|(s, value)| own(s) && value == count), "{whole}");
        }
    }
    families
}

#[tokio::test]
async fn a_report_is_what_a_strict_reader_takes() {
    let metrics = Arc::new(Metrics::default());
    let list = || subject("GET", "/apis/apps/v1/deployments", "").unwrap();
    let watch = || subject("GET", "/apis/apps/v1/deployments?watch=1", "").unwrap();
    finish(metrics.working(list()), respond::text(200, "12345"));
    finish(metrics.working(list()), respond::text(403, ""));
    drop(metrics.working(list()));
    metrics.terminated(Some(&list()), 429);
    metrics.authenticated(Ok("admin"), Duration::from_millis(3));
    metrics.authenticated(Ok("a@example.com"), Duration::ZERO);
    metrics.authenticated(Err(()), Duration::ZERO);
    metrics.authorized(false, Duration::ZERO);
    metrics.handshake_failed();
    metrics.called(kedge_api::Verb::Create, "h:1", &Err::<(), _>(Status::new(Reason::Conflict, "c")));
    let events = [Ok("one".into()), Ok("three".into())];
    let body = respond::stream(futures::stream::iter(events));
    let open = finish(metrics.working(watch()), respond::respond(200, respond::JSON, body));
    assert_eq!(metrics.open_watches("apps", "deployments", "v1", "cluster"), 1.0);
    open.into_body().collect().await.unwrap();
    assert_eq!(metrics.open_watches("apps", "deployments", "v1", "cluster"), 0.0);

    let report = metrics.report(Form::Prometheus);
    let families = parsed(&report);
    let at = |name: &str, labels: &str| families[name][&format!("{name}{labels}")];
    let own = "resource=\"deployments\",scope=\"cluster\",subresource=\"\"";
    let counted = |code: &str, verb: &str| {
        let head = format!("{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",group=\"apps\"");
        at("apiserver_request_total", &format!("{head},{own},verb=\"{verb}\",version=\"v1\"}}"))
    };
    assert_eq!((counted("200", "LIST"), counted("403", "LIST"), counted("200", "WATCH")), (1.0, 1.0, 1.0));
    let list = format!("group=\"apps\",{own},verb=\"LIST\",version=\"v1\"}}");
    assert_eq!(at("apiserver_request_aborts_total", &format!("{{{list}")), 1.0);
    assert_eq!(
        at("apiserver_request_terminations_total", &format!("{{code=\"429\",component=\"apiserver\",{list}")),
        1.0
    );
    let sizes = &families["apiserver_response_sizes"];
    assert_eq!(sizes[&format!("apiserver_response_sizes_sum{{component=\"apiserver\",{list}")], 5.0);
    assert_eq!(at("apiserver_current_inflight_requests", "{request_kind=\"readOnly\"}"), 0.0);
    let events = "{group=\"apps\",resource=\"deployments\",version=\"v1\"}";
    assert_eq!(at("apiserver_watch_events_total", events), 2.0);
    assert_eq!(families["apiserver_watch_events_sizes"][&format!("apiserver_watch_events_sizes_sum{events}")], 8.0);
    assert_eq!(at("authenticated_user_requests", "{username=\"admin\"}"), 1.0);
    assert_eq!(at("authenticated_user_requests", "{username=\"email_id\"}"), 1.0);
    assert_eq!(at("authentication_attempts", "{result=\"error\"}"), 1.0);
    assert_eq!(at("authorization_attempts_total", "{result=\"no-opinion\"}"), 1.0);
    assert_eq!(at("apiserver_tls_handshake_errors_total", ""), 1.0);
    assert_eq!(at("rest_client_requests_total", "{code=\"409\",host=\"h:1\",method=\"POST\"}"), 1.0);
    assert!(at("process_resident_memory_bytes", "") > 1e6 && at("process_open_fds", "") > 2.0);
    assert!(families["kubernetes_build_info"].keys().next().unwrap().contains("minor=\"36\""));
}
