//! CronJob: makes jobs at times.

mod schedule;

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{STATUS, columns, job, resource, workload};
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Schedule", |o| o.text("spec.schedule").into()),
    columns::text("Timezone", |o| columns::or_none(o.text("spec.timeZone")).into()),
    columns::boolean("Suspend", |o| if o.flag("spec.suspend") { "True" } else { "False" }.into()),
    columns::number("Active", |o| o.items("status.active").len().into()),
    columns::text("Last Schedule", |o| last(o).into()),
    columns::AGE,
    columns::wide("Containers", |o| columns::containers(o.look(TEMPLATE), "name")),
    columns::wide("Images", |o| columns::containers(o.look(TEMPLATE), "image")),
    columns::wide("Selector", |o| columns::label_selector(o.look("spec.jobTemplate.spec.selector")).into()),
];

const TEMPLATE: &str = "spec.jobTemplate.spec.template";

/// Jobs are named after it, with eleven characters more.
const LONGEST: usize = 52;

pub(crate) fn row() -> Row {
    let base = resource("batch", "cronjobs", "cronjob", "CronJob", "io.k8s.api.batch.v1.CronJob", COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["cj"]),
        categories: Cow::Borrowed(&["all"]),
        subresources: &[STATUS],
        ..base
    };
    let strategy = Strategy {
        default,
        prepare_create: |cron| cron.set("status", json!({})),
        validate_create: |cron, errors| {
            validate(cron, None, errors);
            let name = cron.text("metadata.name");
            if name.len() > LONGEST {
                let why = format!("must be no more than {LONGEST} characters");
                errors.invalid(&Path::root("metadata.name"), name, &why);
            }
        },
        validate_update: |new, old, errors| validate(new, Some(old), errors),
        warnings,
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

fn last(cron: &Value) -> String {
    match cron.text("status.lastScheduleTime") {
        "" => columns::or_none(""),
        time => columns::since(time),
    }
}

fn default(cron: &mut Value) {
    cron.fill_text("spec.concurrencyPolicy", "Allow");
    cron.fill("spec.suspend", false);
    cron.fill("spec.successfulJobsHistoryLimit", 3);
    cron.fill("spec.failedJobsHistoryLimit", 1);
    cron.fill("spec.schedule", "");
    cron.fill("spec.jobTemplate.metadata", json!({}));
    workload::default_pods(cron.slot(TEMPLATE));
    job::default_patterns(cron.slot("spec.jobTemplate.spec"));
    cron.fill("status", json!({}));
}

fn validate(cron: &Value, old: Option<&Value>, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Allow", "Forbid", "Replace"];
    let spec = Path::root("spec");
    let text = cron.text("spec.schedule");
    if text.is_empty() {
        errors.required(&spec.child("schedule"), "");
    } else {
        if let Err(why) = schedule::check(text) {
            errors.invalid(&spec.child("schedule"), text, &why);
        }
        zone_in_schedule(cron, old, errors);
    }
    workload::counts(cron, &["spec.startingDeadlineSeconds"], errors);
    let zone = cron.look("spec.timeZone").as_str();
    // One that was taken once stays, whatever is known of zones by now.
    if let Some(zone) = zone.filter(|zone| old.is_none_or(|old| old.look("spec.timeZone") != *zone)) {
        time_zone(zone, &spec.child("timeZone"), errors);
    }
    let policy = cron.text("spec.concurrencyPolicy");
    if !POLICIES.contains(&policy) {
        errors.not_supported(&spec.child("concurrencyPolicy"), policy, POLICIES);
    }
    template(cron.look("spec.jobTemplate.spec"), &spec.child("jobTemplate.spec"), errors);
    workload::counts(cron, &["spec.successfulJobsHistoryLimit", "spec.failedJobsHistoryLimit"], errors);
}

fn template(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    job::spec::rules(spec, path, errors);
    let selector = spec.look("selector");
    if !selector.is_null() {
        errors.invalid_json(&path.child("selector"), &workload::shown(selector), "`selector` will be auto-generated");
    }
    if spec.flag("manualSelector") {
        errors.not_supported(&path.child("manualSelector"), true, &["nil", "false"]);
    }
}

/// A zone has a field of its own; who has it in the schedule already may keep it there.
fn zone_in_schedule(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let text = new.text("spec.schedule");
    let had = old.is_some_and(|old| old.text("spec.schedule").contains("TZ"));
    let why = match had {
        _ if !text.contains("TZ") => return,
        true if new.has("spec.timeZone") => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
        true => return,
        false => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
    };
    errors.invalid(&Path::root("spec.schedule"), text, why);
}

fn time_zone(zone: &str, path: &Path<'_>, errors: &mut Errors) {
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, why);
    }
    if !schedule::is_zone(zone) && zone != "Local" {
        errors.invalid(path, zone, &format!("unknown time zone {zone}"));
    }
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = workload::name_warning(new, old, "Pod names and hostnames");
    if old.is_none_or(|old| old.look("spec") != new.look("spec")) {
        said.extend(job::spec::warnings(new, "spec.jobTemplate.spec"));
    }
    if old.is_some() && new.text("spec.schedule").contains("TZ") {
        // Upstream's path, too.
        said.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_their_exact_names() {
        let wrong = |zone: &str| {
            let mut errors = Errors::default();
            time_zone(zone, &Path::root("z"), &mut errors);
            errors.len()
        };
        for zone in ["UTC", "Europe/Berlin", "Etc/GMT+5"] {
            assert_eq!(wrong(zone), 0, "{zone}");
        }
        for zone in ["", "Local", "europe/berlin", "Nowhere/At_all", "../etc"] {
            assert_eq!(wrong(zone), 1, "{zone}");
        }
    }

    #[test]
    fn a_zone_in_the_schedule_stays_where_it_was() {
        let cron = |schedule: &str| json!({"spec": {"schedule": schedule}});
        let wrong = |new: Value, old: Option<Value>| {
            let mut errors = Errors::default();
            zone_in_schedule(&new, old.as_ref(), &mut errors);
            errors.len()
        };
        assert_eq!(wrong(cron("TZ=UTC * * * * *"), None), 1);
        assert_eq!(wrong(cron("TZ=UTC * * * * *"), Some(cron("* * * * *"))), 1);
        assert_eq!(wrong(cron("TZ=UTC 1 * * * *"), Some(cron("TZ=UTC * * * * *"))), 0);
    }
}
