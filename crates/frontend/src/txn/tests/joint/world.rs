//! Time, chance, and the network: what is sent arrives late, twice, in another order, or never.

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_log::TransactionMarker;
use tailwater_runtime::Random;
use tailwater_runtime::clock::Instant;

use super::coordinator::{Asker, Coordinator};
use super::judge::{Report, Told};
use super::partition::{Leader, Place, Question, Sent, Work};
use super::producer::Client;
use crate::txn::effects::*;
use crate::txn::state::*;

pub const PARTITIONS: usize = 3;
/// The one that takes a group's offsets: its batches have no sequence.
pub const OFFSETS: usize = 2;
pub const IDS: usize = 2;
/// So long new transactions begin and things fail.
const BUSY_MS: u64 = 90_000;
/// What a run may take at most; it ends when nothing is left to happen.
const MOST_EVENTS: usize = 200_000;
/// What lies further away is an idle id's end.
const HORIZON_MS: u64 = 3_600_000;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of which versions the producers are.
    pub versions: [i16; 2],
    /// Whether a marker of version 1 may come when its transaction has ended everywhere.
    pub late_markers_of_version_1: bool,
    /// When a coordinator answers that doesn't know yet that it is deposed.
    pub unawares: Unawares,
    /// Whether leaders ask no coordinator.
    pub without_guards: bool,
}

/// What lets an answer of a coordinator out that was deposed and doesn't know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unawares {
    /// Its lease, as in the server.
    Leased,
    /// Its lease, wrongly counted from when the controller's answer came.
    LeasedFromTheAnswer,
    /// Nothing keeps it back, and the next coordinator is there at once.
    Answers,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            versions: [0, 2],
            late_markers_of_version_1: false,
            unawares: Unawares::Leased,
            without_guards: false,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    /// At the coordinator of this term.
    Ask {
        term: usize,
        id: usize,
        asker: Asker,
        request: Request,
    },
    /// Its oldest record is committed.
    Recorded {
        term: usize,
    },
    Round {
        term: usize,
        markers: Markers,
    },
    RoundOver {
        term: usize,
        round: u64,
    },
    MarkerAnswer {
        term: usize,
        round: u64,
        partition: usize,
        error: ErrorCode,
    },
    /// At a partition's leader.
    Produce {
        place: Place,
        sent: Sent,
    },
    AskAgain {
        place: Place,
        question: Question,
    },
    Verified {
        place: Place,
        question: u64,
        error: ErrorCode,
    },
    QuestionOver {
        place: Place,
        question: u64,
    },
    Marker {
        place: Place,
        id: usize,
        sent: TransactionMarker,
        term: usize,
        round: u64,
    },
    /// There is room in the WAL for it.
    Credit {
        place: Place,
        work: Work,
    },
    Durable {
        place: Place,
        end: i64,
    },
    /// At a client: what it is told, or tells itself.
    Answer {
        client: usize,
        number: u64,
        reply: Reply,
    },
    Produced {
        client: usize,
        number: u64,
        error: ErrorCode,
    },
    Act {
        client: usize,
        number: u64,
    },
    SendBatch {
        client: usize,
        number: u64,
    },
    GiveUp {
        client: usize,
        transaction: u32,
    },
    Newcomer {
        id: usize,
    },
    Fault,
    /// The lease of the coordinator of this term has run out at the controller.
    LeaseLost {
        term: usize,
    },
    Look {
        partition: usize,
    },
}

pub struct World {
    pub options: Options,
    pub chance: Random,
    pub now_ms: u64,
    base: Instant,
    events: BTreeMap<(u64, u64), Event>,
    next_number: u64,
    /// By their terms.
    pub coordinators: Vec<Coordinator>,
    /// What is committed of the coordinators' log.
    pub log: Vec<(String, Option<Transaction>)>,
    /// By partitions and leader epochs.
    pub leaders: Vec<Vec<Leader>>,
    /// What a reader has read of stable records, by partitions.
    pub read: Vec<Vec<(u32, u32)>>,
    pub clients: Vec<Client>,
    pub told: BTreeMap<u32, Told>,
    pub report: Report,
    pub broken: Option<String>,
}

impl World {
    pub fn new(seed: u64, options: Options) -> Self {
        let mut world = Self {
            options,
            chance: Random::seeded(seed),
            now_ms: 0,
            base: Instant::now(),
            events: BTreeMap::new(),
            next_number: 0,
            coordinators: Vec::new(),
            log: Vec::new(),
            leaders: (0..PARTITIONS).map(|_| vec![Leader::first()]).collect(),
            read: vec![Vec::new(); PARTITIONS],
            clients: Vec::new(),
            told: BTreeMap::new(),
            report: Report::default(),
            broken: None,
        };
        for id in 0..IDS {
            // Some are near their last epoch.
            if world.chance.chance(6) {
                let state = Transaction {
                    epoch: i16::MAX - 6,
                    timeout_ms: 60_000,
                    ..Transaction::new(1 + id as i64, 0)
                };
                world.log.push((name(id), Some(state)));
            }
            world.after(0, Event::Newcomer { id });
        }
        world.elect();
        world.after(1_000, Event::Fault);
        world.after(1_000, Event::Look { partition: 0 });
        world
    }

    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub fn now(&self) -> Now {
        Now {
            at: self.base + Duration::from_millis(self.now_ms),
            wall_ms: 1_000_000 + self.now_ms as i64,
        }
    }

