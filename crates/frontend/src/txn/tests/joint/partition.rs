//! Leaders of partitions, one an epoch: as `Partition` does it, in the same order, without bytes.

use std::collections::BTreeMap;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::{BatchHeader, Marker};
use tailwater_log::{Decision, Guard, PartitionState, TransactionMarker, UncommittedEnds, Verification, Verifications};
use tailwater_types::{LeaderEpoch, Offset};

use super::coordinator::Asker;
use super::world::{Event, OFFSETS, PARTITIONS, World};
use crate::error_codes;
use crate::partition::AppendError;
use crate::txn::coordinator::is_passing;
use crate::txn::effects::*;
use crate::txn::state::*;
use crate::txn::tests::harness::at;

/// How long a leader asks a coordinator.
const ASKED_AT_MOST_MS: u64 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub partition: usize,
    pub epoch: usize,
}

pub struct Leader {
    pub state: PartitionState,
    verifications: Verifications,
    pub log: Vec<Entry>,
    pub committed: Offset,
    pub stable: Offset,
    ends: UncommittedEnds,
    waiting: Vec<(Offset, Promise)>,
    questions: BTreeMap<u64, Question>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub header: BatchHeader,
    pub marker: Option<Marker>,
    /// Whose transaction it is of, and which of its batches.
    pub tag: (u32, u32),
}

/// A batch on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    pub header: BatchHeader,
    pub tag: (u32, u32),
    pub id: usize,
    /// Whether it adds its partition to the transaction (version 2).
    pub adds: bool,
    pub client: usize,
    pub number: u64,
}

#[derive(Clone, Debug)]
pub struct Question {
    sent: Sent,
    guard: Guard,
    until_ms: u64,
}

#[derive(Clone, Debug)]
pub enum Work {
    Batch {
        sent: Sent,
        guard: Option<Guard>,
    },
    Marker {
        id: usize,
        sent: TransactionMarker,
        term: usize,
        round: u64,
    },
}

/// Who hears of a commit.
#[derive(Clone, Copy, Debug)]
enum Promise {
    Batch { client: usize, number: u64 },
    Marker { term: usize, round: u64 },
}

impl Leader {
    pub fn first() -> Self {
        Self::of(Vec::new(), usize::MAX)
    }

    /// What a leader finds; its state passes through a snapshot once.
    fn of(log: Vec<Entry>, snapshot_at: usize) -> Self {
        let mut state = PartitionState::empty(Offset::ZERO);
        for (number, entry) in log.iter().enumerate() {
            if number == snapshot_at {
                let snapshot = state.encode_snapshot();
                state = PartitionState::decode_snapshot(&snapshot).unwrap();
            }
            let Entry { header, marker, .. } = entry;
            match *marker {
                Some(marker) => _ = state.apply_marker(header, marker, header.base_offset, header.leader_epoch, 0),
                None => state.apply(header, header.base_offset, header.leader_epoch, 0),
            }
        }
        Self {
            committed: state.end(),
            stable: state.last_stable_offset(),
            state,
            verifications: Verifications::default(),
            log,
            ends: UncommittedEnds::default(),
            waiting: Vec::new(),
            questions: BTreeMap::new(),
        }
    }
}

impl World {
    fn leader(&mut self, place: Place) -> &mut Leader {
        &mut self.leaders[place.partition][place.epoch]
    }

    fn is_deposed_leader(&self, place: Place) -> bool {
        place.epoch + 1 < self.leaders[place.partition].len()
    }

    /// Another node leads: of what was on its way some is there.
    pub fn lead(&mut self, partition: usize) {
        let old = self.leaders[partition].last().expect("there is one");
        let committed = old
            .log
            .iter()
            .filter(|entry| entry.header.base_offset < old.committed)
            .count();
        let kept = self.draw(committed as u64, old.log.len() as u64 + 1) as usize;
        let snapshot_at = self.draw(0, kept as u64 + 1) as usize;
        self.report.lost_batches += (old.log.len() - kept) as u64;
        let next = Leader::of(old.log[..kept].to_vec(), snapshot_at);
        self.leaders[partition].push(next);
        self.report.failovers += 1;
        self.look(partition);
    }

    /// What isn't to be drawn: Kafka's own weaknesses in transactions of version 1.
    fn is_too_late(&self, work: &Work) -> bool {
        match work {
            // Ends whatever is open under the same epoch.
            Work::Marker { id, sent, .. }
                if sent.transaction_version < 2 && !self.options.late_markers_of_version_1 =>
            {
                self.committed_state(*id).is_none_or(|state| {
                    let is_commit = state.phase == Phase::PrepareCommit;
                    let said = sent.marker.end == tailwater_kafka::batch::TransactionEnd::Commit;
                    let who = (state.producer_id, state.epoch);
                    !state.phase.is_ending() || who != (sent.producer_id, sent.producer_epoch) || said != is_commit
                })
            }
            // Without a sequence nothing tells it from the next transaction's.
            Work::Batch { sent, .. } if !sent.adds && sent.header.base_sequence < 0 => {
                !self.clients[sent.client].is_sending(sent.tag.0)
            }
            _ => false,
        }
    }

