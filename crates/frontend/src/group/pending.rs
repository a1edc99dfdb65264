//! What transactions commit of a group's offsets, until their markers say what becomes of it (KIP-98).
//!
//! Owns: what is pending of which producer, and what a marker brings to light: a record that stands behind it in the log
//! wins, also where its transaction ends later. Records and markers come here in the order of the log, so that a replay
//! finds the same. Does not own: what is committed (`offsets.rs`).

use std::collections::BTreeMap;

use super::effects::{CommittedOffset, TopicPartition};

/// The pending offsets of one group.
#[derive(Debug, Default)]
pub struct PendingOffsets {
    by_producer: BTreeMap<i64, BTreeMap<TopicPartition, Pending>>,
    /// Records that have come: stands for their place in the log.
    records: u64,
}

#[derive(Debug)]
struct Pending {
    value: CommittedOffset,
    record: u64,
    /// What is committed now stands behind it in the log.
    is_outdated: bool,
}

impl PendingOffsets {
    pub fn is_empty(&self) -> bool {
        self.by_producer.is_empty()
    }

    /// Whether any transaction has an offset of the partition.
    pub fn has(&self, at: &TopicPartition) -> bool {
        self.by_producer.values().any(|offsets| offsets.contains_key(at))
    }

    /// The partitions of all transactions, of some more than once.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.by_producer.values().flat_map(BTreeMap::keys)
    }

    /// A transaction's record: the last one of a partition counts.
    pub fn insert(&mut self, producer_id: i64, at: TopicPartition, value: CommittedOffset) {
        self.records += 1;
        let pending = Pending {
            value,
            record: self.records,
            is_outdated: false,
        };
        self.by_producer.entry(producer_id).or_default().insert(at, pending);
    }

    /// A record outside of transactions: those that have come before it count no more, whenever they end.
    pub fn outdate(&mut self, at: &TopicPartition) {
        self.outdate_before(at, u64::MAX);
    }

    fn outdate_before(&mut self, at: &TopicPartition, record: u64) {
        let pending = self.by_producer.values_mut().filter_map(|offsets| offsets.get_mut(at));
        pending
            .filter(|pending| pending.record < record)
            .for_each(|pending| pending.is_outdated = true);
    }

    /// A deletion: nothing that has come before it comes to light.
    pub fn forget(&mut self, at: &TopicPartition) {
        self.by_producer.retain(|_, offsets| {
            offsets.remove(at);
            !offsets.is_empty()
        });
    }

    /// A producer's marker: what is committed by it.
    pub fn end(&mut self, producer_id: i64, is_commit: bool) -> Vec<(TopicPartition, CommittedOffset)> {
        let ended = self.by_producer.remove(&producer_id).unwrap_or_default();
        let mut committed = Vec::new();
        for (at, pending) in ended {
            if is_commit && !pending.is_outdated {
                self.outdate_before(&at, pending.record);
                committed.push((at, pending.value));
            }
        }
        committed
    }
}
