//! Cutting what is put: chunks into parts, without copying, and tiny chunks into larger ones.

use bytes::{Bytes, BytesMut};

/// Chunks below this are joined with their neighbours: a system call or a frame each would cost more than the copy.
const SMALL_BYTES: usize = 8 << 10;
const JOINED_BYTES: usize = 64 << 10;

pub(crate) fn total_bytes(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

/// The same bytes in fewer chunks: runs of small ones are copied together, large ones are shared.
pub(crate) fn join_small(chunks: Vec<Bytes>) -> Vec<Bytes> {
    let mut joined = Vec::with_capacity(chunks.len());
    let mut run = BytesMut::new();
    let close = |run: &mut BytesMut, joined: &mut Vec<Bytes>| {
        if !run.is_empty() {
            joined.push(run.split().freeze());
        }
    };
    for chunk in chunks {
        if chunk.len() >= SMALL_BYTES {
            close(&mut run, &mut joined);
            joined.push(chunk);
            continue;
        }
        if run.len() + chunk.len() > JOINED_BYTES {
            close(&mut run, &mut joined);
        }
        if run.capacity() < chunk.len() {
            run.reserve(JOINED_BYTES);
        }
        run.extend_from_slice(&chunk);
    }
    close(&mut run, &mut joined);
    joined
}

/// The same bytes in parts of exactly `part_bytes`, the last one being what is left. Chunks are sliced, not copied.
pub(crate) fn split(chunks: Vec<Bytes>, part_bytes: usize) -> Vec<Vec<Bytes>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut room = part_bytes;
    for mut chunk in chunks {
        while chunk.len() >= room {
            part.push(chunk.split_to(room));
            parts.push(std::mem::take(&mut part));
            room = part_bytes;
        }
        if !chunk.is_empty() {
            room -= chunk.len();
            part.push(chunk);
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: usize, fill: u8) -> Bytes {
        Bytes::from(vec![fill; bytes])
    }

    /// Large chunks are shared, runs of small ones joined up to a bound, and no byte is lost or moved.
    #[test]
    fn small_chunks_are_joined() {
        let large = chunk(SMALL_BYTES, 9);
        let mut chunks: Vec<_> = (0..100).map(|i| chunk(1000, i)).collect();
        chunks.insert(3, large.clone());
        chunks.push(Bytes::new());
        let joined = join_small(chunks.clone());
        assert_eq!(joined.concat(), chunks.concat());
        assert_eq!(
            joined.iter().map(Bytes::len).collect::<Vec<_>>(),
            [3000, 8192, 65_000, 32_000]
        );
        assert_eq!(joined[1].as_ptr(), large.as_ptr());
    }

    /// Parts have the exact size up to the last, over any chunk bounds, and share the chunks' memory.
    #[test]
    fn parts_are_cut_exactly() {
        let chunks = vec![chunk(7, 1), chunk(25, 2), chunk(8, 3), chunk(3, 4)];
        let parts = split(chunks.clone(), 10);
        let sizes: Vec<_> = parts.iter().map(|part| total_bytes(part)).collect();
        assert_eq!(sizes, [10, 10, 10, 10, 3]);
        assert_eq!(parts.concat().concat(), chunks.concat());
        assert_eq!(parts[1][0].as_ptr(), chunks[1][3..].as_ptr());
        assert_eq!(split(vec![chunk(20, 1)], 10).len(), 2);
        assert!(split(Vec::new(), 10).is_empty());
    }
}
