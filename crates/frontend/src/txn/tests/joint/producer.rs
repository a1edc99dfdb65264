//! Producers as clients are: one request of a kind at a time, repeated until it is answered, given up after a while.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::BatchHeader;
use tailwater_types::{LeaderEpoch, Offset};

use super::coordinator::Asker;
use super::judge::Told;
use super::partition::{Place, Sent};
use super::world::{Event, OFFSETS, PARTITIONS, World};
use crate::txn::coordinator::is_passing;
use crate::txn::effects::*;
use crate::txn::state::*;
use crate::txn::tests::harness::at;

/// Batches of one partition that aren't acknowledged, at most.
const WINDOW: usize = 3;

pub struct Client {
    pub id: usize,
    version: i16,
    who: ProducerRef,
    sequences: [i32; PARTITIONS],
    stage: Stage,
    /// The request whose answer counts.
    asked: u64,
    transaction: u32,
    batches: Vec<Batch>,
    wants_commit: bool,
    pub paused_until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Init { expected: Option<ProducerRef> },
    Idle,
    Adding,
    Producing,
    Ending { is_commit: bool },
    Dead,
}

#[derive(Clone, Debug)]
struct Batch {
    partition: usize,
    sequence: i32,
    count: i32,
    /// The last time it was sent; 0: it wasn't.
    number: u64,
    is_acked: bool,
}

impl Client {
    /// Whether it still waits for acknowledgements of this transaction.
    pub fn is_sending(&self, transaction: u32) -> bool {
        self.transaction == transaction && self.stage == Stage::Producing
    }

    pub fn waits_for(&self, number: u64) -> bool {
        self.asked == number
    }
}

impl World {
    pub fn at_client(&mut self, event: Event) {
        let client = match event {
            Event::Newcomer { id } => return self.newcomer(id),
            Event::Answer { client, .. }
            | Event::Produced { client, .. }
            | Event::Act { client, .. }
            | Event::SendBatch { client, .. }
            | Event::GiveUp { client, .. } => client,
            other => unreachable!("not a client's: {other:?}"),
        };
        let until = self.clients[client].paused_until;
        if self.now_ms < until {
            return self.after(until - self.now_ms, event);
        }
        match event {
            Event::Answer { number, reply, .. } if self.clients[client].asked == number => self.answered(client, reply),
            Event::Act { number, .. } if self.clients[client].asked == number => self.act(client),
            Event::Produced { number, error, .. } => self.batch_answered(client, number, error),
            Event::SendBatch { number, .. } => {
                if let Some(batch) = self.batch_of(client, number) {
                    self.send_batch(client, batch);
                }
            }
            Event::GiveUp { transaction, .. } if self.clients[client].is_sending(transaction) => {
                self.end(client, false)
            }
            _ => {}
        }
    }

    fn newcomer(&mut self, id: usize) {
        let version = self.options.versions[usize::from(self.chance.chance(2))];
        self.clients.push(Client {
            id,
            version,
            who: ProducerRef { id: -1, epoch: -1 },
            sequences: [0; PARTITIONS],
            stage: Stage::Init { expected: None },
            asked: 0,
            transaction: 0,
            batches: Vec::new(),
            wants_commit: true,
            paused_until: 0,
        });
        self.act(self.clients.len() - 1);
    }

    fn stage(&mut self, client: usize, stage: Stage, after: u64) {
        let number = self.number();
        let client_state = &mut self.clients[client];
        (client_state.stage, client_state.asked) = (stage, number);
        match stage {
            // The last one that is fenced is replaced at some time.
            Stage::Dead => {
                let id = client_state.id;
                self.report.deaths += 1;
                let mut of_id = self.clients.iter().filter(|client| client.id == id);
                if self.is_busy() && of_id.all(|client| client.stage == Stage::Dead) {
                    let wait = self.draw(100, 5_000);
                    self.after(wait, Event::Newcomer { id });
                }
            }
            _ => self.after(after, Event::Act { client, number }),
        }
    }

    /// Asks what is to be asked now, and once more if no answer comes.
    fn act(&mut self, client: usize) {
        let number = self.number();
        let new_id = Some(1_000 + number as i64);
        self.clients[client].asked = number;
        let Client {
            id,
            version,
            who,
            stage,
            ..
        } = self.clients[client];
        let request = match stage {
            Stage::Init { expected } => Request::Init {
                timeout_ms: self.draw(5_000, 60_000) as i32,
                expected,
                new_id,
            },
            Stage::Idle => return self.begin(client),
            Stage::Adding => Request::Add {
                producer: who,
                partitions: self.clients[client]
                    .batches
                    .iter()
                    .map(|batch| at(batch.partition as i32))
                    .collect(),
                client_version: version,
            },
            Stage::Ending { is_commit } => Request::End {
                producer: who,
                is_commit,
                with_new_epoch: version >= 2,
                new_id,
            },
            Stage::Producing | Stage::Dead => return,
        };
        let (term, asker) = (self.known(self.coordinators.len()), Asker::Client { client, number });
        self.send(Event::Ask {
            term,
            id,
            asker,
            request,
        });
        let again = self.draw(2_000, 10_000);
        self.after(again, Event::Act { client, number });
    }

