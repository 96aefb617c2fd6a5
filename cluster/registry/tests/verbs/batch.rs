//! What jobs may be, become and say of themselves.

use kedge_api::GroupResource;
use serde_json::{Value, json};

use crate::groups::{merge, told};
use crate::world::{At, World, at, least};

fn job(name: &str, spec: Value) -> Value {
    let mut job = least("Job");
    merge(&mut job, json!({"metadata": {"name": name}, "spec": spec}));
    job
}

const INDEXED: &str =
    "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index";

#[tokio::test]
async fn jobs_are_refused_in_upstreams_words() {
    let world = World::new().await;
    let jobs = GroupResource::of("batch", "jobs");
    let failure = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let code = |codes: Value| failure(json!({"action": "FailJob", "onExitCodes": codes}));
    let condition = |pattern: Value| failure(json!({"action": "Ignore", "onPodConditions": [pattern]}));
    let rule = "spec.podFailurePolicy.rules[0]";
    let cases = [
        (json!({"maxFailedIndexes": -1}),
            "[spec.maxFailedIndexes: Invalid value: -1: must be greater than or equal to 0, spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified, spec.maxFailedIndexes: Invalid value: -1: requires indexed completion mode]".to_owned()),
        (json!({"managedBy": ""}), "spec.managedBy: Required value".into()),
        (json!({"managedBy": format!("a.io/{}", "x".repeat(60))}), "spec.managedBy: Too long: may not be more than 63 bytes".into()),
        (json!({"managedBy": "A.io/x"}),
            "spec.managedBy: Invalid value: \"A.io\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into()),
        (json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1, "maxFailedIndexes": 3}),
            "spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions".into()),
        (json!({"completionMode": "Indexed", "completions": 200_000, "backoffLimitPerIndex": 1, "parallelism": 20_000}),
            format!("[spec.maxFailedIndexes: Required value: must be specified when completions is above 100000, spec.parallelism: Invalid value: 20000: {INDEXED}]")),
        (json!({"completionMode": "Indexed", "completions": 200_000, "backoffLimitPerIndex": 1, "parallelism": 1, "maxFailedIndexes": 150_000}),
            format!("[spec.maxFailedIndexes: Invalid value: 150000: must be less than or equal to 100000, spec.maxFailedIndexes: Invalid value: 150000: {INDEXED}]")),
        (json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}),
            "spec.successPolicy: Invalid value: {\"Rules\":[{\"SucceededIndexes\":null,\"SucceededCount\":1}]}: requires indexed completion mode".into()),
        (failure(json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}})),
            format!("{rule}.action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set")),
        (failure(json!({"action": "Skip"})),
            format!("[{rule}.action: Unsupported value: \"Skip\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\", {rule}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required]")),
        (failure(json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [1]}, "onPodConditions": [{"type": "A"}]})),
            format!("{rule}: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported")),
        (code(json!({"containerName": "d", "operator": "In", "values": []})),
            format!("[{rule}.onExitCodes.containerName: Invalid value: \"d\": must be one of the container or initContainer names in the pod template, {rule}.onExitCodes.values: Invalid value: []: at least one value is required]")),
        (code(json!({"containerName": "c", "operator": "In", "values": [3, 0, 3]})),
            format!("[{rule}.onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator, {rule}.onExitCodes.values[2]: Duplicate value: 3, {rule}.onExitCodes.values: Invalid value: [3,0,3]: must be ordered]")),
        (condition(json!({"type": "A", "status": "Maybe"})),
            format!("{rule}.onPodConditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"")),
        (condition(json!({"type": "a b"})),
            format!("{rule}.onPodConditions[0].type: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')")),
        (json!({"podFailurePolicy": {"rules": (0..21).map(|_| json!({"action": "Count", "onPodConditions": [{"type": "A"}]})).collect::<Vec<_>>()}}),
            "spec.podFailurePolicy.rules: Too many: 21: must have at most 20 items".into()),
        (json!({"podReplacementPolicy": "Foo", "template": {"spec": {"restartPolicy": "Always"}}}),
            "[spec.podReplacementPolicy: Unsupported value: \"Foo\": supported values: \"Failed\", \"TerminatingOrFailed\", spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"]".into()),
        (json!({"template": {"metadata": {"labels": {"job-name": "other"}}}}), String::new()),
    ];
    for (spec, why) in cases {
        let object = job("j", spec.clone());
        let said = told(world.create(&jobs, "default", object).await);
        if why.is_empty() {
            assert!(said.starts_with("spec.template.metadata.labels[job-name]: Invalid value: {"), "{said}");
            assert!(said.ends_with("}: must be 'j'"), "{said}");
        } else {
            assert_eq!(said, why, "{spec}");
        }
    }
    // Its pods' names grow by their index.
    let long = job(&"x".repeat(62), json!({"completionMode": "Indexed", "completions": 1}));
    let host = format!("{}-0", "x".repeat(62));
    let said = told(world.create(&jobs, "default", long).await);
    assert!(said.ends_with(&format!("will not able to create pod with invalid DNS label: {host}")), "{said}");
}

