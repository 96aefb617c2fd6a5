//! Stories of pods, told in steps: what happens, and what is planned then.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::plan::{self, Action};
use super::seed::{self, Found, FoundState};
use super::*;

pub struct Story {
    pub pod: Pod,
    pub observed: Observed,
    pub now: Timestamp,
    gone: bool,
    wake: Option<Timestamp>,
}

fn pod(spec: Value) -> Pod {
    let mut pod = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn slot(name: &str) -> SlotId {
    let index = name[1..].parse().unwrap();
    if name.starts_with('i') { SlotId::Init(index) } else { SlotId::Main(index) }
}

fn name(slot: SlotId) -> String {
    match slot {
        SlotId::Init(i) => format!("i{i}"),
        SlotId::Main(i) => format!("c{i}"),
    }
}

fn show(action: &Action) -> String {
    match action {
        Action::Prepare => "prepare".into(),
        Action::Refresh { tokens } => if *tokens { "refresh tokens" } else { "refresh" }.into(),
        Action::Start { slot, attempt } => format!("start {} {attempt}", name(*slot)),
        Action::Stop { slot, grace, why, .. } => format!("stop {} {grace}s {why:?}", name(*slot)),
        Action::Kill { slot, .. } => format!("kill {}", name(*slot)),
        Action::Probe { slot, kind, .. } => format!("probe {} {kind:?}", name(*slot)),
        Action::Fail(verdict) => format!("fail {}", verdict.reason),
        Action::Release => "release".into(),
        Action::Delete => "delete".into(),
        Action::Finish => "finish".into(),
    }
}

impl Story {
    fn of(spec: Value) -> Self {
        let (pod, now) = (pod(spec), Timestamp::UNIX_EPOCH);
        let observed = Observed::new(&pod, now);
        Self { pod, observed, now, gone: false, wake: None }
    }

    /// Plans until nothing more is planned, beginning each action.
    fn plan(&mut self) -> String {
        let mut shown = Vec::new();
        for _ in 0..10 {
            let plan = plan::next(&self.pod, &self.observed, self.gone, self.now);
            self.wake = plan.wake;
            if plan.actions.is_empty() {
                return shown.join(", ");
            }
            for action in &plan.actions {
                shown.push(show(action));
                self.observed.begin(action, self.now, &self.pod);
            }
            if plan.actions == [Action::Finish] {
                return shown.join(", ");
            }
        }
        panic!("planned without end: {shown:?}");
    }

    fn apply(&mut self, event: Event) {
        self.observed.apply(event, self.now, &self.pod);
    }

    fn attempt(&self, id: SlotId) -> u32 {
        self.observed.slot(id).unwrap().attempt
    }

    fn end(&self, code: i32) -> Termination {
        let reason = if code == 0 { "Completed" } else { "Error" };
        Termination {
            code,
            signal: None,
            reason: reason.into(),
            message: String::new(),
            started: None,
            finished: self.now,
            id: "x".into(),
        }
    }

    /// One thing happens: `prepared`, `started c0`, `exit c0 1`, `good c0 Liveness`, `wait 10`, ….
    fn happens(&mut self, what: &str) {
        let words: Vec<&str> = what.split(' ').collect();
        let kind = |word: &str| probe::Kind::ALL.into_iter().find(|k| k.name() == word).unwrap();
        match words[..] {
            ["prepared"] => {
                self.apply(Event::Prepared { addresses: vec!["10.42.0.2".parse().unwrap()], refresh: None })
            }
            ["unprepared"] => self.apply(Event::PrepareFailed),
            ["started", s] => {
                let (slot, image) = (slot(s), "sha256:1".to_owned());
                self.apply(Event::Started { slot, attempt: self.attempt(slot), image, id: "x".into() });
            }
            ["held", s, reason] => {
                let (slot, pull) = (slot(s), reason == "ErrImagePull");
                let (reason, message) = (reason.to_owned(), "why".to_owned());
                self.apply(Event::Held { slot, attempt: self.attempt(slot), reason, message, pull });
            }
            ["exit", s, code] => {
                let (slot, end) = (slot(s), self.end(code.parse().unwrap()));
                self.apply(Event::Exited { slot, attempt: self.attempt(slot), end });
            }
            [result @ ("good" | "bad"), s, k] => {
                let (slot, kind) = (slot(s), kind(k));
                self.apply(Event::Probed { slot, attempt: self.attempt(slot), kind, good: result == "good" });
            }
            ["hook-failed", s] => self.apply(Event::HookFailed { slot: slot(s), attempt: self.attempt(slot(s)) }),
            ["changed"] => self.apply(Event::Changed),
            ["refreshed", seconds] => {
                let refresh = Some(after(self.now, seconds.parse().unwrap()));
                self.apply(Event::Refreshed { refresh });
            }
            ["released"] => self.apply(Event::Released),
            ["wait", seconds] => self.now = after(self.now, seconds.parse().unwrap()),
            ["delete", grace] => {
                self.pod.metadata.deletion_timestamp = Some(self.now.into());
                self.pod.metadata.deletion_grace_period_seconds = Some(grace.parse().unwrap());
            }
            ["gone"] => self.gone = true,
            _ => panic!("nothing is called {what:?}"),
        }
    }

    fn status(&self) -> k8s_openapi::api::core::v1::PodStatus {
        status::of(&self.pod, &self.observed, None, &["192.0.2.7".parse().unwrap()], self.now)
    }

    /// `PHASE a:STATE`, e.g. `Pending a:ContainerCreating`, `Running a:running/ready`.
    fn summary(&self) -> String {
        let status = self.status();
        let mut out = status.phase.unwrap();
        let all =
            status.init_container_statuses.into_iter().flatten().chain(status.container_statuses.into_iter().flatten());
        for c in all {
            let state = c.state.unwrap();
            let shown = if let Some(waiting) = state.waiting {
                waiting.reason.unwrap()
            } else if let Some(end) = state.terminated {
                format!("{}({})", end.reason.unwrap(), end.exit_code)
            } else {
                "running".into()
            };
            let ready = if c.ready { "/ready" } else { "" };
            let restarts = if c.restart_count > 0 { format!("*{}", c.restart_count) } else { String::new() };
            out.push_str(&format!(" {}:{shown}{ready}{restarts}", c.name));
        }
        out
    }

    /// Each line: `what happens -> what is planned | how it shows`; the latter two are checked where they are given.
    fn told(mut self, lines: &str) -> Self {
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (what, expected) = line.split_once("->").unwrap_or((line, ""));
            for event in what.split(';').map(str::trim).filter(|e| !e.is_empty()) {
                self.happens(event);
            }
            let (planned, shown) = expected.split_once('|').unwrap_or((expected, ""));
            assert_eq!(self.plan(), planned.trim(), "planned after {line:?}");
            if !shown.is_empty() {
                assert_eq!(self.summary(), shown.trim(), "shown after {line:?}");
            }
        }
        self
    }
}

