//! Cleaning against a reference model, over random histories with transactions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use proptest::prelude::*;
use tailwater_kafka::batch::{BatchBuilder, Marker, TransactionEnd, assign};
use tailwater_kafka::record::records;
use tailwater_log::StoredBatch;
use tailwater_runtime::Metrics;
use tailwater_types::LeaderEpoch;

use super::*;

const STREAM: StreamId = StreamId(5);
/// One that is above what markers have at least, and one below.
const RETENTIONS_MS: [i64; 2] = [150_000, 20_000];
const PRODUCERS: i64 = 4;

fn zstd() -> Arc<ZstdPool> {
    Arc::new(ZstdPool::new(1, 1, &Metrics::new()))
}

/// What happens to a log.
#[derive(Clone, Debug)]
enum Event {
    /// By a producer, or by nobody (0); keys and values, `None` a tombstone.
    Write {
        producer: i64,
        records: Vec<(u8, Option<u8>)>,
        codec: Compression,
    },
    End {
        producer: i64,
        commits: bool,
    },
    /// Time goes by, and the log is cleaned in ranges of so many batches; the keys of at most so many bytes are known. It may end
    /// early, behind so many ranges: the next one goes on there. What was aborted may be forgotten where it is clean then.
    Clean {
        after_ms: i64,
        key_bytes: u64,
        batches: usize,
        stops: Option<usize>,
        forgets: bool,
    },
}

/// A record as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    key: u8,
    value: Option<u8>,
    time_ms: i64,
    producer: i64,
    /// Which transaction of its producer it belongs to.
    transaction: Option<usize>,
}

/// The log and everything that ever happened to it.
struct World {
    batches: Vec<Bytes>,
    state: PartitionState,
    written: BTreeMap<Offset, Written>,
    /// Of each transaction: its producer, and how it ended.
    transactions: Vec<(i64, Option<TransactionEnd>)>,
    open: BTreeMap<i64, usize>,
    sequences: BTreeMap<i64, i32>,
    now_ms: i64,
    /// `delete.retention.ms`.
    retention_ms: i64,
    /// Everything below was cleaned, but for keys that there was no room for.
    clean_end: Offset,
    /// Of a cleaning that ended early: where it came to, where its keys ended, and what was dirty for it.
    rest: Option<(Offset, Offset, Offset)>,
    /// Tombstones that were the newest of their key in a cleaning, and when first.
    met_ms: BTreeMap<Offset, i64>,
    zstd: Arc<ZstdPool>,
}

impl World {
    fn new(retention_ms: i64) -> Self {
        Self {
            batches: Vec::new(),
            state: PartitionState::empty(Offset::ZERO),
            written: BTreeMap::new(),
            transactions: Vec::new(),
            open: BTreeMap::new(),
            sequences: BTreeMap::new(),
            now_ms: 10_000,
            retention_ms,
            clean_end: Offset::ZERO,
            rest: None,
            met_ms: BTreeMap::new(),
            zstd: zstd(),
        }
    }

    fn run(&mut self, event: &Event) {
        match event {
            Event::Write {
                producer,
                records,
                codec,
            } => self.write(*producer, records, *codec),
            Event::End { producer, commits } => self.end(*producer, *commits),
            Event::Clean {
                after_ms,
                key_bytes,
                batches,
                stops,
                forgets,
            } => {
                self.now_ms += after_ms;
                self.clean(*key_bytes, *batches, *stops);
                if *forgets {
                    self.state.trim_aborted(self.clean_end);
                }
                self.check();
            }
        }
    }

    fn append(&mut self, mut batch: BytesMut) -> Offset {
        let base = self.state.end();
        assign(&mut batch, base, LeaderEpoch(0));
        let stored = StoredBatch::read(&batch).unwrap();
        self.state.replay(&stored, self.now_ms).unwrap();
        self.batches.push(batch.freeze());
        base
    }

