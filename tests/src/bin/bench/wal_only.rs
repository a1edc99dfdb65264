//! What the way to the acknowledgement costs by itself: nothing is uploaded, so that all CPU is the frontend's and the WAL's.
//! And what a start after `kill -9` makes of it, when all of it is still in the WAL.
//!
//! The device is written around the page cache, so what recovery reads comes from the disk.

use anyhow::{Result, ensure};
use tailwater_tests::{Cluster, ClusterOptions, Server};

use crate::figures::{Column, Figures};
use crate::subject::Subject;
use crate::{Arguments, TO_WAL, cost, run};

/// The device has room for all of it.
const CAPACITY: &str = "4GiB";
const MAX_RECORDS: u64 = 1_000_000;
/// Once without counting: the file of the device grows on its first lap.
const WARM_RECORDS: u64 = 100_000;
const UPLOADS_NOTHING: [(&str, &str); 3] = [
    ("trigger_bytes", "\"1TiB\""),
    ("trigger_age", "\"24h\""),
    ("trigger_device_percent", "100"),
];

/// # Errors
/// If the load fails.
pub fn standalone(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let settings = UPLOADS_NOTHING
        .map(|(name, value)| format!("{name} = {value}\n"))
        .concat();
    let config = format!("[wal]\ncapacity = \"{CAPACITY}\"\n[compactor]\n{settings}");
    let mut server = Server::new(&config).binary(&arguments.binary);
    server.start();
    let Subject::Standalone(mut server) = produce(
        arguments,
        Subject::Standalone(Box::new(server)),
        Column::Standalone,
        figures,
    )?
    else {
        unreachable!("it was given one")
    };
    let gigabytes = server.metrics().sum("tailwater_upload_lag_bytes") / 1e9;
    ensure!(gigabytes > 0.0, "everything was uploaded already");
    server.kill9();
    let took = server.start().as_secs_f64();
    let mut add = |name: &str, value, unit| figures.add(name, Column::Standalone, value, unit);
    add("killed with so much not uploaded", gigabytes, "GB");
    add("start to ready after that kill", took * 1e3, "ms");
    server.kill9();
    figures.aim(
        "start to ready after that kill",
        &format!("≤ {:.0} (200 + 1 s/GB)", 200.0 + gigabytes * 1e3),
    );
    Ok(())
}

/// # Errors
/// If the load fails.
pub fn apart(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let setting = |(name, value): (&str, &str)| format!("compactor.{name}={}", value.trim_matches('"'));
    let options = ClusterOptions {
        wal_capacity: CAPACITY,
        settings: UPLOADS_NOTHING.map(setting).to_vec(),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start_binary(options, &arguments.binary);
    produce(arguments, Subject::Apart(Box::new(cluster)), Column::Apart, figures)?.finish();
    Ok(())
}

fn produce(arguments: &Arguments, subject: Subject, column: Column, figures: &mut Figures) -> Result<Subject> {
    run(arguments, &subject, &["produce", "--topic", "warm"], WARM_RECORDS)?;
    let before = subject.cpu_seconds()?;
    let moved = run(arguments, &subject, &["produce"], arguments.records.min(MAX_RECORDS))?;
    figures.add(TO_WAL, column, cost(&subject, before, &moved)?, "CPU-s/GB");
    let throughput = moved.bytes / moved.seconds / 1e6;
    figures.add("produce to the WAL: throughput", column, throughput, "MB/s");
    Ok(subject)
}
