//! A producer's batch in the codec that its topic asks for.
//!
//! Owns: the batch around the records. The records themselves stay byte for byte what the producer sent.

use std::io;

use bytes::BytesMut;
use tailwater_codec::{Encoding, compress, decompress};
use tailwater_kafka::batch::{BatchHeader, Compression, HEADER_BYTES, assemble};
use tailwater_runtime::ZstdPool;

use super::validate::{Refusal, Rules};

/// The codec's bits in a batch's attributes.
const CODEC_BITS: i16 = 0b111;

/// Whether a batch in `compression` must be encoded anew.
pub(super) fn is_due(stored_as: Option<Encoding>, compression: Compression) -> Option<Encoding> {
    stored_as.filter(|encoding| encoding.compression != compression)
}

/// The validated batch, in another codec.
///
/// # Errors
/// [`Refusal::TooLargeEncoded`] if it would have more than the topic allows.
pub(super) fn reencode(
    header: &BatchHeader,
    batch: &[u8],
    encoding: Encoding,
    rules: &Rules,
    zstd: &ZstdPool,
) -> Result<(BatchHeader, BytesMut), Refusal> {
    let plain = decompress(
        header.compression()?,
        &batch[HEADER_BYTES..],
        zstd,
        rules.max_decompressed_bytes,
    );
    let plain = plain.map_err(Refusal::Decompress)?;
    let max_bytes = rules.max_message_bytes.saturating_sub(HEADER_BYTES);
    let body = compress(encoding, plain, zstd, max_bytes).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => Refusal::TooLargeEncoded {
            max_bytes: rules.max_message_bytes,
        },
        _ => Refusal::Decompress(error),
    })?;
    let wanted = BatchHeader {
        attributes: (header.attributes & !CODEC_BITS) | encoding.compression as i16,
        ..*header
    };
    let batch = assemble(&wanted, &body);
    Ok((BatchHeader::read(&batch)?, batch))
}
