//! Reading compressed records, a piece at a time and never more than may follow.
//!
//! Owns: how each of Kafka's codecs frames its data. Does not own: what the records are (`tailwater_kafka::record`), nor
//! the bound on all that comes out, which the walker keeps. Memory: a codec's window or one block, whatever the data
//! claims; a snappy block, which may be the whole body, is held against that bound before.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use tailwater_kafka::batch::Compression;
use tailwater_runtime::ZstdPool;

/// The magic of snappy-java's stream format; behind it stand two versions of four bytes each, then blocks.
pub(super) const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
pub(super) const XERIAL_HEADER_BYTES: usize = 16;
/// The most that snappy makes of a byte: a copy of 64 bytes takes three.
const SNAPPY_MAX_RATIO: usize = 22;
const BUFFER_BYTES: usize = 16 << 10;

/// The records that `body` holds, of which at most `max_bytes` are going to be read.
///
/// # Errors
/// The data is damaged from the start; more may turn up when it is read.
pub fn decompress<'a>(
    compression: Compression,
    body: &'a [u8],
    zstd: &'a ZstdPool,
    max_bytes: usize,
) -> io::Result<Box<dyn BufRead + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(body),
        Compression::Gzip => Box::new(buffered(MultiGzDecoder::new(body))),
        Compression::Lz4 => Box::new(buffered(FrameDecoder::new(body))),
        Compression::Snappy => Box::new(SnappyBlocks::new(body, max_bytes)?),
        Compression::Zstd => Box::new(buffered(zstd.reader(body).map_err(io::Error::other)?)),
    })
}

fn buffered<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER_BYTES, reader)
}

/// Snappy, either in snappy-java's blocks, each behind its length, or as one block without any frame.
struct SnappyBlocks<'a> {
    rest: &'a [u8],
    framed: bool,
    max_bytes: usize,
    decoder: snap::raw::Decoder,
    block: Vec<u8>,
    read: usize,
}

impl<'a> SnappyBlocks<'a> {
    fn new(body: &'a [u8], max_bytes: usize) -> io::Result<Self> {
        let framed = body.starts_with(XERIAL_MAGIC);
        let rest = if framed {
            body.get(XERIAL_HEADER_BYTES..)
                .ok_or_else(|| invalid("the snappy header is cut off"))?
        } else {
            body
        };
        Ok(Self {
            rest,
            framed,
            max_bytes,
            decoder: snap::raw::Decoder::new(),
            block: Vec::new(),
            read: 0,
        })
    }

    fn next_block(&mut self) -> io::Result<()> {
        let block = if self.framed {
            let (length, rest) = self
                .rest
                .split_first_chunk::<4>()
                .ok_or_else(|| invalid("a snappy block's length is cut off"))?;
            let length = u32::from_be_bytes(*length) as usize;
            let (block, rest) = rest
                .split_at_checked(length)
                .ok_or_else(|| invalid("a snappy block is cut off"))?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let claimed = snap::raw::decompress_len(block)?;
        if claimed > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
            return Err(invalid("a snappy block lies about its size"));
        }
        if claimed > self.max_bytes {
            return Err(invalid("a snappy block is larger than records may be"));
        }
        self.block.resize(claimed, 0);
        let length = self.decoder.decompress(block, &mut self.block)?;
        self.block.truncate(length);
        self.read = 0;
        Ok(())
    }
}

impl Read for SnappyBlocks<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let length = available.read(into)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for SnappyBlocks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.read == self.block.len() && !self.rest.is_empty() {
            self.next_block()?;
        }
        Ok(&self.block[self.read..])
    }

    fn consume(&mut self, bytes: usize) {
        self.read += bytes;
    }
}

fn invalid(detail: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use tailwater_runtime::Metrics;

    use super::*;

    pub(crate) fn pool() -> ZstdPool {
        ZstdPool::new(2, 1, &Metrics::new())
    }

    fn compress(compression: Compression, plain: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => plain.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Snappy => {
                let mut framed = XERIAL_MAGIC.to_vec();
                framed.extend([0, 0, 0, 1, 0, 0, 0, 1]);
                for block in plain.chunks(32 << 10) {
                    let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                    framed.extend((block.len() as u32).to_be_bytes());
                    framed.extend(block);
                }
                framed
            }
            Compression::Zstd => zstd::bulk::compress(plain, 1).unwrap(),
        }
    }

    fn read_all(compression: Compression, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        decompress(compression, body, &pool(), 1 << 20)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// Every codec gives back what went in, snappy also without a frame around it.
    #[test]
    fn every_codec_reads_back() {
        let plain: Vec<u8> = (0..200_000u32).map(|i| (i / 9) as u8).collect();
        for compression in ALL {
            let body = compress(compression, &plain);
            assert_eq!(read_all(compression, &body).unwrap(), plain, "{compression:?}");
        }
        let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        assert_eq!(read_all(Compression::Snappy, &raw).unwrap(), plain);
    }

    /// A body that lacks more than an end mark is never taken for a whole one.
    #[test]
    fn a_cut_body_is_an_error_or_shorter() {
        let plain = vec![7; 50_000];
        for compression in ALL {
            let body = compress(compression, &plain);
            for cut in 5..body.len().min(40) {
                let read = read_all(compression, &body[..body.len() - cut]);
                assert!(read.is_err() || read.unwrap() != plain, "{compression:?} -{cut}");
            }
        }
    }

    /// A snappy block that claims gigabytes is refused before anything is allocated for it.
    #[test]
    fn a_snappy_block_cant_lie_about_its_size() {
        let mut body = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
        body.extend([0; 20]);
        assert!(read_all(Compression::Snappy, &body).is_err());
    }

    /// A snappy block tells the truth, but nobody may read that much: refused before anything is allocated for it.
    #[test]
    fn a_snappy_block_is_held_against_the_bound() {
        let body = snap::raw::Encoder::new().compress_vec(&vec![7; 100_000]).unwrap();
        let read = |max_bytes| {
            let mut blocks = SnappyBlocks::new(&body, max_bytes).unwrap();
            let result = blocks.fill_buf().map(<[u8]>::len);
            (result.ok(), blocks.block.capacity())
        };
        assert_eq!(read(99_999), (None, 0));
        assert_eq!(read(100_000).0, Some(100_000));
    }
}
