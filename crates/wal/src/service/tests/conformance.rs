//! What any form of the port [`tailwater_rpc::wal::Wal`] keeps: each rule over the port in this process and over gRPC.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt};
use tailwater_format::entry::{Entry, Slice};
use tailwater_kafka::batch::HEADER_BYTES;
use tailwater_rpc::Error;
use tailwater_rpc::wal::{OpenJournal, ReadJournal, ReadStream, SealedJournal, entry_cost};
use tailwater_runtime::{AlignedBuf, Device as _};
use tailwater_types::{DeviceId, JournalId, Kind, Lsn, MetadataVersion, NodeEpoch, NodeId, StreamId};

use super::node::{CAPACITY, Node, Via, durable, mixed, refusal, seen};
use crate::testing::{batch, entry, open, seal, slice, trim};

macro_rules! over_both {
    ($($rule:ident)*) => {
        mod in_process {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(super::Via::Process).await;
            })*
        }
        mod over_grpc {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(super::Via::Grpc).await;
            })*
        }
    };
}

over_both! {
    entries_survive_a_restart
    streams_are_read_by_offset
    a_scan_has_headers_only
    a_range_is_what_each_lsn_is
    what_lies_before_damage_is_read
    another_device_is_refused
    seals_and_trims_survive_a_restart
    a_repeat_is_the_same_entry
    a_gap_is_refused
    a_stream_that_was_taken_away_is_refused
    what_does_not_fit_is_refused
    openings_are_checked
    seals_are_checked
    trims_are_checked
    credit_is_given_back
    the_last_writer_counts
    a_dropped_writer_is_detached
    a_dropped_read_stops
    a_stop_is_told
    a_large_entry_passes
    what_is_gone_stays_gone
}

/// Entries are acked in order and read back with their bytes: from memory, and after a restart from the device.
async fn entries_survive_a_restart(via: Via) {
    let (mut node, device) = Node::new(via).await;
    let mut stream = node.open(1).await;
    let sizes = [10, 5000, 700_000, 1, 900_000];
    for (lsn, &bytes) in sizes.iter().enumerate() {
        let cost = tailwater_rpc::wal::entry_cost(bytes + 1000);
        stream.state.wait_for(|state| state.credit_limit >= cost).await.unwrap();
        stream.sender.send(entry(1, lsn as u64, bytes), Lsn(0)).unwrap();
        durable(&mut stream, lsn as u64 + 1).await;
    }
    for _ in 0..2 {
        let found = node.read(1, 0..99).await.unwrap();
        assert_eq!(found.len(), sizes.len(), "ends at the durable end");
        for (lsn, (found, &bytes)) in found.iter().zip(&sizes).enumerate() {
            assert_eq!(found.chunks().concat(), entry(1, lsn as u64, bytes).chunks().concat());
        }
        assert_eq!(node.read(1, 1..3).await.unwrap().len(), 2);
        assert_eq!(node.read(1, 5..5).await.unwrap().len(), 0);
        assert_eq!(node.read(2, 0..1).await.unwrap_err(), Error::NotHere);
        node = node.restart(&device).await;
        let stream = node.open(1).await;
        assert_eq!((stream.next, stream.state.borrow().durable), (Lsn(5), Lsn(5)));
    }
}

/// A stream's batches are found by offset, whole, within bounds; in memory and on the device.
async fn streams_are_read_by_offset(via: Via) {
    let (mut node, device) = Node::new(via).await;
    let mut stream = node.open(1).await;
    for lsn in 0..4 {
        stream.sender.send(mixed(lsn), Lsn(0)).unwrap();
    }
    durable(&mut stream, 4).await;
    for _ in 0..2 {
        assert_eq!(node.batches(20, 0..100, 1 << 20).await, Ok((0..12).collect()));
        assert_eq!(node.batches(20, 4..9, 1 << 20).await, Ok((4..9).collect()));
        assert_eq!(node.batches(20, 5..100, 1).await, Ok(vec![5]), "one at least");
        assert_eq!(node.batches(20, 4..100, 2 * batch(0, 100).len()).await, Ok(vec![4, 5]));
        assert_eq!(node.batches(20, 12..100, 1).await, Err(Error::NotHere));
        assert_eq!(
            node.batches(21, 0..100, 1).await,
            Err(Error::NotHere),
            "a snapshot is no record"
        );
        node = node.restart(&device).await;
    }
    node.port.trim(trim(1, node.id(), 2, false)).await.unwrap();
    let trimmed = Error::Trimmed {
        version: MetadataVersion(1002),
    };
    assert_eq!(node.batches(20, 5..100, 1).await, Err(trimmed.clone()));
    assert_eq!(node.batches(20, 6..100, 1).await, Ok(vec![6]));
    assert_eq!(node.read(1, 1..4).await.unwrap_err(), trimmed);
    node = node.restart(&device).await;
    assert_eq!(node.batches(20, 5..100, 1).await, Err(trimmed));
}

