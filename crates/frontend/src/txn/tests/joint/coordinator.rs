//! Coordinators, one a term: the shard, its records on their way to the log, its markers on their way to leaders.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::{Marker, TransactionEnd};
use tailwater_log::TransactionMarker;
use tailwater_runtime::clock::Instant;

use super::partition::Place;
use super::world::{Event, Unawares, World, name};
use crate::lease::Lease;
use crate::txn::effects::*;
use crate::txn::record;
use crate::txn::shard::Shard;
use crate::txn::state::*;
use crate::txn::tests::harness::limits;

/// After what silence a node is fenced.
const LEASE_MS: u64 = 3_000;
/// How often it says that it is there, and how long an answer takes: mostly, and at most.
const HEARTBEAT_MS: u64 = 500;
const ANSWER_MOSTLY_MS: u64 = 1_000;
const ANSWER_AT_MOST_MS: u64 = 30_000;
/// By how many thousandths clocks run too fast or too slow, at most.
const CLOCKS_DIFFER: u64 = 40;

pub struct Coordinator {
    pub shard: Shard,
    in_flight: VecDeque<Write>,
    waiting: BTreeMap<Waiter, Asker>,
    rounds: BTreeMap<u64, Round>,
    /// Deposed: until when it doesn't know.
    gone_at_ms: Option<u64>,
    /// What it has of its lease, on its own clock, since the controller has heard it last.
    lease: Option<Lease>,
    /// By how many thousandths its clock runs too fast.
    fast: i64,
}

/// Who is told.
#[derive(Clone, Copy, Debug)]
pub enum Asker {
    Client { client: usize, number: u64 },
    Leader { place: Place, question: u64 },
}

struct Round {
    markers: Markers,
    answers: BTreeMap<usize, ErrorCode>,
}

impl World {
    /// The newest coordinator is to be another node soon: it gives its place away, or isn't heard any more.
    pub fn lose_coordinator(&mut self) {
        let term = self.coordinators.len() - 1;
        if self.options.unawares == Unawares::Answers {
            return self.elect();
        }
        if self.coordinators[term].lease.is_some() {
            return;
        }
        let sent_ms = self.now_ms.saturating_sub(self.draw(0, HEARTBEAT_MS));
        let is_late = self.chance.chance(2);
        let took_ms = self.draw(0, if is_late { ANSWER_AT_MOST_MS } else { ANSWER_MOSTLY_MS });
        let heard_ms = sent_ms + self.draw(0, took_ms + 1);
        let counted_from_ms = match self.options.unawares {
            Unawares::LeasedFromTheAnswer => sent_ms + took_ms,
            Unawares::Leased | Unawares::Answers => sent_ms,
        };
        let in_order = self.chance.chance(2);
        let length = if in_order { 0 } else { LEASE_MS };
        let lease = Lease::new(
            self.clock_of(term, counted_from_ms),
            Some(Duration::from_millis(length)),
        );
        self.coordinators[term].lease = Some(lease);
        match in_order {
            true => self.elect(),
            false => {
                let lost_ms = heard_ms + LEASE_MS + 1;
                self.after(lost_ms - self.now_ms, Event::LeaseLost { term });
            }
        }
    }

    pub fn lease_lost(&mut self, term: usize) {
        if !self.is_deposed(term) {
            self.elect();
        }
    }

    /// What a coordinator's clock shows at a time.
    fn clock_of(&self, term: usize, ms: u64) -> Instant {
        let fast = self.coordinators[term].fast * ms as i64 / 1_000;
        self.at_ms(ms.saturating_add_signed(fast))
    }

    /// Whether an answer of its leaves: who isn't deposed has the WAL's yes, where its lease has run out.
    fn may_answer(&self, term: usize) -> bool {
        if !self.is_deposed(term) || self.options.unawares == Unawares::Answers {
            return true;
        }
        let lease = self.coordinators[term].lease;
        lease.is_some_and(|lease| lease.holds(self.clock_of(term, self.now_ms)))
    }

    /// Another node coordinates from now on: what was on its way is in the log, in part, or isn't.
    pub fn elect(&mut self) {
        let gone_at_ms = self.now_ms + self.draw(0, 30_000);
        if let Some(old) = self.coordinators.last_mut() {
            old.gone_at_ms = Some(gone_at_ms);
            let stored = self.chance.range(0..old.in_flight.len() as u64 + 1) as usize;
            let written = old.in_flight.drain(..stored);
            self.log
                .extend(written.map(|write| (write.id, write.value.map(|value| *value))));
            self.report.elections += 1;
        }
        let mut shard = Shard::new(limits());
        for (id, value) in &self.log {
            let (key, bytes) = record::encode(id, value.as_ref()).unwrap();
            let (id, value) = record::decode(&key, bytes.as_deref()).unwrap().unwrap();
            shard.replay(id, value);
        }
        let effects = shard.loaded(self.now());
        self.coordinators.push(Coordinator {
            shard,
            in_flight: VecDeque::new(),
            waiting: BTreeMap::new(),
            rounds: BTreeMap::new(),
            gone_at_ms: None,
            lease: None,
            fast: self.draw(0, 2 * CLOCKS_DIFFER) as i64 - CLOCKS_DIFFER as i64,
        });
        self.carry_out(self.coordinators.len() - 1, effects);
    }

    pub fn is_alive(&self, term: usize) -> bool {
        self.coordinators[term].gone_at_ms.is_none_or(|at| self.now_ms < at)
    }

    fn is_deposed(&self, term: usize) -> bool {
        term + 1 < self.coordinators.len()
    }

