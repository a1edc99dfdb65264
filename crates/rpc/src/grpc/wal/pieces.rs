//! Entries cut into messages, and put together again.
//!
//! Owns: how much of an entry one message has, and the check of an entry that has arrived whole. An entry of the usual
//! size is one message, and what is received of it becomes the entry without another copy.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tailwater_format::entry::{Entry, EntryHeader};

use super::body::put_prefix;
use crate::{Error, Result};

/// The most of an entry in one message: 1 MiB of records with the header of the entry that has them.
const PIECE_BYTES: usize = (1 << 20) + (64 << 10);

/// The most that a message with a piece may have.
pub(super) const MAX_PIECE_MESSAGE_BYTES: usize = 2 << 20;

/// A run up to this size is copied to what stands in front of it: cheaper than a frame of its own.
const SMALL_BYTES: usize = 4 << 10;

// Field numbers of `Append` and `JournalEntry` in wal.proto, and of the former in `AppendRequest`.
const ENTRY: u32 = 1;
const LAST: u32 = 2;
const COMMIT: u32 = 3;
const APPEND: u32 = 2;
// And of `ReadStreamAnswer`.
const BATCHES: u32 = 1;

/// Which message carries a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// `AppendRequest` with an `Append` that tells this commit LSN.
    Append {
        commit: u64,
    },
    JournalEntry,
}

/// The runs of bytes, in order, that are the messages which carry `entry`.
pub(super) fn runs(entry: &Entry, carrier: Carrier) -> Vec<Bytes> {
    let mut out = Runs::default();
    let mut chunks = entry.chunks().iter().cloned();
    let mut chunk = chunks.next().unwrap_or_default();
    let mut left = entry.encoded_bytes();
    while left > 0 {
        let piece = left.min(PIECE_BYTES);
        left -= piece;
        carrier.put_head(piece, left == 0, &mut out.small);
        let mut wanted = piece;
        while wanted > 0 {
            if chunk.is_empty() {
                chunk = chunks.next().expect("chunks have the bytes that the entry says it has");
                continue;
            }
            let run = chunk.split_to(chunk.len().min(wanted));
            wanted -= run.len();
            out.push(run);
        }
    }
    out.finish()
}

/// The runs of bytes that are a `ReadStreamAnswer` with these batches.
pub(super) fn batch_runs(batches: &[Bytes]) -> Vec<Bytes> {
    let field_bytes = |bytes: usize| key_len(BATCHES) + encoded_len_varint(bytes as u64) + bytes;
    let mut out = Runs::default();
    put_prefix(
        batches.iter().map(|batch| field_bytes(batch.len())).sum(),
        &mut out.small,
    );
    for batch in batches {
        encode_key(BATCHES, WireType::LengthDelimited, &mut out.small);
        encode_varint(batch.len() as u64, &mut out.small);
        out.push(batch.clone());
    }
    out.finish()
}

#[derive(Default)]
struct Runs {
    done: Vec<Bytes>,
    small: BytesMut,
}

impl Runs {
    fn push(&mut self, run: Bytes) {
        if run.len() <= SMALL_BYTES {
            self.small.put(run);
        } else {
            self.cut();
            self.done.push(run);
        }
    }

