//! This frontend as other ones see it.
//!
//! Owns: the check of the caller's registration. Does not own: what is asked (`coordinator.rs`, `writer.rs`).

use async_trait::async_trait;
use tailwater_kafka::ErrorCode;
use tailwater_rpc::frontend::{AddPartitions, Frontend, Peer, WriteMarkers};
use tailwater_rpc::{Error, Result};

use super::coordinator::Transactions;
use super::writer::MarkerWriter;
use crate::view::View;

/// The port's implementation.
pub(crate) struct Port {
    view: View,
    transactions: Transactions,
    writer: MarkerWriter,
}

impl Port {
    pub fn new(view: View, transactions: Transactions, writer: MarkerWriter) -> Self {
        Self {
            view,
            transactions,
            writer,
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
        Ok(self.writer.write(&request.markers).await)
    }

    async fn add_partitions(&self, request: AddPartitions) -> Result<Vec<ErrorCode>> {
        self.check(request.from)?;
        Ok(self.transactions.add_here(&request).await)
    }
}