    fn answered(&mut self, client: usize, reply: Reply) {
        let Client {
            version, who, stage, ..
        } = self.clients[client];
        let transaction = self.clients[client].transaction;
        match (stage, reply) {
            (_, Reply::Producer(Err(error)) | Reply::Added(error)) if is_passing(error) => {
                let wait = self.draw(20, 100);
                self.stage(client, stage, wait);
            }
            (Stage::Init { .. }, Reply::Producer(Ok(who))) => {
                self.clients[client].who = who;
                self.clients[client].sequences = [0; PARTITIONS];
                self.stage(client, Stage::Idle, 1);
            }
            (Stage::Adding, Reply::Added(ErrorCode::None)) => self.produce_all(client),
            (Stage::Ending { is_commit }, Reply::Producer(Ok(next))) => {
                self.told.get_mut(&transaction).expect("it was begun").told = Some(is_commit);
                self.clients[client].who = next;
                if version >= 2 {
                    self.clients[client].sequences = [0; PARTITIONS];
                }
                let is_unsure = self.clients[client].batches.iter().any(|batch| !batch.is_acked);
                let think = self.draw(0, 1_500);
                match version < 2 && is_unsure {
                    // Nobody knows its sequences: it needs a new epoch (KIP-360).
                    true => self.stage(client, Stage::Init { expected: Some(who) }, 1),
                    false => self.stage(client, Stage::Idle, think),
                }
            }
            _ => self.stage(client, Stage::Dead, 0),
        }
    }

    fn begin(&mut self, client: usize) {
        if !self.is_busy() {
            return;
        }
        let transaction = self.told.len() as u32 + 1;
        let mut batches = Vec::new();
        for partition in 0..PARTITIONS {
            let count = match partition {
                OFFSETS => self.draw(0, 2),
                _ => self.draw(0, 8).saturating_sub(2),
            };
            for _ in 0..count {
                let records = self.draw(1, 4) as i32;
                let sequence = &mut self.clients[client].sequences[partition];
                batches.push(Batch {
                    partition,
                    sequence: if partition == OFFSETS {
                        BatchHeader::NO_SEQUENCE
                    } else {
                        *sequence
                    },
                    count: records,
                    number: 0,
                    is_acked: false,
                });
                *sequence += records;
            }
        }
        if batches.is_empty() {
            return self.stage(client, Stage::Idle, 10);
        }
        let told = Told {
            batches: batches.iter().map(|batch| batch.partition).collect(),
            version: self.clients[client].version,
            is_commit_asked: false,
            told: None,
        };
        self.told.insert(transaction, told);
        let wants_commit = !self.chance.chance(4);
        let patience = self.draw(500, 15_000);
        let state = &mut self.clients[client];
        (state.transaction, state.batches, state.wants_commit) = (transaction, batches, wants_commit);
        match state.version {
            ..2 => self.stage(client, Stage::Adding, 0),
            _ => self.produce_all(client),
        }
        self.after(patience, Event::GiveUp { client, transaction });
    }

    fn produce_all(&mut self, client: usize) {
        self.clients[client].stage = Stage::Producing;
        self.clients[client].asked = self.number();
        self.fill_windows(client);
    }

    fn fill_windows(&mut self, client: usize) {
        for partition in 0..PARTITIONS {
            let batches = self.clients[client].batches.iter().enumerate();
            let open = batches.filter(|(_, batch)| batch.partition == partition && !batch.is_acked);
            let unsent: Vec<usize> = open
                .take(WINDOW)
                .filter(|(_, batch)| batch.number == 0)
                .map(|(at, _)| at)
                .collect();
            unsent.into_iter().for_each(|batch| self.send_batch(client, batch));
        }
    }

    /// The batch that was sent last under this number, and isn't acknowledged.
    fn batch_of(&self, client: usize, number: u64) -> Option<usize> {
        let client = &self.clients[client];
        let found = client
            .batches
            .iter()
            .position(|batch| batch.number == number && !batch.is_acked);
        found.filter(|_| client.stage == Stage::Producing)
    }

    fn send_batch(&mut self, client: usize, batch: usize) {
        let number = self.number();
        let Client {
            id,
            version,
            who,
            transaction,
            ..
        } = self.clients[client];
        let sent = &mut self.clients[client].batches[batch];
        sent.number = number;
        let Batch {
            partition,
            sequence,
            count,
            ..
        } = *sent;
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            length: 49,
            leader_epoch: LeaderEpoch(0),
            crc: 0,
            attributes: 0x10,
            last_offset_delta: count - 1,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id: who.id,
            producer_epoch: who.epoch,
            base_sequence: sequence,
            count,
        };
        let place = Place {
            partition,
            epoch: self.known(self.leaders[partition].len()),
        };
        let sent = Sent {
            header,
            tag: (transaction, batch as u32),
            id,
            adds: version >= 2,
            client,
            number,
        };
        self.send(Event::Produce { place, sent });
        let again = self.draw(500, 6_000);
        self.after(again, Event::SendBatch { client, number });
    }

    fn batch_answered(&mut self, client: usize, number: u64, error: ErrorCode) {
        let Some(batch) = self.batch_of(client, number) else {
            return;
        };
        match error {
            ErrorCode::None => {
                self.clients[client].batches[batch].is_acked = true;
                match self.clients[client].batches.iter().all(|batch| batch.is_acked) {
                    true => self.end(client, self.clients[client].wants_commit),
                    false => self.fill_windows(client),
                }
            }
            ErrorCode::NotLeaderOrFollower | ErrorCode::NotEnoughReplicas | ErrorCode::OutOfOrderSequenceNumber => {
                let wait = self.draw(20, 300);
                self.after(wait, Event::SendBatch { client, number });
            }
            ErrorCode::InvalidTxnState | ErrorCode::TransactionAbortable => self.end(client, false),
            _ => self.stage(client, Stage::Dead, 0),
        }
    }

    fn end(&mut self, client: usize, is_commit: bool) {
        let transaction = self.clients[client].transaction;
        let told = self.told.get_mut(&transaction).expect("it was begun");
        told.is_commit_asked |= is_commit;
        self.stage(client, Stage::Ending { is_commit }, 0);
    }
}
