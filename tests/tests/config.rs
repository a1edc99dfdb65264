//! Wrong configurations end the start with one clear sentence and a non-zero exit; every setting can be set in three ways.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use tailwater_tests::{Server, free_port};
use toml::{Table, Value};

/// What a start that must fail said: its exit code and the last line of stderr.
fn refusal(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(
        !status.success(),
        "it should not have started; stdout: {}",
        String::from_utf8_lossy(&stdout)
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
    let sentences: Vec<_> = stderr.lines().filter(|line| line.starts_with("tailwater: ")).collect();
    assert_eq!(sentences.len(), 1, "one sentence: {stderr}");
    (status.code().expect("it exits by itself"), sentences[0].to_owned())
}

/// An unknown key is named together with where it came from, whichever of the three it was.
#[test]
fn an_unknown_key_is_refused() {
    let (code, said) = refusal(&mut Server::new("[wal]\ncapacitee = '1GiB'\n").command());
    assert!(
        code == 2 && said.contains("tailwater.toml, line 2") && said.contains("capacitee"),
        "{said}"
    );
    let (code, said) = refusal(Server::new("").command().env("TAILWATER_WAL__CAPACITEE", "1GiB"));
    assert!(code == 2 && said.contains("TAILWATER_WAL__CAPACITEE"), "{said}");
    let (code, said) = refusal(Server::new("").command().args(["--set", "wal.capacitee=1GiB"]));
    assert!(code == 2 && said.contains("wal.capacitee"), "{said}");
}

/// A size that is none, or one that is out of bounds, is named.
#[test]
fn a_bad_size_is_refused() {
    let (code, said) = refusal(&mut Server::new("[wal]\ncapacity = '64 bananas'\n").command());
    assert!(
        code == 2 && said.contains("line 2") && said.contains("bananas"),
        "{said}"
    );
    let (code, said) = refusal(&mut Server::new("[wal]\ncapacity = '1KiB'\n").command());
    assert!(code == 2 && said.contains("capacity"), "{said}");
}

/// A port that is taken is named, be it Kafka's or HTTP's.
#[test]
fn a_taken_port_is_refused() {
    let server = Server::new("");
    let _kafka = TcpListener::bind(server.kafka()).unwrap();
    let (code, said) = refusal(&mut server.command());
    assert!(code == 1 && said.contains(&server.kafka().to_string()), "{said}");

    let server = Server::new("");
    let _http = TcpListener::bind(server.http()).unwrap();
    let (code, said) = refusal(&mut server.command());
    assert!(code == 1 && said.contains(&server.http().to_string()), "{said}");
}

/// A further listener that can't be is named, with the setting; so is its port, if that is taken.
#[test]
fn a_bad_listener_is_refused() {
    let (code, said) = refusal(&mut Server::new("[frontend.listeners.OUTSIDE]\nadvertise = 'there:1'\n").command());
    assert!(
        code == 2 && said.contains("frontend.listeners.OUTSIDE.listen is needed"),
        "{said}"
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let setting = format!("frontend.listeners.OUTSIDE.listen={address}");
    let (code, said) = refusal(Server::new("").command().args(["--set", &setting]));
    assert!(
        code == 1 && said.contains("frontend.listeners.OUTSIDE.listen") && said.contains(&address.to_string()),
        "{said}"
    );
}

/// A device of another cluster is refused, with both clusters named.
#[test]
fn a_data_directory_of_another_cluster_is_refused() {
    let config = "[wal]\ncapacity = '64MiB'\n";
    let (mut ours, mut theirs) = (Server::new(config), Server::new(config));
    for server in [&mut ours, &mut theirs] {
        server.start();
        assert!(server.terminate().success());
    }
    fs::remove_file(ours.data().join("wal.log")).unwrap();
    fs::rename(theirs.data().join("wal.log"), ours.data().join("wal.log")).unwrap();
    let (code, said) = refusal(&mut ours.command());
    assert!(code == 1 && said.contains("cluster"), "{said}");
}

/// A second process on the same data directory is refused.
#[test]
fn a_data_directory_in_use_is_refused() {
    let mut server = Server::new("[wal]\ncapacity = '64MiB'\n");
    server.start();
    let port = free_port().to_string();
    let mut second = Command::new(Server::test_binary());
    second.arg("standalone").arg("--data-dir").arg(server.data());
    second.args([
        "--kafka-listen",
        &format!("127.0.0.1:{port}"),
        "--http-listen",
        "127.0.0.1:0",
    ]);
    let (code, said) = refusal(&mut second);
    assert!(code == 1 && said.contains("in use"), "{said}");
    server.finish();
}

/// A store that ends with the process is refused beside a directory that doesn't.
#[test]
fn a_memory_store_is_refused() {
    let (code, said) = refusal(Server::new("").command().args(["--object-store", "memory:///"]));
    assert!(code == 2 && said.contains("memory:///"), "{said}");
}

fn dump(arguments: &[&str], environment: &[(&str, &str)]) -> Table {
    let mut command = Command::new(Server::test_binary());
    command
        .args(["standalone", "--dump-config"])
        .args(arguments)
        .envs(environment.iter().copied());
    let done = command.output().expect("it starts");
    assert!(
        done.status.success(),
        "{arguments:?} {environment:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout)
        .expect("TOML is text")
        .parse()
        .expect("what is dumped is TOML")
}

/// Every setting with a value, by its dotted key.
fn settings(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) => {
                found.extend(
                    settings(inner)
                        .into_iter()
                        .map(|(key, value)| (format!("{name}.{key}"), value)),
                );
            }
            value => found.push((name.clone(), value.clone())),
        }
    }
    found
}

