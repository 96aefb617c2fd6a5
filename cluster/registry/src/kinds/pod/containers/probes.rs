//! Probes and lifecycle hooks.

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::names;
use crate::value::Look as _;

pub(crate) fn lifecycle(container: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let here = path.child("lifecycle");
    let grace = spec.int("terminationGracePeriodSeconds").unwrap_or(30);
    for hook in ["postStart", "preStop"] {
        let handler = container.look("lifecycle").look(hook);
        if handler.is_object() {
            handle(handler, grace, &here.child(hook), errors);
        }
    }
}

pub(crate) fn probes(container: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let grace = spec.int("terminationGracePeriodSeconds").unwrap_or(30);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.look(name);
        if probe.is_null() {
            continue;
        }
        let here = path.child(name);
        handle(probe, grace, &here, errors);
        for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            if let Some(number) = probe.int(field).filter(|n| *n < 0) {
                errors.invalid(&here.child(field), number, "must be greater than or equal to 0");
            }
        }
        let seconds = probe.int("terminationGracePeriodSeconds");
        if let Some(seconds) = seconds.filter(|s| *s <= 0) {
            errors.invalid(&here.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
        }
        if name == "readinessProbe" {
            if let Some(seconds) = seconds {
                let why = "must not be set for readinessProbes";
                errors.invalid(&here.child("terminationGracePeriodSeconds"), seconds, why);
            }
            continue;
        }
        if let Some(count) = probe.int("successThreshold").filter(|n| *n != 1) {
            errors.invalid(&here.child("successThreshold"), count, "must be 1");
        }
    }
}

/// Exactly one way of asking.
fn handle(handler: &Value, grace: i64, path: &Path<'_>, errors: &mut Errors) {
    let mut found = false;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = handler.look(kind);
        if action.is_null() {
            continue;
        }
        let here = path.child(kind);
        if found {
            errors.forbidden(&here, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match kind {
            "exec" if action.items("command").is_empty() => errors.required(&here.child("command"), ""),
            "httpGet" => http_get(action, &here, errors),
            "tcpSocket" => port(action.look("port"), &here.child("port"), errors),
            "grpc" => port(action.look("port"), &here.child("port"), errors),
            "sleep" => {
                let seconds = action.int("seconds").unwrap_or(0);
                if !(0..=grace).contains(&seconds) {
                    let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.invalid(&here, seconds, &why);
                }
            }
            _ => {}
        }
    }
    if !found {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(action: &Value, path: &Path<'_>, errors: &mut Errors) {
    const SCHEMES: &[&str] = &["HTTP", "HTTPS"];
    if action.text("path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    port(action.look("port"), &path.child("port"), errors);
    let scheme = action.text("scheme");
    if !SCHEMES.contains(&scheme) {
        errors.not_supported(&path.child("scheme"), scheme, SCHEMES);
    }
    for header in action.items("httpHeaders") {
        let name = header.text("name");
        let fine = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !fine {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.invalid(&path.child("httpHeaders"), name, why);
        }
    }
}

fn port(port: &Value, path: &Path<'_>, errors: &mut Errors) {
    match port {
        Value::String(name) => errors.all_invalid(path, name, names::port(name)),
        other => {
            let number = other.as_i64().unwrap_or(0);
            for why in names::port_number(number) {
                errors.invalid(path, number, &why);
            }
        }
    }
}