    fn write(&mut self, producer: i64, records: &[(u8, Option<u8>)], codec: Compression) {
        let mut builder = BatchBuilder::new();
        let mut transaction = None;
        if producer > 0 {
            let sequence = self.sequences.entry(producer).or_default();
            builder = builder.producer(producer, 0, *sequence).transactional();
            *sequence += records.len() as i32;
            let transactions = &mut self.transactions;
            let opened = || {
                transactions.push((producer, None));
                transactions.len() - 1
            };
            let open = *self.open.entry(producer).or_insert_with(opened);
            transaction = Some(open);
        }
        let times: Vec<_> = (0..records.len()).map(|at| self.now_ms + 7 * (at as i64 % 3)).collect();
        for ((key, value), time_ms) in records.iter().zip(&times) {
            let value = value.map(|value| [value; 9]);
            builder.push(*time_ms, Some(&[*key]), value.as_ref().map(|value| &value[..]), &[]);
        }
        let zstd = &self.zstd;
        let encode = |plain: &[u8]| {
            compress(Encoding::by_default(codec), plain, zstd, usize::MAX)
                .unwrap()
                .into()
        };
        let batch = match codec {
            Compression::None => builder.build(),
            codec => builder.build_compressed(codec, encode),
        };
        let base = self.append(batch);
        for (at, ((key, value), time_ms)) in records.iter().zip(times).enumerate() {
            let written = Written {
                key: *key,
                value: *value,
                time_ms,
                producer,
                transaction,
            };
            self.written.insert(base.advance(at as i64), written);
        }
    }

    fn end(&mut self, producer: i64, commits: bool) {
        let end = if commits {
            TransactionEnd::Commit
        } else {
            TransactionEnd::Abort
        };
        let marker = Marker {
            end,
            coordinator_epoch: 3,
        };
        self.append(marker.build(producer, 0, self.now_ms));
        if let Some(open) = self.open.remove(&producer) {
            self.transactions[open].1 = Some(end);
        }
    }

    /// What a pass does, without objects: reads keys of what is dirty, then writes ranges anew, in order.
    fn clean(&mut self, key_bytes: u64, batches: usize, stops: Option<usize>) {
        let stable = self.state.last_stable_offset();
        let rest = self.rest.take();
        let (from, mut end, first_dirty) = rest.unwrap_or((Offset::ZERO, stable, self.clean_end.min(stable)));
        let first_dirty = first_dirty.max(from);
        let keys = NewestOffsets::new(key_bytes, 99);
        let mut reader = KeyReader::new(STREAM, &self.state, keys, self.zstd.clone());
        let dirty = OffsetRange::new(first_dirty, end);
        for batch in &self.batches {
            if let Some(stopped) = reader.read(batch, dirty).unwrap() {
                end = stopped;
                break;
            }
        }
        let times = Times {
            now_ms: self.now_ms,
            delete_retention_ms: self.retention_ms,
        };
        let mut filter = Filter::new(
            STREAM,
            &self.state,
            Arc::new(reader.into_keys()),
            self.zstd.clone(),
            times,
        );
        if rest.is_some() {
            filter.goes_on();
        }
        let below = |batches: &[Bytes], offset| {
            let base = |batch: &Bytes| BatchHeader::read(batch).unwrap().base_offset;
            batches.partition_point(|batch| base(batch) < offset)
        };
        let behind = self.batches.split_off(below(&self.batches, end));
        let dirty = self.batches.split_off(below(&self.batches, from));
        let (mut cleaned, mut done_to) = (std::mem::take(&mut self.batches), from);
        for (nth, range) in dirty.chunks(batches).enumerate() {
            if stops == Some(nth) {
                if nth > 0 {
                    self.rest = Some((done_to, end, first_dirty));
                } else {
                    self.rest = rest;
                }
                cleaned.extend(dirty[nth * batches..].iter().cloned());
                break;
            }
            let first = BatchHeader::read(&range[0]).unwrap().base_offset;
            let last = BatchHeader::read(range.last().unwrap()).unwrap().end_offset();
            let run: Bytes = range.concat().into();
            let position = filter.position();
            if last <= first_dirty && filter.leaves(&run, OffsetRange::new(first, last)).unwrap() {
                cleaned.extend(range.iter().cloned());
                done_to = last;
                continue;
            }
            filter.rewind(position);
            let kept = filter.clean(&run, OffsetRange::new(first, last), last).unwrap();
            assert_eq!(
                kept.last().map(|piece| piece.range.end),
                Some(last),
                "a range's last offset has a batch"
            );
            for piece in kept {
                assert_eq!(crc32c::crc32c(&piece.bytes), piece.crc);
                cleaned.push(piece.bytes);
            }
            done_to = last;
        }
        cleaned.extend(behind);
        self.batches = cleaned;
        self.clean_end = self.clean_end.max(done_to);
        for (offset, tombstone) in self.newest(end) {
            if tombstone.value.is_none() && (from..done_to).contains(&offset) {
                self.met_ms.entry(offset).or_insert(self.now_ms);
            }
        }
    }