    pub fn produce(&mut self, place: Place, sent: Sent) {
        if self.options.without_guards && !sent.adds {
            return self.credit(place, Work::Batch { sent, guard: None });
        }
        if self.is_deposed_leader(place) && self.chance.chance(2) {
            return self.produced(&sent, ErrorCode::NotLeaderOrFollower);
        }
        let until_ms = self.now_ms + ASKED_AT_MOST_MS;
        self.verify(place, sent, None, until_ms);
    }

    /// Asks the coordinator, unless the transaction is open, or it has said yes and the guard is still the same.
    fn verify(&mut self, place: Place, sent: Sent, confirmed: Option<Guard>, until_ms: u64) {
        let leader = self.leader(place);
        match leader.verifications.begin(&leader.state, &sent.header, sent.adds) {
            Verification::Ongoing => self.credit(place, Work::Batch { sent, guard: None }),
            Verification::Needed(guard) if confirmed == Some(guard) => {
                let guard = Some(guard);
                self.credit(place, Work::Batch { sent, guard });
            }
            Verification::Needed(guard) => {
                self.report.guards_lost += u64::from(confirmed.is_some());
                let question = Question { sent, guard, until_ms };
                self.question(place, question);
            }
        }
    }

    pub fn question(&mut self, place: Place, question: Question) {
        if self.now_ms >= question.until_ms {
            return self.produced(&question.sent, ErrorCode::NotEnoughReplicas);
        }
        let Sent { id, adds, header, .. } = question.sent;
        let producer = ProducerRef {
            id: header.producer_id,
            epoch: header.producer_epoch,
        };
        let partition = at(place.partition as i32);
        let request = match adds {
            true => Request::Add {
                producer,
                partitions: [partition].into(),
                client_version: EPOCH_PER_TRANSACTION,
            },
            false => Request::Verify {
                producer,
                partitions: vec![partition],
            },
        };
        let (number, term) = (self.number(), self.known(self.coordinators.len()));
        let left = question.until_ms - self.now_ms;
        self.leader(place).questions.insert(number, question);
        let question = number;
        self.after(left, Event::QuestionOver { place, question });
        let asker = Asker::Leader { place, question };
        self.send(Event::Ask {
            term,
            id,
            asker,
            request,
        });
    }

    pub fn verified(&mut self, place: Place, question: u64, error: ErrorCode) {
        let Some(question) = self.leader(place).questions.remove(&question) else {
            return;
        };
        match error {
            ErrorCode::None => self.verify(place, question.sent, Some(question.guard), question.until_ms),
            error if is_passing(error) => self.after(20, Event::AskAgain { place, question }),
            ErrorCode::RequestTimedOut => self.produced(&question.sent, ErrorCode::NotEnoughReplicas),
            ErrorCode::ProducerFenced => self.produced(&question.sent, ErrorCode::InvalidProducerEpoch),
            error => self.produced(&question.sent, error),
        }
    }

    pub fn credit(&mut self, place: Place, work: Work) {
        let wait = self.work();
        self.after(wait, Event::Credit { place, work });
    }

    /// From here on as under the partition's lock.
    pub fn append(&mut self, place: Place, work: Work) {
        if self.is_too_late(&work) {
            return;
        }
        match work {
            Work::Batch { sent, guard } => {
                if let Err(error) = self.append_batch(place, &sent, guard) {
                    let code = error_codes::of_append(&error);
                    let is_offsets = place.partition == OFFSETS && guard.is_some();
                    self.report.refused += 1;
                    // As the wire says it: a marker has taken the guard.
                    match code {
                        ErrorCode::InvalidTxnState if is_offsets => self.produced(&sent, ErrorCode::NotEnoughReplicas),
                        code => self.produced(&sent, code),
                    }
                }
            }
            Work::Marker { sent, term, round, .. } => {
                if let Err(error) = self.append_marker(place, sent, term, round) {
                    self.report.markers_refused += 1;
                    self.send(Event::MarkerAnswer {
                        term,
                        round,
                        partition: place.partition,
                        error: error_codes::of_append(&error),
                    });
                }
            }
        }
    }

