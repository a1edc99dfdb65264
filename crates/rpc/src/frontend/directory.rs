//! Frontends as one of them knows them from the cluster's metadata, and a client for each that was called.
//!
//! Owns: one client a registration, made when it is first called, and made anew once the node has registered again: the
//! process behind an address is another one then. Does not own: the metadata, nor how a client reaches its address.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tailwater_types::{NodeEpoch, NodeId};

use super::{Frontend, FrontendDirectory};
use crate::Result;

/// Makes a client for the frontend at an address (HOST:PORT), without waiting for it.
pub type ConnectFrontend = dyn Fn(&str) -> Result<Arc<dyn Frontend>> + Send + Sync;

/// Where a frontend is called, and which of its registrations says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendAt {
    pub epoch: NodeEpoch,
    /// HOST:PORT.
    pub address: String,
}

/// What the metadata says of a node now: `None` for one that is gone, no frontend, or without an address.
pub type LocateFrontend = dyn Fn(NodeId) -> Option<FrontendAt> + Send + Sync;

/// The frontends that metadata knows, by their nodes.
pub struct KnownFrontends {
    locate: Box<LocateFrontend>,
    connect: Box<ConnectFrontend>,
    clients: Mutex<BTreeMap<NodeId, Client>>,
}

struct Client {
    at: FrontendAt,
    /// `None`: its address is none, which was logged.
    frontend: Option<Arc<dyn Frontend>>,
}

impl KnownFrontends {
    pub fn new(locate: Box<LocateFrontend>, connect: Box<ConnectFrontend>) -> Self {
        Self {
            locate,
            connect,
            clients: Mutex::default(),
        }
    }

    fn connect(&self, node: NodeId, at: FrontendAt) -> Client {
        let FrontendAt { epoch, address } = &at;
        let frontend = match (self.connect)(address) {
            Ok(frontend) => {
                tracing::info!(%node, %epoch, address, "found a frontend");
                Some(frontend)
            }
            Err(error) => {
                tracing::error!(%node, %epoch, address, %error, "a frontend can't be reached at its address");
                None
            }
        };
        Client { at, frontend }
    }
}

impl FrontendDirectory for KnownFrontends {
    fn frontend(&self, node: NodeId) -> Option<Arc<dyn Frontend>> {
        let at = (self.locate)(node);
        let mut clients = self.clients.lock();
        let Some(at) = at else {
            clients.remove(&node);
            return None;
        };
        let known = clients.get(&node).filter(|client| client.at == at);
        if let Some(client) = known {
            return client.frontend.clone();
        }
        // Nodes come and go: their connections go with them, whether or not anybody calls them again.
        clients.retain(|other, client| *other != node && (self.locate)(*other).as_ref() == Some(&client.at));
        let client = self.connect(node, at);
        let frontend = client.frontend.clone();
        clients.insert(node, client);
        frontend
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use async_trait::async_trait;
    use tailwater_kafka::ErrorCode;

    use super::*;
    use crate::Error;
    use crate::frontend::{AddPartitions, WriteMarkers};

    struct Nobody;

    #[async_trait]
    impl Frontend for Nobody {
        async fn write_markers(&self, _: WriteMarkers) -> Result<Vec<Vec<ErrorCode>>> {
            Err(Error::NotHere)
        }

        async fn add_partitions(&self, _: AddPartitions) -> Result<Vec<ErrorCode>> {
            Err(Error::NotHere)
        }
    }

    type Nodes = Arc<Mutex<BTreeMap<NodeId, FrontendAt>>>;
    type Made = Arc<Mutex<Vec<(String, Weak<dyn Frontend>)>>>;

    /// A directory over `nodes`, and what it has connected to; `bad` can't be an address.
    fn directory() -> (KnownFrontends, Nodes, Made) {
        let (nodes, made) = (Nodes::default(), Made::default());
        let (within, connected) = (nodes.clone(), made.clone());
        let locate = move |node| within.lock().get(&node).cloned();
        let connect = move |address: &str| {
            let frontend: Arc<dyn Frontend> = Arc::new(Nobody);
            connected.lock().push((address.to_owned(), Arc::downgrade(&frontend)));
            match address {
                "bad" => Err(Error::Invalid("bad".to_owned())),
                _ => Ok(frontend),
            }
        };
        (KnownFrontends::new(Box::new(locate), Box::new(connect)), nodes, made)
    }

    fn at(epoch: u64, address: &str) -> FrontendAt {
        FrontendAt {
            epoch: NodeEpoch(epoch),
            address: address.to_owned(),
        }
    }

    /// A client is the same until its node registers again or moves; who isn't known, or has no such address, is nobody.
    #[test]
    fn a_client_lasts_as_long_as_its_registration() {
        let (directory, nodes, made) = directory();
        let (one, bad, nobody) = (NodeId(1), NodeId(2), NodeId(3));
        nodes.lock().extend([(one, at(1, "a:1")), (bad, at(1, "bad"))]);
        let first = directory.frontend(one).expect("known");
        assert!(Arc::ptr_eq(&first, &directory.frontend(one).expect("known")));
        for _ in 0..2 {
            assert!(directory.frontend(bad).is_none() && directory.frontend(nobody).is_none());
        }
        nodes.lock().insert(one, at(2, "a:1"));
        let second = directory.frontend(one).expect("known");
        assert!(!Arc::ptr_eq(&first, &second), "registered again");
        nodes.lock().insert(one, at(2, "b:1"));
        assert!(!Arc::ptr_eq(&second, &directory.frontend(one).expect("known")), "moved");
        nodes.lock().remove(&one);
        assert!(directory.frontend(one).is_none());
        let made: Vec<_> = made.lock().iter().map(|(address, _)| address.clone()).collect();
        assert_eq!(made, ["a:1", "bad", "a:1", "b:1"]);
    }

    /// A client of a node that is gone isn't kept, though nobody calls that node any more.
    #[test]
    fn clients_of_nodes_that_are_gone_are_dropped() {
        let (directory, nodes, made) = directory();
        nodes.lock().insert(NodeId(1), at(1, "a:1"));
        assert!(directory.frontend(NodeId(1)).is_some());
        let is_kept = || made.lock()[0].1.upgrade().is_some();
        assert!(is_kept());
        *nodes.lock() = [(NodeId(2), at(1, "b:1"))].into();
        assert!(directory.frontend(NodeId(2)).is_some());
        assert!(!is_kept());
    }
}