#[tokio::test]
async fn a_jobs_own_labels_stay_its_own() {
    let world = World::new().await;
    let jobs = GroupResource::of("batch", "jobs");
    let mut same = job("same", json!({"template": {"metadata": {"labels": {"a": "b"}}}}));
    same["metadata"]["labels"] = json!({"a": "b"});
    let made = world.create(&jobs, "default", same).await.unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(made["spec"]["template"]["metadata"]["labels"]["job-name"], "same");

    let none = job("none", json!({"template": {"metadata": {"labels": {"a": "b"}}}}));
    let mut made = world.create(&jobs, "default", none).await.unwrap();
    assert_eq!(made["metadata"]["labels"]["job-name"], "none");
    assert_eq!(made["metadata"]["labels"], made["spec"]["template"]["metadata"]["labels"]);
    // Who made it has the labels of the template that was sent, and admission saw them.
    let owned = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"];
    assert_eq!(*owned, json!({".": {}, "f:a": {}}));
    made["metadata"].as_object_mut().unwrap().remove("labels");
    let again = world.value(kedge_api::Verb::Update, at(&jobs, "default", "none"), made.into()).await.unwrap();
    assert_eq!(again["metadata"]["labels"], again["spec"]["template"]["metadata"]["labels"]);
}

#[tokio::test]
async fn a_suspended_jobs_template_is_open_while_no_pod_runs() {
    let world = World::new().await;
    let jobs = GroupResource::of("batch", "jobs");
    let place = || at(&jobs, "default", "j");
    let fixed = |why: String| why.ends_with("field is immutable") && why.starts_with("spec.template: ");
    let fixed_but_for_resources =
        |why: String| why.ends_with("field is immutable") && why.starts_with("spec.template.spec: ");
    let template = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    let container = |resources: Value| json!([{"name": "c", "image": "i", "resources": resources}]);
    world.create(&jobs, "default", job("j", json!({"suspend": true}))).await.unwrap();
    let nodes = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}});
    let pods = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "k", "labelSelector": {"matchLabels": {"a": "b"}}}]}});
    let open = [
        json!({"affinity": nodes}),
        json!({"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]}),
        json!({"affinity": null}),
        json!({"containers": container(json!({"requests": {"cpu": "1"}}))}),
    ];
    for change in &open {
        assert_eq!(told(world.merge(place(), template(change.clone())).await), "", "{change}");
    }
    let named = json!([{"name": "d", "image": "i", "resources": {"requests": {"cpu": "2"}}}]);
    for change in [
        json!({"affinity": pods}),
        json!({"containers": [{"name": "c", "image": "other"}]}),
        json!({"containers": named}),
    ] {
        assert!(fixed_but_for_resources(told(world.merge(place(), template(change.clone())).await)), "{change}");
    }
    // Once it ran it is closed, until it is suspended again and idle.
    let status = |status: Value| world.merge(At { subresource: "status", ..place() }, json!({"status": status}));
    let resources = template(json!({"containers": container(json!({"requests": {"cpu": "2"}}))}));
    status(json!({"startTime": "2024-01-01T00:00:00Z", "active": 1})).await.unwrap();
    assert!(fixed(told(world.merge(place(), resources.clone()).await)));
    status(json!({"active": 0, "conditions": [{"type": "Suspended", "status": "True"}]})).await.unwrap();
    assert_eq!(told(world.merge(place(), resources).await), "");
    world.merge(place(), json!({"spec": {"suspend": false}})).await.unwrap();
    assert!(fixed(told(world.merge(place(), template(json!({"nodeSelector": {"a": "c"}}))).await)));
    let policy = json!({"spec": {"podFailurePolicy": {"rules": [{"action": "Count", "onPodConditions": [{"type": "A"}]}]}, "podReplacementPolicy": "Failed"}});
    assert_eq!(
        told(world.merge(place(), policy).await),
        "spec.podFailurePolicy: Invalid value: {\"Rules\":[{\"Action\":\"Count\",\"OnExitCodes\":null,\"OnPodConditions\":[{\"Type\":\"A\",\"Status\":\"True\"}]}]}: field is immutable"
    );
}

#[tokio::test]
async fn what_a_jobs_status_says_holds_together() {
    let world = World::new().await;
    let jobs = GroupResource::of("batch", "jobs");
    let conditions =
        |kinds: &[&str]| kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect::<Vec<_>>();
    let (start, end) = ("2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z");
    let done = json!({"startTime": start, "completionTime": end, "conditions": conditions(&["SuccessCriteriaMet", "Complete"])});
    let failed = json!({"startTime": start, "failed": 2, "conditions": conditions(&["FailureTarget", "Failed"])});
    let running = json!({"startTime": start, "active": 1, "failed": 1, "succeeded": 1});
    let with = |base: &Value, change: Value| {
        let mut status = base.clone();
        merge(&mut status, change);
        status
    };
    let indexed = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5, "backoffLimitPerIndex": 1});
    let plain = json!({});
    let cases = [
        (&plain, json!({}), done.clone(), ""),
        (&plain, json!({}), failed.clone(), ""),
        (
            &plain,
            json!({}),
            with(&done, json!({"startTime": null})),
            "status.startTime: Required value: startTime is required for finished job",
        ),
        (
            &plain,
            json!({}),
            with(&done, json!({"completionTime": null})),
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            &plain,
            json!({}),
            with(&done, json!({"completionTime": "2023-01-01T00:00:00Z"})),
            "status.completionTime: Invalid value: \"2023-01-01T00:00:00Z\": must be equal to or after `startTime`",
        ),
        (
            &plain,
            json!({}),
            with(&done, json!({"conditions": conditions(&["Complete"])})),
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (
            &plain,
            json!({}),
            with(&failed, json!({"conditions": conditions(&["Failed"])})),
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            &plain,
            json!({}),
            with(&failed, json!({"terminating": 1, "uncountedTerminatedPods": {"failed": ["u"]}})),
            "[status.uncountedTerminatedPods: Invalid value: {\"Succeeded\":null,\"Failed\":[\"u\"]}: must be empty for finished job, status.terminating: Invalid value: 1: terminating>0 is invalid for finished job]",
        ),
        (
            &plain,
            json!({}),
            json!({"conditions": conditions(&["SuccessCriteriaMet", "FailureTarget"])}),
            "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            &plain,
            json!({}),
            json!({"uncountedTerminatedPods": {"succeeded": ["u", ""], "failed": ["u"]}}),
            "[status.uncountedTerminatedPods.succeeded[1]: Invalid value: \"\": must not be empty, status.uncountedTerminatedPods.failed[0]: Duplicate value: \"u\"]",
        ),
        (
            &plain,
            json!({}),
            json!({"ready": 1}),
            "status.ready: Invalid value: 1: cannot set more ready pods than active",
        ),
        (
            &plain,
            json!({}),
            json!({"completedIndexes": "0", "failedIndexes": "0"}),
            "[status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed completion mode, status.failedIndexes: Invalid value: \"0\": cannot set non-null failedIndexes when backoffLimitPerIndex is null, status.failedIndexes: Invalid value: \"0\": failedIndexes and completedIndexes overlap at index: 0]",
        ),
        (
            &indexed,
            json!({}),
            json!({"completedIndexes": "0-6", "failedIndexes": "1,1"}),
            "[status.completedIndexes: Invalid value: \"0-6\": error parsing completedIndexes: too large index: \"6\", status.failedIndexes: Invalid value: \"1,1\": error parsing failedIndexes: non-increasing order, previous: 1, current: 1]",
        ),
        (
            &plain,
            running.clone(),
            json!({"failed": 0, "succeeded": 0}),
            "[status.failed: Invalid value: 0: cannot decrease the failed counter, status.succeeded: Invalid value: 0: cannot decrease the succeeded counter]",
        ),
        (&indexed, running.clone(), json!({"succeeded": 0}), ""),
        (
            &plain,
            running,
            json!({"startTime": null}),
            "status.startTime: Invalid value: null: field is immutable for unsuspended job once set",
        ),
        (
            &plain,
            done.clone(),
            json!({"completionTime": "2024-01-01T00:02:00Z"}),
            "status.completionTime: Invalid value: \"2024-01-01T00:02:00Z\": field is immutable",
        ),
        (
            &plain,
            done,
            json!({"completionTime": null, "conditions": []}),
            "[status.conditions: Invalid value: cannot disable the terminal Complete=True condition, status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition]",
        ),
    ];
    for (at_, (spec, before, change, why)) in cases.into_iter().enumerate() {
        let name = format!("j{at_}");
        world.create(&jobs, "default", job(&name, spec.clone())).await.unwrap();
        let place = || At { subresource: "status", ..at(&jobs, "default", &name) };
        world.merge(place(), json!({"status": before})).await.unwrap();
        assert_eq!(told(world.merge(place(), json!({"status": change})).await), why, "{change}");
    }
}

