use serde_json::{Value, json};

use super::*;
use crate::testing::{Facts, at};

/// `at(0)` is 08:00:00; turns come each minute.
fn cron(facts: &mut Facts, spec: Value, status: Value) {
    let mut whole = json!({"schedule": "* * * * *", "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
        "jobTemplate": {"metadata": {"labels": {"l": "v"}}, "spec": {"template": {"spec": {"containers": []}}}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let meta = json!({"namespace": "n", "name": "c", "creationTimestamp": at(-30).to_string()});
    facts.add(CRON_JOBS, json!({"metadata": meta, "spec": whole, "status": status}));
}

fn ran(facts: &mut Facts, name: &str, ended: Option<&str>, minute: i64) {
    let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "c", "controller": true}]);
    let time = at(60 * minute).to_string();
    let ends: Vec<Value> =
        ended.iter().map(|end| json!({"type": end, "status": "True", "lastTransitionTime": time})).collect();
    let meta = json!({"namespace": "n", "name": name, "ownerReferences": owner});
    facts.add(JOBS, json!({"metadata": meta, "spec": {}, "status": {"startTime": time, "conditions": ends}}));
}

/// What is made, what is deleted, what is told, and the status' patch.
fn planned(facts: &Facts, seconds: i64) -> (Vec<Value>, Vec<String>, Vec<String>, Value) {
    let plan = CronJobs.plan(&facts.snapshot, &Key::new(CRON_JOBS, "n", "c"), at(seconds)).unwrap();
    let (mut made, mut gone, mut told, mut status) = (Vec::new(), Vec::new(), Vec::new(), Value::Null);
    for step in plan.steps {
        match step {
            Step::Create { objects, .. } => made.extend(objects),
            Step::Delete { targets, .. } => gone.extend(targets.into_iter().map(|victim| victim.name)),
            Step::Tell(note) => told.push(note.reason),
            Step::Patch { patch, .. } => status = patch["status"].clone(),
            Step::Update { .. } | Step::Apply { .. } | Step::Evict { .. } => panic!("{step:?}"),
        }
    }
    (made, gone, told, status)
}

fn name_of(seconds: i64) -> String {
    format!("c-{}", at(seconds).as_second() / 60)
}

#[test]
fn each_turn_has_one_job() {
    let mut facts = Facts::default();
    cron(&mut facts, json!({}), json!({}));
    assert_eq!(planned(&facts, -1).0, Vec::<Value>::new());
    let (made, _, told, status) = planned(&facts, 5);
    let meta = &made[0]["metadata"];
    assert_eq!((meta["name"].as_str().unwrap(), &meta["labels"]), (name_of(0).as_str(), &json!({"l": "v"})));
    assert_eq!(meta["annotations"][SCHEDULED], at(0).to_string());
    assert_eq!((told, &status["lastScheduleTime"]), (vec!["SuccessfulCreate".to_owned()], &json!(at(0).to_string())));
    let plan = CronJobs.plan(&facts.snapshot, &Key::new(CRON_JOBS, "n", "c"), at(5)).unwrap();
    assert_eq!(plan.again, Some(Duration::from_secs(55) + LATE));
    // It was made, but that was not noted yet.
    ran(&mut facts, &name_of(0), None, 0);
    let (made, _, told, status) = planned(&facts, 6);
    assert_eq!((made.len(), told.len(), status["active"][0]["name"].as_str().unwrap()), (0, 0, name_of(0).as_str()));
    cron(&mut facts, json!({"suspend": true}), json!({}));
    assert!(planned(&facts, 65).0.is_empty());
}

#[test]
fn of_turns_that_went_by_the_last_counts() {
    for (spec, status, now, expected, told) in [
        (json!({}), json!({"lastScheduleTime": at(0).to_string()}), 605, Some(600), 1),
        (json!({}), json!({"lastScheduleTime": at(0).to_string()}), 30_005, Some(30_000), 2),
        (json!({"startingDeadlineSeconds": 30}), json!({}), 20, Some(0), 1),
        (json!({"startingDeadlineSeconds": 30}), json!({}), 50, None, 0),
        (json!({"schedule": "0 * * * *"}), json!({"lastScheduleTime": at(0).to_string()}), 7205, Some(7200), 1),
        (json!({"schedule": "no"}), json!({}), 65, None, 1),
    ] {
        let mut facts = Facts::default();
        cron(&mut facts, spec.clone(), status);
        let (made, _, said, _) = planned(&facts, now);
        let names: Vec<_> = made.iter().map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!((names, said.len()), (expected.map(name_of).into_iter().collect(), told), "{spec} {now}");
    }
}

#[test]
fn what_runs_may_be_alone_or_be_replaced() {
    for (policy, made, gone) in [("Allow", 1, 0), ("Forbid", 0, 0), ("Replace", 1, 1)] {
        let mut facts = Facts::default();
        let active = json!([{"name": name_of(0), "uid": name_of(0)}]);
        cron(
            &mut facts,
            json!({"concurrencyPolicy": policy}),
            json!({"lastScheduleTime": at(0).to_string(), "active": active}),
        );
        ran(&mut facts, &name_of(0), None, 0);
        let found = planned(&facts, 65);
        assert_eq!((found.0.len(), found.1.len()), (made, gone), "{policy}");
        assert_eq!(found.2.contains(&"JobAlreadyActive".to_owned()), policy == "Forbid");
    }
}

#[test]
fn finished_jobs_are_seen_and_the_oldest_go() {
    let mut facts = Facts::default();
    let active = json!([{"name": "d", "uid": "d"}, {"name": "lost", "uid": "lost"}]);
    cron(&mut facts, json!({"suspend": true}), json!({"active": active}));
    for (minute, (name, end)) in
        [("a", "Complete"), ("b", "Failed"), ("c1", "Failed"), ("d", "Complete"), ("e", "Complete"), ("f", "Complete")]
            .into_iter()
            .enumerate()
    {
        ran(&mut facts, name, Some(end), i64::try_from(minute).unwrap());
    }
    let (_, gone, told, status) = planned(&facts, 600);
    assert_eq!(gone, ["a", "b"]);
    assert_eq!(told, ["SawCompletedJob", "MissingJob", "SuccessfulDelete", "SuccessfulDelete"]);
    assert_eq!((&status["lastSuccessfulTime"], &status["active"]), (&json!(at(300).to_string()), &Value::Null));
}