    pub fn at_ms(&self, ms: u64) -> Instant {
        self.base + Duration::from_millis(ms)
    }

    pub fn ms_of(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_millis() as u64 + 1
    }

    pub fn is_busy(&self) -> bool {
        self.now_ms < BUSY_MS
    }

    /// `from..to`
    pub fn draw(&self, from: u64, to: u64) -> u64 {
        self.chance.range(from..to)
    }

    pub fn after(&mut self, ms: u64, event: Event) {
        let number = self.number();
        self.events.insert((self.now_ms + ms, number), event);
    }

    /// On its way: mostly soon, sometimes minutes late, sometimes twice, sometimes never.
    pub fn send(&mut self, event: Event) {
        if self.is_busy() && self.chance.chance(30) {
            return;
        }
        if self.is_busy() && self.chance.chance(25) {
            let delay = self.delay();
            self.after(delay, event.clone());
        }
        let delay = self.delay();
        self.after(delay, event);
    }

    fn delay(&self) -> u64 {
        match self.draw(0, 100) {
            0..80 => self.draw(1, 20),
            80..93 => self.draw(20, 500),
            93..98 => self.draw(500, 8_000),
            _ => self.draw(8_000, 90_000),
        }
    }

    /// What a device, or somebody's turn, takes.
    pub fn work(&self) -> u64 {
        match self.draw(0, 60) {
            0 => self.draw(500, 8_000),
            _ => self.draw(0, 10),
        }
    }

    /// # Errors
    /// What was seen that must not be.
    pub fn run(&mut self) -> Result<(), String> {
        for _ in 0..MOST_EVENTS {
            let next = self.events.first_key_value().map(|((at, _), _)| *at);
            match (next, self.next_wake()) {
                (None, None) => return Ok(()),
                (next, Some((at, term))) if next.is_none_or(|next| at <= next) => {
                    self.now_ms = self.now_ms.max(at);
                    self.wake(term);
                }
                _ => {
                    let Some(((at, _), event)) = self.events.pop_first() else {
                        continue;
                    };
                    self.now_ms = self.now_ms.max(at);
                    self.report.events += 1;
                    self.take_event(event);
                }
            }
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
        }
        Err("it never comes to rest".to_owned())
    }

    /// The coordinator that wants to be looked at first.
    fn next_wake(&self) -> Option<(u64, usize)> {
        let alive = (0..self.coordinators.len()).filter(|term| self.is_alive(*term));
        let wakes = alive.filter_map(|term| Some((self.ms_of(self.coordinators[term].shard.next_wake()?), term)));
        wakes.filter(|(at, _)| *at < self.now_ms + HORIZON_MS).min()
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Ask {
                term,
                id,
                asker,
                request,
            } => self.asked(term, id, asker, request),
            Event::Recorded { term } => self.recorded(term),
            Event::Round { term, markers } => self.round(term, markers),
            Event::RoundOver { term, round } => self.round_over(term, round),
            Event::MarkerAnswer {
                term,
                round,
                partition,
                error,
            } => self.marker_answered(term, round, partition, error),
            Event::Produce { place, sent } => self.produce(place, sent),
            Event::AskAgain { place, question } => self.question(place, question),
            Event::Verified { place, question, error } => self.verified(place, question, error),
            Event::QuestionOver { place, question } => self.verified(place, question, ErrorCode::RequestTimedOut),
            Event::Marker {
                place,
                id,
                sent,
                term,
                round,
            } => {
                let work = Work::Marker { id, sent, term, round };
                self.credit(place, work);
            }
            Event::Credit { place, work } => self.append(place, work),
            Event::Durable { place, end } => self.durable(place, end),
            Event::Look { partition } => {
                self.look(partition);
                if self.is_busy() {
                    let next = self.draw(20, 600);
                    self.after(
                        next,
                        Event::Look {
                            partition: (partition + 1) % PARTITIONS,
                        },
                    );
                }
            }
            Event::Fault => self.fault(),
            Event::LeaseLost { term } => self.lease_lost(term),
            event => self.at_client(event),
        }
    }

    fn fault(&mut self) {
        if !self.is_busy() {
            return;
        }
        match self.draw(0, 10) {
            0 | 1 => self.lose_coordinator(),
            2..5 => {
                let partition = self.draw(0, PARTITIONS as u64) as usize;
                self.lead(partition);
            }
            5 | 6 => {
                let id = self.draw(0, IDS as u64) as usize;
                self.after(0, Event::Newcomer { id });
            }
            _ => {
                // Stopped, and later going on: maybe as a zombie.
                let client = self.draw(0, self.clients.len().max(1) as u64) as usize;
                let (ms, is_replaced) = (self.draw(100, 40_000), self.chance.chance(2));
                let until = self.now_ms + ms;
                if let Some(client) = self.clients.get_mut(client) {
                    client.paused_until = until;
                    let id = client.id;
                    if is_replaced {
                        self.after(ms / 2, Event::Newcomer { id });
                    }
                }
            }
        }
        let next = self.draw(300, 5_000);
        self.after(next, Event::Fault);
    }

    /// Now and then whoever asks has not heard of the newest one.
    pub fn known(&self, count: usize) -> usize {
        match self.is_busy() && self.chance.chance(15) {
            true => count.saturating_sub(2),
            false => count - 1,
        }
    }
}

pub fn name(id: usize) -> String {
    format!("tx{id}")
}
