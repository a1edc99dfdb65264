//! Compressed records for tests.

use tailwater_codec::Encoding;
use tailwater_kafka::batch::Compression;
use tailwater_runtime::{Metrics, ZstdPool};

pub(crate) fn pool() -> ZstdPool {
    ZstdPool::new(2, 1, &Metrics::new())
}

pub(crate) fn compress(compression: Compression, plain: &[u8]) -> Vec<u8> {
    tailwater_codec::compress(Encoding::by_default(compression), plain, &pool(), usize::MAX).unwrap()
}
