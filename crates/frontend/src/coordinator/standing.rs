//! Whether an answer that rests on memory may leave: whether this node still was the coordinator when it was made.
//!
//! Owns: the order of what is asked. A lease that holds is enough, and costs nothing. Where it has run out, be it that the
//! controller is away or that this process stood still, the WAL is asked by a write (`partition/proof.rs`): it takes none of a node
//! that was deposed. So a controller that is away stops no coordinator, and one that was deposed misleads nobody (docs/adr/0011).
//! Many who ask at the same time share one write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tailwater_types::JournalId;
use tokio::sync::Mutex;

use crate::partition::Partition;
use crate::session::Session;

/// How long the WAL is asked before an answer is given up (Kafka's `offsets.commit.timeout.ms`, as for writes).
const ASKED_AT_MOST: Duration = Duration::from_secs(5);

/// Clones share everything.
#[derive(Clone)]
pub(super) struct Standing {
    inner: Arc<Inner>,
}

struct Inner {
    session: Session,
    /// How many have come to ask the WAL.
    arrivals: AtomicU64,
    /// Held by who asks it.
    asking: Mutex<Answered>,
}

/// The last yes of the WAL.
#[derive(Default)]
struct Answered {
    /// Those who had come before it was asked: it holds for them too.
    arrivals: u64,
    /// Which journal it is of.
    journal: Option<JournalId>,
}

impl Standing {
    pub fn new(session: Session) -> Self {
        let inner = Inner {
            session,
            arrivals: AtomicU64::new(0),
            asking: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether `log` was led here when this was called, or later. Cancellation-safe.
    pub async fn holds(&self, log: &Arc<Partition>) -> bool {
        let session = &self.inner.session;
        if log.has_ended() || session.fenced().is_cancelled() {
            return false;
        }
        if session.is_leased() {
            return true;
        }
        let clock = session.clock();
        let asked = clock.timeout(ASKED_AT_MOST, self.ask_wal(log)).await;
        let holds = asked.unwrap_or(false) && !session.fenced().is_cancelled();
        if !holds {
            tracing::debug!(topic = %log.topic_name(), partition = log.index(), "nothing says that this is the coordinator still");
        }
        holds
    }

    async fn ask_wal(&self, log: &Arc<Partition>) -> bool {
        let inner = &self.inner;
        let me = inner.arrivals.fetch_add(1, Ordering::Relaxed);
        let mut last = inner.asking.lock().await;
        let journal = Some(log.journal_id());
        if last.journal == journal && me < last.arrivals {
            return !log.has_ended();
        }
        let arrivals = inner.arrivals.load(Ordering::Relaxed);
        let deadline = inner.session.clock().now() + ASKED_AT_MOST;
        let is_confirmed = log.is_confirmed(deadline).await;
        if is_confirmed {
            *last = Answered { arrivals, journal };
        }
        is_confirmed
    }
}