    fn append_batch(&mut self, place: Place, sent: &Sent, guard: Option<Guard>) -> Result<(), AppendError> {
        let epoch = LeaderEpoch(place.epoch as i32);
        let promise = Promise::Batch {
            client: sent.client,
            number: sent.number,
        };
        let is_unguarded = self.options.without_guards;
        let leader = self.leader(place);
        match leader.state.check(&sent.header) {
            Decision::Append => {}
            Decision::Refuse(refusal) => return Err(refusal.into()),
            Decision::Duplicate { base_offset, .. } => {
                let end = base_offset.advance(i64::from(sent.header.last_offset_delta) + 1);
                let is_committed = end <= leader.committed;
                if !is_committed {
                    leader.waiting.push((end, promise));
                }
                self.report.duplicates += 1;
                if is_committed {
                    self.keep(place, promise);
                }
                return Ok(());
            }
        }
        let admitted = leader.verifications.admit(&leader.state, &sent.header, guard);
        if !is_unguarded {
            admitted?;
        }
        leader.verifications.forget(sent.header.producer_id);
        let header = BatchHeader {
            base_offset: leader.state.end(),
            leader_epoch: epoch,
            ..sent.header
        };
        leader.state.apply(&header, header.base_offset, epoch, 0);
        let entry = Entry {
            header,
            marker: None,
            tag: sent.tag,
        };
        self.store(place, entry, promise);
        Ok(())
    }

    fn append_marker(
        &mut self,
        place: Place,
        sent: TransactionMarker,
        term: usize,
        round: u64,
    ) -> Result<(), AppendError> {
        let epoch = LeaderEpoch(place.epoch as i32);
        let leader = self.leader(place);
        leader.state.check_marker(&sent)?;
        let built = sent.marker.build(sent.producer_id, sent.producer_epoch, 0);
        let header = BatchHeader {
            base_offset: leader.state.end(),
            leader_epoch: epoch,
            ..BatchHeader::read(&built).unwrap()
        };
        let ended = leader
            .state
            .apply_marker(&header, sent.marker, header.base_offset, epoch, 0);
        leader.verifications.forget(sent.producer_id);
        if let Some(ended) = ended {
            leader.ends.push(ended);
        }
        let entry = Entry {
            header,
            marker: Some(sent.marker),
            tag: (0, 0),
        };
        self.store(place, entry, Promise::Marker { term, round });
        Ok(())
    }

    fn store(&mut self, place: Place, entry: Entry, promise: Promise) {
        let leader = self.leader(place);
        let end = leader.state.end();
        leader.log.push(entry);
        leader.waiting.push((end, promise));
        let work = self.work();
        self.after(work, Event::Durable { place, end: end.0 });
    }

    pub fn durable(&mut self, place: Place, end: i64) {
        // Whose journal is sealed commits nothing more.
        if self.is_deposed_leader(place) {
            return;
        }
        let leader = self.leader(place);
        if Offset(end) <= leader.committed {
            return;
        }
        leader.committed = Offset(end);
        leader.ends.committed(leader.committed);
        let undecided = [leader.state.first_open(), leader.ends.first_start()];
        leader.stable = undecided.into_iter().flatten().fold(leader.committed, Offset::min);
        let waiting = std::mem::take(&mut leader.waiting).into_iter();
        let (kept, left): (Vec<_>, Vec<_>) = waiting.partition(|(wanted, _)| wanted.0 <= end);
        leader.waiting = left;
        for (_, promise) in kept {
            self.keep(place, promise);
        }
    }

    fn keep(&mut self, place: Place, promise: Promise) {
        let error = ErrorCode::None;
        match promise {
            Promise::Batch { client, number } => self.send(Event::Produced { client, number, error }),
            Promise::Marker { term, round } => self.send(Event::MarkerAnswer {
                term,
                round,
                partition: place.partition,
                error,
            }),
        }
    }

    fn produced(&mut self, sent: &Sent, error: ErrorCode) {
        let Sent { client, number, .. } = *sent;
        self.send(Event::Produced { client, number, error });
    }

    /// A reader of stable records never sees anything that isn't so later.
    pub fn look(&mut self, partition: usize) {
        let leader = self.leaders[partition].last().expect("there is one");
        let found = leader.read_committed(leader.stable);
        if !found.starts_with(&self.read[partition]) {
            self.broken = Some(format!(
                "partition {partition}: {:?} was read, and is {found:?} now",
                self.read[partition]
            ));
        }
        self.read[partition] = found;
    }
}

impl Leader {
    /// As a consumer reads it: it skips what the aborted transactions that it is told of say.
    pub fn read_committed(&self, end: Offset) -> Vec<(u32, u32)> {
        let aborted = self.state.aborted_within(Offset::ZERO..end);
        let is_aborted = |header: &BatchHeader| {
            aborted.iter().any(|aborted| {
                let range = aborted.first_offset..aborted.last_offset;
                aborted.producer_id == header.producer_id && range.contains(&header.base_offset)
            })
        };
        let stable = self
            .log
            .iter()
            .filter(|entry| entry.header.base_offset < end && entry.marker.is_none());
        stable
            .filter(|entry| !is_aborted(&entry.header))
            .map(|entry| entry.tag)
            .collect()
    }
}

const _: () = assert!(OFFSETS < PARTITIONS);
