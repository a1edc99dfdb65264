//! The controller as a pure state machine: what the metadata is, and how each command changes it.
//!
//! Owns: the records in memory with what is derived from them, the decisions ([`nodes`], [`catalog`], [`configs`],
//! [`streams`], [`balance`], [`journals`], [`objects`], [`tasks`], [`cleaning`]), and the controller's timers. Does not own: I/O, durability, who may see what
//! when (the driver in `service`).
//!
//! A command is a function of a [`Tx`], which reads the state and collects changes; it never changes the state itself.
//! Everything durable is a record; [`State::put`] is the only way in, for new changes, for a start from the store and for
//! undoing alike, so a state rebuilt from the store equals the one that was lost.

pub mod balance;
pub mod catalog;
pub mod cleaning;
mod cleaning_settings;
pub mod configs;
mod index;
pub mod journals;
pub mod nodes;
pub mod objects;
mod runs;
pub mod streams;
pub mod tasks;
mod timers;
mod tx;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tailwater_format::metadata::{Key, Record};
use tailwater_rpc::controller::StreamProgress;
use tailwater_types::{MetadataVersion, Offset, StreamId};

pub use index::Index;
pub use timers::{Timers, Touch};
pub use tx::{Effect, Limits, MAX_BYTES, MAX_KEYS, Step, Tx};
pub use view::View;

/// What one atomic step changes: each record's new content, `None` where it is removed.
pub type Changes = BTreeMap<Key, Option<Record>>;

/// All metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    records: BTreeMap<Key, Record>,
    /// Follows from the records alone, whatever the order in which they were put.
    index: Index,
}

impl State {
    /// The state that these records make.
    pub fn of(records: impl IntoIterator<Item = (Key, Record)>) -> Self {
        let mut state = Self::default();
        for (key, record) in records {
            state.put(key, Some(record));
        }
        state
    }

    /// Replaces or removes one record.
    pub fn put(&mut self, key: Key, record: Option<Record>) {
        let before = match record.clone() {
            Some(record) => self.records.insert(key, record),
            None => self.records.remove(&key),
        };
        self.index.follow(&self.records, key, before.as_ref(), record.as_ref());
    }

    /// Carries out one step's changes.
    pub fn put_all(&mut self, changes: &Changes) {
        for (key, record) in changes {
            self.put(*key, record.clone());
        }
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// All records with keys from `first` to `last`, both included.
    pub fn range(&self, first: Key, last: Key) -> impl Iterator<Item = (&Key, &Record)> {
        self.records.range(first..=last)
    }

    pub fn version(&self) -> MetadataVersion {
        self.counters().version
    }

    /// What is in objects of a stream; `None` without such a stream.
    pub fn progress(&self, stream: StreamId) -> Option<StreamProgress> {
        let start = self.row(stream)?.start;
        let uploaded = self.uploaded(stream);
        Some(StreamProgress {
            stream,
            start,
            uploaded,
            cleaned: cleaning::cleaned_to(self, stream),
        })
    }

    /// The end of the contiguous uploaded prefix of a stream, counted from its first offset ever. Where the stream starts
    /// says nothing about it: what is deleted before it is uploaded is uploaded all the same, so that the snapshot that is
    /// exact at this end stays the one that an opening goes on from.
    pub fn uploaded(&self, stream: StreamId) -> Offset {
        let slices = self.index.stream(stream);
        slices.map_or(Offset::ZERO, |slices| slices.runs().end_of(Offset::ZERO))
    }
}

impl View for State {
    fn record(&self, key: Key) -> Option<&Record> {
        self.records.get(&key)
    }
}
