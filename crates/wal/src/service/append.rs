//! The sending half of an append stream: admission under the core's lock, then a wake of the writer.

use std::sync::Arc;

use tailwater_format::entry::Entry;
use tailwater_rpc::Result;
use tailwater_rpc::wal::AppendSender;
use tailwater_types::{JournalId, Lsn};

use super::shared::Shared;

/// Detaches when dropped.
pub(super) struct Sender {
    shared: Arc<Shared>,
    journal: JournalId,
    attachment: u64,
    max_entry_bytes: usize,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, journal: JournalId, attachment: u64, max_entry_bytes: usize) -> Self {
        Self {
            shared,
            journal,
            attachment,
            max_entry_bytes,
        }
    }
}

impl AppendSender for Sender {
    fn send(&self, entry: Entry, commit: Lsn) -> Result<()> {
        let is_new = self
            .shared
            .core
            .lock()
            .append(self.journal, self.attachment, entry, commit)?;
        if is_new {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    fn max_entry_bytes(&self) -> usize {
        self.max_entry_bytes
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.core.lock().detach(self.journal, self.attachment);
    }
}