#[test]
fn from_nothing_to_running_and_deleted() {
    Story::of(json!({"terminationGracePeriodSeconds": 5})).told(
        "                -> prepare                | Pending a:ContainerCreating
         prepared        -> start c0 0             | Pending a:ContainerCreating
         started c0      ->                        | Running a:running/ready
         delete 5        -> stop c0 5s PodEnds     | Running a:running/ready
         wait 4          ->
         wait 1          -> kill c0
         wait 29         ->
         wait 1          -> kill c0
         exit c0 137     -> release                | Failed a:Error(137)
         released        -> delete
         gone            -> finish",
    );
}

#[test]
fn containers_start_one_after_the_other_after_the_init_containers() {
    Story::of(json!({"initContainers": [{"name": "x"}, {"name": "y"}], "containers": [{"name": "a"}, {"name": "b"}]})).told(
        "                -> prepare                | Pending x:PodInitializing y:PodInitializing a:PodInitializing b:PodInitializing
         prepared        -> start i0 0
         started i0      ->                        | Pending x:running y:PodInitializing a:PodInitializing b:PodInitializing
         exit i0 1       -> start i0 1             | Pending x:PodInitializing*1 y:PodInitializing a:PodInitializing b:PodInitializing
         started i0      ->
         exit i0 0       -> start i1 0
         started i1; exit i1 0 -> start c0 0
         started c0      -> start c1 0             | Pending x:Completed(0)/ready*1 y:Completed(0)/ready a:running/ready b:PodInitializing
         started c1      ->                        | Running x:Completed(0)/ready*1 y:Completed(0)/ready a:running/ready b:running/ready",
    );
}

