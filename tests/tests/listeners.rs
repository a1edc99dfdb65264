//! Several Kafka listeners, names that resolve later, and what happens at the limits of connections and open files.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::{ApiVersionsRequest, MetadataRequest};
use tailwater_tests::{
    Cluster, ClusterOptions, Connection, Log, Process, Server, batch, free_port, python, run_client_script, skip,
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(60);
const OUTSIDE: &str = "[frontend.listeners.OUTSIDE]\nlisten = '127.0.0.1:0'\n";

/// The brokers' addresses that a client of this listener is told, in the order of their ids.
fn told(listener: SocketAddr) -> Vec<String> {
    let metadata = Connection::open(listener).call(9, &MetadataRequest::default()).unwrap();
    let mut brokers = metadata.brokers;
    brokers.sort_by_key(|broker| broker.node_id);
    let told = brokers.iter().map(|broker| format!("{}:{}", broker.host, broker.port));
    told.collect()
}

/// Real clients that begin at each of a server's two listeners are told its addresses there, and work through them.
#[test]
fn clients_of_two_listeners_are_told_their_own() {
    let mut server = Server::new(OUTSIDE);
    server.start();
    let (inside, outside) = (server.kafka(), server.listener("OUTSIDE"));
    assert_eq!(told(inside), [inside.to_string()]);
    assert_eq!(told(outside), [outside.to_string()]);
    if let Some(python) = python("two listeners, standalone") {
        let listeners = [format!("{inside}={inside}"), format!("{outside}={outside}")];
        let [first, second] = &listeners;
        let arguments = ["--topic", "listeners", "--listener", first, "--listener", second];
        run_client_script(&python, "listeners.py", &arguments);
    }
    server.finish();
}

/// As standalone, with two frontends: whoever leads or coordinates is found at the address of the client's own listener.
#[test]
fn clients_of_two_listeners_find_every_frontend() {
    let cluster = Cluster::start(ClusterOptions {
        settings: vec!["frontend.listeners.OUTSIDE.listen=127.0.0.1:0".to_owned()],
        wals: 1,
        ..ClusterOptions::default()
    });
    let inside: Vec<String> = (1..=2).map(|number| cluster.kafka(number).to_string()).collect();
    let outside: Vec<String> = (1..=2)
        .map(|number| cluster.listener(number, "OUTSIDE").to_string())
        .collect();
    for number in 0..2 {
        for expected in [&inside, &outside] {
            // A frontend learns of the other just behind its own start.
            wait_until(&format!("{expected:?} at each of them"), LIMIT, || {
                told(expected[number].parse().unwrap()) == *expected
            });
        }
    }
    if let Some(python) = python("two listeners, two frontends") {
        let listener = |addresses: &[String]| format!("{}={}", addresses[0], addresses.join(","));
        let (first, second) = (listener(&inside), listener(&outside));
        let arguments = ["--topic", "listeners", "--listener", &first, "--listener", &second];
        run_client_script(&python, "listeners.py", &arguments);
    }
    cluster.finish();
}

/// An advertised name is the clients' to look up: the server starts, serves and tells it, whether it resolves or not.
#[test]
fn an_advertised_name_may_resolve_later() {
    let mut server = Server::new("").argument("--kafka-advertise=broker.not-yet.invalid:19092");
    server.start();
    assert_eq!(told(server.kafka()), ["broker.not-yet.invalid:19092"]);
    server.finish();
}

/// The controller's name may come later than those who look for it: they say once that it doesn't resolve, and go on when
/// it does.
#[test]
fn a_controllers_name_may_resolve_later() {
    const NAME: &str = "controller.tailwater.invalid";
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    // A file of names of its own, so that the name can come to be.
    let with_hosts = |command: &str, arguments: &[&str]| {
        let mut wrapped = Command::new("unshare");
        wrapped.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
        wrapped.arg(&hosts).arg(command).args(arguments);
        wrapped
    };
    let can_mount = with_hosts("true", &[]).output();
    if !can_mount.is_ok_and(|done| done.status.success()) {
        skip("names that resolve later", "mounting needs root");
        return;
    }
    let binary = Server::test_binary();
    let port = free_port();
    let data = |role: &str| folder.path().join(role).to_str().unwrap().to_owned();
    let log = Log::default();
    let controller = format!("{NAME}:{port}");
    let arguments = [
        "wal",
        "--node-id=10001",
        &format!("--controller={controller}"),
        "--http-listen=127.0.0.1:0",
        "--rpc-listen=127.0.0.1:0",
        &format!("--data-dir={}", data("wal")),
        "--set=wal.capacity=64MiB",
    ];
    let mut wal = Process::start(&mut with_hosts(binary.to_str().unwrap(), &arguments), log.clone());
    let said = log.wait_for(0, LIMIT, |line| line.contains("WARN"));
    let said = said.unwrap_or_else(|| panic!("no warning: {:#?}", log.lines()));
    assert!(
        said.contains(&controller) && said.contains("doesn't resolve yet"),
        "{said}"
    );

    let mut command = Command::new(&binary);
    command.args(["controller", "--http-listen=127.0.0.1:0"]);
    command.arg(format!("--rpc-listen=127.0.0.1:{port}"));
    command.arg(format!("--data-dir={}", data("controller")));
    let mut of_controller = Process::start(&mut command, Log::default());
    let ready = |process: &Process| process.stdout.wait_for(0, LIMIT, |line| line.starts_with("ready: "));
    assert!(ready(&of_controller).is_some(), "{:#?}", of_controller.stderr.lines());
    assert!(wal.is_running(), "it doesn't wait: {:#?}", log.lines());
    // In place: the mount is of the file, not of its name.
    let mut file = std::fs::OpenOptions::new().append(true).open(&hosts).unwrap();
    writeln!(file, "127.0.0.1 {NAME}").unwrap();
    assert!(ready(&wal).is_some(), "{:#?}", log.lines());
    let warnings = log.lines().into_iter().filter(|line| line.contains("WARN"));
    assert_eq!(warnings.collect::<Vec<_>>(), [said], "it is said once");
    for process in [&mut wal, &mut of_controller] {
        process.signal(libc::SIGTERM);
        assert!(process.wait(LIMIT).success());
    }
}

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "tests".into(),
        client_software_version: "1".into(),
    }
}

