//! The writer: takes what is queued, writes and flushes it once for everybody, says so.
//!
//! [`Driver::run_once`] is one such group; a thread of its own repeats it, and a simulation can call it instead. After a
//! failed write or flush nothing is tried again and nothing is answered as durable (docs/design.md invariant 9).

use std::sync::Arc;
use std::time::Duration;

use tailwater_format::device::RecordKind;
use tailwater_rpc::Error;
use tailwater_runtime::{Clock, DeviceError, Tasks, tasks::EXIT_FATAL};
use tailwater_types::Outcome;

use super::shared::Shared;
use crate::core::{Queued, Work};
use crate::device::{LogWriter, Superblocks};

/// So long without work, the superblock is told how far the log is flushed.
const IDLE_AFTER: Duration = Duration::from_millis(500);

pub(crate) struct Driver {
    shared: Arc<Shared>,
    writer: LogWriter,
    superblocks: Superblocks,
    clock: Clock,
    /// The most that one group takes.
    group_bytes: u64,
}

enum Step {
    Work,
    Idle,
    Stop,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        writer: LogWriter,
        superblocks: Superblocks,
        clock: Clock,
        group_bytes: u64,
    ) -> Self {
        Self {
            shared,
            writer,
            superblocks,
            clock,
            group_bytes,
        }
    }

    /// Runs until told to stop, or until the device fails: then the process is asked to end.
    pub(crate) fn run(mut self, tasks: &Tasks) {
        if let Err(error) = self.run_to_end() {
            tracing::error!(%error, "the journal device failed: nothing more is acknowledged, this node stops");
            self.shared.fail(&Error::Unavailable {
                detail: error.to_string(),
                outcome: Outcome::Unknown,
            });
            tasks.fail("device", &error.to_string(), EXIT_FATAL);
        }
    }

    fn run_to_end(&mut self) -> Result<(), DeviceError> {
        let mut settled = false;
        self.writer.zero_ahead()?;
        loop {
            match self.wait(settled) {
                Step::Work => {
                    self.run_once()?;
                    settled = false;
                }
                Step::Idle => {
                    self.settle(false)?;
                    settled = true;
                }
                Step::Stop => {
                    self.settle(true)?;
                    self.shared.fail(&Error::Shutdown);
                    return Ok(());
                }
            }
        }
    }

    fn wait(&self, settled: bool) -> Step {
        let mut core = self.shared.core.lock();
        loop {
            if core.has_work() {
                return Step::Work;
            }
            if core.has_ended() {
                return Step::Stop;
            }
            if settled {
                self.shared.work.wait(&mut core);
            } else if self.shared.work.wait_for(&mut core, IDLE_AFTER).timed_out() && !core.has_work() {
                return Step::Idle;
            }
        }
    }

    /// Writes, flushes and completes one group, then moves the trim position if it can. False if there was nothing to do.
    pub(crate) fn run_once(&mut self) -> Result<bool, DeviceError> {
        let group = self.shared.core.lock().take_group(self.group_bytes);
        let has_group = !group.is_empty();
        if has_group {
            self.write(group)?;
        }
        let trim = self.shared.core.lock().next_trim();
        if let Some(trim) = trim {
            self.store_trim(trim)?;
        }
        self.writer.zero_ahead()?;
        self.shared.meters.show(&self.shared.core.lock());
        Ok(has_group || trim.is_some())
    }

    fn write(&mut self, group: Vec<Queued>) -> Result<(), DeviceError> {
        let begun = self.clock.now();
        let mut done = Vec::with_capacity(group.len());
        let (mut entries, mut bytes) = (0, 0);
        for queued in group {
            let placed = match &queued.work {
                Work::Entry { entry, .. } => {
                    entries += 1;
                    bytes += entry.encoded_bytes() as u64;
                    self.writer.append(RecordKind::Entry, entry.chunks())?
                }
                Work::Record(record) => self.writer.append(RecordKind::Journal, &[record.encode()])?,
            };
            done.push((queued, placed));
        }
        self.writer.flush()?;
        let now = self.clock.now();
        let records = done.len();
        let completed = self.shared.core.lock().complete(done, self.writer.head(), now);
        self.shared
            .progress
            .send_modify(|progress| progress.completed = completed);
        let meters = &self.shared.meters;
        meters.entries.inc_by(entries);
        meters.appended_bytes.inc_by(bytes);
        meters.group_records.observe(records as f64);
        meters
            .flush_seconds
            .observe(now.saturating_duration_since(begun).as_secs_f64());
        Ok(())
    }

    /// Space below `trim` is free once a flushed superblock says so.
    fn store_trim(&mut self, trim: u64) -> Result<(), DeviceError> {
        let flushed = self.writer.head();
        // With the trim position goes what the log says of gone journals.
        let gone_end = self.shared.core.lock().gone_end();
        self.superblocks.store(|superblock| {
            (superblock.trim, superblock.flushed, superblock.gone_end) = (trim, flushed, gone_end);
        })?;
        self.writer.set_trim(trim);
        self.shared.core.lock().trimmed(trim);
        Ok(())
    }

    /// Lets the superblock say how far the log is flushed: from then on damage below is told from a torn end.
    pub(crate) fn settle(&mut self, clean: bool) -> Result<(), DeviceError> {
        let flushed = self.writer.head();
        let current = self.superblocks.current();
        if current.flushed != flushed || current.clean != clean {
            self.superblocks
                .store(|superblock| (superblock.flushed, superblock.clean) = (flushed, clean))?;
        }
        Ok(())
    }
}