/// A scan has slice headers, snapshots and batch headers, and no records.
async fn a_scan_has_headers_only(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    stream.sender.send(mixed(0), Lsn(0)).unwrap();
    durable(&mut stream, 1).await;
    let scanned: Vec<_> = node
        .port
        .scan_journal(node.range(1, 0..1))
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let slices = &scanned[0].slices;
    assert_eq!(slices[0].parts, vec![&b"snapshot"[..]]);
    assert_eq!(slices[1].header, mixed(0).header().slices[1]);
    let headers: Vec<_> = (0..3).map(|base| batch(base, 100).slice(..HEADER_BYTES)).collect();
    assert_eq!(slices[1].parts, headers);
}

/// A range of entries, large and small, on the device and in memory, is answered as each LSN by itself: however many are
/// read together.
async fn a_range_is_what_each_lsn_is(via: Via) {
    const ENTRIES: u64 = 1_300;
    let node = Node::large(8 << 20, via).await;
    let mut stream = node.open(1).await;
    let mut cost = 0;
    for lsn in 0..ENTRIES {
        let bytes = if lsn % 400 == 399 {
            700_000
        } else {
            10 + lsn as usize % 90
        };
        let entry = entry(1, lsn, bytes);
        cost += entry_cost(entry.encoded_bytes());
        seen(&mut stream, |state| state.credit_limit >= cost).await;
        stream.sender.send(entry, Lsn(0)).unwrap();
    }
    durable(&mut stream, ENTRIES).await;
    let scan = async |range| {
        let scanned = node.port.scan_journal(node.range(1, range)).await.unwrap();
        scanned.try_collect::<Vec<_>>().await.unwrap()
    };
    let (mut read_each, mut scanned_each) = (Vec::new(), Vec::new());
    for lsn in 0..ENTRIES {
        read_each.extend(node.read(1, lsn..lsn + 1).await.unwrap());
        scanned_each.extend(scan(lsn..lsn + 1).await);
    }
    let bytes = |entries: &[Entry]| entries.iter().map(|entry| entry.chunks().concat()).collect::<Vec<_>>();
    for start in [0, 1, 398, 399, 400, 1_022, ENTRIES - 1, ENTRIES] {
        for end in [start, start + 1, ENTRIES, ENTRIES + 3] {
            let expected = start as usize..end.min(ENTRIES).max(start) as usize;
            let found = node.read(1, start..end).await.unwrap();
            assert_eq!(lsns(&found), (start..end.min(ENTRIES)).collect::<Vec<_>>());
            assert!(bytes(&found) == bytes(&read_each[expected.clone()]), "{start}..{end}");
            assert!(scan(start..end).await == scanned_each[expected], "{start}..{end}");
        }
    }
}