fn is_served(connection: &mut Connection) -> bool {
    connection
        .call(3, &api_versions())
        .is_ok_and(|answer| answer.error_code == ErrorCode::None)
}

/// Under a limit of open files clients get no more than half of them: those above are closed at once, with one line, and
/// those below are served, while records are written and uploaded.
#[test]
fn clients_leave_open_files_to_the_server() {
    const FILES: usize = 160;
    let config = "[compactor]\ntrigger_age = '200ms'\n[wal]\ncapacity = '64MiB'\n";
    let mut server = Server::new(config)
        .under(&["sh", "-c", "ulimit -n 160; exec \"$0\" \"$@\""])
        .allow("connection closed at once");
    server.start();
    let mut witness = Connection::open(server.kafka());
    assert_eq!(witness.create_topic("t", 1, &[]).unwrap(), ErrorCode::None);
    let mut clients: Vec<Connection> = (1..FILES).map(|_| Connection::open(server.kafka())).collect();
    let served = clients
        .iter_mut()
        .filter_map(|client| is_served(client).then_some(()))
        .count();
    assert_eq!(served, FILES / 2 - 1, "the witness has one too");
    for _ in 0..20 {
        let answer = witness.produce("t", 0, batch(&[b"all is well"])).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
    }
    wait_until("an upload", LIMIT, || has_a_file(&server.data().join("objects")));
    let over = server.metrics().sum("tailwater_frontend_connections_over_limit_total");
    assert_eq!(over as usize, FILES - 1 - served);
    let lines = server.log().lines();
    let lines = lines.iter().filter(|line| line.contains("connection closed at once"));
    assert!(lines.count() < 10, "a line for many of them");
    drop(clients);
    wait_until("room for another client", LIMIT, || {
        is_served(&mut Connection::open(server.kafka()))
    });
    server.finish();
}

