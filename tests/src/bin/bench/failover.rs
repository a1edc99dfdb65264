//! How long others notice that a frontend has died, come back, or left.
//!
//! Owns: the three ways of going. Does not own: whether anything was lost (the integration tests).

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::MetadataRequest;
use tailwater_tests::{Cluster, ClusterOptions, Connection, Load, batch, verify};

const PARTITIONS: i32 = 8;
const TOPIC: &str = "failover";
const LIMIT: Duration = Duration::from_secs(60);
/// Before a frontend goes and after it has gone.
const SETTLE: Duration = Duration::from_secs(2);
const METADATA_VERSION: i16 = 9;

/// What was noticed of one frontend's going.
#[derive(Clone, Copy, Debug)]
pub struct Noticed {
    /// Until the other one took a record in each of its partitions.
    pub served: Duration,
    /// The longest time from a record to its acknowledgement that librdkafka's producers saw.
    pub slowest: Duration,
}

/// How the frontend goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// kill -9, and it stays dead: its lease must run out.
    Dies,
    /// kill -9, and it is started again at once: its registration fences its old epoch.
    Restarts,
    /// SIGTERM.
    Leaves,
}

/// One frontend of two goes, under load.
///
/// # Errors
/// If nobody serves its partitions afterwards.
pub fn measure(binary: &Path, python: &Path, going: Going) -> Result<Noticed> {
    let options = ClusterOptions {
        restart: (going == Going::Restarts).then_some(0.0),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start_binary(options, binary);
    let (leaves, stays) = (cluster.kafka(1), cluster.kafka(2));
    let mut connection = Connection::open(stays);
    ensure!(connection.create_topic(TOPIC, PARTITIONS, &[])? == ErrorCode::None);
    let history = cluster.folder().join("history");
    let load = Load::start(python, cluster.bootstrap(), &history, &["--rate", "500000"]);
    std::thread::sleep(SETTLE);
    let moving = led_by(&mut connection, leaves)?;
    ensure!(!moving.is_empty(), "the frontend leads nothing");

    let signal = if going == Going::Leaves {
        libc::SIGTERM
    } else {
        libc::SIGKILL
    };
    let begun = Instant::now();
    cluster.signal("frontend-1", signal);
    let both = [stays, leaves];
    for partition in moving {
        // Whoever leads it then: the one that came back may have got it again.
        let servers = if going == Going::Restarts {
            &both[..]
        } else {
            &both[..1]
        };
        while !takes_a_record(servers, partition) {
            ensure!(
                begun.elapsed() < LIMIT,
                "partition {partition} isn't served within {LIMIT:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let served = begun.elapsed();
    std::thread::sleep(SETTLE);
    let slowest = load.finish();
    let verified = verify(python, cluster.bootstrap(), &history, true);
    ensure!(verified.anomalies == 0, "{verified:?}");
    cluster.finish();
    Ok(Noticed { served, slowest })
}

/// The partitions of the topic that the broker at `address` leads.
fn led_by(connection: &mut Connection, address: SocketAddr) -> Result<Vec<i32>> {
    let request = MetadataRequest {
        topics: Some(vec![tailwater_kafka::messages::MetadataRequestTopic {
            name: Some(TOPIC.into()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    let answer = connection.call(METADATA_VERSION, &request)?;
    let broker = answer
        .brokers
        .iter()
        .find(|broker| broker.port == i32::from(address.port()));
    let broker = broker.context("the frontend is a broker")?.node_id;
    let topic = answer.topics.first().context("the topic is there")?;
    let led = topic
        .partitions
        .iter()
        .filter(|partition| partition.leader_id == broker);
    Ok(led.map(|partition| partition.partition_index).collect())
}

/// Whether one of these brokers takes a record for the partition now.
fn takes_a_record(servers: &[SocketAddr], partition: i32) -> bool {
    servers.iter().any(|server| {
        let answer = Connection::try_open(*server)
            .and_then(|mut connection| connection.produce(TOPIC, partition, batch(&[b"x"])));
        answer.is_ok_and(|answer| answer.error_code == ErrorCode::None)
    })
}