/// Another value of the same kind, as its text: one more, or the opposite.
fn another(key: &str, value: &Value) -> String {
    match value {
        Value::Boolean(value) => (!value).to_string(),
        Value::Integer(value) => (value + 1).to_string(),
        Value::Float(value) => (value / 2.0).to_string(),
        Value::String(text) => another_text(key, text),
        other => panic!("{key}: no other value of {other:?} is known to this test"),
    }
}

/// Settings that have no value unless they are set, with one that they can have.
const UNSET: &[(&str, &str)] = &[
    ("controller.lease", "30s"),
    ("frontend.listeners.OUTSIDE.listen", "127.0.0.1:7"),
    ("storage.s3.region", "nowhere-1"),
];

/// A size or a duration is one unit more, an address gets another port, a path or a filter becomes another one.
fn another_text(key: &str, text: &str) -> String {
    if key.ends_with(".advertise") {
        return "broker.example:7".to_owned();
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 && text[digits..].chars().all(char::is_alphabetic) {
        let number: u64 = text[..digits].parse().expect("digits");
        return format!("{}{}", number + 1, &text[digits..]);
    }
    match key {
        "storage.url" => "file:///elsewhere".to_owned(),
        "frontend.server.listener" => "INSIDE".to_owned(),
        "log.filter" => "debug".to_owned(),
        "frontend.groups.consumer_migration_policy" => "upgrade".to_owned(),
        _ if text
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok()) =>
        {
            "127.0.0.2:7".to_owned()
        }
        _ => "/elsewhere".to_owned(),
    }
}

/// Every setting that is dumped can be set by file, by environment and by flag, and is in force then.
#[test]
fn every_setting_can_be_set_in_three_ways() {
    let defaults = settings(&dump(&[], &[]));
    assert!(defaults.len() > 20, "{defaults:?}");
    let default_of = |key: &str| {
        defaults
            .iter()
            .find(|(found, _)| found == key)
            .and_then(|(_, value)| value.as_str())
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.toml");
    let changed = defaults
        .iter()
        .map(|(key, value)| (key.as_str(), another(key, value), value.is_str()));
    let set = UNSET.iter().map(|&(key, value)| (key, value.to_owned(), true));
    for (key, wanted, is_text) in changed.chain(set) {
        let (section, name) = key.rsplit_once('.').expect("every setting has a section");
        let quoted = if is_text { format!("{wanted:?}") } else { wanted.clone() };
        fs::write(&file, format!("[{section}]\n{name} = {quoted}\n")).unwrap();
        let variable = format!("TAILWATER_{}", key.to_uppercase().replace('.', "__"));
        let ways = [
            ("file", dump(&["--config", file.to_str().unwrap()], &[])),
            ("environment", dump(&[], &[(&variable, &wanted)])),
            ("flag", dump(&["--set", &format!("{key}={wanted}")], &[])),
        ];
        for (way, table) in ways {
            let found = settings(&table).into_iter().find(|(found, _)| found == key);
            let found = found.unwrap_or_else(|| panic!("{key} set by {way} is not dumped")).1;
            let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            // "2MiB" for 2048KiB is as good.
            let is_in_force = text == wanted || is_text && Some(text.as_str()) != default_of(key);
            assert!(is_in_force, "{key} = {wanted} by {way}, but {text} is in force");
        }
    }
}

/// The version is that of the crate.
#[test]
fn the_version_is_printed() {
    let done = Command::new(Server::test_binary())
        .arg("--version")
        .output()
        .expect("it starts");
    assert_eq!(
        String::from_utf8_lossy(&done.stdout).trim(),
        concat!("tailwater ", env!("CARGO_PKG_VERSION"))
    );
}
