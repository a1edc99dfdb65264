//! `proto/` is the ports' form on the wire: it compiles, and has an RPC for each method of each port.

use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// `fn` names of the trait `name` in a port's source, in UpperCamelCase.
fn methods(source: &str, name: &str) -> Vec<String> {
    let body = source
        .split(&format!("pub trait {name}: "))
        .nth(1)
        .expect("the port is declared");
    let body = body.split("\n}\n").next().expect("the port ends");
    body.lines()
        .filter_map(|line| line.trim().strip_prefix("async fn "))
        .map(|line| {
            line.split('(')
                .next()
                .expect("a name")
                .split('_')
                .map(capitalised)
                .collect()
        })
        .collect()
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

#[test]
fn every_port_method_has_its_rpc() {
    let protos = Path::new(ROOT).join("proto");
    let files =
        protox::compile(["wal.proto", "controller.proto", "frontend.proto"], [&protos]).expect("proto/ compiles");
    let services: Vec<_> = files.file.iter().flat_map(|file| &file.service).collect();
    let ports = [
        ("src/wal.rs", "Wal"),
        ("src/frontend.rs", "Frontend"),
        ("src/controller/nodes.rs", "Nodes"),
        ("src/controller/catalog.rs", "Catalog"),
        ("src/controller/journals.rs", "Journals"),
        ("src/controller/objects.rs", "Objects"),
        ("src/controller/tasks.rs", "Tasks"),
    ];
    for (file, port) in ports {
        let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("readable");
        let service = services
            .iter()
            .find(|service| service.name() == port)
            .expect("a service a port");
        let rpcs: Vec<&str> = service.method.iter().map(|method| method.name()).collect();
        assert_eq!(methods(&source, port), rpcs, "{port}");
    }
}
