//! Whether the WAL has room for what is appended, told in two lines to those who look after it.
//!
//! Owns: when a lack of room is worth a line, and when it is over. Does not own: the credit, nor who waits for it (`mod`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tailwater_runtime::clock::Instant;

/// An append that waits for longer shows that the WAL has no room; under load some wait for shorter.
pub(super) const LONG_WAIT: Duration = Duration::from_secs(1);
/// From one line about a lack of room to the next.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// What has been told; one for all journals of a node, as they follow one another.
#[derive(Default)]
pub(super) struct Room {
    /// Whether the last line says that there is none.
    is_told: AtomicBool,
    next_line_at: Mutex<Option<Instant>>,
}

impl Room {
    /// An append has been waiting for [`LONG_WAIT`], or as long again. Answers whether that was told.
    pub fn is_lacking(&self, now: Instant, waiting: i64) -> bool {
        let mut next_line_at = self.next_line_at.lock();
        if self.is_told.load(Ordering::Relaxed) || next_line_at.is_some_and(|at| now < at) {
            return false;
        }
        *next_line_at = Some(now + LINE_INTERVAL);
        self.is_told.store(true, Ordering::Relaxed);
        tracing::warn!(
            waiting,
            "the WAL has no room: appends wait; is the object store reachable?"
        );
        true
    }

    /// An append has found room without a long wait, or was the last to wait. Answers whether that was told.
    pub fn is_there(&self) -> bool {
        // Almost always there was no lack: then no cache line is written.
        let was_told = self.is_told.load(Ordering::Relaxed) && self.is_told.swap(false, Ordering::Relaxed);
        if was_told {
            tracing::info!("the WAL has room again");
        }
        was_told
    }
}

#[cfg(test)]
mod tests {
    use tailwater_runtime::Clock;

    use super::*;

    /// However many appends wait, and however often that begins anew: one line, one when it is over, and none again for a
    /// while.
    #[tokio::test(start_paused = true)]
    async fn a_lack_of_room_is_told_once() {
        let clock = Clock::manual(0);
        let room = Room::default();
        assert!(!room.is_there());
        assert!(room.is_lacking(clock.now(), 1) && !room.is_lacking(clock.now(), 2));
        clock.sleep(LINE_INTERVAL).await;
        assert!(!room.is_lacking(clock.now(), 2), "it goes on");
        assert!(room.is_there() && !room.is_there());
        assert!(room.is_lacking(clock.now(), 1) && room.is_there());
        assert!(!room.is_lacking(clock.now(), 1), "too soon");
        assert!(!room.is_there());
    }
}