#[test]
fn a_crash_loop_waits_longer_each_time() {
    let story = Story::of(json!({})).told(
        "                -> prepare
         prepared        -> start c0 0
         started c0; exit c0 1 -> start c0 1
         started c0      ->                        | Running a:running/ready*1
         exit c0 1       ->                        | Running a:CrashLoopBackOff*1
         wait 9          ->                        | Running a:CrashLoopBackOff*1
         wait 1          -> start c0 2
         started c0; exit c0 0 ->                  | Running a:CrashLoopBackOff*2
         wait 19         ->
         wait 1          -> start c0 3
         started c0; wait 700; exit c0 1 -> start c0 4",
    );
    assert_eq!(story.observed.main[0].last.as_ref().unwrap().code, 1);
}

#[test]
fn restart_policies_decide_how_a_pod_ends() {
    for (policy, codes, expected) in [
        ("Never", "0", "release | Succeeded a:Completed(0)"),
        ("Never", "3", "release | Failed a:Error(3)"),
        ("OnFailure", "0", "release | Succeeded a:Completed(0)"),
        ("OnFailure", "3", "start c0 1 | Running a:ContainerCreating*1"),
        ("Always", "0", "start c0 1 | Running a:ContainerCreating*1"),
    ] {
        Story::of(json!({"restartPolicy": policy}))
            .told(&format!("-> prepare\nprepared -> start c0 0\nstarted c0; exit c0 {codes} -> {expected}"));
    }
}

#[test]
fn a_failing_init_container_fails_a_pod_that_never_restarts() {
    Story::of(json!({"restartPolicy": "Never", "initContainers": [{"name": "x"}]})).told(
        "                -> prepare
         prepared        -> start i0 0
         started i0; exit i0 1 -> release          | Failed x:Error(1) a:PodInitializing",
    );
}

#[test]
fn restart_rules_come_before_the_policy() {
    let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    Story::of(json!({"restartPolicy": "Never", "containers": [{"name": "a", "restartPolicyRules": rule}]})).told(
        "                -> prepare
         prepared        -> start c0 0
         started c0; exit c0 42 -> start c0 1
         started c0; exit c0 1  -> release         | Failed a:Error(1)*1",
    );
}

#[test]
fn sidecars_stay_until_the_containers_have_ended() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [
        {"name": "s", "restartPolicy": "Always", "startupProbe": {"periodSeconds": 1}}, {"name": "x"}, {"name": "t", "restartPolicy": "Always"}]});
    Story::of(spec).told(
        "                -> prepare
         prepared        -> start i0 0
         started i0      -> probe i0 Startup
         good i0 Startup -> start i1 0
         started i1; exit i1 0 -> start i2 0
         started i2      -> start c0 0
         started c0      ->                        | Running s:running/ready x:Completed(0)/ready t:running/ready a:running/ready
         exit i0 1       -> start i0 1
         started i0      -> probe i0 Startup
         good i0 Startup ->
         exit c0 0       -> stop i2 30s PodEnds    | Running s:running/ready*1 x:Completed(0)/ready t:running/ready a:Completed(0)
         exit i2 143     -> stop i0 30s PodEnds
         exit i0 143     -> release                | Succeeded s:Error(143)*1 x:Completed(0)/ready t:Error(143) a:Completed(0)",
    );
}

#[test]
fn images_that_cannot_be_had_are_tried_again_ever_more_slowly() {
    Story::of(json!({})).told(
        "                -> prepare
         prepared        -> start c0 0
         held c0 ErrImagePull ->                   | Pending a:ErrImagePull
         wait 2          ->                        | Pending a:ImagePullBackOff
         wait 8          -> start c0 0
         held c0 ErrImagePull; wait 19 ->          | Pending a:ImagePullBackOff
         wait 1          -> start c0 0
         started c0      ->                        | Running a:running/ready",
    );
}

