use std::collections::BTreeMap;
use std::fs;

use kedge_runtime::sandbox::{Request, Sandboxes};
use kedge_runtime::{ContainerEvent, Mount, Namespace, Namespaces, Resources, Rlimit, Runtime, Status, User};

use crate::machine::{Machine, base, cgroup};

pub async fn runs_and_tells_the_exit_code() {
    let mut machine = Machine::new().await;
    let mut events = machine.runtime.subscribe();
    let mut spec = machine.spec("seven", &["sh", "-c", "exit 7"]);
    spec.labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    machine.runtime.create(spec).await.unwrap();
    let state = machine.state("seven").unwrap();
    assert_eq!((state.status, state.labels["a"].as_str(), state.started_at), (Status::Created, "b", None));
    assert!(state.pid > 0);
    machine.runtime.start("seven").await.unwrap();
    let exit = machine.exit("seven").await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
    assert_eq!(events.recv().await.unwrap(), ContainerEvent::Started { id: "seven".to_owned() });
    assert_eq!(events.recv().await.unwrap(), ContainerEvent::Exited { id: "seven".to_owned(), exit });
    machine.runtime.remove("seven").await.unwrap();
    assert_eq!(machine.state("seven"), None);
    machine.runtime.remove("seven").await.unwrap();
}

pub async fn a_signal_ends_it() {
    let mut machine = Machine::new().await;
    machine.start(machine.spec("sleeper", &["sleep", "1000"])).await;
    // The first process of a pid namespace ignores what it does not handle, so only this one ends it.
    machine.runtime.kill("sleeper", 9).await.unwrap();
    let exit = machine.exit("sleeper").await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    machine.runtime.kill("sleeper", 15).await.unwrap();

    machine
        .start(machine.spec("polite", &["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"]))
        .await;
    while machine.output("polite").is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    machine.runtime.kill("polite", 15).await.unwrap();
    assert_eq!(machine.exit("polite").await.code, 3);
    // Removing a running container ends it.
    machine.start(machine.spec("removed", &["sleep", "1000"])).await;
    machine.runtime.remove("removed").await.unwrap();
    // So does removing one that was never started.
    machine.runtime.create(machine.spec("created", &["sleep", "1000"])).await.unwrap();
    let pid = machine.state("created").unwrap().pid;
    machine.runtime.remove("created").await.unwrap();
    // It is dead by now, and reaped soon.
    while fs::exists(format!("/proc/{pid}")).unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub async fn limits_and_identity_reach_the_process() {
    let mut machine = Machine::new().await;
    let script = "id; pwd; echo $A-$HOME; ulimit -n; grep -E 'NoNewPrivs|CapBnd|SigIgn|Umask' /proc/self/status; cat /proc/self/oom_score_adj; \
                  ls /proc/self/fd | wc -l; cat /mnt/file; (touch /mnt/x) 2>&1; cat /proc/interrupts | wc -c; (echo 1 > /proc/sys/kernel/panic) 2>&1; echo hi > /dev/stdout";
    let mut spec = machine.spec("limited", &["sh", "-c", script]);
    let volume = machine.directory.join("volume");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("file"), "content\n").unwrap();
    spec.env.push(("A".to_owned(), "1".to_owned()));
    spec.cwd = "/tmp".to_owned();
    spec.user = User { uid: 1000, gid: 1001, groups: vec![7] };
    spec.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), soft: 77, hard: 88 }];
    spec.no_new_privileges = true;
    spec.capabilities = Some(vec!["CAP_KILL".to_owned()]);
    spec.oom_score_adj = Some(500);
    spec.mounts = vec![Mount::bind(volume.to_str().unwrap(), "/mnt", true)];
    spec.resources =
        Resources { memory: Some(64 << 20), pids: Some(20), cpu_shares: Some(100), ..Resources::default() };
    assert_eq!(machine.run(spec).await.code, 0, "{}", machine.output("limited"));
    let output = machine.output("limited");
    let lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("SigIgn")).collect();
    // But for the C library's own two, which cannot be set.
    let ignored = output.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !(0b11 << 31), 0, "{ignored}");
    assert_eq!(
        lines,
        [
            "uid=1000(web) gid=1001 groups=7",
            "/tmp",
            "1-/",
            "77",
            "Umask:\t0022",
            "CapBnd:\t0000000000000020",
            "NoNewPrivs:\t1",
            "500",
            "4",
            "content",
            "touch: /mnt/x: Read-only file system",
            "0",
            "sh: can't create /proc/sys/kernel/panic: Read-only file system",
            "hi",
        ],
        "{output}"
    );
}

pub async fn namespaces_of_a_sandbox_are_shared() {
    let mut machine = Machine::new().await;
    let sandboxes = Sandboxes::open(&machine.directory.join("ns")).unwrap();
    let sysctls = BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]);
    let request =
        Request { id: "pod".to_owned(), hostname: "my-pod".to_owned(), net: true, ipc: true, uts: true, sysctls };
    let sandbox = sandboxes.create(&request).unwrap();
    assert_eq!(sandboxes.create(&request).unwrap(), sandbox, "asked again, it is the same");
    let path = |path: &Option<std::path::PathBuf>| Namespace::Path(path.clone().unwrap());
    let script = "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; set -- /proc/[0-9]*; echo $#; echo x > /dev/shm/$NAME; ls /dev/shm";
    let mut outputs = Vec::new();
    for name in ["a", "b"] {
        let mut spec = machine.spec(name, &["sh", "-c", script]);
        spec.env.push(("NAME".to_owned(), name.to_owned()));
        spec.namespaces = Namespaces {
            net: path(&sandbox.net),
            ipc: path(&sandbox.ipc),
            uts: path(&sandbox.uts),
            pid: Namespace::Own,
        };
        spec.mounts = vec![Mount::bind(sandbox.shm.as_ref().unwrap().to_str().unwrap(), "/dev/shm", false)];
        assert_eq!(machine.run(spec).await.code, 0);
        outputs.push(machine.output(name));
    }
    assert_eq!(outputs[0], "my-pod\n0\n1\na\n");
    assert_eq!(outputs[1], "my-pod\n0\n1\na\nb\n");
    // The host's own hostname is as it was.
    assert_ne!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), "my-pod\n");
    sandboxes.remove("pod").unwrap();
    assert!(sandboxes.list().is_empty());
    rustix::mount::unmount(machine.directory.join("ns"), rustix::mount::UnmountFlags::DETACH).unwrap();
}

