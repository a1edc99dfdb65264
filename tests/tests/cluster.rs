//! A cluster of single processes under load, while one of them dies, hangs, leaves or comes back: nothing acknowledged is
//! lost or doubled, and the others go on.
//!
//! These tests hold what happens, in which order; how fast it happens is measured by `make bench`.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use tailwater_tests::{Cluster, ClusterOptions, Load, Seed, is_long, python, run_client_script, verify, wait_until};

/// Far beyond anything that should happen: what hangs is found, what is slow is the bench's.
const LIMIT: Duration = Duration::from_secs(60);
/// Longer than the lease (3 s, `deploy/roles/controller.toml`) and the controller's next look.
const BEYOND_LEASE: Duration = Duration::from_secs(5);
/// Before anything happens to it, a cluster works for a while.
const WARM_UP: Duration = Duration::from_secs(2);
/// Partitions open at a frontend, and how many it has given away.
const LED: &str = "tailwater_frontend_partitions_led";
const CLOSED: &str = "tailwater_frontend_partitions_closed_total";
/// What others notice of a process that went away.
const NOTICED: [&str; 2] = ["no answer to a heartbeat", "upload failed, it will be tried again"];
/// What a frontend says that lost its journal to a seal.
const SEALED: [&str; 3] = [
    "journal ended, leaderships over it end",
    "fenced, stopping at once",
    "the process can't go on",
];
/// What a fenced process ends with.
const FENCED: i32 = 70;
const KILLED: i32 = 128 + libc::SIGKILL;

/// A cluster with producers and a committing consumer on it.
struct Run {
    cluster: Cluster,
    load: Load,
    history: PathBuf,
    python: PathBuf,
}

