//! The embedded store under `kill -9`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tailwater_controller::{Config, ControllerService, start};
use tailwater_rpc::controller::*;
use tailwater_runtime::Random;
use tailwater_types::*;

use crate::support::*;

const FOLDER: &str = "TAILWATER_TEST_FOLDER";

async fn open(folder: &Path) -> Arc<ControllerService> {
    let config = Config {
        data_dir: folder.to_owned(),
        ..Config::default()
    };
    let wals = Arc::new(Directory(DeviceId::from_bytes([9; 16]), Arc::default()));
    start(config, wals, runtime()).await.unwrap()
}

async fn frontend(controller: &ControllerService) -> Caller {
    let incarnation = runtime().random.u128();
    let request = request(FRONTEND, Tier::Frontend, incarnation);
    let registration = controller.register(request).await.unwrap();
    caller(FRONTEND, &registration)
}

/// The process to be killed: creates topics, several at a time, and deletes every third, until its end; names each when it
/// was answered.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other process of a test"]
async fn child() {
    #[allow(clippy::disallowed_methods, reason = "set by the test that starts this")]
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let controller = open(Path::new(&folder)).await;
    let caller = frontend(&controller).await;
    println!();
    for round in 0.. {
        let prefix = format!("{}-{round}", caller.node_epoch);
        let created = (0..6).map(|n| {
            let (controller, name) = (&controller, format!("{prefix}-{n}"));
            async move {
                let created = controller.create_topic(caller, topic(&name, 40)).await.unwrap();
                println!("+ {name}");
                if n % 3 == 0 {
                    println!("? {name}");
                    controller.delete_topic(caller, created.id).await.unwrap();
                    println!("- {name}");
                }
            }
        });
        futures::future::join_all(created).await;
    }
}

/// Whatever was answered before a kill is there after it; terms and epochs only rise.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let random = Random::system();
    let (mut there, mut maybe) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    let mut last = (ControllerEpoch(0), NodeEpoch(0));
    for _ in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact", "killed::child"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let kill_at = 30 + random.range(0..400) as usize;
        while said.len() < kill_at {
            said.push(lines.next().expect("it goes on until it is killed").unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        said.extend(lines.map_while(|line| line.ok()));
        for line in said {
            match line.split_once(' ') {
                Some(("+", name)) => drop(there.insert(name.to_owned())),
                Some(("?", name)) => drop(maybe.insert(name.to_owned())),
                Some(("-", name)) => {
                    maybe.remove(name);
                    there.remove(name);
                }
                _ => {}
            }
        }
        let controller = open(folder.path()).await;
        let caller = frontend(&controller).await;
        assert!((caller.controller_epoch, caller.node_epoch) > last);
        last = (caller.controller_epoch, caller.node_epoch);
        let mut watch = controller.watch(caller).await.unwrap();
        let first = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
        let mut partitions = std::collections::BTreeMap::new();
        for change in &first.changes {
            if let MetadataChange::Partition(partition) = change {
                *partitions.entry(partition.topic).or_insert(0) += 1;
            }
        }
        let found: std::collections::BTreeSet<String> = first
            .changes
            .iter()
            .filter_map(|change| match change {
                MetadataChange::Topic(topic) => {
                    assert_eq!(partitions.remove(&topic.id), Some(40), "a topic is whole");
                    Some(topic.name.clone())
                }
                _ => None,
            })
            .collect();
        assert!(partitions.is_empty(), "partitions without a topic: {partitions:?}");
        let lost: Vec<_> = there.difference(&found).filter(|name| !maybe.contains(*name)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        // At most what was under way at the kill came to be without its answer; a deletion that was answered stays one.
        let more = found.difference(&there).count();
        assert!(more <= 6, "{more} topics that nobody was told of");
        there = found;
        maybe.clear();
        controller.shutdown().await;
    }
}