/// Entries in front of a damaged one are read, scanned or whole; then comes the error, and nothing behind it.
async fn what_lies_before_damage_is_read(via: Via) {
    let (node, device) = Node::new(via).await;
    let mut stream = node.open(1).await;
    let mut cost = 0;
    for lsn in 0..20 {
        let entry = entry(1, lsn, 10_000);
        cost += entry_cost(entry.encoded_bytes());
        seen(&mut stream, |state| state.credit_limit >= cost).await;
        stream.sender.send(entry, Lsn(0)).unwrap();
        durable(&mut stream, lsn + 1).await;
    }
    let mut all = AlignedBuf::zeroed(CAPACITY);
    device.read_at(&mut all, 0).unwrap();
    let damaged = entry(1, 5, 10_000).chunks()[1].clone();
    let at = all.windows(100).position(|found| found == &damaged[..100]).unwrap();
    device.damage(at + 20, b"damage");
    let mut read = node.port.read_journal(node.range(1, 0..20)).await.unwrap();
    let mut scan = node.port.scan_journal(node.range(1, 0..20)).await.unwrap();
    for lsn in 0..5 {
        assert_eq!(read.try_next().await.unwrap().unwrap().lsn(), Lsn(lsn));
        assert_eq!(scan.try_next().await.unwrap().unwrap().lsn, Lsn(lsn));
    }
    assert_eq!(read.try_next().await.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(scan.try_next().await.unwrap_err().kind(), Kind::Corrupt);
    assert!(read.next().await.is_none() && scan.next().await.is_none());
}

/// Another device's requests are refused by every call that names one.
async fn another_device_is_refused(via: Via) {
    let (node, _) = Node::new(via).await;
    let expected = DeviceId::from_bytes([3; 16]);
    let refused = Err(Error::DeviceChanged {
        expected,
        found: node.id(),
    });
    assert_eq!(node.port.open_journal(open(1, expected)).await.map(|_| ()), refused);
    assert_eq!(node.port.seal(seal(1, expected, 1)).await.map(|_| ()), refused);
    assert_eq!(node.port.trim(trim(1, expected, 0, false)).await, refused);
    let read = ReadJournal {
        device: expected,
        ..node.range(1, 0..1)
    };
    assert_eq!(node.port.read_journal(read.clone()).await.map(|_| ()), refused);
    assert_eq!(node.port.scan_journal(read).await.map(|_| ()), refused);
    let read = ReadStream {
        device: expected,
        ..node.read_stream(20, 0..1, 1)
    };
    assert_eq!(node.port.read_stream(read).await.map(|_| ()), refused);
}

/// Seals, trims and what is gone survive a restart; a sealed journal keeps its end and takes nothing.
async fn seals_and_trims_survive_a_restart(via: Via) {
    let (mut node, device) = Node::new(via).await;
    for journal in [1, 2] {
        let mut stream = node.open(journal).await;
        for lsn in 0..3 {
            stream.sender.send(entry(journal, lsn, 100), Lsn(0)).unwrap();
        }
        let sealed = node.port.seal(seal(journal, node.id(), 4)).await.unwrap();
        assert_eq!((sealed.end, sealed.commit), (Lsn(3), Lsn(3)));
        let failed = stream
            .state
            .wait_for(|state| state.failed.is_some())
            .await
            .unwrap()
            .clone();
        assert_eq!(
            (failed.durable, failed.failed),
            (
                Lsn(3),
                Some(Error::JournalFenced {
                    journal: JournalId(journal)
                })
            )
        );
        let fenced = Error::JournalFenced {
            journal: JournalId(journal),
        };
        assert_eq!(refusal(&mut stream, entry(journal, 3, 1)).await, fenced);
    }
    node.port.trim(trim(1, node.id(), 2, false)).await.unwrap();
    node.port.trim(trim(2, node.id(), 3, true)).await.unwrap();
    node = node.restart(&device).await;
    let status = node.port.status().await.unwrap();
    assert_eq!(status.journals.len(), 1);
    let journal = &status.journals[0];
    assert_eq!(
        (journal.journal, journal.trim, journal.durable, journal.sealed),
        (JournalId(1), Lsn(2), Lsn(3), true)
    );
    assert!(journal.bytes > 100 && journal.bytes < 400 && journal.oldest_age.is_some());
    assert!(node.port.open_journal(open(1, node.id())).await.is_err());
    assert_eq!(node.port.seal(seal(1, node.id(), 4)).await.unwrap().end, Lsn(3));
    let older = node.port.seal(seal(1, node.id(), 3)).await.unwrap_err();
    assert_eq!(older, Error::ControllerFenced { journal: JournalId(1) });
    assert_eq!(
        node.port.trim(trim(2, node.id(), 3, true)).await,
        Ok(()),
        "gone twice is gone"
    );
}

/// What [`mixed`] has at `of`, as another LSN.
fn mixed_at(of: u64, lsn: u64) -> Entry {
    let slices = mixed(of);
    let slices = slices.slices().map(|(header, bytes)| Slice {
        header: *header,
        bytes: bytes.clone(),
    });
    Entry::encode(JournalId(1), Lsn(lsn), slices.collect())
}

fn lsns(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.lsn().0).collect()
}

