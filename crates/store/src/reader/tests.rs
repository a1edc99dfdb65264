use tailwater_format::object::{ObjectWriter, RecordsPiece};
use tailwater_runtime::{CancellationToken, Clock, Metrics, Random, Tasks};
use tailwater_types::OffsetRange;

use super::*;
use crate::faulty::{Failure, Fault, FaultyStorage};
use crate::open::{Location, StorageOptions, open};
use crate::storage::Operation;

const KEY: &str = "00/c/1-1";

struct Fixture {
    storage: Arc<FaultyStorage>,
    reader: ObjectReader,
    object: ObjectRef,
    services: Services,
}

impl Fixture {
    /// An object with `blocks` blocks of ten offsets each for every one of two streams.
    async fn new(blocks: i64, options: ReaderOptions) -> Self {
        let services = Services {
            clock: Clock::manual(0),
            random: Random::seeded(1),
            tasks: Tasks::new("test"),
            metrics: Metrics::new(),
        };
        let storage = open(&Location::Memory, &StorageOptions::default(), &services).unwrap();
        let storage = Arc::new(FaultyStorage::new(storage));
        let mut writer = ObjectWriter::new();
        for stream in 1..=2 {
            for block in 0..blocks {
                let bytes = Bytes::from(vec![block as u8; object::BLOCK_TARGET_BYTES]);
                writer.push(RecordsPiece {
                    stream: StreamId(stream),
                    range: OffsetRange::new(Offset(block * 10), Offset(block * 10 + 10)),
                    max_timestamp_ms: 0,
                    batches: 1,
                    crc: crc32c::crc32c(&bytes),
                    bytes,
                });
            }
        }
        let encoded = writer.finish();
        let size_bytes = encoded.size_bytes;
        storage.put(KEY, encoded.chunks).await.unwrap();
        let reader = ObjectReader::new(storage.clone(), options, &services);
        let object = ObjectRef {
            id: ObjectId(1),
            key: KEY.to_owned(),
            size_bytes,
        };
        Self {
            storage,
            reader,
            object,
            services,
        }
    }

    async fn read(&self, stream: u64, offset: i64) -> Result<Option<u8>, StoreError> {
        let block = self
            .reader
            .block(&self.object, StreamId(stream), Offset(offset))
            .await?;
        self.settle().await;
        Ok(block.map(|block| block.body[0]))
    }

    /// Waits until no read-ahead is under way.
    async fn settle(&self) {
        while self.services.tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
    }

    fn gets(&self) -> usize {
        self.storage
            .begun()
            .iter()
            .filter(|(operation, _)| *operation == Operation::GetRange)
            .count()
    }

    async fn replace(&self, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self
            .storage
            .get_range(KEY, 0..self.object.size_bytes)
            .await
            .unwrap()
            .to_vec();
        change(&mut bytes);
        self.storage.put(KEY, vec![bytes.into()]).await.unwrap();
    }
}

/// A sequential reader gets every block right; each is fetched once, one ahead, and the index once.
#[tokio::test(start_paused = true)]
async fn a_sequential_reader_fetches_each_block_once() {
    let fixture = Fixture::new(4, ReaderOptions::default()).await;
    assert_eq!(fixture.read(2, 0).await, Ok(Some(0)));
    assert_eq!(fixture.gets(), 2, "the block and the one ahead");
    for offset in 1..40 {
        assert_eq!(fixture.read(2, offset).await, Ok(Some((offset / 10) as u8)));
    }
    assert_eq!(fixture.gets(), 4);
    assert_eq!(fixture.read(2, 40).await, Ok(None));
    assert_eq!(fixture.read(3, 0).await, Ok(None));
    let tails = fixture
        .storage
        .begun()
        .iter()
        .filter(|(of, _)| *of == Operation::GetTail)
        .count();
    assert_eq!(tails, 1);
}

/// Many readers of the same block make one request.
#[tokio::test(start_paused = true)]
async fn readers_share_one_request() {
    let fixture = Fixture::new(1, ReaderOptions::default()).await;
    let release = CancellationToken::new();
    fixture
        .storage
        .inject(Operation::GetRange, 0, Fault::Held(release.clone()));
    let reads = futures::future::join_all((0..10).map(|_| fixture.read(1, 5)));
    let (blocks, ()) = futures::join!(reads, async {
        while fixture.gets() == 0 {
            tokio::task::yield_now().await;
        }
        release.cancel();
    });
    assert!(blocks.iter().all(|block| *block == Ok(Some(0))));
    assert_eq!(fixture.gets(), 1);
}

