use super::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

type Log = Arc<Mutex<Vec<String>>>;

/// A service that says when it starts and when it ends.
fn honest(name: &'static str, after: &'static [&'static str], log: &Log) -> Service {
    let log = Arc::clone(log);
    Service::new(name, after, move |handle| {
        let log = Arc::clone(&log);
        async move {
            log.lock().unwrap().push(format!("+{name}"));
            handle.ready();
            handle.stopped().await;
            log.lock().unwrap().push(format!("-{name}"));
            Ok(())
        }
    })
}

async fn until(supervisor: &Supervisor, condition: impl FnMut(&[Status]) -> bool) {
    tokio::time::timeout(Duration::from_secs(20), supervisor.statuses.wait(condition))
        .await
        .expect("status never came");
}

fn phase_of(all: &[Status], name: &str) -> Phase {
    all.iter().find(|status| status.name == name).unwrap().phase.clone()
}

#[tokio::test]
async fn services_start_in_order_and_stop_in_the_opposite_one() {
    let log = Log::default();
    let table = vec![honest("a", &[], &log), honest("b", &["a"], &log), honest("c", &["a", "b"], &log)];
    let supervisor = Supervisor::start(table).unwrap();
    until(&supervisor, |all| all.iter().all(|status| status.phase == Phase::Ready)).await;
    supervisor.stop().await;
    assert_eq!(*log.lock().unwrap(), ["+a", "+b", "+c", "-c", "-b", "-a"]);
}

#[tokio::test]
async fn a_panic_ends_one_service_which_is_started_again() {
    let log = Log::default();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let fragile = Service::new("fragile", &[], move |handle| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        assert!(run != 1, "while the future is made");
        async move {
            assert!(run != 0, "within the future");
            if run == 2 {
                anyhow::bail!("an error")
            }
            handle.ready();
            handle.stopped().await;
            Ok(())
        }
    });
    let supervisor = Supervisor::start(vec![fragile, honest("other", &[], &log)]).unwrap();
    for expected in ["panicked: within the future", "panicked: while the future is made", "an error"] {
        until(&supervisor, |all| matches!(phase_of(all, "fragile"), Phase::Failed { why, .. } if why == expected))
            .await;
    }
    until(&supervisor, |all| phase_of(all, "fragile") == Phase::Ready).await;
    assert_eq!(supervisor.statuses().borrow()[0].failures, 3);
    assert_eq!(runs.load(Ordering::SeqCst), 4);
    assert_eq!(*log.lock().unwrap(), ["+other"]);
    supervisor.stop().await;
}

#[tokio::test]
async fn a_service_that_never_gets_ready_or_never_stops_holds_nobody_up() {
    let log = Log::default();
    let deaf = Service::new("deaf", &[], |handle| async move {
        handle.ready();
        std::future::pending().await
    })
    .stop_limit(Duration::from_millis(300));
    let slow = Service::new("slow", &[], |handle| async move {
        handle.stopped().await;
        Ok(())
    });
    let table = vec![deaf, slow, honest("needs-deaf", &["deaf"], &log), honest("needs-slow", &["slow"], &log)];
    let supervisor = Supervisor::start(table).unwrap();
    until(&supervisor, |all| phase_of(all, "needs-deaf") == Phase::Ready).await;
    let statuses = supervisor.statuses();
    let start = tokio::time::Instant::now();
    supervisor.stop().await;
    assert!((300..5000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(statuses.borrow().iter().all(|status| status.phase == Phase::Stopped));
    assert_eq!(*log.lock().unwrap(), ["+needs-deaf", "-needs-deaf"]);
}

#[tokio::test]
async fn a_table_that_cannot_work_is_refused() {
    let log = Log::default();
    let refused = |table| Supervisor::start(table).err();
    assert_eq!(refused(vec![honest("a", &[], &log), honest("a", &[], &log)]), Some(TableError::Twice("a")));
    assert_eq!(refused(vec![honest("a", &["b"], &log), honest("b", &[], &log)]), Some(TableError::Order("a", "b")));
    assert_eq!(refused(vec![honest("a", &["a"], &log)]), Some(TableError::Order("a", "a")));
}

#[test]
fn an_error_that_tells_its_cause_is_not_told_twice() {
    let inner = std::io::Error::other("in use");
    let told = anyhow::Error::new(inner).context("listening on port 1: in use; is there another?").context("serving");
    assert_eq!(super::causes(&told), "serving: listening on port 1: in use; is there another?");
}