#[tokio::test]
async fn schedules_are_refused_in_order_and_keep_their_zone() {
    let world = World::new().await;
    let crons = GroupResource::of("batch", "cronjobs");
    let mut cron = least("CronJob");
    cron["metadata"] = json!({"name": "c".repeat(53)});
    merge(
        &mut cron["spec"],
        json!({"schedule": "TZ=UTC 0 0 * * *", "startingDeadlineSeconds": -1, "timeZone": "Nowhere"}),
    );
    assert_eq!(
        told(world.create(&crons, "default", cron).await),
        format!(
            "[spec.schedule: Invalid value: \"TZ=UTC 0 0 * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead, \
             spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0, \
             spec.timeZone: Invalid value: \"Nowhere\": unknown time zone Nowhere, \
             metadata.name: Invalid value: \"{}\": must be no more than 52 characters]",
            "c".repeat(53)
        )
    );
    let mut cron = least("CronJob");
    cron["metadata"] = json!({"name": "c"});
    let policy = json!({"rules": [{"action": "Count", "onPodConditions": [{"type": "A"}]}]});
    cron["spec"]["jobTemplate"]["spec"]["podFailurePolicy"] = policy;
    let made = world.create(&crons, "default", cron).await.unwrap();
    let rules = &made["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"];
    assert_eq!(rules[0]["onPodConditions"][0]["status"], "True");
}
