use std::sync::atomic::AtomicBool;

use super::*;

const SHORT: Duration = Duration::from_secs(1);

/// A `Fatal` task that ends by itself stops the process with its full name.
#[tokio::test]
async fn the_end_of_a_fatal_task_is_reported() {
    let tasks = Tasks::new("node");
    tasks.child("wal").spawn("writer", Policy::FATAL_DRAIN, async {});
    let fatal = tasks.fatal().await;
    assert_eq!((fatal.task.as_str(), fatal.exit_code), ("node/wal/writer", EXIT_FATAL));
}

/// A panic in a `Fatal` task or thread is reported with its message, and the first reason stays.
#[tokio::test]
async fn a_panic_is_reported_by_name() {
    let tasks = Tasks::new("node");
    tasks
        .spawn_thread("writer", OnExit::Fatal, || panic!("flush failed: {}", 5))
        .unwrap();
    assert_eq!(
        tasks.fatal().await.to_string(),
        "node/writer: panicked: flush failed: 5"
    );
    tasks.fail("later", "too late", 70);
    assert_eq!(tasks.fatal().await.task, "node/writer");
}

/// A panic in a `Logged` task stays there: others go on, nothing is fatal.
#[tokio::test(start_paused = true)]
async fn a_logged_panic_stays_where_it_is() {
    let tasks = Tasks::new("node");
    tasks.spawn("connection", Policy::LOGGED_ABORT, async { panic!("bad frame") });
    assert!(tokio::time::timeout(SHORT, tasks.fatal()).await.is_err());
    assert_eq!(tasks.running(), 0);
}

/// An exit code of one's own reaches whoever waits.
#[tokio::test]
async fn fail_carries_its_exit_code() {
    let tasks = Tasks::new("node");
    tasks.child("frontend").fail("lease", "node epoch is stale", 70);
    let expected = Fatal {
        task: "node/frontend/lease".into(),
        reason: "node epoch is stale".into(),
        exit_code: 70,
    };
    assert_eq!(tasks.fatal().await, expected);
}

/// Shutdown waits for a task that drains, which may start another, and drops one that needn't.
#[tokio::test(start_paused = true)]
async fn shutdown_drains_and_aborts() {
    let tasks = Tasks::new("node");
    let drained = Arc::new(AtomicBool::new(false));
    let (inner, done, token) = (tasks.clone(), drained.clone(), tasks.token());
    tasks
        .child("frontend")
        .spawn("produce", Policy::FATAL_DRAIN, async move {
            token.cancelled().await;
            tokio::time::sleep(SHORT).await;
            inner.spawn("answer", Policy::LOGGED_DRAIN, async move {
                tokio::time::sleep(SHORT).await;
                done.store(true, Ordering::Relaxed);
            });
        });
    tasks.spawn("gauge", Policy::FATAL_ABORT, std::future::pending());
    assert_eq!(tasks.shutdown(3 * SHORT).await, Ok(()));
    assert!(drained.load(Ordering::Relaxed));
    assert!(tasks.group.shared.fatal.borrow().is_none());
}

/// What doesn't end in time is named and dropped; nothing starts afterwards.
#[tokio::test(start_paused = true)]
async fn stragglers_are_named() {
    let tasks = Tasks::new("node");
    tasks
        .child("wal")
        .spawn("stuck", Policy::LOGGED_DRAIN, std::future::pending());
    let stragglers = tasks.shutdown(SHORT).await.unwrap_err();
    assert_eq!(stragglers.names, ["node/wal/stuck"]);
    tasks.wait_empty().await;
    assert!(
        tasks
            .spawn("late", Policy::LOGGED_DRAIN, std::future::pending())
            .is_finished()
    );
    let refused = tasks.run_blocking("late", || ()).await;
    assert_eq!(
        refused,
        Err(BlockingError::Shutdown {
            task: "node/late".into()
        })
    );
}

/// A child stops alone; its parent and siblings go on.
#[tokio::test(start_paused = true)]
async fn a_child_stops_without_its_parent() {
    let tasks = Tasks::new("node");
    let (frontend, wal) = (tasks.child("frontend"), tasks.child("wal"));
    for group in [&frontend, &wal] {
        group.spawn("worker", Policy::FATAL_ABORT, std::future::pending());
    }
    frontend.shutdown(SHORT).await.unwrap();
    assert!(!tasks.token().is_cancelled());
    assert_eq!((frontend.running(), wal.running(), tasks.running()), (0, 1, 1));
}

/// Blocking work gives its result; its panic is an error for the caller and for nobody else.
#[tokio::test]
async fn blocking_work_answers_or_fails_alone() {
    let tasks = Tasks::new("node");
    assert_eq!(tasks.run_blocking("sum", || 2 + 2).await, Ok(4));
    let failed = tasks.run_blocking("bad", || panic!("boom")).await;
    assert_eq!(
        failed,
        Err::<(), _>(BlockingError::Panicked {
            task: "node/bad".into()
        })
    );
}

/// Aborting through the handle drops the task without its end being fatal.
#[tokio::test(start_paused = true)]
async fn an_aborted_task_is_no_failure() {
    let tasks = Tasks::new("node");
    let task = tasks.spawn("watcher", Policy::FATAL_DRAIN, std::future::pending());
    task.abort();
    tasks.wait_empty().await;
    assert!(tokio::time::timeout(SHORT, tasks.fatal()).await.is_err());
}
