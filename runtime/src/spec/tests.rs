use super::*;
use crate::{ExecSpec, LogLimit, Namespaces, Resources, Rlimit, Rootfs, User};

fn small() -> ContainerSpec {
    ContainerSpec {
        id: "one".to_owned(),
        rootfs: Rootfs { layers: vec!["/layers/a".into()] },
        args: vec!["/bin/true".to_owned()],
        cgroup: "/kedge/one".to_owned(),
        ..ContainerSpec::default()
    }
}

fn full() -> ContainerSpec {
    ContainerSpec {
        id: "web-0.1".to_owned(),
        labels: BTreeMap::from([("pod".to_owned(), "uid".to_owned())]),
        rootfs: Rootfs { layers: vec!["/layers/a".into(), "/layers/b".into()] },
        args: vec!["httpd".to_owned(), "-f".to_owned()],
        env: vec![("PATH".to_owned(), "/bin".to_owned()), ("EMPTY".to_owned(), String::new())],
        cwd: "/srv".to_owned(),
        user: User { uid: 1000, gid: 1001, groups: vec![5, 6] },
        mounts: vec![
            Mount::bind("/var/lib/pods/uid/hosts", "/etc/hosts", true),
            Mount::bind("/run/kedge/ns/uid/shm", "/dev/shm", false),
        ],
        namespaces: Namespaces {
            net: Namespace::Path("/run/kedge/ns/uid/net".into()),
            ipc: Namespace::Path("/run/kedge/ns/uid/ipc".into()),
            uts: Namespace::Host,
            pid: Namespace::Own,
        },
        cgroup: "/kedge/pods/uid/web".to_owned(),
        resources: Resources {
            cpu_shares: Some(102),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            memory: Some(64 << 20),
            pids: Some(100),
        },
        capabilities: Some(vec!["CAP_NET_BIND_SERVICE".to_owned()]),
        readonly_rootfs: true,
        no_new_privileges: true,
        sysctls: BTreeMap::from([("net.core.somaxconn".to_owned(), "512".to_owned())]),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), soft: 1024, hard: 4096 }],
        oom_score_adj: Some(-997),
        tty: true,
        stdin: true,
        log: Some("/var/log/pods/web/0.log".into()),
        log_limit: LogLimit::default(),
        ..ContainerSpec::default()
    }
}

const V2: Host = Host { cgroup_v2: true, memory: true };
const V1: Host = Host { cgroup_v2: false, memory: true };

/// Compares with `tests/golden/NAME.json`; KEDGE_GOLDEN=write writes it for review.
fn golden(name: &str, spec: &ContainerSpec, host: &Host) {
    config(spec, "rootfs", host).unwrap();
    let is = serde_json::to_string_pretty(&document(spec, "rootfs", host)).unwrap() + "\n";
    let path = format!("tests/golden/{name}.json");
    if std::env::var_os("KEDGE_GOLDEN").is_some() {
        std::fs::write(&path, &is).unwrap();
    }
    let must_be = std::fs::read_to_string(&path).unwrap();
    assert_eq!(is, must_be, "{path} differs; KEDGE_GOLDEN=write rewrites it");
}

#[test]
fn the_smallest_container() {
    golden("small", &small(), &V2);
}

#[test]
fn everything_asked_for() {
    golden("full", &full(), &V2);
}

#[test]
fn the_old_hierarchy_has_no_cgroup_namespace() {
    golden("full-v1", &full(), &V1);
}

#[test]
fn a_privileged_container_hides_nothing() {
    golden("privileged", &ContainerSpec { privileged: true, ..small() }, &V2);
}

#[test]
fn what_cannot_work_is_refused_by_field() {
    type Break = fn(&mut ContainerSpec);
    let cases: &[(Break, &str)] = &[
        (|s| s.id = "a/b".to_owned(), "container a/b: id: \"a/b\" has other characters"),
        (|s| s.id = "..".to_owned(), "id: \"..\" is a directory"),
        (|s| s.id = "x".repeat(129), "id: has 129 bytes; 128 are the most"),
        (|s| s.rootfs.layers.clear(), "container one: rootfs: has no layers"),
        (|s| s.rootfs.layers = vec!["rel".into()], "rootfs: layer rel is not an absolute path"),
        (|s| s.args.clear(), "args: no command is given"),
        (|s| s.args = vec!["a\0b".to_owned()], "args: \"a\\0b\" has a NUL byte"),
        (|s| s.env = vec![("A=B".to_owned(), String::new())], "env: \"A=B\" cannot be a variable"),
        (|s| s.user.gid = u32::MAX, "user: 4294967295 is no id"),
        (|s| s.cwd = "srv".to_owned(), "cwd: \"srv\" is not an absolute path"),
        (|s| s.mounts = vec![Mount::bind("/a", "b", true)], "mounts: target \"b\" is not an absolute path"),
        (|s| s.cgroup = "/../x".to_owned(), "cgroup: \"/../x\" is not an absolute path"),
        (|s| s.namespaces.net = Namespace::Path("net".into()), "namespaces.net: net is not an absolute path"),
        (|s| s.capabilities = Some(vec!["CAP_FLY".to_owned()]), "CAP_FLY"),
        (|s| s.rlimits = vec![Rlimit { kind: "RLIMIT_X".to_owned(), soft: 1, hard: 1 }], "RLIMIT_X"),
    ];
    for (spoil, message) in cases {
        let mut spec = small();
        spoil(&mut spec);
        let error = config(&spec, "rootfs", &V2).unwrap_err().to_string();
        assert!(error.contains(message), "{error:?} lacks {message:?}");
    }
}

#[test]
fn exec_keeps_rights_and_limits_and_replaces_the_command() {
    let container = config(&full(), "rootfs", &V2).unwrap().process().clone().unwrap();
    let exec = ExecSpec {
        args: vec!["id".to_owned()],
        env: vec![("PATH".to_owned(), "/sbin".to_owned()), ("A".to_owned(), "1".to_owned())],
        ..ExecSpec::default()
    };
    let process = for_exec("web", &container, &exec).unwrap();
    assert_eq!(process.args().as_deref(), Some(&["id".to_owned()][..]));
    assert_eq!(process.env().as_deref().unwrap(), ["EMPTY=", "TERM=xterm", "PATH=/sbin", "A=1"]);
    assert_eq!(process.terminal(), Some(false));
    assert_eq!((process.user().uid(), process.user().gid()), (1000, 1001));
    assert_eq!(process.capabilities(), container.capabilities());
    assert_eq!(process.rlimits(), container.rlimits());
    assert_eq!(process.oom_score_adj(), Some(-997));

    let other = ExecSpec { user: Some(User { uid: 7, gid: 8, groups: vec![] }), cwd: Some("/x".to_owned()), ..exec };
    let process = for_exec("web", &container, &other).unwrap();
    assert_eq!((process.user().uid(), process.cwd().to_str()), (7, Some("/x")));

    let error = for_exec("web", &container, &ExecSpec::default()).unwrap_err();
    assert_eq!(error.to_string(), "container web: exec.args: no command is given");
}
