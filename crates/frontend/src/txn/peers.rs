//! The way to other frontends, and to this one without a way.
//!
//! Owns: which calls leave this node. Does not own: how they travel (`rpc`), what they do.

use std::sync::Arc;

use tailwater_kafka::ErrorCode;
use tailwater_rpc::controller::{NodeInfo, NodeState, Tier};
use tailwater_rpc::frontend::{
    AddPartitions, CallOrder, ConnectFrontend, Frontend, FrontendAt, FrontendDirectory, KnownFrontends, MarkerFor,
    Peer, WriteMarkers,
};
use tailwater_rpc::{Error, Result};
use tailwater_types::{NodeId, Outcome};

use super::writer::MarkerWriter;
use crate::session::Session;
use crate::view::View;

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

    pub fn is_here(&self, node: NodeId) -> bool {
        node == self.session.node()
    }

    /// [`Frontend::write_markers`] of a node, which may be this one.
    ///
    /// # Errors
    /// The call's; [`Error::Unavailable`] where the node can't be called.
    pub async fn write_markers(
        &self,
        node: NodeId,
        order: CallOrder,
        markers: Vec<MarkerFor>,
    ) -> Result<Vec<Vec<ErrorCode>>> {
        if self.is_here(node) {
            return Ok(self.here.write(&markers).await);
        }
        let from = self.me();
        let request = WriteMarkers { from, order, markers };
        self.other(node)?.write_markers(request).await
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

/// The frontends of the metadata, as it is when one is called.
pub(crate) fn others(view: View, connect: Box<ConnectFrontend>) -> Arc<dyn FrontendDirectory> {
    let locate = move |node| view.snapshot().node(node).and_then(located);
    Arc::new(KnownFrontends::new(Box::new(locate), connect))
}

/// Where a node can be called: also while it is fenced or leaves, since it may be the one who knows better.
fn located(node: &NodeInfo) -> Option<FrontendAt> {
    if node.tier != Tier::Frontend || node.state == NodeState::Gone {
        return None;
    }
    let address = node.address.clone()?;
    Some(FrontendAt {
        epoch: node.epoch,
        address,
    })
}

#[cfg(test)]
mod tests {
    use tailwater_types::NodeEpoch;

    use super::*;

    /// Frontends with an address, under their newest registration; nobody who is gone, and no other tier.
    #[test]
    fn only_frontends_with_an_address_are_called() {
        let node = |tier, state, address: Option<&str>| NodeInfo {
            node: NodeId(2),
            tier,
            epoch: NodeEpoch(3),
            state,
            endpoints: Vec::new(),
            address: address.map(str::to_owned),
            device: None,
        };
        let found = |tier, state, address| located(&node(tier, state, address)).map(|at| (at.epoch.0, at.address));
        let here = Some((3, "f:1".to_owned()));
        for state in [
            NodeState::Starting,
            NodeState::Active,
            NodeState::Fenced,
            NodeState::ShuttingDown,
        ] {
            assert_eq!(found(Tier::Frontend, state, Some("f:1")), here, "{state:?}");
        }
        assert_eq!(found(Tier::Frontend, NodeState::Active, None), None);
        assert_eq!(found(Tier::Frontend, NodeState::Gone, Some("f:1")), None);
        assert_eq!(found(Tier::Wal, NodeState::Active, Some("f:1")), None);
    }
}