/// The cache stays within its bytes: what was read long ago is fetched again.
#[tokio::test(start_paused = true)]
async fn the_cache_is_bounded() {
    let cache_bytes = 2 * object::BLOCK_TARGET_BYTES as u64 + 10_000;
    let options = ReaderOptions {
        cache_bytes,
        ..ReaderOptions::default()
    };
    let fixture = Fixture::new(6, options).await;
    for offset in [0, 10, 20, 30, 40, 50] {
        assert_eq!(fixture.read(1, offset).await, Ok(Some((offset / 10) as u8)));
    }
    assert_eq!(fixture.gets(), 6);
    assert_eq!(fixture.read(1, 0).await, Ok(Some(0)));
    assert_eq!(fixture.gets(), 8);
    let text = fixture.services.metrics.text();
    let gauge = text
        .lines()
        .find_map(|line| line.strip_prefix("tailwater_object_cache_bytes "));
    assert!(gauge.unwrap().parse::<u64>().unwrap() <= cache_bytes);
}

/// Without room for it nothing is read ahead, and readers still get their blocks one at a time.
#[tokio::test(start_paused = true)]
async fn read_ahead_needs_room() {
    let options = ReaderOptions {
        in_flight_bytes: 1000,
        ..ReaderOptions::default()
    };
    let fixture = Fixture::new(3, options).await;
    let reads = futures::future::join_all([fixture.read(1, 0), fixture.read(2, 10), fixture.read(1, 20)]);
    assert_eq!(reads.await, [Ok(Some(0)), Ok(Some(1)), Ok(Some(2))]);
}

/// A flipped bit in a block is an error with key, position and both sums, every time; other blocks still read.
#[tokio::test(start_paused = true)]
async fn a_damaged_block_is_named() {
    let fixture = Fixture::new(2, ReaderOptions::default()).await;
    let row = fixture.reader.index(&fixture.object).await.unwrap().stream(StreamId(2))[1];
    fixture.replace(|bytes| bytes[row.position as usize + 1000] ^= 1).await;
    for _ in 0..2 {
        let error = fixture.read(2, 10).await.unwrap_err();
        assert_eq!(error.kind(), tailwater_types::Kind::Corrupt);
        let says = error.to_string();
        assert!(
            says.starts_with(&format!("{KEY} is damaged at {}", row.position)),
            "{says}"
        );
        assert_eq!(says.matches("0x").count(), 2, "{says}");
    }
    assert_eq!(fixture.read(2, 0).await, Ok(Some(0)));
}

/// Damage to the index, and an object of another size than metadata has, are errors, never an object without data.
#[tokio::test(start_paused = true)]
async fn a_damaged_index_is_an_error() {
    let fixture = Fixture::new(2, ReaderOptions::default()).await;
    let longer = ObjectRef {
        size_bytes: fixture.object.size_bytes + 1,
        ..fixture.object.clone()
    };
    let error = fixture.reader.index(&longer).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let size = fixture.object.size_bytes as usize;
    fixture
        .replace(|bytes| bytes[size - object::FOOTER_BYTES - 1] ^= 1)
        .await;
    let error = fixture.read(1, 0).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

/// A failed read is an error once, not remembered.
#[tokio::test(start_paused = true)]
async fn failures_are_not_cached() {
    let fixture = Fixture::new(1, ReaderOptions::default()).await;
    fixture
        .storage
        .inject(Operation::GetTail, 0, Fault::Before(Failure::Unavailable));
    fixture
        .storage
        .inject(Operation::GetRange, 0, Fault::Before(Failure::NotFound));
    assert!(fixture.read(1, 0).await.unwrap_err().is_retriable());
    assert!(matches!(fixture.read(1, 0).await, Err(StoreError::NotFound { .. })));
    assert_eq!(fixture.read(1, 0).await, Ok(Some(0)));
}

/// A range with a known sum is checked against it.
#[tokio::test(start_paused = true)]
async fn checked_ranges_are_checked() {
    let fixture = Fixture::new(1, ReaderOptions::default()).await;
    let bytes = fixture.storage.get_range(KEY, 100..200).await.unwrap();
    let crc = crc32c::crc32c(&bytes);
    assert_eq!(fixture.reader.checked_range(KEY, 100..200, crc).await, Ok(bytes));
    let error = fixture.reader.checked_range(KEY, 100..200, crc ^ 1).await.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("{KEY} is damaged at 100")),
        "{error}"
    );
}

/// An index longer than the expected tail is read in a second request.
#[tokio::test(start_paused = true)]
async fn a_long_index_takes_a_second_request() {
    let fixture = Fixture::new(0, ReaderOptions::default()).await;
    let mut writer = ObjectWriter::new();
    for stream in 0..5000 {
        let bytes = Bytes::from_static(b"batch");
        writer.push(RecordsPiece {
            stream: StreamId(stream),
            range: OffsetRange::new(Offset(0), Offset(1)),
            max_timestamp_ms: 0,
            batches: 1,
            crc: crc32c::crc32c(&bytes),
            bytes,
        });
    }
    let encoded = writer.finish();
    fixture.storage.put("00/c/2-1", encoded.chunks).await.unwrap();
    let object = ObjectRef {
        id: ObjectId(2),
        key: "00/c/2-1".to_owned(),
        size_bytes: encoded.size_bytes,
    };
    assert_eq!(fixture.reader.index(&object).await.unwrap().rows().len(), 5000);
    let block = fixture
        .reader
        .block(&object, StreamId(4999), Offset(0))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(block.body, "batch");
}
