use std::sync::Arc;

use tailwater_format::device::{MIN_FULL_WRITE_BYTES, RecordKind};
use tailwater_runtime::Device;
use tailwater_runtime::Metrics;
use tailwater_runtime::device::MemoryDevice;
use tailwater_types::{DeviceEpoch, DeviceId, NodeId};

use super::*;
use crate::Error;
use crate::testing::{entry, small_config};

const CAPACITY: u64 = RING_START + (512 << 10);

/// Positions go round the ring behind the superblocks, which the ring leaves alone.
#[test]
fn positions_go_round_the_ring() {
    let geometry = Geometry::of(8192 + 3 * 4096 + 100);
    assert_eq!(geometry.ring_bytes(), 3 * 4096);
    let bytes = (geometry.byte(0), geometry.byte(3 * 4096), geometry.byte(7 * 4096));
    assert_eq!(bytes, (8192, 8192, 12288));
    assert_eq!(
        (geometry.before_wrap(0), geometry.before_wrap(5 * 4096)),
        (3 * 4096, 4096)
    );
}

/// A part of a record may begin and end within extents, and cover several.
#[test]
fn parts_of_extents() {
    let extent = |position, length| Extent { position, length };
    let extents = [extent(100, 10), extent(200, 5), extent(300, 10)];
    assert_eq!(part_of(&extents, 2, 3), [extent(102, 3)]);
    assert_eq!(
        part_of(&extents, 8, 9),
        [extent(108, 2), extent(200, 5), extent(300, 2)]
    );
    assert_eq!(part_of(&extents, 15, 10), [extent(300, 10)]);
    assert_eq!(part_of(&extents, 10, 0), []);
}

/// A formatted device, with a superblock that has seen nothing but its epoch and trim position.
fn device(memory: &MemoryDevice, epoch: u64, trim: u64) -> (Arc<dyn Device>, Found) {
    let device: Arc<dyn Device> = Arc::new(memory.clone());
    let id = DeviceId::from_bytes([9; 16]);
    let window = small_config(CAPACITY).flush_window.0;
    let (mut superblocks, _) = Superblocks::open(device.clone(), "memory", NodeId(1), id, window).unwrap();
    superblocks
        .store(|superblock| {
            (superblock.epoch, superblock.trim, superblock.flushed) = (DeviceEpoch(epoch), trim, trim);
        })
        .unwrap();
    let found = Superblocks::open(device.clone(), "memory", NodeId(1), id, window)
        .unwrap()
        .1;
    (device, found)
}

fn writer(memory: &MemoryDevice, epoch: u64, head: u64) -> LogWriter {
    let (device, found) = device(memory, epoch, 0);
    let id = (found.superblock.device, DeviceEpoch(epoch));
    let window = found.superblock.window_bytes;
    LogWriter::new(
        device,
        Geometry::of(CAPACITY),
        id,
        (0, head),
        MIN_FULL_WRITE_BYTES,
        window,
    )
}

fn append(writer: &mut LogWriter, lsn: u64, bytes: usize) -> Placed {
    writer.append(RecordKind::Entry, entry(1, lsn, bytes).chunks()).unwrap()
}

/// The LSNs found, and the log's end.
fn recovered(memory: &MemoryDevice, epoch: u64, trim: u64) -> Result<(Vec<u64>, u64), Error> {
    let (device, found) = device(memory, epoch, trim);
    let mut lsns = Vec::new();
    let log = recover(&device, "memory", &found, |record, _| {
        match record {
            Record::Entry { header, .. } => lsns.push(header.lsn.0),
            Record::Journal(record) => lsns.push(record.next.0),
        }
        Ok(())
    })?;
    Ok((lsns, log.head))
}

