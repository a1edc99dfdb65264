//! The way to other frontends, and to this one without a way.
//!
//! Owns: which calls leave this node. Does not own: how they travel (`rpc`), what they do.

use std::sync::Arc;

use tailwater_kafka::ErrorCode;
use tailwater_rpc::frontend::{AddPartitions, Frontend, FrontendDirectory, MarkerFor, Peer, WriteMarkers};
use tailwater_rpc::{Error, Result};
use tailwater_types::{NodeId, Outcome};

use super::writer::MarkerWriter;
use crate::session::Session;

/// Clones share everything.
#[derive(Clone)]
pub(crate) struct Peers {
    session: Session,
    here: MarkerWriter,
    /// `None`: this frontend is the only one.
    others: Option<Arc<dyn FrontendDirectory>>,
}

impl Peers {
    pub fn new(session: Session, here: MarkerWriter, others: Option<Arc<dyn FrontendDirectory>>) -> Self {
        Self { session, here, others }
    }

    /// How this node names itself to others.
    pub fn me(&self) -> Peer {
        Peer {
            node: self.session.node(),
            node_epoch: self.session.node_epoch(),
        }
    }

    /// [`Frontend::write_markers`] of a node, which may be this one.
    ///
    /// # Errors
    /// The call's; [`Error::Unavailable`] where the node can't be called.
    pub async fn write_markers(&self, node: NodeId, markers: Vec<MarkerFor>) -> Result<Vec<Vec<ErrorCode>>> {
        if node == self.session.node() {
            return Ok(self.here.write(&markers).await);
        }
        let from = self.me();
        self.other(node)?.write_markers(WriteMarkers { from, markers }).await
    }

    /// [`Frontend::add_partitions`] of another node.
    ///
    /// # Errors
    /// As above.
    pub async fn add_partitions(&self, node: NodeId, request: AddPartitions) -> Result<Vec<ErrorCode>> {
        self.other(node)?.add_partitions(request).await
    }

    fn other(&self, node: NodeId) -> Result<Arc<dyn Frontend>> {
        let found = self.others.as_ref().and_then(|others| others.frontend(node));
        found.ok_or_else(|| Error::Unavailable {
            detail: format!("frontend {node} can't be called"),
            outcome: Outcome::DidNotHappen,
        })
    }
}