/// An LSN that was used: the same entry is taken again and acked, another one is refused and changes nothing.
async fn a_repeat_is_the_same_entry(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    for lsn in [0, 1, 0, 1, 2] {
        stream.sender.send(entry(1, lsn, 100), Lsn(0)).unwrap();
    }
    durable(&mut stream, 3).await;
    let error = refusal(&mut stream, entry(1, 1, 101)).await;
    assert!(
        matches!(&error, Error::Corrupt(detail) if detail.contains("LSN 1 was sent with header sum")),
        "{error}"
    );
    let found = node.read(1, 0..9).await.unwrap();
    assert_eq!(lsns(&found), [0, 1, 2]);
    assert_eq!(found[1].header().crc, entry(1, 1, 100).header().crc);
}

/// An LSN above the next one is refused with the expected one; the journal goes on there.
async fn a_gap_is_refused(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    stream.sender.send(entry(1, 0, 100), Lsn(0)).unwrap();
    let gap = Error::LsnGap {
        journal: JournalId(1),
        expected: Lsn(1),
        found: Lsn(2),
    };
    assert_eq!(refusal(&mut stream, entry(1, 2, 100)).await, gap);
    let mut stream = node.open(1).await;
    assert_eq!(stream.next, Lsn(1));
    stream.sender.send(entry(1, 1, 100), Lsn(0)).unwrap();
    durable(&mut stream, 2).await;
}

/// A slice below its stream's minimum leader epoch is refused, and with it its entry.
async fn a_stream_that_was_taken_away_is_refused(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    let slices = vec![slice(20, 0, &[100]), slice(900, 0, &[100])];
    let fenced = Error::StreamFenced { stream: StreamId(900) };
    assert_eq!(
        refusal(&mut stream, Entry::encode(JournalId(1), Lsn(0), slices)).await,
        fenced
    );
    assert_eq!(node.open(1).await.next, Lsn(0));
}

/// What can never be taken is refused: another journal's entry, one above the bound, offsets that go back.
async fn what_does_not_fit_is_refused(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    let max_entry_bytes = stream.sender.max_entry_bytes();
    assert_eq!(max_entry_bytes, 1 << 20);
    let text = refusal(&mut stream, entry(2, 0, 100)).await.to_string();
    assert_eq!(text, "an entry of journal 2 sent to journal 1");
    let too_large = entry(1, 0, 1 << 20);
    let expected = format!(
        "an entry of {} bytes, at most {max_entry_bytes} fit",
        too_large.encoded_bytes()
    );
    assert_eq!(refusal(&mut stream, too_large).await, Error::Invalid(expected));
    stream.sender.send(mixed_at(1, 0), Lsn(0)).unwrap();
    let back = refusal(&mut stream, mixed_at(0, 1)).await;
    assert_eq!(
        back,
        Error::Invalid("journal 1: stream 20 goes back from offset 6 to 0".to_owned())
    );
}

/// Who opens under an older epoch is fenced, under a newer one unknown; another opening record is none of this journal's.
async fn openings_are_checked(via: Via) {
    let (node, _) = Node::new(via).await;
    drop(node.open(1).await);
    let opened = |change: fn(&mut OpenJournal)| {
        let mut request = open(1, node.id());
        change(&mut request);
        let port = node.port.clone();
        async move { port.open_journal(request).await.map(|stream| stream.next) }
    };
    let journal = JournalId(1);
    assert_eq!(opened(|_| ()).await, Ok(Lsn(0)));
    let older = opened(|request| request.node_epoch = NodeEpoch(4)).await;
    assert_eq!(older, Err(Error::JournalFenced { journal }));
    let newer = opened(|request| request.node_epoch = NodeEpoch(6)).await;
    assert_eq!(newer, Err(Error::JournalEpochUnknown { journal }));
    for other in [
        opened(|request| request.node = NodeId(2)).await,
        opened(|request| request.ack_quorum = 2).await,
        opened(|request| request.ensemble.clear()).await,
        opened(|request| request.min_leader_epochs.clear()).await,
    ] {
        let text = "journal 1 was opened with another opening record";
        assert_eq!(other, Err(Error::Invalid(text.to_owned())));
    }
    node.port.seal(seal(1, node.id(), 1)).await.unwrap();
    assert_eq!(opened(|_| ()).await, Err(Error::JournalFenced { journal }));
}

