//! Identities for idempotent and transactional producers, out of blocks that the controller gives.
//!
//! Owns: the block this node is using. Does not own: that no two nodes have the same (the controller), sequences.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tailwater_rpc::Error;
use tailwater_rpc::controller::ProducerIds;

use crate::session::Session;

/// Producer ids to give out.
pub(crate) struct ProducerIdPool {
    session: Session,
    block: Mutex<ProducerIds>,
    /// One asks for the next block; the others wait for what becomes of it: the last failure.
    refill: tokio::sync::Mutex<Option<Error>>,
    /// How often the controller has been asked.
    refills: AtomicU64,
}

impl ProducerIdPool {
    pub fn new(session: Session) -> Self {
        Self {
            session,
            block: Mutex::new(ProducerIds { first: 0, count: 0 }),
            refill: tokio::sync::Mutex::default(),
            refills: AtomicU64::new(0),
        }
    }

    /// An id that nobody else gets, ever.
    ///
    /// # Errors
    /// The controller's, when a new block is due; whoever waited while another asked gets that one's, and asks no more.
    pub async fn next(&self) -> Result<i64, Error> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let before = self.refills.load(Ordering::Relaxed);
            let mut failure = self.refill.lock().await;
            if let Some(id) = self.take() {
                return Ok(id);
            }
            if let Some(error) = &*failure
                && self.refills.load(Ordering::Relaxed) > before
            {
                return Err(error.clone());
            }
            let block = self
                .session
                .controller()
                .catalog
                .allocate_producer_ids(self.session.caller())
                .await;
            self.refills.fetch_add(1, Ordering::Relaxed);
            *failure = block.as_ref().err().cloned();
            *self.block.lock() = block.inspect_err(|error| self.session.judge(error))?;
        }
    }

    fn take(&self) -> Option<i64> {
        let mut block = self.block.lock();
        if block.count == 0 {
            return None;
        }
        let id = block.first;
        *block = ProducerIds {
            first: id + 1,
            count: block.count - 1,
        };
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::testing::Fixture;

    /// Those who wait while the controller is asked get its refusal, and don't ask one after the other; whoever comes later asks.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_everybodys_who_waited() {
        let fixture = Fixture::start().await;
        let pool = ProducerIdPool::new(fixture.data.session.clone());
        let asked = fixture.controller.refuse_producer_ids(true);
        let refused = join_all((0..10).map(|_| pool.next())).await;
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        assert_eq!(fixture.controller.refuse_producer_ids(false), asked + 1);
        let given = join_all((0..10).map(|_| pool.next())).await;
        assert!(given.iter().all(Result::is_ok), "{given:?}");
        assert_eq!(fixture.controller.refuse_producer_ids(false), asked + 2);
    }
}
