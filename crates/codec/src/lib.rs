//! Kafka's compression codecs: how each frames its data, read and written a piece at a time.
//!
//! Owns: the frames, and that no claim in the data sizes an allocation. Does not own: the records inside
//! (`tailwater_kafka::record`), zstd's contexts (`tailwater_runtime::ZstdPool`), which codec a topic asks for.

mod compress;
mod decompress;

pub use compress::{Encoding, compress};
pub use decompress::decompress;
