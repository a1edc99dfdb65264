//! Writing compressed records, a piece at a time and never more than a batch may have.
//!
//! Owns: how each of Kafka's codecs frames its data when it is us who encode. Does not own: which codec a topic asks for.

use std::io::{self, Read, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use tailwater_kafka::batch::Compression;
use tailwater_runtime::ZstdPool;

use crate::decompress::{XERIAL_HEADER_BYTES, XERIAL_MAGIC};

/// What snappy-java puts into one block.
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;

/// A codec and its level, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    pub compression: Compression,
    pub level: i32,
}

impl Encoding {
    /// At the level that the codec takes if nobody asks for one, which is what Kafka's broker does when it writes a batch anew.
    pub fn by_default(compression: Compression) -> Self {
        let level = match compression {
            Compression::Gzip => -1,
            Compression::Zstd => 3,
            Compression::None | Compression::Snappy | Compression::Lz4 => 0,
        };
        Self { compression, level }
    }
}

/// All of `plain`, encoded.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it would have more than `max_bytes`; whatever reading fails with.
pub fn compress(encoding: Encoding, mut plain: impl Read, zstd: &ZstdPool, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut out = Bounded {
        bytes: Vec::new(),
        max_bytes,
    };
    match encoding.compression {
        Compression::None => drop(io::copy(&mut plain, &mut out)?),
        Compression::Gzip => {
            let level =
                u32::try_from(encoding.level).map_or_else(|_| flate2::Compression::default(), flate2::Compression::new);
            let mut encoder = GzEncoder::new(&mut out, level);
            io::copy(&mut plain, &mut encoder)?;
            encoder.finish()?;
        }
        Compression::Lz4 => {
            // Kafka's Java clients read independent blocks only.
            let frame = FrameInfo::new()
                .block_mode(BlockMode::Independent)
                .block_size(BlockSize::Max64KB);
            let mut encoder = FrameEncoder::with_frame_info(frame, &mut out);
            io::copy(&mut plain, &mut encoder)?;
            encoder.finish()?;
        }
        Compression::Snappy => snappy(&mut plain, &mut out)?,
        Compression::Zstd => zstd.compress(encoding.level, &mut plain, &mut out)?,
    }
    Ok(out.bytes)
}

/// snappy-java's stream format: magic, two versions, then blocks, each behind its length.
fn snappy(plain: &mut impl Read, out: &mut Bounded) -> io::Result<()> {
    let mut header = [0; XERIAL_HEADER_BYTES];
    header[..XERIAL_MAGIC.len()].copy_from_slice(XERIAL_MAGIC);
    (header[11], header[15]) = (1, 1);
    out.write_all(&header)?;
    let mut encoder = snap::raw::Encoder::new();
    let mut block = Vec::with_capacity(SNAPPY_BLOCK_BYTES);
    loop {
        block.clear();
        plain.by_ref().take(SNAPPY_BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(());
        }
        let encoded = encoder.compress_vec(&block)?;
        let length = u32::try_from(encoded.len()).expect("a block of 32 KiB stays below 4 GiB");
        out.write_all(&length.to_be_bytes())?;
        out.write_all(&encoded)?;
    }
}

/// Memory for what a batch may have, and no more.
struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompress::decompress;
    use crate::decompress::tests::pool;

    /// What each codec writes reads back, at every sort of level, empty input too; more than fits is refused.
    #[test]
    fn every_codec_reads_back() {
        let pool = pool();
        let plain: Vec<u8> = (0..200_000u32).map(|i| (i / 9) as u8).collect();
        let encodings = [
            (Compression::None, 0),
            (Compression::Gzip, -1),
            (Compression::Gzip, 9),
            (Compression::Snappy, 0),
            (Compression::Lz4, 0),
            (Compression::Zstd, 3),
            (Compression::Zstd, 22),
            (Compression::Zstd, -5),
        ];
        for (compression, level) in encodings {
            let encoding = Encoding { compression, level };
            for plain in [&plain[..], &[], &[7]] {
                let body = compress(encoding, plain, &pool, 1 << 20).unwrap();
                let mut read = Vec::new();
                let mut reader = decompress(compression, &body, &pool, 1 << 20).unwrap();
                reader.read_to_end(&mut read).unwrap();
                assert_eq!(read, plain, "{encoding:?}");
            }
            let refused = compress(encoding, &plain[..], &pool, 20).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge, "{encoding:?}");
        }
    }
}