/// A seal is idempotent, its epoch only rises, and it holds for a journal that was never opened.
async fn seals_are_checked(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    stream.sender.send(entry(1, 0, 100), Lsn(0)).unwrap();
    durable(&mut stream, 1).await;
    let sealed = SealedJournal {
        end: Lsn(1),
        commit: Lsn(1),
    };
    for attempt in [2, 2, 3] {
        assert_eq!(node.port.seal(seal(1, node.id(), attempt)).await, Ok(sealed));
    }
    let older = node.port.seal(seal(1, node.id(), 2)).await;
    assert_eq!(older, Err(Error::ControllerFenced { journal: JournalId(1) }));
    let unopened = node.port.seal(seal(9, node.id(), 1)).await.unwrap();
    assert_eq!((unopened.end, unopened.commit), (Lsn(0), Lsn(0)));
    let opened = node.port.open_journal(open(9, node.id())).await.map(|_| ());
    assert_eq!(opened, Err(Error::JournalFenced { journal: JournalId(9) }));
}

/// A trim may not pass what is durable, nor forget a journal that isn't sealed.
async fn trims_are_checked(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    stream.sender.send(entry(1, 0, 100), Lsn(0)).unwrap();
    durable(&mut stream, 1).await;
    for (to, gone) in [(2, false), (1, true)] {
        let refused = node.port.trim(trim(1, node.id(), to, gone)).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
    }
    assert_eq!(node.port.trim(trim(1, node.id(), 1, false)).await, Ok(()));
    assert_eq!(
        node.port.trim(trim(1, node.id(), 0, false)).await,
        Ok(()),
        "an older one changes nothing"
    );
    let status = node.port.status().await.unwrap();
    assert_eq!((status.device, status.journals.len()), (node.id(), 1));
    assert!(status.capacity_bytes > status.used_bytes && status.used_bytes > 0);
    let journal = &status.journals[0];
    assert_eq!((journal.trim, journal.durable, journal.sealed), (Lsn(1), Lsn(1), false));
    assert_eq!((journal.bytes, journal.oldest_age), (0, None));
}

/// Nothing is taken beyond the credit; what is durable gives it back, a repeat at once.
async fn credit_is_given_back(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    let cost = entry_cost(entry(1, 0, 200_000).encoded_bytes());
    let (mut lsn, mut spent) = (0, 0);
    for _ in 0..20 {
        let limit = seen(&mut stream, |state| state.credit_limit >= spent + cost)
            .await
            .credit_limit;
        while spent + cost <= limit {
            stream.sender.send(entry(1, lsn, 200_000), Lsn(0)).unwrap();
            lsn += 1;
            spent += cost;
        }
        durable(&mut stream, lsn).await;
        node.port.trim(trim(1, node.id(), lsn, false)).await.unwrap();
        stream.sender.send(entry(1, lsn - 1, 200_000), Lsn(0)).unwrap();
        spent += cost;
    }
    assert!(spent > 2 * CAPACITY as u64, "it went round");
    let limit = stream.state.borrow().credit_limit;
    let mut error = None;
    while error.is_none() && spent < 2 * limit {
        error = stream.sender.send(entry(1, lsn, 900_000), Lsn(0)).err();
        lsn += 1;
        spent += entry_cost(900_000);
    }
    assert_eq!(error.map(|error| error.kind()), Some(Kind::Throttled));
}

/// Whoever opens the journal again detaches the writer before it.
async fn the_last_writer_counts(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut first = node.open(1).await;
    first.sender.send(entry(1, 0, 100), Lsn(0)).unwrap();
    durable(&mut first, 1).await;
    let mut second = node.open(1).await;
    assert_eq!(second.next, Lsn(1));
    let replaced = seen(&mut first, |_| false).await.failed.expect("it has ended");
    assert_eq!(replaced.kind(), Kind::Unavailable, "{replaced}");
    assert!(first.sender.send(entry(1, 1, 100), Lsn(0)).is_err());
    second.sender.send(entry(1, 1, 100), Lsn(0)).unwrap();
    durable(&mut second, 2).await;
}

