//! WAL nodes found by what a controller says of them.

use std::sync::Arc;

use parking_lot::Mutex;
use tailwater_rpc::Error;
use tailwater_rpc::controller::*;
use tailwater_rpc::grpc::{RemoteWals, WalClient};
use tailwater_rpc::wal::{Wal, WalDirectory};
use tailwater_runtime::{Policy, Runtime};
use tailwater_types::*;

use crate::support::*;

fn node(node: u32, device: u8, address: &str) -> NodeInfo {
    NodeInfo {
        node: NodeId(node),
        tier: Tier::Wal,
        epoch: NodeEpoch(1),
        state: NodeState::Active,
        endpoints: Vec::new(),
        address: (!address.is_empty()).then(|| address.to_owned()),
        device: Some(DeviceId::from_bytes([device; 16])),
    }
}

/// A directory whose clients go to nowhere, and the addresses that they were made for; `bad` can't be one.
fn directory(nodes: Arc<dyn Nodes>, runtime: &Runtime) -> (RemoteWals, Arc<Mutex<Vec<String>>>) {
    let made: Arc<Mutex<Vec<String>>> = Arc::default();
    let (addresses, within) = (made.clone(), runtime.clone());
    let connect = move |address: &str| {
        if address == "bad" {
            return Err(Error::Invalid("bad".to_owned()));
        }
        addresses.lock().push(address.to_owned());
        let wal: Arc<dyn Wal> = Arc::new(WalClient::new("127.0.0.1:1", within.clone())?);
        Ok(wal)
    };
    (RemoteWals::new(nodes, Box::new(connect), runtime.clone()), made)
}

/// A client a node, the same until the address changes; who has no device or address, is gone or no WAL node is nobody's.
#[tokio::test]
async fn nodes_are_found_by_their_device() {
    let (runtime, fake) = (runtime(), Fake::new(Vec::new()));
    let (wals, made) = directory(fake.clone(), &runtime);
    runtime.tasks.spawn("wals", Policy::LOGGED_ABORT, wals.clone().follow());
    let find = |device: u8| wals.wal(DeviceId::from_bytes([device; 16]));
    assert!(find(1).is_none());
    let not_one = [
        node(3, 3, ""),
        node(4, 4, "bad"),
        NodeInfo {
            tier: Tier::Frontend,
            ..node(5, 5, "c:1")
        },
        NodeInfo {
            state: NodeState::Gone,
            ..node(6, 6, "d:1")
        },
    ];
    let with = |mut nodes: Vec<NodeInfo>| {
        nodes.extend(not_one.clone());
        fake.nodes.send_replace(nodes);
    };
    with(vec![node(1, 1, "a:1"), node(2, 2, "b:1")]);
    let first = until(async || find(1)).await;
    assert!(find(2).is_some());
    for nobody in 3..=6 {
        assert!(find(nobody).is_none(), "{nobody}");
    }
    // The second moves and has another device now; the first stays.
    with(vec![node(1, 1, "a:1"), node(2, 7, "b:2")]);
    until(async || find(7)).await;
    assert!(find(2).is_none() && Arc::ptr_eq(&first, &find(1).unwrap()));
    with(vec![node(2, 7, "b:2")]);
    until(async || find(1).is_none().then_some(())).await;
    assert_eq!(*made.lock(), ["a:1", "b:1", "b:2"]);
}

/// What was known goes on while the controller is away, and is brought up to date when it is back.
#[tokio::test]
async fn the_known_nodes_outlive_the_controller() {
    let (runtime, fake) = (runtime(), Fake::new(Vec::new()));
    fake.nodes.send_replace(vec![node(1, 1, "a:1")]);
    let served = Served::start(&fake, &runtime).await;
    let address = served.address;
    let (wals, _) = directory(served.client(&runtime), &runtime);
    runtime.tasks.spawn("wals", Policy::LOGGED_ABORT, wals.clone().follow());
    let find = |device: u8| wals.wal(DeviceId::from_bytes([device; 16]));
    until(async || find(1)).await;
    served.stop().await;
    fake.nodes.send_replace(vec![node(1, 2, "a:1")]);
    assert!(find(1).is_some());
    let served = Served::start_at(address, &fake, &runtime).await;
    until(async || find(2)).await;
    assert!(find(1).is_none());
    served.stop().await;
}
