//! One log line for many of the same: a client that sends garbage in a loop must not fill the log.
//!
//! Owns: how many lines of a sort are written a second. What is left out is counted and told with the next line.

use std::time::Duration;

use parking_lot::Mutex;
use tailwater_runtime::clock::{Clock, Instant};

const LINES_A_WINDOW: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);

/// Says whether to write a line.
pub(super) struct Quiet {
    clock: Clock,
    lines_a_window: u32,
    length: Duration,
    window: Mutex<Window>,
}

struct Window {
    ends_at: Instant,
    lines: u32,
    left_out: u64,
}

impl Quiet {
    pub fn new(clock: Clock) -> Self {
        Self::with(LINES_A_WINDOW, WINDOW, clock)
    }

    /// One line in each `period`.
    pub fn once_in(period: Duration, clock: Clock) -> Self {
        Self::with(1, period, clock)
    }

    fn with(lines_a_window: u32, length: Duration, clock: Clock) -> Self {
        let window = Window {
            ends_at: clock.now(),
            lines: 0,
            left_out: 0,
        };
        Self {
            clock,
            lines_a_window,
            length,
            window: Mutex::new(window),
        }
    }

    /// `Some`: write it, and say that so many were left out before.
    pub fn admit(&self) -> Option<u64> {
        let now = self.clock.now();
        let mut window = self.window.lock();
        if now >= window.ends_at {
            window.ends_at = now + self.length;
            window.lines = 0;
        }
        if window.lines == self.lines_a_window {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A burst gives a few lines; the next window's first one tells how many were left out.
    #[tokio::test(start_paused = true)]
    async fn a_burst_gives_a_few_lines() {
        let clock = Clock::manual(0);
        let quiet = Quiet::new(clock.clone());
        let written = (0..100).filter(|_| quiet.admit().is_some()).count();
        assert_eq!(written, 5);
        clock.sleep(WINDOW).await;
        assert_eq!(quiet.admit(), Some(95));
        assert_eq!(quiet.admit(), Some(0));
    }
}
