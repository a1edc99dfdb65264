//! Identities for idempotent and transactional producers, out of blocks that the controller gives.
//!
//! Owns: the block this node is using. Does not own: that no two nodes have the same (the controller), sequences.

use parking_lot::Mutex;
use tailwater_rpc::Error;
use tailwater_rpc::controller::ProducerIds;
use tokio::sync::Semaphore;

use crate::session::Session;

/// Producer ids to give out.
pub(crate) struct ProducerIdPool {
    session: Session,
    block: Mutex<ProducerIds>,
    /// One asks for the next block; the others wait for it.
    refill: Semaphore,
}

impl ProducerIdPool {
    pub fn new(session: Session) -> Self {
        Self {
            session,
            block: Mutex::new(ProducerIds { first: 0, count: 0 }),
            refill: Semaphore::new(1),
        }
    }

    /// An id that nobody else gets, ever.
    ///
    /// # Errors
    /// The controller's, when a new block is due.
    pub async fn next(&self) -> Result<i64, Error> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let _turn = self.refill.acquire().await.map_err(|_closed| Error::Shutdown)?;
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let block = self
                .session
                .controller()
                .catalog
                .allocate_producer_ids(self.session.caller())
                .await;
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
