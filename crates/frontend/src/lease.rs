//! How long this node is sure by itself that nobody has taken its place.
//!
//! Owns: the arithmetic. Does not own: calls to the controller (`session`), what follows where it isn't sure
//! (`coordinator/standing.rs`). The controller fences a silent node when its lease has run since it heard it last, on its own clock,
//! and it hears a call no sooner than that was sent: so the lease is counted from the sending here, and a part of it is left
//! out, since two clocks don't run equally fast (docs/adr/0011).

use std::time::Duration;

use tailwater_runtime::clock::Instant;

/// The part of a lease that isn't counted on: clocks that are being set right may run several percent off.
const MARGIN: u32 = 10;

/// What the last answer of the controller gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// When the call was sent whose answer this is.
    sent: Instant,
    /// `None`: a silent node isn't fenced, or the controller doesn't tell.
    length: Option<Duration>,
}

impl Lease {
    pub fn new(sent: Instant, length: Option<Duration>) -> Self {
        Self { sent, length }
    }

    /// Takes over another answer; that to the call which was sent last counts.
    pub fn renew(&mut self, sent: Instant, length: Option<Duration>) {
        if sent >= self.sent {
            *self = Self { sent, length };
        }
    }

    /// Whether nobody can have taken this node's place for its being silent.
    pub fn holds(&self, now: Instant) -> bool {
        let counted = |length: Duration| length - length / MARGIN;
        self.length.is_none_or(|length| now < self.sent + counted(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Option<Duration> = Some(Duration::from_secs(3));

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// It runs from when the call was sent, however late its answer came, and ends before the controller's may.
    #[test]
    fn it_runs_from_the_sending_and_ends_early() {
        let sent = Instant::now();
        let lease = Lease::new(sent, LENGTH);
        assert!(lease.holds(sent + ms(2_699)));
        assert!(!lease.holds(sent + ms(2_700)));
    }

    /// Answers may overtake each other: the latest call counts, with what its answer says.
    #[test]
    fn the_call_that_was_sent_last_counts() {
        let sent = Instant::now();
        let mut lease = Lease::new(sent, LENGTH);
        lease.renew(sent + ms(1_000), Some(ms(2_000)));
        lease.renew(sent + ms(500), LENGTH);
        assert_eq!(lease, Lease::new(sent + ms(1_000), Some(ms(2_000))));
    }

    /// Standalone has no leases, and an older controller tells none: nothing is waited for then.
    #[test]
    fn without_a_length_it_holds() {
        let sent = Instant::now();
        let mut lease = Lease::new(sent, None);
        assert!(lease.holds(sent + ms(1_000_000_000)));
        lease.renew(sent + ms(1), LENGTH);
        assert!(!lease.holds(sent + ms(3_000)));
    }
}
