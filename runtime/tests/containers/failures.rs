use std::fs;

use kedge_runtime::{ExecSpec, Mount, Namespace, Runtime};

use crate::machine::{Machine, cgroup};

pub async fn what_cannot_run_says_why() {
    let mut machine = Machine::new().await;
    for (args, reason) in [
        (["/nope"], "exec \"/nope\": no such file or directory"),
        (["nope"], "exec \"nope\": executable file not found in $PATH"),
        (["/bin/plain"], "exec \"/bin/plain\": permission denied"),
        (["/tmp"], "exec \"/tmp\": is a directory"),
    ] {
        let error = machine.runtime.create(machine.spec("wrong", &args)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("create container wrong: {reason}"));
    }
    // Known only when it is tried.
    machine.runtime.create(machine.spec("data", &["/bin/data"])).await.unwrap();
    let error = machine.runtime.start("data").await.unwrap_err();
    assert_eq!(error.to_string(), "start container data: exec \"/bin/data\": exec format error");
    assert_ne!(machine.exit("data").await.code, 0);

    type Break = fn(&mut kedge_runtime::ContainerSpec);
    let cases: &[(Break, &str)] = &[
        (|s| s.mounts = vec![Mount::bind("/not/there", "/mnt", true)], "/not/there"),
        (|s| s.namespaces.net = Namespace::Path("/not/a/ns".into()), "/not/a/ns"),
        (|s| s.rootfs.layers = vec!["/not/a/layer".into()], "layer /not/a/layer is no directory"),
        (|s| s.user.uid = u32::MAX, "4294967295 is no id"),
    ];
    for (spoil, told) in cases {
        let mut spec = machine.spec("wrong", &["true"]);
        spoil(&mut spec);
        let error = machine.runtime.create(spec).await.unwrap_err().to_string();
        assert!(error.contains("container wrong: ") && error.contains(told), "{error:?} lacks {told:?}");
    }

    machine.start(machine.spec("sleeper", &["sleep", "1000"])).await;
    for (args, reason) in [
        ("/nope", "exec \"/nope\": no such file or directory"),
        ("nope", "exec \"nope\": executable file not found in $PATH"),
        ("/bin/data", "exec \"/bin/data\": exec format error"),
    ] {
        let spec = ExecSpec { args: vec![args.to_owned()], ..ExecSpec::default() };
        let error = machine.runtime.exec("sleeper", spec).await.unwrap_err().to_string();
        assert!(error.contains("exec in container sleeper: ") && error.contains(reason), "{error:?}");
    }
    machine.runtime.remove("sleeper").await.unwrap();
}

pub async fn what_does_not_exist_says_so() {
    let mut machine = Machine::new().await;
    let told = "container none does not exist";
    assert_eq!(machine.runtime.start("none").await.unwrap_err().to_string(), told);
    assert_eq!(machine.runtime.kill("none", 9).await.unwrap_err().to_string(), told);
    assert_eq!(machine.runtime.exec("none", ExecSpec::default()).await.unwrap_err().to_string(), told);

    machine.runtime.create(machine.spec("one", &["sleep", "1000"])).await.unwrap();
    let error = machine.runtime.create(machine.spec("one", &["true"])).await.unwrap_err();
    assert_eq!(error.to_string(), "container one exists already");
    let exec = ExecSpec { args: vec!["true".to_owned()], ..ExecSpec::default() };
    let error = machine.runtime.exec("one", exec).await.unwrap_err();
    assert_eq!(error.to_string(), "container one is created: it must be running");
    machine.runtime.start("one").await.unwrap();
    let error = machine.runtime.start("one").await.unwrap_err();
    assert_eq!(error.to_string(), "container one is running: it must be created");
    let error = machine.runtime.kill("one", 1000).await.unwrap_err();
    assert_eq!(error.to_string(), "container one: signal: there is no signal 1000");
    machine.runtime.kill("one", 9).await.unwrap();
    machine.exit("one").await;
    let error = machine.runtime.start("one").await.unwrap_err();
    assert_eq!(error.to_string(), "container one is exited: it must be created");
}

pub async fn nothing_is_left_behind() {
    let machine = Machine::new().await;
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let fds = || fs::read_dir("/proc/self/fd").unwrap().count();
    let (mounts_before, fds_before) = (mounts(), fds());
    for n in 0..5 {
        machine.runtime.create(machine.spec("wrong", &["/nope"])).await.unwrap_err();
        let id = format!("right-{n}");
        machine.start(machine.spec(&id, &["true"])).await;
        machine.runtime.remove(&id).await.unwrap();
    }
    for directory in ["run", "state"] {
        let left: Vec<_> = fs::read_dir(machine.directory.join(directory)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(mounts(), mounts_before);
    assert_eq!(fds(), fds_before);
    let name = cgroup(&format!("{}-wrong", machine.directory.file_name().unwrap().to_string_lossy()));
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        assert!(!hierarchy.path().join(name.trim_start_matches('/')).exists(), "{}", hierarchy.path().display());
    }
}