impl Run {
    /// `None`, after saying so, without Python. `allowed`: what logs may warn of, besides that a process went away.
    fn start(what: &str, options: ClusterOptions, allowed: &[&'static str]) -> Option<Self> {
        let python = python(what)?;
        let settings = [
            "wal.flush_window=4MiB",
            "compactor.trigger_bytes=16MiB",
            "compactor.trigger_age=5s",
        ];
        let options = ClusterOptions {
            settings: settings.map(str::to_owned).to_vec(),
            ..options
        };
        let allowed = NOTICED.iter().chain(allowed);
        let cluster = allowed.copied().fold(Cluster::start(options), Cluster::allow);
        let history = cluster.folder().join("history");
        let load = Load::start(&python, cluster.bootstrap(), &history, &["--rate", "2000000"]);
        let run = Self {
            cluster,
            load,
            history,
            python,
        };
        sleep(WARM_UP);
        run.wait_for_progress();
        Some(run)
    }

    /// Waits until more has been acknowledged in every partition than at the call.
    fn wait_for_progress(&self) {
        let before = self.load.last_acked();
        wait_until("acknowledgements in every partition", LIMIT, || {
            let now = self.load.last_acked();
            before
                .iter()
                .all(|(partition, offset)| now.get(partition) > Some(offset))
        });
    }

    /// Waits until all frontends lead equally many partitions, or one more, and `total` at least in all.
    fn wait_until_level(&self, total: f64) {
        // What was asked for in vain is asked for again a minute later.
        wait_until("partitions to be spread evenly", 3 * LIMIT, || {
            let led = self.of_frontends(LED);
            let most = led.iter().copied().fold(0.0, f64::max);
            let least = led.iter().copied().fold(f64::MAX, f64::min);
            most - least <= 1.0 && led.iter().sum::<f64>() >= total
        });
    }

    fn of_frontends(&self, metric: &str) -> Vec<f64> {
        let roles = self.cluster.roles();
        let frontends = roles.iter().filter(|role| role.starts_with("frontend"));
        frontends.map(|role| self.cluster.metrics(role).sum(metric)).collect()
    }

    /// SIGTERM, and waits until the role is back.
    fn restart(&self, role: &str) {
        let (pid, ends) = (self.cluster.pid(role), self.cluster.exits(role).len());
        self.cluster.signal(role, libc::SIGTERM);
        assert_eq!(self.cluster.wait_for_exit(role, ends + 1, LIMIT), 0, "{role}");
        self.cluster.wait_until_back(role, pid);
    }

    /// Ends the load, reads everything, and stops the cluster.
    fn finish(self) {
        self.load.finish();
        let verified = verify(&self.python, self.cluster.bootstrap(), &self.history, true);
        assert!(verified.acked > 0, "{verified:?}");
        self.cluster.finish();
    }
}

/// Each process of the cluster is killed by itself and comes back a second later: nothing acknowledged is lost or doubled.
#[test]
fn killing_any_process_loses_nothing() {
    let Some(run) = Run::start("kill -9 in a cluster", ClusterOptions::default(), &SEALED) else {
        return;
    };
    let mut seed = Seed::from_environment();
    for _ in 0..if is_long() { 20 } else { 1 } {
        for role in run.cluster.roles() {
            sleep(Duration::from_millis(seed.draw(200, 1500)));
            let (pid, ends) = (run.cluster.pid(&role), run.cluster.exits(&role).len());
            run.cluster.signal(&role, libc::SIGKILL);
            assert_eq!(run.cluster.wait_for_exit(&role, ends + 1, LIMIT), KILLED);
            println!("{role} is back after {:?}", run.cluster.wait_until_back(&role, pid));
            run.wait_for_progress();
        }
    }
    run.finish();
}

/// A frontend that is killed and stays dead is fenced when its lease has run out; the other one serves its partitions.
#[test]
fn a_dead_frontend_s_partitions_move() {
    let options = ClusterOptions {
        restart: None,
        ..ClusterOptions::default()
    };
    let Some(run) = Run::start("a dead frontend", options, &SEALED) else {
        return;
    };
    run.cluster.signal("frontend-1", libc::SIGKILL);
    run.cluster.wait_for_exit("frontend-1", 1, LIMIT);
    run.wait_for_progress();
    run.finish();
}

/// A frontend that was stopped for longer than its lease and goes on acknowledges nothing that isn't in the log, ends with
/// code 70, and comes back under a new epoch.
#[test]
fn a_frontend_that_hung_is_fenced() {
    let Some(run) = Run::start("a hanging frontend", ClusterOptions::default(), &SEALED) else {
        return;
    };
    let pid = run.cluster.signal("frontend-1", libc::SIGSTOP);
    sleep(BEYOND_LEASE);
    run.wait_for_progress();
    run.cluster.signal("frontend-1", libc::SIGCONT);
    assert_eq!(run.cluster.wait_for_exit("frontend-1", 1, LIMIT), FENCED);
    run.cluster.wait_until_back("frontend-1", pid);
    run.wait_for_progress();
    run.finish();
}

/// SIGTERM: a frontend gives its partitions away and exits 0; then every process in turn. None is fenced, and no journal ends
/// under its owner, or it would be in the logs.
#[test]
fn a_rolling_restart_is_not_noticed() {
    let Some(run) = Run::start("a rolling restart", ClusterOptions::default(), &[]) else {
        return;
    };
    let roles = run.cluster.roles();
    let frontends = roles.iter().filter(|role| role.starts_with("frontend"));
    for role in frontends.chain(&roles) {
        run.restart(role);
        run.wait_for_progress();
    }
    run.finish();
}

/// A frontend that joins under load leads nothing, and soon its share, which the other one gives away without leaving; after a
/// restart of each in turn all lead equally many again.
#[test]
fn a_frontend_that_joins_gets_its_share() {
    let Some(run) = Run::start("a frontend that joins", ClusterOptions::default(), &[]) else {
        return;
    };
    let total = run.of_frontends(LED).iter().sum();
    run.restart("frontend-2");
    run.wait_until_level(total);
    run.wait_for_progress();
    let given = run.of_frontends(CLOSED)[0];
    assert!(
        given >= (total / 2.0).floor(),
        "frontend-1 gave {given} of {total} away"
    );
    for _ in 0..if is_long() { 10 } else { 1 } {
        for role in ["frontend-1", "frontend-2"] {
            run.restart(role);
            run.wait_for_progress();
        }
        run.wait_until_level(total);
        run.wait_for_progress();
    }
    run.finish();
}

/// While the controller is away, records are acknowledged and read all the same.
#[test]
fn produce_and_fetch_need_no_controller() {
    let options = ClusterOptions {
        restart: None,
        ..ClusterOptions::default()
    };
    let Some(run) = Run::start(
        "a dead controller",
        options,
        &["partitions were not given away in time"],
    ) else {
        return;
    };
    run.cluster.signal("controller-1", libc::SIGKILL);
    run.cluster.wait_for_exit("controller-1", 1, LIMIT);
    // Longer than the lease: nobody fences anybody. (And at the end nobody takes the partitions of frontends that stop.)
    sleep(BEYOND_LEASE);
    run.wait_for_progress();
    run.finish();
}

/// A WAL node that is away stalls its journals, which go on where they were when it is back; none is sealed for it.
#[test]
fn a_wal_node_comes_back_to_its_journals() {
    let options = ClusterOptions {
        wals: 1,
        restart: Some(4.0),
        ..ClusterOptions::default()
    };
    let Some(run) = Run::start("a WAL node's restart", options, &[]) else {
        return;
    };
    let opened = |run: &Run| {
        let log = |role| run.cluster.log(role).matches("journal opened").count();
        log("frontend-1") + log("frontend-2")
    };
    let before = opened(&run);
    let pid = run.cluster.signal("wal-1", libc::SIGKILL);
    run.cluster.wait_until_back("wal-1", pid);
    run.wait_for_progress();
    assert_eq!(opened(&run), before, "the journals go on");
    run.finish();
}

/// A transaction that one frontend coordinates ends in the partitions of both, or in none.
#[test]
fn transactions_span_frontends() {
    let Some(python) = python("transactions apart") else {
        return;
    };
    let cluster = Cluster::start(ClusterOptions::default());
    run_client_script(&python, "apart_transactions.py", &["--bootstrap", cluster.bootstrap()]);
    for role in ["frontend-1", "frontend-2"] {
        assert!(cluster.log(role).contains("found a frontend"), "{role} called nobody");
    }
    cluster.finish();
}
