//! The checks of a request's options, which upstream makes before anything else.

use kedge_api::{Body, Options, PatchType, Request, Status};

use crate::errors::{Errors, Path};

const GROUP: &str = "meta.k8s.io";
const MANAGER: usize = 128;

/// `dryRun=All`, or an error naming the options type, e.g. `CreateOptions`.
pub(crate) fn write(options: &Options, kind: &str) -> Result<bool, Status> {
    check(options, kind, Errors::default())
}

/// As [`write`]; only an apply may be forced, and must say who applies.
pub(crate) fn patch(options: &Options, applies: bool) -> Result<bool, Status> {
    let mut errors = Errors::default();
    if applies && options.field_manager.as_deref().unwrap_or_default().is_empty() {
        errors.required(&Path::root("fieldManager"), "is required for apply patch");
    }
    if !applies && options.force.is_some() {
        errors.forbidden(&Path::root("force"), "may not be specified for non-apply patch");
    }
    check(options, "PatchOptions", errors)
}

/// The same for whatever changes an object: an update or a patch.
pub(crate) fn change(request: &Request) -> Result<bool, Status> {
    match &request.body {
        Body::Patch(kind, _) => patch(&request.options, *kind == PatchType::Apply),
        Body::Object { .. } | Body::None => write(&request.options, "UpdateOptions"),
    }
}

fn check(options: &Options, kind: &str, mut errors: Errors) -> Result<bool, Status> {
    dry_run(&options.dry_run, &mut errors);
    let manager = options.field_manager.as_deref().unwrap_or_default();
    let path = Path::root("fieldManager");
    if manager.len() > MANAGER {
        errors.too_long(&path, MANAGER);
    }
    if let Some((at, c)) = manager.char_indices().find(|(_, c)| c.is_control()) {
        errors.invalid(&path, manager, &format!("invalid character {:?} (at position {at})", u32::from(c)));
    }
    if let Some(mode) = options.field_validation.as_deref()
        && !["", "Ignore", "Warn", "Strict"].contains(&mode)
    {
        errors.not_supported(&Path::root("fieldValidation"), mode, &["", "Ignore", "Strict", "Warn"]);
    }
    errors.into_result(GROUP, kind, "")?;
    Ok(!options.dry_run.is_empty())
}

pub(crate) fn dry_run(values: &[String], errors: &mut Errors) {
    if values.iter().any(|v| v != "All") {
        errors.not_supported(&Path::root("dryRun"), values.to_vec(), &["All"]);
    }
}

/// The rules between resourceVersion, its match and the rest, of lists and watches.
pub(crate) fn list(options: &Options, watch: bool) -> Result<(), Status> {
    let mut errors = Errors::default();
    let version = options.resource_version.as_deref().unwrap_or_default();
    let how = options.resource_version_match.as_deref().unwrap_or_default();
    let path = Path::root("resourceVersionMatch");
    let initial = options.send_initial_events;
    if watch {
        if initial.is_some() {
            if how != "NotOlderThan" {
                errors.forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            if !how.is_empty() && how != "NotOlderThan" {
                errors.not_supported(&path, how, &["NotOlderThan"]);
            }
        } else if !how.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        }
        return errors.into_result(GROUP, "ListOptions", "");
    }
    if initial.is_some() {
        errors.forbidden(&Path::root("sendInitialEvents"), "sendInitialEvents is forbidden for list");
    }
    if !how.is_empty() {
        if version.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if options.r#continue.as_deref().is_some_and(|c| !c.is_empty()) {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
        match how {
            "Exact" if version == "0" => {
                errors.forbidden(&path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
            "Exact" | "NotOlderThan" => {}
            other => errors.not_supported(&path, other, &["Exact", "NotOlderThan", ""]),
        }
    }
    errors.into_result(GROUP, "ListOptions", "")
}
