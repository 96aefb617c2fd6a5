//! Deleting: at once, after a grace period, or when the last finalizer is gone.
//!
//! ```text
//! delete_one ─▶ plan(old, wish) ─▶ Now    ─▶ Write::Delete
//!                               ├▶ Mark   ─▶ Write::Put with deletionTimestamp ─▶ (agent or controller) ─▶ write::replace deletes
//!                               └▶ Leave  ─▶ it is on its way already
//! ```

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kedge_api::request::Payload;
use kedge_api::resource::known;
use kedge_api::{Answer, Body, Object, Request, Status};
use kedge_store::{Error as StoreError, Expect, Write};
use serde_json::{Value, json};

use super::incoming::{self, Expected, Strictness};
use super::write::{self, ATTEMPTS};
use super::{answer, get, list, options, store_failed};
use crate::Registry;
use crate::admission::{self, Operation, Writer};
use crate::errors::{Errors, Path};
use crate::metadata::stamp;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a request wishes, from its body or, without one, from its query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    grace: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    propagation: Option<String>,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

pub(crate) fn wish(request: &mut Request) -> Result<Wish, Status> {
    let mut wish;
    let mut dry_run = request.options.dry_run.clone();
    let mut orphan = None;
    let body = std::mem::take(&mut request.body);
    match body {
        Body::Object { value, duplicates } if value.as_object().is_some_and(|o| !o.is_empty()) => {
            let expected = Expected {
                group: "",
                version: "v1",
                kind: "DeleteOptions",
                schema: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
            };
            let (version, kind) = (value.text("apiVersion").to_owned(), value.text("kind").to_owned());
            if !kind.is_empty() && kind != "DeleteOptions" {
                let scheme = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27";
                let what = format!("no kind {kind:?} is registered for version {version:?} in scheme {scheme:?}");
                return Err(Status::bad_request(what));
            }
            let mut value = value;
            // Every group's version names the same options.
            value.set("apiVersion", "v1");
            let body = incoming::conform(value, duplicates, &expected, Strictness::Ignore)?.value;
            let text = |path: &str| Some(body.text(path).to_owned()).filter(|t| !t.is_empty());
            orphan = body.look("orphanDependents").as_bool();
            dry_run = body.items("dryRun").iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if dry_run.is_empty() {
                dry_run.clone_from(&request.options.dry_run);
            }
            wish = Wish {
                grace: body.int("gracePeriodSeconds"),
                propagation: text("propagationPolicy"),
                uid: text("preconditions.uid"),
                version: text("preconditions.resourceVersion"),
                dry_run: false,
            };
        }
        Body::Object { .. } | Body::None | Body::Patch(..) => {
            wish = Wish {
                grace: request.options.grace_period_seconds,
                propagation: request.options.propagation_policy.clone().filter(|p| !p.is_empty()),
                ..Wish::default()
            };
        }
    }
    let mut errors = Errors::default();
    let path = Path::root("propagationPolicy");
    if let Some(policy) = wish.propagation.as_deref() {
        if orphan.is_some() {
            errors.invalid(&path, policy, "orphanDependents and deletionPropagation cannot be both set");
        }
        if !["Foreground", "Background", "Orphan"].contains(&policy) {
            errors.not_supported(&path, policy, &["Foreground", "Background", "Orphan", "nil"]);
        }
    }
    options::dry_run(&dry_run, &mut errors);
    errors.into_result("meta.k8s.io", "DeleteOptions", "")?;
    wish.dry_run = !dry_run.is_empty();
    wish.propagation = wish.propagation.or_else(|| orphan.map(|o| if o { "Orphan" } else { "Background" }.to_owned()));
    Ok(wish)
}

pub(crate) async fn delete(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let wish = wish(&mut request)?;
    let mut writer = Writer::of(&request, wish.dry_run);
    let object = delete_one(registry, row, &wish, &mut writer).await?;
    let payload = match object {
        Deleted::Marked(object) => get::show(row, object).await?,
        Deleted::Gone(last) if row.strategy.returns_deleted => get::show(row, last).await?,
        Deleted::Gone(last) => Payload::Value(success(row, &last)),
    };
    // Told once, by the kind that is unlike all others.
    let kept = row.resource.id == known::JOBS && wish.propagation.is_none();
    let plural = row.resource.id.resource.as_str();
    let warning = kept.then(|| {
        format!(
            "child pods are preserved by default when {plural} are deleted; set propagationPolicy=Background to remove them or set \
             propagationPolicy=Orphan to suppress this warning"
        )
    });
    Ok(answer(200, warning.into_iter().chain(writer.warnings).collect(), payload))
}

