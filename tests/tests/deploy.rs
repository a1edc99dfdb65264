//! `deploy/` against itself, Kubernetes' schemas and the server; the questions stand in `tests/deploy/check.py`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use tailwater_tests::{Server, get, python_with, repository};

/// Runs one check, which gets the server's binary, and `input` to read. Without Python it is skipped aloud.
///
/// # Panics
/// With what it found.
fn check(what: &str, input: &str) {
    let Some(python) = python_with(&format!("deploy/: {what}"), &["kubernetes_validate", "yaml"]) else {
        return;
    };
    let mut child = Command::new(python)
        .arg(repository().join("tests/deploy/check.py"))
        .arg(what)
        .arg(Server::test_binary())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads its input");
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("Python ends");
    let said = [stdout, stderr]
        .map(|said| String::from_utf8_lossy(&said).into_owned())
        .concat();
    assert!(status.success(), "{said}");
}

/// Every manifest is one of the newest Kubernetes, names in it lead somewhere, and no pod may do more than it needs.
#[test]
fn kubernetes_takes_the_manifests() {
    check("kubernetes", "");
}

/// What the compose file refers to is there.
#[test]
fn the_compose_file_is_whole() {
    check("compose", "");
}

/// Compose and Kubernetes start each role with the command, settings and probes of the local cluster, and with nothing
/// that the server doesn't know.
#[test]
fn roles_start_the_same_everywhere() {
    check("one-source", "");
}

/// Stages, paths, binary, user and ports of the image are those of the workspace and the manifests.
#[test]
fn the_image_is_of_this_workspace() {
    check("dockerfile", "");
}

/// Alerts ask for metrics and labels that the server has, and every role is scraped; the paths that probes ask answer.
#[test]
fn prometheus_asks_for_what_there_is() {
    let mut server = Server::new("");
    server.start();
    for path in ["/healthz", "/readyz"] {
        let (status, body) = get(server.http(), path).expect("the HTTP port answers");
        assert_eq!(status, 200, "{path}: {body}");
    }
    let (status, metrics) = get(server.http(), "/metrics").expect("the HTTP port answers");
    assert_eq!(status, 200, "{metrics}");
    check("prometheus", &metrics);
    server.finish();
}