fn has_a_file(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let mut entries = entries.flatten().map(|entry| entry.path());
    entries.any(|path| path.is_file() || has_a_file(&path))
}

/// Sets the limit of open files of a running process, and answers the one before.
fn limit_open_files(process: u32, limit: u64) -> u64 {
    let pid = i32::try_from(process).expect("a process id fits");
    let mut before = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointers are to structs of the kind that the call fills and reads, or null.
    let result = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut before) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    let after = libc::rlimit {
        rlim_cur: limit,
        ..before
    };
    // SAFETY: as above.
    let result = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const after, std::ptr::null_mut()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    before.rlim_cur
}

/// The number that a process' next open file gets.
fn lowest_free_file(process: u32) -> u64 {
    let used: HashSet<u64> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    (0..).find(|number| !used.contains(number)).expect("few are used")
}

/// A server that has no file descriptor left doesn't spin and says so once in a while; those who are connected are served on,
/// new clients are when others go, and all of them when there are descriptors again.
#[test]
fn without_file_descriptors_the_others_are_served() {
    const CANT: &str = "can't accept connections";
    let mut server = Server::new("[wal]\ncapacity = '64MiB'\n").allow(CANT);
    server.start();
    let mut witness = Connection::open(server.kafka());
    assert_eq!(witness.create_topic("t", 1, &[]).unwrap(), ErrorCode::None);
    let mut produce = move || {
        let answer = witness.produce("t", 0, batch(&[b"all is well"])).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
    };
    produce();
    let mut admitted: Vec<Connection> = (0..3).map(|_| Connection::open(server.kafka())).collect();
    assert!(admitted.iter_mut().all(is_served));
    let begun = Instant::now();
    // Below the numbers in use: there is no other one to be had.
    let before = limit_open_files(server.id(), 4);
    // The kernel takes the connection; the server can't yet.
    let mut waiting: Vec<Connection> = (0..5).map(|_| Connection::open(server.kafka())).collect();
    let said = server.log().wait_for(0, LIMIT, |line| line.contains(CANT));
    assert!(said.is_some(), "{:#?}", server.log().lines());
    for _ in 0..20 {
        produce();
        assert!(admitted.iter_mut().all(is_served));
        sleep(Duration::from_millis(50));
    }
    limit_open_files(server.id(), before);
    assert!(waiting.iter_mut().all(is_served), "there are descriptors again");
    produce();
    let lasted = begun.elapsed();
    let failures = server.metrics().sum("tailwater_frontend_accept_failures_total");
    assert!(
        failures >= 1.0 && failures <= 30.0 * lasted.as_secs_f64() + 30.0,
        "it spins: {failures} in {lasted:?}"
    );
    let lines = server
        .log()
        .lines()
        .into_iter()
        .filter(|line| line.contains(CANT))
        .count();
    assert!(
        lines <= 1 + lasted.as_secs() as usize / 10,
        "{lines} lines in {lasted:?}"
    );
    server.finish();
}

/// As many descriptors as connections: whoever goes makes room for one who waits.
#[test]
fn a_client_that_goes_makes_room_for_one_that_waits() {
    const CANT: &str = "can't accept connections";
    let mut server = Server::new("[wal]\ncapacity = '64MiB'\n").allow(CANT);
    server.start();
    let mut admitted = Connection::open(server.kafka());
    assert!(is_served(&mut admitted));
    // One more than there is now, whatever numbers the process was born with.
    let before = limit_open_files(server.id(), lowest_free_file(server.id()) + 1);
    let mark = server.log().mark();
    let mut more: Vec<TcpStream> = Vec::new();
    let is_full = || server.log().since(mark).iter().any(|line| line.contains(CANT));
    while !is_full() {
        assert!(more.len() < 100, "{:#?}", server.log().lines());
        more.push(TcpStream::connect(server.kafka()).unwrap());
        sleep(Duration::from_millis(50));
    }
    let mut waiting = Connection::open(server.kafka());
    more.clear();
    assert!(is_served(&mut waiting), "the descriptors of those that are gone");
    assert!(is_served(&mut admitted));
    limit_open_files(server.id(), before);
    server.finish();
}