/// A dropped stream gives its credit back, and what was taken through it is carried out.
async fn a_dropped_writer_is_detached(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    stream.sender.send(entry(1, 0, 100), Lsn(0)).unwrap();
    durable(&mut stream, 1).await;
    drop(stream);
    // The gauge is shown with each group.
    let mut attempt = 1;
    loop {
        node.port.seal(seal(7, node.id(), attempt)).await.unwrap();
        attempt += 1;
        let metrics = node.runtime.metrics.text();
        if metrics.lines().any(|line| line == "tailwater_wal_credit_bytes 0") {
            break;
        }
        assert!(attempt < 1000, "{metrics}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(node.open(1).await.next, Lsn(1));
    assert_eq!(lsns(&node.read(1, 0..9).await.unwrap()), [0]);
}

/// A read that is dropped amid its entries stops; the next one reads them all.
async fn a_dropped_read_stops(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    for lsn in 0..5 {
        let cost = entry_cost(entry(1, lsn, 800_000).encoded_bytes()) * (lsn + 1);
        seen(&mut stream, |state| state.credit_limit >= cost).await;
        stream.sender.send(entry(1, lsn, 800_000), Lsn(0)).unwrap();
        durable(&mut stream, lsn + 1).await;
    }
    for _ in 0..20 {
        let mut read = node.port.read_journal(node.range(1, 0..5)).await.unwrap();
        assert_eq!(read.try_next().await.unwrap().unwrap().lsn(), Lsn(0));
        let mut scan = node.port.scan_journal(node.range(1, 0..5)).await.unwrap();
        assert_eq!(scan.try_next().await.unwrap().unwrap().lsn, Lsn(0));
    }
    assert_eq!(lsns(&node.read(1, 0..5).await.unwrap()), [0, 1, 2, 3, 4]);
}

/// A stop writes what was taken and tells the writers.
async fn a_stop_is_told(via: Via) {
    let (node, _) = Node::new(via).await;
    let mut stream = node.open(1).await;
    for lsn in 0..50 {
        stream.sender.send(entry(1, lsn, 100), Lsn(0)).unwrap();
    }
    durable(&mut stream, 50).await;
    node.wal.shutdown().await;
    let state = seen(&mut stream, |_| false).await;
    assert_eq!((state.durable, state.failed), (Lsn(50), Some(Error::Shutdown)));
    assert_eq!(stream.sender.send(entry(1, 50, 1), Lsn(0)), Err(Error::Shutdown));
    assert_eq!(node.port.seal(seal(1, node.id(), 1)).await, Err(Error::Shutdown));
}

/// An entry of 128 MiB is taken, and read back whole.
async fn a_large_entry_passes(via: Via) {
    const BYTES: usize = 128 << 20;
    let node = Node::large(BYTES + (1 << 20), via).await;
    let mut stream = node.open(1).await;
    let large = entry(1, 0, BYTES);
    let cost = entry_cost(large.encoded_bytes());
    seen(&mut stream, |state| state.credit_limit >= cost).await;
    stream.sender.send(large.clone(), Lsn(0)).unwrap();
    durable(&mut stream, 1).await;
    let found = node.read(1, 0..1).await.unwrap();
    assert!(found[0].header() == large.header() && found[0].chunks()[1] == large.chunks()[1]);
    let batches = node.port.read_stream(node.read_stream(1, 0..1, 1)).await.unwrap();
    assert!(batches[0] == large.chunks()[1]);
}

/// A journal that is gone isn't opened again, by whom ever and after any restart, nor one with a lower id that never came
/// here; their seals answer and leave nothing behind.
async fn what_is_gone_stays_gone(via: Via) {
    let (mut node, device) = Node::new(via).await;
    drop(node.open(3).await);
    node.port.seal(seal(3, node.id(), 1)).await.unwrap();
    node.port.trim(trim(3, node.id(), 0, true)).await.unwrap();
    for gone in [3, 9] {
        for _ in 0..2 {
            for late in [gone, gone - 1] {
                let opened = node.port.open_journal(open(late, node.id())).await.map(drop);
                let journal = JournalId(late);
                assert_eq!(opened, Err(Error::JournalFenced { journal }));
                let sealed = node.port.seal(seal(late, node.id(), 1)).await.unwrap();
                assert_eq!((sealed.end, sealed.commit), (Lsn(0), Lsn(0)));
                assert_eq!(node.port.trim(trim(late, node.id(), 0, true)).await, Ok(()));
            }
            assert_eq!(node.port.status().await.unwrap().journals, []);
            node = node.restart(&device).await;
        }
        // The next one never was here, whoever may have been asked to open it.
        node.port.trim(trim(9, node.id(), 0, true)).await.unwrap();
    }
    assert_eq!(node.open(10).await.next, Lsn(0));
}