    /// What the log says of an id.
    pub fn committed_state(&self, id: usize) -> Option<&Transaction> {
        let of_it = self.log.iter().rev().find(|(name, _)| *name == super::world::name(id));
        of_it.and_then(|(_, value)| value.as_ref())
    }

    pub fn asked(&mut self, term: usize, id: usize, asker: Asker, request: Request) {
        // Nothing tells an EndTxn of version 1 that comes twice from that of the next transaction; clients close the
        // connection that it came by.
        if let (
            Asker::Client { client, number },
            Request::End {
                with_new_epoch: false, ..
            },
        ) = (asker, &request)
            && !self.clients[client].waits_for(number)
        {
            return;
        }
        if !self.may_answer(term) || !self.is_alive(term) {
            return self.answer(asker, request.refused(ErrorCode::NotCoordinator));
        }
        let (waiter, now) = (Waiter(self.number()), self.now());
        let coordinator = &mut self.coordinators[term];
        coordinator.waiting.insert(waiter, asker);
        let effects = coordinator.shard.step(&name(id), request, waiter, now);
        self.carry_out(term, effects);
    }

    fn carry_out(&mut self, term: usize, effects: Effects) {
        for (waiter, reply) in effects.replies {
            let asker = self.coordinators[term].waiting.remove(&waiter);
            self.answer(asker.expect("answered once"), reply);
        }
        for write in effects.writes {
            self.coordinators[term].in_flight.push_back(write);
            let work = self.work();
            self.after(work, Event::Recorded { term });
        }
        for markers in effects.markers {
            let wait = match markers.attempt {
                0 => 0,
                attempt => (10 << attempt.min(7)) / 2 + self.draw(0, 500),
            };
            self.after(wait, Event::Round { term, markers });
        }
    }

    fn answer(&mut self, asker: Asker, reply: Reply) {
        match asker {
            Asker::Client { client, number } => self.send(Event::Answer { client, number, reply }),
            Asker::Leader { place, question } => {
                let error = match reply {
                    Reply::Added(error) | Reply::Verified(Err(error)) => error,
                    Reply::Verified(Ok(errors)) => errors[0],
                    other => panic!("no answer to a leader: {other:?}"),
                };
                self.send(Event::Verified { place, question, error });
            }
        }
    }

    pub fn recorded(&mut self, term: usize) {
        if self.is_deposed(term) {
            return;
        }
        let Some(write) = self.coordinators[term].in_flight.pop_front() else {
            return;
        };
        let result = match self.is_busy() && self.chance.chance(50) {
            true => Err(ErrorCode::CoordinatorNotAvailable),
            false => Ok(()),
        };
        if result.is_ok() {
            self.log.push((write.id.clone(), write.value.as_deref().cloned()));
        }
        let now = self.now();
        let effects = self.coordinators[term].shard.written(write, result, now);
        self.report.decided += effects.committed + effects.aborted;
        self.carry_out(term, effects);
    }

    pub fn wake(&mut self, term: usize) {
        let now = self.now();
        while let Some(effects) = self.coordinators[term].shard.tick(now) {
            self.report.timeouts += effects.writes.len() as u64;
            self.carry_out(term, effects);
        }
    }

    pub fn round(&mut self, term: usize, markers: Markers) {
        if !self.is_alive(term) {
            return;
        }
        let round = self.number();
        let sent = TransactionMarker {
            producer_id: markers.producer.id,
            producer_epoch: markers.producer.epoch,
            marker: Marker {
                end: match markers.is_commit {
                    true => TransactionEnd::Commit,
                    false => TransactionEnd::Abort,
                },
                coordinator_epoch: term as i32,
            },
            transaction_version: markers.client_version as i8,
        };
        let id = (0..).find(|id| name(*id) == markers.id).expect("one of them");
        for partition in &markers.partitions {
            let partition = partition.partition as usize;
            let place = Place {
                partition,
                epoch: self.known(self.leaders[partition].len()),
            };
            self.send(Event::Marker {
                place,
                id,
                sent,
                term,
                round,
            });
        }
        let answers = BTreeMap::new();
        self.coordinators[term].rounds.insert(round, Round { markers, answers });
        let limit = self.draw(300, 12_000);
        self.after(limit, Event::RoundOver { term, round });
    }

    pub fn marker_answered(&mut self, term: usize, round: u64, partition: usize, error: ErrorCode) {
        let Some(waiting) = self.coordinators[term].rounds.get_mut(&round) else {
            return;
        };
        waiting.answers.insert(partition, error);
        if waiting.answers.len() == waiting.markers.partitions.len() {
            self.round_over(term, round);
        }
    }

    /// All have answered, or nobody waits any longer.
    pub fn round_over(&mut self, term: usize, round: u64) {
        let Some(Round { markers, answers }) = self.coordinators[term].rounds.remove(&round) else {
            return;
        };
        if !self.is_alive(term) {
            return;
        }
        let is_done = |error: &ErrorCode| matches!(error, ErrorCode::None | ErrorCode::InvalidProducerEpoch);
        let mut partitions = markers.partitions;
        partitions.retain(|at| answers.get(&(at.partition as usize)).is_some_and(is_done));
        let marked = Marked {
            id: markers.id,
            producer: markers.producer,
            partitions,
            attempt: markers.attempt,
        };
        let now = self.now();
        let effects = self.coordinators[term].shard.marked(marked, now);
        self.report.partial_rounds += u64::from(!effects.markers.is_empty());
        self.carry_out(term, effects);
    }
}
