//! A partition that very many idempotent producers have written to: how fast it takes new ones, and how soon a start knows what
//! each of them has sent.
//!
//! Owns: their batches, and that a repeat is recognised behind each start. Does not own: starting (`tailwater_tests::Server`).

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::BytesMut;
use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::BatchBuilder;
use tailwater_tests::{Connection, Server, wait_until};

use crate::figures::{Column, Figures};

const TOPIC: &str = "crowd";
const PRODUCERS: i64 = 100_000;
/// Of each producer a partition remembers as many batches.
const BATCHES_EACH: i32 = 5;
const CONNECTIONS: i64 = 16;
/// Nothing is uploaded before it is to be.
const KEEPS: &str = "[compactor]\ntrigger_age = \"1h\"\ntrigger_bytes = \"4GiB\"\ntrigger_entries = 1000000000\n";
const LIMIT: Duration = Duration::from_secs(180);

const TAKEN: &str = "100000 producers, a first batch of each, 16 at a time";
const IN_TAIL: &str =
    "start to a repeat recognised: 100000 producers, five batches each, killed with all of it in the WAL";
const BY_DEFAULT: &str =
    "start to a repeat recognised: 100000 producers, five batches each, killed just behind the last, default triggers";
const IN_SNAPSHOT: &str = "start to a repeat recognised: the same, uploaded";

/// # Errors
/// If a batch is refused, or a repeat isn't recognised.
pub fn measure(binary: &Path, figures: &mut Figures) -> Result<()> {
    let mut server = Server::new("").binary(binary);
    let (rate, last) = load(&mut server)?;
    figures.add(TAKEN, Column::Standalone, rate, "batches/s");
    server.kill9();
    figures.add(BY_DEFAULT, Column::Standalone, start(&mut server, &last)?, "ms");
    server.finish();

    let mut server = Server::new(KEEPS).binary(binary);
    let (_, last) = load(&mut server)?;
    server.kill9();
    figures.add(IN_TAIL, Column::Standalone, start(&mut server, &last)?, "ms");

    server.set_config("[compactor]\ntrigger_age = \"1s\"\n");
    ensure!(server.terminate().success(), "the server did not stop in order");
    server.start();
    wait_until("all to be uploaded", LIMIT, || {
        server.metrics().sum("tailwater_upload_lag_bytes") == 0.0
    });
    server.kill9();
    figures.add(IN_SNAPSHOT, Column::Standalone, start(&mut server, &last)?, "ms");
    server.finish();
    Ok(())
}

pub fn aims(figures: &mut Figures) {
    figures.aim(BY_DEFAULT, "well under 1000");
    figures.aim(IN_TAIL, "well under 1000");
    figures.aim(IN_SNAPSHOT, "well under 1000");
}

/// Starts it and has all producers send all their batches. Answers how many first batches it took a second, and where
/// [`repeats`] are.
fn load(server: &mut Server) -> Result<(f64, Vec<i64>)> {
    server.start();
    let created = Connection::open(server.kafka()).create_topic(TOPIC, 1, &[])?;
    ensure!(created == ErrorCode::None, "{created:?}");
    let begun = Instant::now();
    send_all(server.kafka(), 0)?;
    let rate = PRODUCERS as f64 / begun.elapsed().as_secs_f64();
    for round in 1..BATCHES_EACH {
        send_all(server.kafka(), round)?;
    }
    Ok((rate, repeats(server.kafka())?))
}

/// In milliseconds.
fn start(server: &mut Server, last: &[i64]) -> Result<f64> {
    let ready = server.start();
    let begun = Instant::now();
    let found = repeats(server.kafka())?;
    ensure!(found == last, "repeats are at {found:?}, their first at {last:?}");
    Ok((ready + begun.elapsed()).as_secs_f64() * 1e3)
}

/// Ids are given out in blocks, and come in any order: 7,919 has no factor of 2^17 in it.
fn id(nth: i64) -> i64 {
    nth * 7_919 % (1 << 17)
}

fn batch(nth: i64, round: i32) -> BytesMut {
    let mut batch = BatchBuilder::new().producer(id(nth), 0, round);
    batch.push(1_700_000_000_000, None, Some(b"one of very many"), &[]);
    batch.build()
}

/// Each producer's batch of a round.
fn send_all(server: SocketAddr, round: i32) -> Result<()> {
    std::thread::scope(|scope| {
        let send = |first: i64| {
            scope.spawn(move || -> Result<()> {
                let mut connection = Connection::open(server);
                for nth in (first..PRODUCERS).step_by(usize::try_from(CONNECTIONS)?) {
                    let answer = connection.produce(TOPIC, 0, batch(nth, round))?;
                    ensure!(
                        answer.error_code == ErrorCode::None,
                        "producer {nth}: {:?}",
                        answer.error_code
                    );
                }
                Ok(())
            })
        };
        let senders: Vec<_> = (0..CONNECTIONS).map(send).collect();
        senders
            .into_iter()
            .try_for_each(|sender| sender.join().ok().context("a sender panicked")?)
    })
}

/// Where some producers' first remembered batches are, by sending them again.
fn repeats(server: SocketAddr) -> Result<Vec<i64>> {
    let mut connection = Connection::open(server);
    let some = [0, 1, PRODUCERS / 2, PRODUCERS - 1].into_iter();
    some.map(|nth| {
        let begun = Instant::now();
        // Just behind the ready line a partition may still be opening.
        loop {
            let answer = connection.produce(TOPIC, 0, batch(nth, 0))?;
            match answer.error_code {
                ErrorCode::None => return Ok(answer.base_offset),
                ErrorCode::NotLeaderOrFollower if begun.elapsed() < LIMIT => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                error => bail!("producer {nth}: {error:?}"),
            }
        }
    })
    .collect()
}