    /// Whether a record is of a transaction that was aborted, or hasn't ended.
    fn counts(&self, written: &Written) -> bool {
        let ended = written.transaction.map(|at| self.transactions[at].1);
        ended.is_none_or(|end| end == Some(TransactionEnd::Commit))
    }

    /// The newest record of each key below `end`, of those that came to be.
    fn newest(&self, end: Offset) -> BTreeMap<Offset, Written> {
        let mut newest = BTreeMap::new();
        for (offset, written) in self.written.range(..end) {
            if self.counts(written) {
                newest.insert(written.key, (*offset, written.clone()));
            }
        }
        newest.into_values().collect()
    }

    /// Everything that is left, as written.
    fn left(&self) -> BTreeMap<Offset, (BatchHeader, u8, Option<u8>, i64)> {
        let mut left = BTreeMap::new();
        for batch in &self.batches {
            let header = BatchHeader::read(batch).unwrap();
            if header.is_control() {
                continue;
            }
            let body = plain(STREAM, &header, batch, &self.zstd).unwrap();
            for record in records(&body).map(Result::unwrap) {
                let value = record.value.map(|value| value[0]);
                let time_ms = header.base_timestamp_ms + record.timestamp_delta;
                let offset = header.base_offset.advance(record.offset_delta.into());
                left.insert(offset, (header, record.key.unwrap()[0], value, time_ms));
            }
        }
        left
    }

    /// The table that somebody builds who reads everything below the last stable offset as Kafka's consumer does, with the
    /// aborted transactions that a fetch lists.
    fn read_committed(&self) -> BTreeMap<u8, u8> {
        let stable = self.state.last_stable_offset();
        let headers = self.batches.iter().map(|batch| BatchHeader::read(batch).unwrap());
        let markers: BTreeSet<_> = headers
            .filter(|header| header.is_control() && header.count > 0)
            .map(|header| header.base_offset)
            .collect();
        let mut listed = self.state.aborted_within(Offset::ZERO..stable);
        // As a frontend does that finds no marker where it was.
        listed.retain(|aborted| markers.contains(&aborted.last_offset));
        listed.sort_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
        let (mut skipped, mut table) = (BTreeSet::new(), BTreeMap::new());
        for batch in &self.batches {
            let header = BatchHeader::read(batch).unwrap();
            if header.base_offset >= stable {
                break;
            }
            while let Some(next) = listed.pop_if(|next| next.first_offset < header.end_offset()) {
                skipped.insert(next.producer_id);
            }
            if header.is_control() {
                let is_abort = header.count > 0
                    && Marker::read(batch)
                        .unwrap()
                        .is_some_and(|marker| marker.end == TransactionEnd::Abort);
                if is_abort {
                    skipped.remove(&header.producer_id);
                }
                continue;
            }
            if header.is_transactional() && skipped.contains(&header.producer_id) {
                continue;
            }
            let body = plain(STREAM, &header, batch, &self.zstd).unwrap();
            for record in records(&body).map(Result::unwrap) {
                let key = record.key.unwrap()[0];
                match record.value {
                    Some(value) => _ = table.insert(key, value[0]),
                    None => _ = table.remove(&key),
                }
            }
        }
        table
    }