#[test]
fn missing_configuration_is_waited_for() {
    Story::of(json!({})).told(
        "                -> prepare
         unprepared      ->
         wait 1          -> prepare
         unprepared; wait 1 ->
         changed         -> prepare
         prepared        -> refresh, start c0 0
         refreshed 50; held c0 CreateContainerConfigError -> | Pending a:CreateContainerConfigError
         changed         -> refresh, start c0 0
         refreshed 50; started c0 ->
         wait 50         -> refresh tokens",
    );
}

#[test]
fn probes_restart_and_unready() {
    let spec = json!({"containers": [{"name": "a",
        "livenessProbe": {"periodSeconds": 10, "failureThreshold": 2, "terminationGracePeriodSeconds": 3},
        "readinessProbe": {"periodSeconds": 5, "initialDelaySeconds": 1, "failureThreshold": 1}}]});
    Story::of(spec).told(
        "                -> prepare
         prepared        -> start c0 0
         started c0      -> probe c0 Liveness      | Running a:running
         good c0 Liveness; wait 1 -> probe c0 Readiness
         good c0 Readiness ->                      | Running a:running/ready
         wait 5          -> probe c0 Readiness
         bad c0 Readiness ->                       | Running a:running
         wait 4          -> probe c0 Liveness
         bad c0 Liveness; wait 10 -> probe c0 Liveness, probe c0 Readiness
         bad c0 Liveness -> stop c0 3s Liveness
         wait 3          -> kill c0
         exit c0 137     -> start c0 1             | Running a:ContainerCreating*1",
    );
}

#[test]
fn a_failed_hook_restarts_the_container() {
    Story::of(json!({})).told(
        "                -> prepare
         prepared        -> start c0 0
         started c0; hook-failed c0 -> stop c0 30s PostStartHook
         exit c0 143     -> start c0 1",
    );
}

#[test]
fn a_deadline_ends_the_pod() {
    let story = Story::of(json!({"activeDeadlineSeconds": 60})).told(
        "                -> prepare
         prepared        -> start c0 0
         started c0; wait 59 ->
         wait 1          -> fail DeadlineExceeded, stop c0 30s PodEnds | Running a:running/ready
         exit c0 0       -> release                | Failed a:Completed(0)",
    );
    assert_eq!(story.status().reason.unwrap(), "DeadlineExceeded");
}

#[test]
fn a_shorter_grace_counts_from_the_first_deletion() {
    Story::of(json!({})).told(
        "                -> prepare
         prepared        -> start c0 0
         started c0; delete 30 -> stop c0 30s PodEnds
         wait 5; delete 5 -> kill c0
         gone; exit c0 137 -> release
         released        -> finish",
    );
}

#[test]
fn deletion_waits_for_what_is_under_way() {
    Story::of(json!({})).told(
        "                -> prepare
         delete 30       ->
         prepared        -> release
         released        -> delete",
    );
    Story::of(json!({})).told(
        "                -> prepare
         prepared        -> start c0 0
         delete 30       ->
         started c0      -> stop c0 30s PodEnds",
    );
}

#[test]
fn an_end_that_is_seen_before_the_start_is_told_counts() {
    Story::of(json!({"restartPolicy": "Never"})).told(
        "                -> prepare
         prepared        -> start c0 0
         exit c0 0; started c0 -> release          | Succeeded a:Completed(0)",
    );
}

#[test]
fn every_wait_names_its_end() {
    let mut story =
        Story::of(json!({})).told("-> prepare\nprepared -> start c0 0\nstarted c0; exit c0 1 -> start c0 1");
    story.happens("started c0");
    assert_eq!((story.plan(), story.wake), (String::new(), None), "a pod at rest has no timer");
    story.happens("exit c0 1");
    assert_eq!((story.plan(), story.wake), (String::new(), Some(after(story.now, 10))));
}

#[test]
fn after_a_reboot_what_ran_runs_again() {
    let mut story = Story::of(json!({"initContainers": [{"name": "x"}]})).told(
        "                -> prepare
         prepared        -> start i0 0
         started i0; exit i0 0 -> start c0 0
         started c0      ->",
    );
    story.pod.status = Some(story.status());
    story.observed = seed::from_api(&story.pod, after(story.now, 60));
    story.now = after(story.now, 60);
    story.told(
        "                -> prepare                | Pending x:PodInitializing*1 a:ContainerStatusUnknown(137)
         prepared        -> start i0 1
         started i0; exit i0 0 -> start c0 1
         started c0      ->                        | Running x:Completed(0)/ready*1 a:running/ready*1",
    );
}

