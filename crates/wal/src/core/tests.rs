use tailwater_format::device::record_cost;
use tailwater_rpc::Error;
use tailwater_rpc::wal::{AppendState, OpenJournal, entry_cost};
use tailwater_runtime::clock::Instant;
use tailwater_types::{DeviceId, JournalId, LeaderEpoch, Lsn, LsnRange, NodeEpoch, StreamId};
use tokio::sync::watch;

use super::Attached;
use super::space::Purpose;
use super::*;
use crate::device::{Extent, Placed};
use crate::journal::{Most, Source};
use crate::testing::{entry, open, seal, slice, trim};

const RING: u64 = 4 << 20;

fn device() -> DeviceId {
    DeviceId::from_bytes([1; 16])
}

fn core(max_entry_bytes: usize) -> Core {
    let limits = Limits {
        credit_window_bytes: 256 << 10,
        max_entry_bytes,
        memory_bytes: 1 << 20,
    };
    Core::new(limits, Space::new(RING, 5, (0, 0)), Default::default(), JournalId(0))
}

/// Completes what is queued, each record in writes of its own, and moves the trim position where it can go.
fn run(core: &mut Core) {
    while core.has_work() {
        let mut head = core.space().head();
        let group = core.take_group(1 << 20);
        let place = |queued: Queued| {
            let bytes = match &queued.work {
                Work::Entry { entry, .. } => entry.encoded_bytes(),
                Work::Record(record) => record.encoded_bytes(),
            };
            let extents = [Extent {
                position: head + 72,
                length: bytes as u32,
            }]
            .into();
            let placed = Placed { write: head, extents };
            head += record_cost(bytes);
            (queued, placed)
        };
        let done: Vec<_> = group.into_iter().map(place).collect();
        if !done.is_empty() {
            core.complete(done, head, now());
        }
        if let Some(trim) = core.next_trim() {
            core.trimmed(trim);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> Instant {
    Instant::now()
}

fn attach(core: &mut Core, journal: u64) -> Attached {
    core.open(&open(journal, device())).unwrap();
    run(core);
    core.attach(&open(journal, device())).unwrap()
}

fn limit(state: &watch::Receiver<AppendState>) -> u64 {
    state.borrow().credit_limit
}

/// Sends entries of `bytes` until there is no credit for another; answers how many.
fn fill(core: &mut Core, journal: u64, attached: &Attached, bytes: usize) -> u64 {
    let mut sent = 0;
    loop {
        let next = core
            .statuses(now())
            .iter()
            .find(|status| status.journal == JournalId(journal))
            .unwrap()
            .durable;
        match core.append(JournalId(journal), attached.id, entry(journal, next.0, bytes), Lsn(0)) {
            Ok(_) => sent += 1,
            Err(Error::Throttled(_)) => return sent,
            Err(error) => panic!("{error}"),
        }
        run(core);
    }
}

/// Every cell of the table in docs/design.md section 5 that an append can meet, in the table's order.
#[test]
fn appends_are_checked() {
    let mut core = core(1 << 20);
    let a = attach(&mut core, 7);
    let send = |core: &mut Core, entry, attachment| core.append(JournalId(7), attachment, entry, Lsn(0));
    assert_eq!(send(&mut core, entry(7, 0, 10), a.id), Ok(true));
    let journal = JournalId(7);
    let gap = Error::LsnGap {
        journal,
        expected: Lsn(1),
        found: Lsn(3),
    };
    assert_eq!(send(&mut core, entry(7, 3, 10), a.id), Err(gap));
    assert_eq!(send(&mut core, entry(7, 0, 10), a.id), Ok(false), "the same again");
    assert!(matches!(send(&mut core, entry(7, 0, 11), a.id), Err(Error::Corrupt(_))));
    assert!(matches!(send(&mut core, entry(8, 1, 10), a.id), Err(Error::Invalid(_))));
    let taken_away = slice(900, 0, &[10]);
    let fenced = tailwater_format::entry::Entry::encode(journal, Lsn(1), vec![taken_away.clone()]);
    assert_eq!(
        send(&mut core, fenced, a.id),
        Err(Error::StreamFenced { stream: StreamId(900) })
    );
    let mut newer = taken_away;
    newer.header.leader_epoch = LeaderEpoch(3);
    assert_eq!(
        send(
            &mut core,
            tailwater_format::entry::Entry::encode(journal, Lsn(1), vec![newer]),
            a.id
        ),
        Ok(true)
    );
    let back = tailwater_format::entry::Entry::encode(journal, Lsn(2), vec![slice(7, 0, &[5])]);
    assert!(
        matches!(send(&mut core, back, a.id), Err(Error::Invalid(_))),
        "offsets go back"
    );
    let large = core.max_entry_bytes() + 1;
    assert!(matches!(
        send(&mut core, entry(7, 2, large), a.id),
        Err(Error::Invalid(_))
    ));
    let b = core.attach(&open(7, device())).unwrap();
    assert_eq!(b.next, Lsn(2));
    assert!(
        matches!(send(&mut core, entry(7, 2, 10), a.id), Err(Error::Unavailable { .. })),
        "detached"
    );
    assert!(a.state.borrow().failed.is_some());
    core.seal(&seal(7, device(), 1)).unwrap();
    assert_eq!(
        send(&mut core, entry(7, 2, 10), b.id),
        Err(Error::JournalFenced { journal })
    );
}

/// Openings: the same again is the same; older epochs, newer epochs, other contents and sealed journals are refused.
#[test]
fn openings_are_checked() {
    let mut core = core(1 << 20);
    let journal = JournalId(7);
    attach(&mut core, 7);
    assert!(core.open(&open(7, device())).is_ok());
    let with_epoch = |epoch| OpenJournal {
        node_epoch: NodeEpoch(epoch),
        ..open(7, device())
    };
    assert_eq!(core.open(&with_epoch(4)), Err(Error::JournalFenced { journal }));
    assert_eq!(core.open(&with_epoch(6)), Err(Error::JournalEpochUnknown { journal }));
    let other = OpenJournal {
        ack_quorum: 2,
        ..open(7, device())
    };
    assert!(matches!(core.open(&other), Err(Error::Invalid(_))));
    core.seal(&seal(7, device(), 1)).unwrap();
    assert_eq!(core.open(&open(7, device())), Err(Error::JournalFenced { journal }));
    assert_eq!(
        core.attach(&open(7, device())).unwrap_err(),
        Error::JournalFenced { journal }
    );
}

/// A seal ends behind what was taken; it can be repeated, raised, not lowered; the writer hears of it after its acks.
#[test]
fn seals_are_checked() {
    let mut core = core(1 << 20);
    let attached = attach(&mut core, 7);
    core.append(JournalId(7), attached.id, entry(7, 0, 10), Lsn(0)).unwrap();
    let first = core.seal(&seal(7, device(), 2)).unwrap();
    assert_eq!(core.seal(&seal(7, device(), 2)), Ok(first));
    assert_eq!(
        core.seal(&seal(7, device(), 1)),
        Err(Error::ControllerFenced { journal: JournalId(7) })
    );
    assert!(attached.state.borrow().failed.is_none(), "not flushed yet");
    run(&mut core);
    let state = attached.state.borrow().clone();
    assert_eq!(
        (state.durable, state.failed),
        (Lsn(1), Some(Error::JournalFenced { journal: JournalId(7) }))
    );
    assert!(core.seal(&seal(7, device(), 3)).unwrap().0 > first.0);
    let sealed = core.sealed(JournalId(7)).unwrap();
    assert_eq!((sealed.end, sealed.commit), (Lsn(1), Lsn(1)));
    core.seal(&seal(8, device(), 1)).unwrap();
    assert_eq!(core.sealed(JournalId(8)).unwrap().end, Lsn(0), "never heard of");
    assert_eq!(
        core.open(&open(8, device())),
        Err(Error::JournalFenced { journal: JournalId(8) })
    );
}

/// Trims: beyond what is durable or gone without a seal is refused, older ones change nothing, unknown journals are fine.
#[test]
fn trims_are_checked() {
    let mut core = core(1 << 20);
    let attached = attach(&mut core, 7);
    for lsn in 0..4 {
        core.append(JournalId(7), attached.id, entry(7, lsn, 10), Lsn(0))
            .unwrap();
    }
    assert!(
        matches!(core.trim(&trim(7, device(), 1, false)), Err(Error::Invalid(_))),
        "not durable yet"
    );
    run(&mut core);
    core.trim(&trim(7, device(), 3, false)).unwrap();
    core.trim(&trim(7, device(), 2, false)).unwrap();
    let version = tailwater_types::MetadataVersion(1003);
    assert_eq!(
        core.source(JournalId(7), Lsn(2)).unwrap_err(),
        Error::Trimmed { version }
    );
    assert!(core.source(JournalId(7), Lsn(3)).unwrap().is_some());
    assert!(core.source(JournalId(7), Lsn(4)).unwrap().is_none());
    assert!(
        matches!(core.trim(&trim(7, device(), 4, true)), Err(Error::Invalid(_))),
        "not sealed"
    );
    assert_eq!(core.trim(&trim(99, device(), 4, false)), Ok(None));
    core.seal(&seal(7, device(), 1)).unwrap();
    core.trim(&trim(7, device(), 4, true)).unwrap();
    run(&mut core);
    assert_eq!(core.source(JournalId(7), Lsn(3)).unwrap_err(), Error::NotHere);
    assert_eq!((core.journals(), core.memory_bytes()), (0, 0));
}

/// Sources found together are those of each LSN, from the range's start to its end or to what is durable: one at least, and
/// together within the bounds.
#[test]
fn sources_found_together_are_within_their_bounds() {
    let mut core = core(1 << 20);
    let id = JournalId(7);
    let attached = attach(&mut core, 7);
    let sizes = [10, 300, 50_000, 10, 10, 70_000, 20, 10];
    for (&bytes, lsn) in sizes.iter().zip(0..) {
        core.append(id, attached.id, entry(7, lsn, bytes), Lsn(0)).unwrap();
    }
    run(&mut core);
    core.append(id, attached.id, entry(7, 8, 10), Lsn(0)).unwrap();
    core.trim(&trim(7, device(), 1, false)).unwrap();
    let lsn_and_bytes = |source| match source {
        Source::Memory(entry) => (entry.lsn().0, entry.encoded_bytes() as u64),
        Source::Device(_) => panic!("all of it is in memory"),
    };
    for (start, end) in (1..10).flat_map(|start| (start..12).map(move |end| (start, end))) {
        for (entries, bytes) in [(1, 1 << 20), (3, 1 << 20), (99, 1), (99, 60_000), (99, 1 << 20)] {
            let range = LsnRange::new(Lsn(start), Lsn(end));
            let found = core.sources(id, range, Most { entries, bytes }).unwrap();
            let found: Vec<_> = found.into_iter().map(lsn_and_bytes).collect();
            let wanted = (start..end.min(8)).count();
            assert!(
                found.iter().map(|(lsn, _)| *lsn).eq((start..).take(found.len())),
                "{found:?}"
            );
            assert!(
                found.len() >= wanted.min(1) && found.len() <= wanted.min(entries),
                "{found:?}"
            );
            let sum = |found: &[(u64, u64)]| found.iter().map(|(_, bytes)| bytes).sum::<u64>();
            assert!(found.len() <= 1 || sum(&found) <= bytes, "{found:?}");
            if found.len() < wanted.min(entries) {
                let next = core
                    .source(id, Lsn(start + found.len() as u64))
                    .unwrap()
                    .map(lsn_and_bytes);
                assert!(sum(&found) + next.unwrap().1 > bytes, "there was room for {next:?}");
            }
        }
    }
    let below = core.sources(id, LsnRange::new(Lsn(0), Lsn(9)), Most { entries: 9, bytes: 99 });
    assert!(matches!(below, Err(Error::Trimmed { .. })), "{below:?}");
}

/// Whatever was promised fits, however many writers there are; a trim gives it back.
#[test]
fn credit_never_exceeds_the_ring() {
    for writers in 1..6 {
        let mut core = core(64 << 10);
        let attached: Vec<_> = (0..writers).map(|journal| attach(&mut core, journal)).collect();
        for (journal, attached) in attached.iter().enumerate() {
            fill(&mut core, journal as u64, attached, 20_000);
        }
        let space = *core.space();
        assert!(
            space.used() + space.granted() <= space.usable(),
            "{writers} writers: {space:?}"
        );
        assert!(
            space.free() < 64 << 10,
            "{writers} writers leave room unused: {space:?}"
        );
        for journal in 0..writers {
            let durable = core.statuses(now())[journal as usize].durable;
            core.trim(&trim(journal, device(), durable.0, false)).unwrap();
        }
        run(&mut core);
        assert!(core.space().used() < RING / 16, "{writers} writers: {:?}", core.space());
        assert!(fill(&mut core, 0, &attached[0], 20_000) > 10);
    }
}

/// The largest entry that is announced can be sent, on a device that is large for it and on one that is small.
#[test]
fn the_largest_entry_always_gets_credit() {
    for max_entry_bytes in [4096, 1 << 20, 64 << 20] {
        let mut core = core(max_entry_bytes);
        let attached = attach(&mut core, 7);
        let max = core.max_entry_bytes();
        assert!(
            max <= max_entry_bytes && max >= max_entry_bytes.min(RING as usize / 3),
            "{max}"
        );
        assert!(limit(&attached.state) >= entry_cost(max), "{max}");
    }
}

/// An unused grant comes back when its writer goes, and a repeated entry costs nothing in the end.
#[test]
fn credit_comes_back() {
    let mut core = core(64 << 10);
    let attached = attach(&mut core, 7);
    assert!(core.space().granted() > 0);
    core.append(JournalId(7), attached.id, entry(7, 0, 10), Lsn(0)).unwrap();
    run(&mut core);
    let before = (limit(&attached.state), core.space().granted());
    core.append(JournalId(7), attached.id, entry(7, 0, 10), Lsn(0)).unwrap();
    assert_eq!(
        (limit(&attached.state), core.space().granted()),
        (before.0 + entry_cost(10), before.1)
    );
    core.detach(JournalId(7), attached.id);
    assert_eq!(core.space().granted(), 0);
}

/// A full ring still takes seals and trims, and openings only as long as those have enough left.
#[test]
fn the_reserve_is_kept_for_seals_and_trims() {
    let mut space = Space::new(RING, 5, (0, RING - RING / 20));
    let mut count = |purpose| (0..).take_while(|_| space.take(4096, purpose)).count();
    let order = [Purpose::Opening, Purpose::Seal, Purpose::Trim, Purpose::Release];
    let counts = order.map(&mut count);
    assert!(counts.iter().all(|&count| count >= 5), "{counts:?}");
    let mut core = core(64 << 10);
    let attached = attach(&mut core, 7);
    fill(&mut core, 7, &attached, 50_000);
    let mut opened = 0;
    while core.open(&open(100 + opened, device())).is_ok() {
        opened += 1;
        run(&mut core);
    }
    assert!(core.seal(&seal(7, device(), 1)).is_ok());
    run(&mut core);
    assert!(core.trim(&trim(7, device(), 3, false)).is_ok());
    run(&mut core);
}

/// Trims that free nothing yet can't use up what the one that does needs.
#[test]
fn the_oldest_journal_can_always_be_trimmed() {
    let mut core = core(64 << 10);
    let (old, busy) = (attach(&mut core, 1), attach(&mut core, 2));
    core.append(JournalId(1), old.id, entry(1, 0, 10), Lsn(0)).unwrap();
    run(&mut core);
    let sent = fill(&mut core, 2, &busy, 10);
    let refused = (1..=sent).find(|&to| {
        let refused = core.trim(&trim(2, device(), to, false)).is_err();
        run(&mut core);
        refused
    });
    assert!(refused.is_some(), "{sent} trims of a journal that isn't the oldest");
    assert!(core.trim(&trim(1, device(), 1, false)).is_ok());
    run(&mut core);
    assert!(core.trim(&trim(2, device(), sent, false)).is_ok());
    run(&mut core);
    assert!(core.space().used() < RING / 16, "{:?}", core.space());
}

/// A journal whose last record is old doesn't pin the ring: the record is copied forward.
#[test]
fn old_journal_records_are_copied_forward() {
    let mut core = core(64 << 10);
    attach(&mut core, 1);
    core.seal(&seal(2, device(), 4)).unwrap();
    let busy = attach(&mut core, 3);
    for _ in 0..20 {
        fill(&mut core, 3, &busy, 30_000);
        let durable = core.statuses(now())[2].durable;
        core.trim(&trim(3, device(), durable.0, false)).unwrap();
        run(&mut core);
    }
    assert!(core.space().trim() > 2 * RING, "{:?}", core.space());
    assert_eq!(
        core.seal(&seal(2, device(), 3)),
        Err(Error::ControllerFenced { journal: JournalId(2) })
    );
}

/// Memory holds the newest entries within its bound, over all journals.
#[test]
fn memory_is_bounded() {
    let mut core = core(64 << 10);
    let (a, b) = (attach(&mut core, 1), attach(&mut core, 2));
    for lsn in 0..60 {
        core.append(JournalId(1), a.id, entry(1, lsn, 20_000), Lsn(0)).unwrap();
        core.append(JournalId(2), b.id, entry(2, lsn, 10), Lsn(0)).unwrap();
        run(&mut core);
    }
    assert!(
        core.memory_bytes() <= 1 << 20 && core.memory_bytes() > 900 << 10,
        "{}",
        core.memory_bytes()
    );
    let in_memory = |journal, lsn| {
        matches!(
            core.source(JournalId(journal), Lsn(lsn)),
            Ok(Some(crate::journal::Source::Memory(_)))
        )
    };
    assert!(!in_memory(1, 0) && !in_memory(2, 0) && in_memory(1, 59) && in_memory(2, 59));
}

/// A commit LSN is what a sender tells, or what is durable here where one member is enough.
#[test]
fn the_commit_lsn_follows_the_quorum() {
    let mut core = core(64 << 10);
    let alone = attach(&mut core, 1);
    core.append(JournalId(1), alone.id, entry(1, 0, 10), Lsn(0)).unwrap();
    let request = OpenJournal {
        ack_quorum: 2,
        ..open(2, device())
    };
    core.open(&request).unwrap();
    run(&mut core);
    let of_two = core.attach(&request).unwrap();
    for lsn in 0..3 {
        core.append(JournalId(2), of_two.id, entry(2, lsn, 10), Lsn(lsn.saturating_sub(1)))
            .unwrap();
    }
    run(&mut core);
    let statuses = core.statuses(now());
    assert_eq!((statuses[0].commit, statuses[1].commit), (Lsn(1), Lsn(1)));
    assert_eq!((statuses[1].durable, statuses[1].bytes > 200), (Lsn(3), true));
}