    fn check(&self) {
        let left = self.left();
        for (offset, (header, key, value, time_ms)) in &left {
            let written = &self.written[offset];
            assert_eq!(
                (*key, *value, *time_ms),
                (written.key, written.value, written.time_ms),
                "at {offset}"
            );
            assert_eq!(header.producer_id.max(0), written.producer, "at {offset}");
        }
        let stable = self.state.last_stable_offset();
        let live: BTreeMap<_, _> = self
            .newest(stable)
            .into_values()
            .filter_map(|written| Some((written.key, written.value?)))
            .collect();
        assert_eq!(self.read_committed(), live, "the log restores the table");

        let newest = self.newest(stable);
        let (mut seen, mut gone) = (BTreeSet::new(), Vec::new());
        for (offset, written) in self.written.range(..self.clean_end) {
            if left.contains_key(offset) {
                assert!(self.counts(written), "aborted at {offset}");
                assert!(seen.insert(written.key), "key {} is there twice", written.key);
            } else {
                gone.push((*offset, written));
            }
        }
        for (offset, written) in gone {
            let Some(tombstone) = newest.get(&offset) else { continue };
            assert_eq!(
                tombstone.value, None,
                "the newest of key {} at {offset} is gone",
                written.key
            );
            let met_ms = self.met_ms.get(&offset).copied().unwrap_or(i64::MAX);
            assert!(
                self.now_ms >= met_ms.saturating_add(self.retention_ms),
                "a tombstone at {offset} is gone too early"
            );
        }
        let behind = self.written.range(self.clean_end..);
        assert!(
            behind.into_iter().all(|(offset, _)| left.contains_key(offset)),
            "what is dirty is untouched"
        );

        let mut at = Offset::ZERO;
        let mut ends = BTreeSet::new();
        for header in self.batches.iter().map(|batch| BatchHeader::read(batch).unwrap()) {
            assert!(at <= header.base_offset, "batches ascend");
            at = header.end_offset();
            ends.insert(at);
        }
        assert_eq!(at, self.state.end(), "the last offset has a batch");
        for producer in self.state.producers() {
            assert!(
                ends.contains(&producer.last_offset.advance(1)),
                "the last batch of {}",
                producer.id
            );
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let codec = prop_oneof![
        4 => Just(Compression::None),
        1 => Just(Compression::Gzip),
        1 => Just(Compression::Snappy),
        1 => Just(Compression::Lz4),
        1 => Just(Compression::Zstd),
    ];
    let value = prop_oneof![3 => any::<u8>().prop_map(Some), 1 => Just(None)];
    let records = prop::collection::vec((0u8..12, value), 1..5);
    let write = (0..PRODUCERS, records, codec).prop_map(|(producer, records, codec)| Event::Write {
        producer,
        records,
        codec,
    });
    let end = (1..PRODUCERS, any::<bool>()).prop_map(|(producer, commits)| Event::End { producer, commits });
    // 7 keys are the fewest that there is ever room for, 16 KiB have room for all.
    let clean = (
        0i64..MIN_MARKER_RETENTION_MS * 3 / 2,
        prop_oneof![Just(310u64), Just(16 << 10)],
        1usize..6,
        prop::option::weighted(0.4, 0usize..4),
        any::<bool>(),
    )
        .prop_map(|(after_ms, key_bytes, batches, stops, forgets)| Event::Clean {
            after_ms,
            key_bytes,
            batches,
            stops,
            forgets,
        });
    prop_oneof![8 => write, 4 => end, 2 => clean]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Rule 30: after any history of writes, transactions and cleanings, offsets are what they were, a reader of what is
    /// committed builds the same table, a cleaned range has each key once, nothing at or above the last stable offset is
    /// touched, and tombstones stay for their time, and no longer.
    #[test]
    fn rule_30_cleaning_is_as_the_model(
        events in prop::collection::vec(event(), 1..60),
        retention_ms in prop_oneof![Just(0), Just(RETENTIONS_MS[0]), Just(RETENTIONS_MS[1]), 0..RETENTIONS_MS[0]],
    ) {
        let mut world = World::new(retention_ms);
        for event in &events {
            world.run(event);
        }
        world.run(&Event::Clean { after_ms: 1, key_bytes: 16 << 10, batches: 3, stops: None, forgets: false });
        let met = world.clean_end;
        world.run(&Event::Clean { after_ms: retention_ms, key_bytes: 16 << 10, batches: 2, stops: None, forgets: false });
        let left = world.left();
        for (offset, (_, key, value, _)) in left.range(..met) {
            prop_assert!(value.is_some(), "the tombstone of {key} at {offset} never goes");
        }
    }
}

fn writes(world: &mut World, producer: i64, records: &[(u8, Option<u8>)]) {
    world.write(producer, records, Compression::None);
}

/// A tombstone goes at the second cleaning, once `delete.retention.ms` is over, and the key with it; a value never does.
#[test]
fn a_tombstone_stays_for_its_time() {
    RETENTIONS_MS.into_iter().for_each(a_tombstone_stays_for);
}

fn a_tombstone_stays_for(retention_ms: i64) {
    let mut world = World::new(retention_ms);
    writes(&mut world, 0, &[(1, Some(1)), (2, Some(2)), (1, None)]);
    writes(&mut world, 0, &[(3, Some(3))]);
    let keys = |world: &World| world.left().into_values().map(|left| left.1).collect::<Vec<_>>();
    let clean = |world: &mut World, after_ms| {
        world.run(&Event::Clean {
            after_ms,
            key_bytes: 1 << 14,
            batches: 9,
            stops: None,
            forgets: false,
        })
    };
    clean(&mut world, 0);
    assert_eq!(keys(&world), [2, 1, 3]);
    clean(&mut world, retention_ms - 1);
    assert_eq!(keys(&world), [2, 1, 3]);
    clean(&mut world, 1);
    assert_eq!(keys(&world), [2, 3]);
}

/// A transaction's marker goes when nothing of it is left, and then after the time of a tombstone, or a minute.
#[test]
fn markers_stay_as_long_as_they_are_needed() {
    RETENTIONS_MS.into_iter().for_each(markers_stay_for);
}

fn markers_stay_for(retention_ms: i64) {
    let mut world = World::new(retention_ms);
    writes(&mut world, 1, &[(1, Some(1))]);
    world.end(1, true);
    writes(&mut world, 2, &[(1, Some(7))]);
    world.end(2, false);
    writes(&mut world, 1, &[(2, Some(2))]);
    world.end(1, true);
    writes(&mut world, 2, &[(1, Some(2))]);
    world.end(2, true);
    let markers = |world: &World| {
        let headers = world.batches.iter().map(|batch| BatchHeader::read(batch).unwrap());
        headers
            .filter(|header| header.is_control() && header.count > 0)
            .map(|header| header.base_offset.0)
            .collect::<Vec<_>>()
    };
    let clean = |world: &mut World, after_ms| {
        world.run(&Event::Clean {
            after_ms,
            key_bytes: 1 << 14,
            batches: 99,
            stops: None,
            forgets: false,
        })
    };
    clean(&mut world, 0);
    assert_eq!(markers(&world), [1, 3, 5, 7], "their data was there a moment ago");
    clean(&mut world, 0);
    assert_eq!(markers(&world), [1, 3, 5, 7], "from now on the time counts");
    clean(&mut world, retention_ms.max(MIN_MARKER_RETENTION_MS) - 1);
    assert_eq!(markers(&world), [1, 3, 5, 7]);
    clean(&mut world, 1);
    assert_eq!(markers(&world), [5, 7]);
}

/// What isn't decided is never touched, nor anything behind it.
#[test]
fn rule_30_cleaning_stops_at_the_last_stable_offset() {
    let mut world = World::new(RETENTIONS_MS[0]);
    writes(&mut world, 0, &[(1, Some(1)), (1, Some(2))]);
    writes(&mut world, 1, &[(1, Some(3))]);
    writes(&mut world, 0, &[(1, Some(4)), (1, Some(5))]);
    world.run(&Event::Clean {
        after_ms: 0,
        key_bytes: 1 << 14,
        batches: 9,
        stops: None,
        forgets: false,
    });
    let values: Vec<_> = world.left().into_values().map(|left| left.2).collect();
    assert_eq!(values, [Some(2), Some(3), Some(4), Some(5)]);
    world.end(1, false);
    world.run(&Event::Clean {
        after_ms: 0,
        key_bytes: 1 << 14,
        batches: 9,
        stops: None,
        forgets: false,
    });
    let values: Vec<_> = world.left().into_values().map(|left| left.2).collect();
    assert_eq!(values, [Some(5)]);
}

/// A large batch is decompressed twice, with the one context that a compactor has by default, and cleaned as any other.
#[test]
fn a_large_batch_is_cleaned() {
    let (pool, state) = (zstd(), PartitionState::empty(Offset::ZERO));
    let value = vec![7u8; 2 * GROWING_BYTES as usize];
    let mut builder = BatchBuilder::new();
    builder.push(1, Some(b"k"), Some(b"superseded"), &[]);
    builder.push(1, Some(b"k"), Some(&value), &[]);
    let plain = builder.build();
    let encoding = Encoding::by_default(Compression::Zstd);
    let encoded = compress(encoding, &plain[HEADER_BYTES..], &pool, usize::MAX).unwrap();
    let header = BatchHeader {
        attributes: 4,
        ..BatchHeader::read(&plain).unwrap()
    };
    let batch = tailwater_kafka::batch::assemble(&header, &encoded).freeze();
    let range = OffsetRange::new(Offset::ZERO, Offset(2));
    let mut reader = KeyReader::new(STREAM, &state, NewestOffsets::new(1 << 14, 1), pool.clone());
    assert_eq!(reader.read(&batch, range).unwrap(), None);
    let times = Times {
        now_ms: 0,
        delete_retention_ms: 0,
    };
    let mut filter = Filter::new(STREAM, &state, Arc::new(reader.into_keys()), pool.clone(), times);
    let kept = filter.clean(&batch, range, range.end).unwrap();
    let header = BatchHeader::read(&kept[0].bytes).unwrap();
    let body = super::plain(STREAM, &header, &kept[0].bytes, &pool).unwrap();
    let left: Vec<_> = records(&body).map(Result::unwrap).collect();
    assert_eq!(
        (left.len(), left[0].offset_delta, left[0].value),
        (1, 1, Some(&value[..]))
    );
}

/// A batch whose records decompress to more than a frontend takes is an error to who reads its keys and to who cleans it: it is
/// never taken for one in which nothing is left.
#[test]
fn a_batch_that_decompresses_to_too_much_is_an_error() {
    let (pool, state) = (zstd(), PartitionState::empty(Offset::ZERO));
    let plain = vec![0u8; MAX_DECOMPRESSED_BYTES + 1];
    let encoded = compress(Encoding::by_default(Compression::Zstd), &plain[..], &pool, usize::MAX).unwrap();
    drop(plain);
    let mut small = BatchBuilder::new();
    small.push(1, Some(b"k"), Some(b"v"), &[]);
    let header = BatchHeader {
        attributes: 4,
        ..BatchHeader::read(&small.build()).unwrap()
    };
    assert_eq!(header.compression(), Ok(Compression::Zstd));
    let batch = tailwater_kafka::batch::assemble(&header, &encoded).freeze();
    let range = OffsetRange::new(Offset::ZERO, Offset(1));
    let keys = || NewestOffsets::new(1 << 14, 1);
    let mut reader = KeyReader::new(STREAM, &state, keys(), pool.clone());
    assert!(matches!(reader.read(&batch, range), Err(Error::Clean { .. })));
    let times = Times {
        now_ms: 0,
        delete_retention_ms: 0,
    };
    let mut filter = Filter::new(STREAM, &state, Arc::new(keys()), pool, times);
    assert!(matches!(
        filter.clean(&batch, range, range.end),
        Err(Error::Clean { .. })
    ));
}