#[test]
fn after_a_reboot_what_had_ended_stays_so() {
    for (policy, ran, expected) in [
        ("Never", "started c0", "-> release | Failed a:ContainerStatusUnknown(137)"),
        ("OnFailure", "started c0; exit c0 0", "-> release | Succeeded a:Completed(0)"),
    ] {
        let lines = format!("-> prepare\nprepared -> start c0 0\n{ran}");
        let mut story = Story::of(json!({"restartPolicy": policy}));
        for event in ["prepared", "started c0"] {
            story.plan();
            story.happens(event);
        }
        if lines.contains("exit") {
            story.happens("exit c0 0");
        }
        story.pod.status = Some(story.status());
        story.observed = seed::from_api(&story.pod, story.now);
        story.told(expected);
    }
}

#[test]
fn after_a_re_exec_everything_goes_on() {
    let mut story = Story::of(json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]})).told(
        "                -> prepare
         prepared        -> start c0 0
         started c0      -> start c1 0
         started c1      -> start c2 0",
    );
    let json = serde_json::to_string(&story.observed).unwrap();
    story.observed = serde_json::from_str(&json).unwrap();
    let found =
        |i: usize, attempt, state| Found { slot: SlotId::Main(i), attempt, id: format!("{i}-{attempt}"), state };
    let end = story.end(1);
    let useless = seed::adopt(
        &mut story.observed,
        &[
            found(0, 0, Some(FoundState::Running { since: story.now })),
            found(1, 0, Some(FoundState::Exited(end))),
            found(2, 0, None),
            found(7, 0, None),
        ],
        story.now,
    );
    assert_eq!(useless, ["1-0", "2-0", "7-0"]);
    story.told("-> refresh, start c1 1, start c2 0\nrefreshed 9; started c1 -> | Pending a:running/ready b:running/ready*1 c:ContainerCreating");
}

#[test]
fn a_final_deletion_that_may_not_have_arrived_is_repeated() {
    let mut story = Story::of(json!({})).told("-> prepare\nprepared; delete 1 -> release\nreleased -> delete");
    assert_eq!(story.plan(), "", "once is enough while this process lives");
    assert!(seed::adopt(&mut story.observed, &[], story.now).is_empty());
    story.told("-> delete\ngone -> finish");
}

#[test]
fn conditions_tell_what_is_not_ready() {
    let mut story =
        Story::of(json!({"readinessGates": [{"conditionType": "x/y"}]})).told("-> prepare\nprepared -> start c0 0");
    let shown = |story: &Story| {
        let conditions = story.status().conditions.unwrap();
        conditions
            .iter()
            .map(|c| {
                format!("{}={}{}", c.type_, c.status, c.reason.clone().map(|r| format!(" {r}")).unwrap_or_default())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&story),
        [
            "PodReadyToStartContainers=True",
            "Initialized=True",
            "Ready=False ContainersNotReady",
            "ContainersReady=False ContainersNotReady",
            "PodScheduled=True"
        ]
    );
    story.happens("started c0");
    assert_eq!(shown(&story)[2], "Ready=False ReadinessGatesNotReady");
    story.pod.status = Some(story.status());
    let gate = serde_json::from_value(json!({"type": "x/y", "status": "True"})).unwrap();
    story.pod.status.as_mut().unwrap().conditions.as_mut().unwrap().push(gate);
    story.now = after(story.now, 5);
    let status = story.status();
    assert_eq!(shown(&story)[2], "Ready=True");
    let conditions = status.conditions.unwrap();
    assert_eq!(conditions.last().unwrap().type_, "x/y", "others' conditions stay");
    assert_eq!(conditions[0].last_transition_time.as_ref().unwrap().0, Timestamp::UNIX_EPOCH);
    assert_eq!(conditions[2].last_transition_time.as_ref().unwrap().0, story.now);
    assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.2"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.7"));
}
