//! Proof from the WAL that a leadership went on at some time after it was asked for.
//!
//! Owns: what is written for it, a snapshot slice, which takes no offset. It proves that much because a journal that is sealed
//! acknowledges nothing that comes after the seal, and nobody opens a partition elsewhere before the journals of a leader that was lost
//! are sealed (docs/design.md section 3, "Seal and failover"). Does not own: when it is asked for (`coordinator/standing.rs`).

use std::sync::Arc;
use std::time::Duration;

use tailwater_runtime::clock::Instant;

use super::Partition;

/// How often it is looked whether it is durable.
const LOOK: Duration = Duration::from_millis(1);

impl Partition {
    /// Whether the journal has taken something that was sent after this call, before `deadline`. False, too, of one that
    /// is being given away. Cancellation-safe.
    pub(crate) async fn is_confirmed(self: &Arc<Self>, deadline: Instant) -> bool {
        let end = loop {
            let length = self.state.lock().log.max_snapshot_bytes();
            let Ok(credit) = self.journal.reserve(length, deadline).await else {
                return false;
            };
            let mut state = self.state.lock();
            // What is being given away has an end that the controller may have been told already.
            if self.has_ended() || self.is_closing() {
                return false;
            }
            // It may have grown while this was waiting for credit.
            if state.log.max_snapshot_bytes() <= length {
                self.append_snapshot(&mut state, credit);
                break self.journal.end();
            }
        };
        let clock = &self.services.clock;
        loop {
            match self.journal.durable() {
                Some(durable) if durable >= end => return !self.has_ended(),
                Some(_) if clock.now() < deadline && !self.has_ended() => clock.sleep(LOOK).await,
                _ => return false,
            }
        }
    }
}