    fn cut(&mut self) {
        if !self.small.is_empty() {
            self.done.push(self.small.split().freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.cut();
        self.done
    }
}

impl Carrier {
    /// Everything of the message in front of a piece of `bytes`, which ends it.
    fn put_head(self, bytes: usize, is_last: bool, out: &mut BytesMut) {
        let commit_bytes = |commit: u64| key_len(COMMIT) + encoded_len_varint(commit);
        let last_bytes = if is_last { key_len(LAST) + 1 } else { 0 };
        let mut length = last_bytes + key_len(ENTRY) + encoded_len_varint(bytes as u64) + bytes;
        match self {
            Self::JournalEntry => put_prefix(length, out),
            Self::Append { commit } => {
                length += commit_bytes(commit);
                put_prefix(key_len(APPEND) + encoded_len_varint(length as u64) + length, out);
                encode_key(APPEND, WireType::LengthDelimited, out);
                encode_varint(length as u64, out);
                encode_key(COMMIT, WireType::Varint, out);
                encode_varint(commit, out);
            }
        }
        if is_last {
            encode_key(LAST, WireType::Varint, out);
            encode_varint(1, out);
        }
        encode_key(ENTRY, WireType::LengthDelimited, out);
        encode_varint(bytes as u64, out);
    }
}

/// Puts an entry together from its pieces.
#[derive(Debug)]
pub(super) struct Assembly {
    max_entry_bytes: usize,
    begun: Option<Begun>,
}

/// The pieces of an entry so far, with room for all of it.
#[derive(Debug)]
struct Begun {
    bytes: BytesMut,
    announced_bytes: usize,
}

impl Assembly {
    pub(super) fn new(max_entry_bytes: usize) -> Self {
        Self {
            max_entry_bytes,
            begun: None,
        }
    }

    /// Takes the next piece; answers the entry that it completes, checked against its sums.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for what is no entry, [`Error::Invalid`] for one that is too large.
    pub(super) fn push(&mut self, piece: Bytes, is_last: bool) -> Result<Option<Entry>> {
        let whole = match self.begun.take() {
            None if is_last => {
                self.check(piece.len())?;
                piece
            }
            None => {
                let announced_bytes = EntryHeader::announced_bytes(&piece).map_err(corrupt)?;
                self.check(announced_bytes)?;
                let mut bytes = BytesMut::with_capacity(announced_bytes);
                bytes.put(piece);
                self.begun = Some(Begun { bytes, announced_bytes });
                return Ok(None);
            }
            Some(mut begun) => {
                let bytes = begun.bytes.len() + piece.len();
                if bytes > begun.announced_bytes {
                    let announced = begun.announced_bytes;
                    return Err(Error::Corrupt(format!(
                        "an entry of {announced} bytes comes with {bytes} and more"
                    )));
                }
                begun.bytes.put(piece);
                if !is_last {
                    self.begun = Some(begun);
                    return Ok(None);
                }
                begun.bytes.freeze()
            }
        };
        Entry::decode(&whole).map(Some).map_err(corrupt)
    }

    /// Whether an entry has begun and isn't whole.
    pub(super) fn is_amid(&self) -> bool {
        self.begun.is_some()
    }

    fn check(&self, bytes: usize) -> Result<()> {
        if bytes > self.max_entry_bytes {
            return Err(too_large(bytes, self.max_entry_bytes));
        }
        Ok(())
    }
}

/// The refusal of an entry that no credit will ever be enough for.
pub(super) fn too_large(bytes: usize, max_entry_bytes: usize) -> Error {
    Error::Invalid(format!("an entry of {bytes} bytes, at most {max_entry_bytes} fit"))
}

fn corrupt(error: tailwater_format::FormatError) -> Error {
    Error::Corrupt(format!("an entry that was received: {error}"))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tailwater_format::entry::{FIXED_BYTES, Slice, SliceHeader, SliceKind};
    use tailwater_types::{JournalId, Kind, LeaderEpoch, Lsn, Offset, StreamId};

    use super::super::super::proto;
    use super::super::super::proto::append_request::Request;
    use super::*;

    fn entry(slices: &[usize]) -> Entry {
        let slice = |(at, &bytes): (usize, &usize)| {
            let bytes = Bytes::from(vec![at as u8; bytes]);
            let header = SliceHeader {
                kind: SliceKind::Records,
                stream: StreamId(at as u64),
                leader_epoch: LeaderEpoch(0),
                base: Offset(0),
                end: Offset(1),
                max_timestamp_ms: 0,
                length: bytes.len() as u32,
                crc: crc32c::crc32c(&bytes),
            };
            Slice { header, bytes }
        };
        Entry::encode(JournalId(1), Lsn(7), slices.iter().enumerate().map(slice).collect())
    }

    /// The messages that runs of bytes are.
    fn messages(runs: &[Bytes]) -> Vec<Bytes> {
        let mut bytes = Bytes::from(runs.concat());
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let prefix = bytes.split_to(5);
            let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
            assert!(prefix[0] == 0 && length as usize <= MAX_PIECE_MESSAGE_BYTES);
            found.push(bytes.split_to(length as usize));
        }
        found
    }

    fn sizes() -> Vec<Vec<usize>> {
        let many = vec![100; 500];
        vec![
            vec![],
            vec![1],
            vec![5000, 1, 70_000, 3],
            many,
            vec![1 << 20],
            vec![3 << 20, 17, 1 << 20],
        ]
    }

    /// What goes out is what prost reads as wal.proto's messages, and becomes the entry again.
    #[test]
    fn an_entry_goes_out_and_comes_in() {
        for sizes in sizes() {
            let entry = entry(&sizes);
            let (mut appended, mut read) = (Assembly::new(8 << 20), Assembly::new(8 << 20));
            let mut whole = Vec::new();
            for message in messages(&runs(&entry, Carrier::Append { commit: 300 })) {
                let request = proto::AppendRequest::decode(message).unwrap().request;
                let Some(Request::Append(append)) = request else {
                    panic!("{request:?}")
                };
                assert_eq!(append.commit, 300);
                whole.extend(appended.push(append.entry, append.last).unwrap());
            }
            for message in messages(&runs(&entry, Carrier::JournalEntry)) {
                let piece = proto::JournalEntry::decode(message).unwrap();
                whole.extend(read.push(piece.entry, piece.last).unwrap());
            }
            assert_eq!(whole.len(), 2);
            for found in whole {
                assert_eq!(found.chunks().concat(), entry.chunks().concat());
            }
            assert!(!appended.is_amid() && !read.is_amid());
        }
    }

    /// An entry of the usual size is one message, and its records go out from where they lie.
    #[test]
    fn record_bytes_are_not_copied() {
        let entry = entry(&[1 << 20]);
        let runs = runs(&entry, Carrier::Append { commit: 0 });
        assert_eq!(messages(&runs).len(), 1);
        assert_eq!(runs.last().unwrap().as_ptr(), entry.chunks()[1].as_ptr());
    }

    /// A `ReadStreamAnswer` with batches of any size is what prost reads.
    #[test]
    fn batches_are_one_message() {
        for sizes in sizes() {
            let batches: Vec<_> = sizes.iter().map(|&bytes| Bytes::from(vec![7; bytes])).collect();
            let bytes = Bytes::from(batch_runs(&batches).concat());
            assert_eq!(
                bytes.len(),
                5 + u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize
            );
            assert_eq!(
                proto::ReadStreamAnswer::decode(bytes.slice(5..)).unwrap().batches,
                batches
            );
        }
    }

    /// What is no entry, or too large for this node, is refused before memory is spent on it.
    #[test]
    fn what_comes_in_is_checked() {
        let bytes = Bytes::from(entry(&[1000]).chunks().concat());
        let mut assembly = Assembly::new(bytes.len());
        let kind = |error: Error| error.kind();
        let (begin, rest) = (bytes.slice(..FIXED_BYTES), bytes.slice(FIXED_BYTES..));
        assert!(matches!(
            assembly.push(begin.slice(1..), false).map_err(kind),
            Err(Kind::Corrupt)
        ));
        assert!(assembly.push(begin.clone(), false).unwrap().is_none());
        let more = Bytes::from([&rest[..], b"x"].concat());
        assert!(matches!(assembly.push(more, true).map_err(kind), Err(Kind::Corrupt)));
        assert!(assembly.push(begin.clone(), false).unwrap().is_none());
        assert!(matches!(
            assembly.push(rest.slice(1..), true).map_err(kind),
            Err(Kind::Corrupt)
        ));
        let mut torn = bytes.to_vec();
        *torn.last_mut().unwrap() ^= 1;
        assert!(matches!(
            assembly.push(torn.into(), true).map_err(kind),
            Err(Kind::Corrupt)
        ));
        assert!(assembly.push(bytes.clone(), true).unwrap().is_some());
        let mut smaller = Assembly::new(bytes.len() - 1);
        assert!(matches!(smaller.push(begin, false).map_err(kind), Err(Kind::Invalid)));
        assert!(matches!(smaller.push(bytes, true).map_err(kind), Err(Kind::Invalid)));
    }
}
