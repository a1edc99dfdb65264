//! What only a connection can do to the port: be cut, be away, bring what is no entry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tailwater_format::entry::{Entry, Slice};
use tailwater_rpc::wal::{Wal, entry_cost};
use tailwater_runtime::{Policy, Runtime};
use tailwater_types::{JournalId, Kind, Lsn, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::node::{Node, Via, client, durable, seen, serve_on};
use crate::testing::{entry, open, seal, slice};

/// A way to `server` that carries so many bytes to it as `allowed` says, in all; then it cuts every connection.
async fn cut_off(server: SocketAddr, runtime: &Runtime) -> (SocketAddr, Arc<AtomicU64>) {
    let allowed = Arc::new(AtomicU64::new(u64::MAX));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (left, tasks) = (allowed.clone(), runtime.tasks.clone());
    let carry = async move {
        loop {
            let (from, _) = listener.accept().await.unwrap();
            let (to, left) = (TcpStream::connect(server).await.unwrap(), left.clone());
            tasks.spawn("connection", Policy::LOGGED_ABORT, carried(from, to, left));
        }
    };
    runtime.tasks.spawn("way", Policy::LOGGED_ABORT, carry);
    (address, allowed)
}

async fn carried(mut from: TcpStream, mut to: TcpStream, left: Arc<AtomicU64>) {
    let (mut there, mut back) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            biased;
            read = from.read(&mut there) => {
                let Ok(bytes @ 1..) = read else { return };
                let before = left.load(Ordering::Relaxed);
                let may = before.min(bytes as u64);
                to.write_all(&there[..may as usize]).await.unwrap();
                if may < bytes as u64 {
                    left.store(u64::MAX, Ordering::Relaxed);
                    return;
                }
                if before != u64::MAX {
                    left.store(before - may, Ordering::Relaxed);
                }
            }
            read = to.read(&mut back) => {
                let Ok(bytes @ 1..) = read else { return };
                if from.write_all(&back[..bytes]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A connection that is cut in the middle of an entry leaves nothing of it: the outcome is unknown, and the writer attaches
/// again through the same client, where the journal goes on, and sends it again.
#[tokio::test]
async fn a_cut_connection_leaves_no_half_entry() {
    let (node, _) = Node::new(Via::Process).await;
    let server = serve_on(node.wal.clone(), &node.runtime, None).await;
    let (address, allowed) = cut_off(server, &node.runtime).await;
    let wal = client(address, &node.runtime);
    for cut_at in [1, 100, 10_000, 300_000] {
        let mut stream = wal.open_journal(open(1, node.id())).await.unwrap();
        let next = stream.next.0;
        let cost = entry_cost(600_000);
        seen(&mut stream, |state| state.credit_limit >= cost).await;
        allowed.store(cut_at, Ordering::Relaxed);
        stream.sender.send(entry(1, next, 500_000), Lsn(0)).unwrap();
        let lost = seen(&mut stream, |_| false).await.failed.expect("it has ended");
        assert_eq!(
            (lost.kind(), lost.outcome()),
            (Kind::Unavailable, Outcome::Unknown),
            "{lost}"
        );
        assert_eq!(stream.sender.send(entry(1, next, 500_000), Lsn(0)), Err(lost));
        let mut again = wal.open_journal(open(1, node.id())).await.unwrap();
        assert_eq!(again.next, Lsn(next), "cut at {cut_at}");
        seen(&mut again, |state| state.credit_limit >= cost).await;
        again.sender.send(entry(1, next, 500_000), Lsn(0)).unwrap();
        durable(&mut again, next + 1).await;
    }
}

/// A client connects when it is needed: until the node is there nothing has happened, from then on it answers.
#[tokio::test]
async fn a_client_waits_for_no_node() {
    let (node, _) = Node::new(Via::Process).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let wal = client(address, &node.runtime);
    let refused = [
        wal.open_journal(open(1, node.id())).await.map(drop).unwrap_err(),
        wal.seal(seal(1, node.id(), 1)).await.map(drop).unwrap_err(),
        wal.read_journal(node.range(1, 0..1)).await.map(drop).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(
            (error.kind(), error.outcome()),
            (Kind::Unavailable, Outcome::DidNotHappen),
            "{error}"
        );
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
    serve_on(node.wal.clone(), &node.runtime, Some(address)).await;
    let mut stream = wal.open_journal(open(1, node.id())).await.unwrap();
    stream.sender.send(entry(1, 0, 100), Lsn(0)).unwrap();
    durable(&mut stream, 1).await;
}

/// An entry that isn't what its sums say is refused before the journal sees it.
#[tokio::test]
async fn a_changed_entry_is_refused() {
    let (node, _) = Node::new(Via::Grpc).await;
    let mut stream = node.open(1).await;
    let Slice { mut header, bytes } = slice(1, 0, &[100]);
    header.crc ^= 1;
    let changed = Entry::encode(JournalId(1), Lsn(0), vec![Slice { header, bytes }]);
    stream.sender.send(changed, Lsn(0)).unwrap();
    let refused = seen(&mut stream, |_| false).await.failed.expect("it has ended");
    assert_eq!(refused.kind(), Kind::Corrupt, "{refused}");
    assert_eq!(node.open(1).await.next, Lsn(0));
}