pub async fn twenty_at_once() {
    let machine = std::sync::Arc::new(Machine::new().await);
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let machine = std::sync::Arc::clone(&machine);
            tokio::spawn(async move {
                let id = format!("c{n}");
                machine.start(machine.spec(&id, &["sh", "-c", &format!("echo {n}; exit {n}")])).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut machine = std::sync::Arc::into_inner(machine).unwrap();
    for n in 0..20 {
        let id = format!("c{n}");
        assert_eq!(machine.exit(&id).await.code, n);
        assert_eq!(machine.output(&id), format!("{n}\n"));
        machine.runtime.remove(&id).await.unwrap();
    }
    assert!(machine.runtime.list().is_empty());
    assert_eq!(fs::read_dir(machine.directory.join("run")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(machine.directory.join("state")).unwrap().count(), 0);
}

pub async fn a_missing_working_directory_is_made() {
    let mut machine = Machine::new().await;
    for (id, cwd, is) in [("deep", "/srv/a/b", "/srv/a/b"), ("link", "/link/c", "/tmp/c"), ("out", "/up/d", "/d")] {
        let mut spec = machine.spec(id, &["sh", "-c", "pwd -P"]);
        // Links of the image lead to places in the image, whatever they say.
        let links = machine.directory.join("links");
        if !links.exists() {
            fs::create_dir_all(&links).unwrap();
            std::os::unix::fs::symlink("/tmp", links.join("link")).unwrap();
            std::os::unix::fs::symlink("../../../../../..", links.join("up")).unwrap();
        }
        spec.rootfs.layers.push(links);
        spec.cwd = cwd.to_owned();
        assert_eq!(machine.run(spec).await.code, 0);
        assert_eq!(machine.output(id).trim(), is);
    }
    assert!(!fs::exists("/tmp/c").unwrap() && !fs::exists("/d").unwrap(), "nothing was made on the host");
}

pub async fn a_readonly_layer_is_used_in_place() {
    let mut machine = Machine::new().await;
    let mut spec = machine.spec("in-place", &["sh", "-c", "(touch /tmp/x) 2>&1; head -1 /proc/mounts"]);
    spec.readonly_rootfs = true;
    assert_eq!(machine.run(spec).await.code, 0);
    let output = machine.output("in-place");
    assert!(output.starts_with("touch: /tmp/x: Read-only file system\n"), "{output}");
    assert!(!output.contains("overlay"), "{output}");
    assert!(!machine.directory.join("state/in-place").exists(), "nothing to write to was made");
    // A mount point that the layer lacks needs an overlay; read-only all the same.
    let mut spec = machine.spec("overlaid", &["sh", "-c", "(touch /tmp/x) 2>&1; cat /new/file"]);
    fs::write(machine.directory.join("file"), "content\n").unwrap();
    spec.readonly_rootfs = true;
    spec.mounts = vec![Mount::bind(machine.directory.to_str().unwrap(), "/new", true)];
    machine.run(spec).await;
    assert_eq!(machine.output("overlaid"), "touch: /tmp/x: Read-only file system\ncontent\n");
    assert!(!base().join("busybox/new").exists(), "the layer is untouched");
}

pub async fn processes_in_a_shared_pid_namespace_end_with_the_first() {
    let mut machine = Machine::new().await;
    let mut spec = machine.spec("host-pids", &["sh", "-c", "sleep 1000 & echo $!; exit 4"]);
    spec.namespaces.pid = Namespace::Host;
    assert_eq!(machine.run(spec).await.code, 4);
    let pid = machine.output("host-pids");
    // It was killed; going takes it a moment.
    let path = format!("/proc/{}", pid.trim());
    while fs::exists(&path).unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub async fn out_of_memory_is_told() {
    let mut machine = Machine::new().await;
    let mut spec = machine.spec(
        "greedy",
        &["sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=40; awk 'BEGIN { while (1) x = x \"0123456789\" x }'"],
    );
    spec.resources.memory = Some(16 << 20);
    let exit = machine.run(spec).await;
    assert!(exit.oom_killed, "{exit:?}");
    assert_ne!(exit.code, 0);
    let cgroups = kedge_runtime::cgroup::Cgroups::detect();
    // A parent with limits, as pods have.
    let parent = cgroup("parent");
    cgroups
        .create(
            &parent,
            &Resources {
                memory: Some(32 << 20),
                pids: Some(50),
                cpu_shares: Some(512),
                cpu_quota: Some(50_000),
                cpu_period: Some(100_000),
            },
        )
        .unwrap();
    let mut spec = machine.spec("child", &["sleep", "1000"]);
    spec.cgroup = format!("{parent}/child");
    machine.start(spec).await;
    let usage = cgroups.usage(&parent);
    assert!(machine.runtime.usage("child").unwrap().memory_bytes.unwrap() > 0);
    assert!(usage.memory_bytes.unwrap() > 0 && usage.cpu_nanoseconds.unwrap() > 0, "{usage:?}");
    cgroups.remove(&parent).unwrap();
    assert_eq!(machine.exit("child").await.signal, Some(9));
}