/// A write behind a hole is dropped, and stays so when the next life fills the hole exactly up to it.
#[test]
fn a_leftover_of_an_earlier_life_never_counts_again() {
    let memory = MemoryDevice::new(CAPACITY as usize);
    let mut first = writer(&memory, 1, 0);
    for lsn in 0..3 {
        append(&mut first, lsn, 60_000);
    }
    assert_eq!(
        (first.head(), memory.unflushed_writes()),
        (128 << 10, 2),
        "two full writes"
    );
    let memory = memory.power_cut(4096, |write, _| write == 1);
    assert_eq!(recovered(&memory, 1, 0).unwrap(), (vec![], 0));
    let mut second = writer(&memory, 2, 0);
    for lsn in 0..2 {
        append(&mut second, lsn, 60_000);
    }
    assert_eq!(
        second.head(),
        64 << 10,
        "up to where the leftover begins, with the beginning of entry 1"
    );
    assert_eq!(recovered(&memory, 2, 0).unwrap(), (vec![0], 64 << 10));
}

/// The log may begin with the end of a record that was trimmed, and end with the beginning of one.
#[test]
fn parts_of_records_at_either_end_are_left_out() {
    let memory = MemoryDevice::new(CAPACITY as usize);
    let mut log = writer(&memory, 1, 0);
    for lsn in 0..6 {
        append(&mut log, lsn, 60_000);
    }
    assert_eq!(
        recovered(&memory, 1, 64 << 10).unwrap(),
        (vec![2, 3, 4], 5 * (64 << 10))
    );
}

/// An entry may be far larger than a write and than the window, and cross the ring's end.
#[test]
fn large_entries_are_cut_and_put_together() {
    let memory = MemoryDevice::new(CAPACITY as usize);
    let mut log = writer(&memory, 1, 0);
    append(&mut log, 0, 300_000);
    log.flush().unwrap();
    log.set_trim(log.head());
    let trim = log.head();
    let placed = append(&mut log, 1, 400_000);
    log.flush().unwrap();
    assert!(placed.extents.len() > 6 && log.head() > 512 << 10);
    assert_eq!(recovered(&memory, 1, trim).unwrap(), (vec![1], log.head()));
    let (device, _) = device(&memory, 1, trim);
    let reader = LogReader::new(device, Geometry::of(CAPACITY), &Metrics::new());
    let expected = entry(1, 1, 400_000).chunks().concat();
    for ahead_to in [0, log.head()] {
        let read = reader
            .read(&placed.extents, &mut ReadAhead::default(), ahead_to)
            .unwrap();
        assert!(read == expected);
    }
}

/// What stands in the ring from another formatting, or under an epoch that the superblock doesn't know, is no log of ours.
#[test]
fn writes_of_other_devices_and_later_epochs_are_not_taken() {
    let memory = MemoryDevice::new(CAPACITY as usize);
    let (device, found) = device(&memory, 1, 0);
    let other = (DeviceId::from_bytes([8; 16]), DeviceEpoch(1));
    let window = found.superblock.window_bytes;
    let mut log = LogWriter::new(
        device,
        Geometry::of(CAPACITY),
        other,
        (0, 0),
        MIN_FULL_WRITE_BYTES,
        window,
    );
    append(&mut log, 0, 1000);
    log.flush().unwrap();
    assert_eq!(recovered(&memory, 1, 0).unwrap(), (vec![], 0));
    let mut later = writer(&memory, 5, 0);
    append(&mut later, 0, 1000);
    later.flush().unwrap();
    let error = recovered(&memory, 4, 0).unwrap_err().to_string();
    assert!(error.contains("written under epoch 5, the superblock has 4"), "{error}");
}

/// A hole below a position that a later write says had been flushed is damage, although the superblock is older.
#[test]
fn a_hole_below_a_flushed_position_is_damage() {
    let memory = MemoryDevice::new(CAPACITY as usize);
    let mut log = writer(&memory, 1, 0);
    for lsn in 0..3 {
        append(&mut log, lsn, 1000);
        log.flush().unwrap();
    }
    assert_eq!(recovered(&memory, 1, 0).unwrap(), (vec![0, 1, 2], 3 * 4096));
    memory.damage(RING_START as usize + 200, b"damage");
    match recovered(&memory, 1, 0) {
        Err(Error::Damaged {
            position, byte, detail, ..
        }) => {
            assert_eq!((position, byte), (0, RING_START));
            assert!(
                detail.contains("one at 4096 says that the log was flushed up to 4096"),
                "{detail}"
            );
        }
        other => panic!("{other:?}"),
    }
}
