//! Transactional ids as their owner drives them.
//!
//! Owns: records as bytes on both sides of the shard, markers as jobs, figures. Does not own: any decision (`shard.rs`).

use futures::FutureExt as _;
use tailwater_kafka::{CodecError, ErrorCode};
use tailwater_runtime::clock::Instant;

use super::effects::{Effects, Marked, Reply, Request, Write};
use super::markers::MarkerSender;
use super::metrics::TxnMetrics;
use super::record;
use super::running::RunningNow;
use super::shard::Shard;
use crate::coordinator::{KeyValue, Machine, Now, Turn, Waiter};

pub(crate) struct TxnMachine {
    shard: Shard,
    sender: MarkerSender,
    metrics: TxnMetrics,
    counted_ids: i64,
    /// Its name among the figures of what runs, and what it is there with.
    running: (u64, RunningNow),
}

impl TxnMachine {
    pub(super) fn new(shard: Shard, sender: MarkerSender, metrics: TxnMetrics) -> Self {
        let running = (metrics.running.begin(), RunningNow::default());
        Self {
            running,
            shard,
            sender,
            metrics,
            counted_ids: 0,
        }
    }

    fn turn(&mut self, effects: Effects) -> Turn<Self> {
        self.metrics.committed.inc_by(effects.committed);
        self.metrics.aborted.inc_by(effects.aborted);
        let ids = i64::try_from(self.shard.len()).unwrap_or(i64::MAX);
        self.metrics.ids.add(ids - self.counted_ids);
        self.counted_ids = ids;
        let running = self.shard.running();
        if running != self.running.1 {
            self.running.1 = running;
            self.metrics.running.set(self.running.0, running);
        }
        let repeats = effects.markers.iter().filter(|markers| markers.attempt > 0);
        self.metrics.marker_repeats.inc_by(repeats.count() as u64);
        let jobs = effects.markers.into_iter();
        Turn {
            replies: effects.replies,
            writes: effects.writes,
            jobs: jobs.map(|markers| self.sender.clone().send(markers).boxed()).collect(),
        }
    }
}

impl Machine for TxnMachine {
    type Request = Request;
    type Reply = Reply;
    type Write = Write;
    type Event = Marked;

    fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        _producer_id: Option<i64>,
        _now: Now,
    ) -> Result<(), CodecError> {
        if let Some((id, value)) = record::decode(key, value)? {
            self.shard.replay(id, value);
        }
        Ok(())
    }

    fn loaded(&mut self, now: Now) -> Turn<Self> {
        let effects = self.shard.loaded(now);
        self.turn(effects)
    }

    fn step(&mut self, id: &str, request: Request, waiter: Waiter, now: Now) -> Turn<Self> {
        let effects = self.shard.step(id, request, waiter, now);
        self.turn(effects)
    }

    fn written(&mut self, write: Write, result: Result<(), ErrorCode>, now: Now) -> Turn<Self> {
        let effects = self.shard.written(write, result, now);
        self.turn(effects)
    }

    fn happened(&mut self, marked: Marked, now: Now) -> Turn<Self> {
        let effects = self.shard.marked(marked, now);
        self.turn(effects)
    }

    fn next_wake(&self) -> Option<Instant> {
        self.shard.next_wake()
    }

    fn tick(&mut self, now: Now) -> Option<Turn<Self>> {
        let effects = self.shard.tick(now)?;
        Some(self.turn(effects))
    }

    fn encode(write: &Write) -> Result<Vec<KeyValue>, CodecError> {
        Ok(vec![record::encode(&write.id, write.value.as_deref())?])
    }

    fn refused(request: &Request, error: ErrorCode) -> Reply {
        request.refused(error)
    }
}

impl Drop for TxnMachine {
    fn drop(&mut self) {
        self.metrics.ids.sub(self.counted_ids);
        self.metrics.running.set(self.running.0, RunningNow::default());
    }
}
