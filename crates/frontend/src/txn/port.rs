//! This frontend as other ones see it.
//!
//! Owns: the check of the caller's registration, and that nothing is done that its caller has given up (`calls.rs`). Does not
//! own: what is asked (`coordinator.rs`, `writer.rs`).

use async_trait::async_trait;
use tailwater_kafka::ErrorCode;
use tailwater_rpc::frontend::{AddPartitions, Frontend, Peer, WriteMarkers};
use tailwater_rpc::{Error, Result};
use tailwater_types::Outcome;

use super::calls::Calls;
use super::coordinator::Transactions;
use super::writer::MarkerWriter;
use crate::view::View;

/// The port's implementation.
pub(crate) struct Port {
    view: View,
    transactions: Transactions,
    writer: MarkerWriter,
    calls: Calls,
}

impl Port {
    pub fn new(view: View, transactions: Transactions, writer: MarkerWriter) -> Self {
        Self {
            view,
            transactions,
            writer,
            calls: Calls::default(),
        }
    }

    fn check(&self, from: Peer) -> Result<()> {
        let registered = self.view.snapshot().node(from.node).map(|info| info.epoch);
        match registered {
            Some(registered) if from.node_epoch < registered => Err(Error::NodeEpochStale {
                node: from.node,
                carried: from.node_epoch,
                registered,
            }),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Frontend for Port {
    async fn write_markers(&self, request: WriteMarkers) -> Result<Vec<Vec<ErrorCode>>> {
        self.check(request.from)?;
        let call = self.calls.begin(request.from, request.order)?;
        tokio::select! {
            biased;
            () = call.given_up() => Err(Error::Unavailable {
                detail: "the call is over for its caller".to_owned(),
                outcome: Outcome::Unknown,
            }),
            written = self.writer.write(&request.markers) => Ok(written),
        }
    }

    async fn add_partitions(&self, request: AddPartitions) -> Result<Vec<ErrorCode>> {
        self.check(request.from)?;
        Ok(self.transactions.add_here(&request).await)
    }
}