fn success(row: &Row, last: &Object) -> Value {
    let mut details = json!({"name": &*last.key.name, "kind": row.resource.id.resource.as_str(), "uid": last.uid()});
    if !row.resource.id.group.as_str().is_empty() {
        details.set("group", row.resource.id.group.as_str());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

pub(crate) async fn collection(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let wish = wish(&mut request)?;
    let mut listed = list::list(registry, row, &request).await?;
    let mut warnings = Vec::new();
    if let Payload::List { items, .. } = &listed.payload {
        for item in items {
            let mut target = request.target.clone();
            target.namespace = item.key.namespace.to_string();
            target.name = item.key.name.to_string();
            let mut writer = Writer { target: &target, ..Writer::of(&request, wish.dry_run) };
            let deleted = delete_one(registry, row, &wish, &mut writer).await;
            warnings.append(&mut writer.warnings);
            match deleted {
                Ok(_) => {}
                Err(gone) if gone.is(kedge_api::Reason::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
    }
    listed.warnings.append(&mut warnings);
    Ok(listed)
}

pub(crate) enum Deleted {
    /// It is still there, and will go when someone lets it.
    Marked(Arc<Object>),
    /// Its last version.
    Gone(Arc<Object>),
}

pub(crate) async fn delete_one(
    registry: &Registry,
    row: &Arc<Row>,
    wish: &Wish,
    writer: &mut Writer<'_>,
) -> Result<Deleted, Status> {
    let target = writer.target;
    (row.strategy.may_delete)(&target.name)
        .map_err(|why| Status::about(kedge_api::Reason::Forbidden, &row.resource.id, &target.name, why))?;
    // As it was stored with no time left.
    let mut marked: Option<Arc<Object>> = None;
    for _ in 0..ATTEMPTS {
        let object = match (get::find(registry, row, target), &marked) {
            // Who saw the mark was quicker, and has done what was asked for.
            (Err(_), Some(last)) => return Ok(Deleted::Gone(Arc::clone(last))),
            (Ok(next), Some(last)) if next.uid() != last.uid() => return Ok(Deleted::Gone(Arc::clone(last))),
            (found, _) => found?,
        };
        let old = get::decode(row, &object).await?;
        if marked.as_ref().is_none_or(|marked| marked.revision != object.revision) {
            check(row, &object, wish)?;
            admission::validate(registry, row, writer, Operation::Delete, &old, Some(&old)).await?;
        }
        let expect = Expect::Revision(object.revision);
        let (new, write) = match plan(&row.strategy, &old, wish, (registry.options.now)()) {
            Plan::Leave => return Ok(Deleted::Marked(object)),
            Plan::Mark(new) => {
                let draft = write::draft(object.key.clone(), &new, row).await?;
                (new, Write::Put(draft))
            }
            // Watchers see that no time is left before they see it go.
            Plan::Now(last) if row.strategy.grace.is_some() && last != old && !wish.dry_run => {
                let draft = write::draft(object.key.clone(), &last, row).await?;
                match write::commit(registry, expect, Write::Put(draft)).await {
                    Ok(commit) => {
                        marked = commit.object;
                        continue;
                    }
                    Err(StoreError::Conflict { .. }) => continue,
                    Err(error) => return Err(store_failed(&error)),
                }
            }
            Plan::Now(last) => (last, Write::Delete(object.key.clone())),
        };
        let marks = matches!(write, Write::Put(_));
        if wish.dry_run {
            let shown = Arc::new(write::loose(&object.key, object.revision, &new)?);
            return Ok(if marks { Deleted::Marked(shown) } else { Deleted::Gone(shown) });
        }
        match write::commit(registry, expect, write).await {
            Ok(commit) => match commit.object {
                Some(marked) => return Ok(Deleted::Marked(marked)),
                None => {
                    let mut last = new;
                    last.set("metadata.resourceVersion", commit.revision.to_string());
                    return Ok(Deleted::Gone(Arc::new(write::loose(&object.key, commit.revision, &last)?)));
                }
            },
            // Looked at anew.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(store_failed(&error)),
        }
    }
    Err(write::modified(row, &target.name))
}

fn check(row: &Row, object: &Object, wish: &Wish) -> Result<(), Status> {
    let conflict = |why: String| Status::conflict(&row.resource.id, &object.key.name, &why);
    if let Some(uid) = wish.uid.as_deref().filter(|uid| *uid != object.uid()) {
        let have = object.uid();
        return Err(conflict(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {have}")));
    }
    if let Some(version) = wish.version.as_deref().filter(|v| *v != object.revision.to_string()) {
        return Err(conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            object.revision
        )));
    }
    Ok(())
}

enum Plan {
    /// With the deletion's marks on it.
    Mark(Value),
    /// The last version.
    Now(Value),
    Leave,
}

fn plan(strategy: &Strategy, old: &Value, wish: &Wish, now: Timestamp) -> Plan {
    let deleting = old.has("metadata.deletionTimestamp");
    let mut new = old.clone();
    let mut seconds = 0;
    if let Some(grace) = strategy.grace {
        if deleting {
            let left = old.int("metadata.deletionGracePeriodSeconds").unwrap_or(0);
            // A pending deletion can only be shortened.
            match wish.grace {
                Some(wanted) if wanted < left => seconds = wanted.max(0),
                // No time is left: only finalizers can still hold it.
                Some(_) | None if left == 0 => {}
                Some(_) | None => return Plan::Leave,
            }
            let at = old.text("metadata.deletionTimestamp").parse::<Timestamp>().unwrap_or(now);
            let sooner = at.checked_sub(SignedDuration::from_secs(left - seconds)).unwrap_or(now);
            new.set("metadata.deletionTimestamp", stamp(sooner));
        } else {
            seconds = grace(old, wish.grace);
            let at = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
            new.set("metadata.deletionTimestamp", stamp(at));
            bump(&mut new);
        }
        new.set("metadata.deletionGracePeriodSeconds", seconds);
    }
    set_finalizers(&mut new, finalizers(strategy, old, wish));
    let held = !new.items("metadata.finalizers").is_empty() || (strategy.held)(&new);
    if strategy.grace.is_none() && held && !deleting {
        new.set("metadata.deletionTimestamp", stamp(now));
        if strategy.marks_grace {
            new.set("metadata.deletionGracePeriodSeconds", 0);
            bump(&mut new);
        }
        (strategy.on_delete)(&mut new);
    }
    match (held || seconds > 0, &new == old) {
        (false, _) => Plan::Now(new),
        (true, true) => Plan::Leave,
        (true, false) => Plan::Mark(new),
    }
}

fn bump(new: &mut Value) {
    if let Some(generation) = new.int("metadata.generation") {
        new.set("metadata.generation", generation + 1);
    }
}

fn set_finalizers(new: &mut Value, finalizers: Vec<String>) {
    if finalizers.is_empty() {
        new.cut("metadata.finalizers");
    } else {
        new.set("metadata.finalizers", finalizers);
    }
}

/// The garbage collector's finalizers say what becomes of dependents; all others stay.
fn finalizers(strategy: &Strategy, old: &Value, wish: &Wish) -> Vec<String> {
    let had: Vec<&str> = old.items("metadata.finalizers").iter().filter_map(Value::as_str).collect();
    let (orphan, foreground) = match wish.propagation.as_deref() {
        Some("Orphan") => (true, false),
        Some("Foreground") => (false, true),
        Some(_) => (false, false),
        None if had.contains(&ORPHAN) => (true, false),
        None if had.contains(&FOREGROUND) => (false, true),
        None => (strategy.orphans, false),
    };
    let mut now: Vec<String> = had
        .iter()
        .filter(|f| match **f {
            ORPHAN => orphan,
            FOREGROUND => foreground,
            _ => true,
        })
        .map(|f| (*f).to_owned())
        .collect();
    for (wanted, name) in [(orphan, ORPHAN), (foreground, FOREGROUND)] {
        if wanted && !now.iter().any(|f| f == name) {
            now.push(name.to_owned());
        }
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn wish(propagation: Option<&str>, grace: Option<i64>) -> Wish {
        Wish { propagation: propagation.map(str::to_owned), grace, ..Wish::default() }
    }

    fn marked(plan: Plan) -> Value {
        if let Plan::Mark(value) = plan { value } else { panic!("not marked") }
    }

    #[test]
    fn finalizers_hold_an_object_and_policies_become_finalizers() {
        let plain = json!({"metadata": {"name": "a"}});
        assert!(matches!(plan(&Strategy::PLAIN, &plain, &wish(None, None), now()), Plan::Now(_)));
        let foreground = marked(plan(&Strategy::PLAIN, &plain, &wish(Some("Foreground"), None), now()));
        assert_eq!(foreground["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        assert_eq!(foreground["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
        assert!(matches!(plan(&Strategy::PLAIN, &foreground, &wish(None, None), now()), Plan::Leave));
        assert!(matches!(plan(&Strategy::PLAIN, &foreground, &wish(Some("Background"), None), now()), Plan::Now(_)));
        let orphans = Strategy { orphans: true, ..Strategy::PLAIN };
        assert_eq!(
            marked(plan(&orphans, &plain, &wish(None, None), now()))["metadata"]["finalizers"],
            json!(["orphan"])
        );
        let own = json!({"metadata": {"finalizers": ["e.com/f"]}});
        assert_eq!(
            marked(plan(&Strategy::PLAIN, &own, &wish(Some("Orphan"), None), now()))["metadata"]["finalizers"],
            json!(["e.com/f", "orphan"])
        );
    }

    #[test]
    fn grace_is_given_once_and_only_shortened() {
        let graceful = Strategy { grace: Some(|_, wanted| wanted.unwrap_or(30)), ..Strategy::PLAIN };
        let pod = json!({"metadata": {"name": "p", "generation": 1}});
        let dying = marked(plan(&graceful, &pod, &wish(None, None), now()));
        assert_eq!(
            dying["metadata"],
            json!({"name": "p", "generation": 2, "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30})
        );
        assert!(matches!(plan(&graceful, &dying, &wish(None, None), now()), Plan::Leave));
        assert!(matches!(plan(&graceful, &dying, &wish(None, Some(60)), now()), Plan::Leave));
        let sooner = marked(plan(&graceful, &dying, &wish(None, Some(5)), now()));
        assert_eq!(sooner["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
        assert_eq!(sooner["metadata"]["generation"], 2);
        assert!(matches!(plan(&graceful, &sooner, &wish(None, Some(0)), now()), Plan::Now(_)));
        assert!(matches!(plan(&graceful, &pod, &wish(None, Some(0)), now()), Plan::Now(_)));
    }
}
