//! The records in a batch, after decompression (KIP-98).
//!
//! Owns: how one record stands in its batch, and the checks of a whole sequence of them. Does not own: decompression.
//! Nothing here allocates by a length from the input, and a stream is read in one pass without keeping it.

use std::io::BufRead;

use bytes::{BufMut as _, BytesMut};

/// Walks over the records of one batch and checks them: each ends where its length says, their offset deltas are
/// 0, 1, 2… (or ascend, where key compaction may have left some out), there are as many as the header counts, and nothing
/// stands behind the last.
///
/// A slice is walked without copying; a decompressor needs a `BufReader`. Ends after the first error.
#[derive(Debug)]
pub struct RecordWalker<R> {
    input: Input<R>,
    walked: i32,
    /// The least offset delta that may follow.
    next: i32,
    may_skip: bool,
    count: i32,
    failed: bool,
}

impl<R: BufRead> RecordWalker<R> {
    /// `count` is the header's. More than `max_bytes` out of `reader` are an error: what a compressed batch claims to
    /// be is not believed.
    pub fn new(reader: R, count: i32, max_bytes: u64) -> Self {
        Self {
            input: Input {
                reader,
                left: max_bytes,
            },
            walked: 0,
            next: 0,
            may_skip: false,
            count,
            failed: false,
        }
    }

    /// As [`RecordWalker::new`], over a stored batch: offset deltas ascend.
    pub fn stored(reader: R, count: i32, max_bytes: u64) -> Self {
        Self {
            may_skip: true,
            ..Self::new(reader, count, max_bytes)
        }
    }

    fn walk(&mut self) -> Result<Option<RecordInfo>, RecordError> {
        if self.walked >= self.count {
            return if self.input.at_end()? {
                Ok(None)
            } else {
                Err(RecordError::Trailing)
            };
        }
        let info = self.input.nested(|input| {
            let _attributes = input.byte()?;
            let timestamp_delta = input.varlong()?;
            let offset_delta = input.varint()?;
            let key_bytes = input.skip_nullable()?;
            let value_bytes = input.skip_nullable()?;
            let headers = input.header_count()?;
            for _ in 0..headers {
                input.skip_nullable()?.ok_or(RecordError::Length(-1))?;
                input.skip_nullable()?;
            }
            Ok(RecordInfo {
                offset_delta,
                timestamp_delta,
                key_bytes,
                value_bytes,
                headers,
            })
        })?;
        let fits = info.offset_delta == self.next || self.may_skip && info.offset_delta > self.next;
        if !fits {
            return Err(RecordError::OffsetDelta {
                expected: self.next,
                found: info.offset_delta,
            });
        }
        self.walked += 1;
        self.next = info.offset_delta.saturating_add(1);
        Ok(Some(info))
    }
}

impl<R: BufRead> Iterator for RecordWalker<R> {
    type Item = Result<RecordInfo, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = self.walk();
        self.failed = record.is_err();
        record.transpose()
    }
}

/// What a record looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordInfo {
    pub offset_delta: i32,
    /// Against the batch's base timestamp, in ms.
    pub timestamp_delta: i64,
    /// `None` is null.
    pub key_bytes: Option<u32>,
    pub value_bytes: Option<u32>,
    pub headers: u32,
}

/// A record in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset_delta: i32,
    /// Against the batch's base timestamp, in ms.
    pub timestamp_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<Header<'a>>,
}

/// A record's header. Kafka's keys are UTF-8; brokers don't look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// Takes one record from the front of `records`.
    ///
    /// # Errors
    /// The bytes are no record; `records` is then of no use.
    pub fn read(records: &mut &'a [u8]) -> Result<Self, RecordError> {
        let mut input = Input {
            left: records.len() as u64,
            reader: *records,
        };
        let record = input.nested(|input| {
            let _attributes = input.byte()?;
            let timestamp_delta = input.varlong()?;
            let offset_delta = input.varint()?;
            let key = input.take_nullable()?;
            let value = input.take_nullable()?;
            let headers = (0..input.header_count()?).map(|_| {
                let key = input.take_nullable()?.ok_or(RecordError::Length(-1))?;
                Ok(Header {
                    key,
                    value: input.take_nullable()?,
                })
            });
            // Grows as headers are really there: the iterator promises no number.
            let headers = headers.collect::<Result<_, RecordError>>()?;
            Ok(Self {
                offset_delta,
                timestamp_delta,
                key,
                value,
                headers,
            })
        })?;
        *records = input.reader;
        Ok(record)
    }
}

/// The records of an uncompressed batch's body. Ends after the first error.
pub fn records(mut body: &[u8]) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let record = Record::read(&mut body);
        if record.is_err() {
            body = &[];
        }
        Some(record)
    })
}

/// A record in memory of which only what says whether it stays is taken apart: nothing is allocated, whatever is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    pub offset_delta: i32,
    /// Against the batch's base timestamp, in ms.
    pub timestamp_delta: i64,
    pub key: Option<&'a [u8]>,
    /// Without one it deletes its key.
    pub has_value: bool,
    /// Key, value and headers as they stand, each behind its length.
    pub rest: &'a [u8],
}

impl<'a> RawRecord<'a> {
    fn read(records: &mut &'a [u8]) -> Result<Self, RecordError> {
        let mut input = Input {
            left: records.len() as u64,
            reader: *records,
        };
        let record = input.nested(|input| {
            let _attributes = input.byte()?;
            let timestamp_delta = input.varlong()?;
            let offset_delta = input.varint()?;
            let length = usize::try_from(input.left).map_err(|_| RecordError::Truncated)?;
            let rest = input.reader.get(..length).ok_or(RecordError::Truncated)?;
            let key = input.take_nullable()?;
            let has_value = input.take_nullable()?.is_some();
            for _ in 0..input.header_count()? {
                input.take_nullable()?.ok_or(RecordError::Length(-1))?;
                input.take_nullable()?;
            }
            Ok(Self {
                offset_delta,
                timestamp_delta,
                key,
                has_value,
                rest,
            })
        })?;
        *records = input.reader;
        Ok(record)
    }

    /// Puts what stands before `rest` at the end of `out`, with another timestamp.
    pub(crate) fn put_head(&self, out: &mut BytesMut, timestamp_delta: i64) {
        let start = out.len();
        out.put_u8(0);
        put_varlong(out, timestamp_delta);
        put_varlong(out, self.offset_delta.into());
        let head = out.len() - start;
        put_varlong(out, length_of(head + self.rest.len()));
        let length_bytes = out.len() - start - head;
        out[start..].rotate_right(length_bytes);
    }
}

/// As [`records`], without allocating anything.
pub fn raw_records(mut body: &[u8]) -> impl Iterator<Item = Result<RawRecord<'_>, RecordError>> {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let record = RawRecord::read(&mut body);
        if record.is_err() {
            body = &[];
        }
        Some(record)
    })
}

/// What is wrong with a batch's records.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the records end in the middle of one")]
    Truncated,
    #[error("no record has a length or count of {0}")]
    Length(i64),
    #[error("{needed} bytes where at most {left} may follow")]
    TooLarge { needed: u64, left: u64 },
    #[error("a variable-length integer is longer than its type")]
    Varint,
    #[error("a record is {0} bytes shorter than its length says")]
    Short(u64),
    #[error("offset delta {found} instead of {expected}")]
    OffsetDelta { expected: i32, found: i32 },
    #[error("bytes behind the last record that the header counts")]
    Trailing,
    /// The decompressor's complaint.
    #[error("the records can't be read: {0}")]
    Read(#[from] std::io::Error),
}

/// A reader and how much may still come out of it.
#[derive(Debug)]
struct Input<R> {
    reader: R,
    left: u64,
}

impl<R: BufRead> Input<R> {
    /// Reads a length and hands on what has that length; all of it must be used.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, RecordError>) -> Result<T, RecordError> {
        let length = self.length()?.ok_or(RecordError::Length(-1))?;
        let behind = self.left - u64::from(length);
        self.left = length.into();
        let value = read(self)?;
        if self.left != 0 {
            return Err(RecordError::Short(self.left));
        }
        self.left = behind;
        Ok(value)
    }

    fn at_end(&mut self) -> Result<bool, RecordError> {
        Ok(self.reader.fill_buf()?.is_empty())
    }

    fn byte(&mut self) -> Result<u8, RecordError> {
        if self.left == 0 {
            return Err(RecordError::TooLarge { needed: 1, left: 0 });
        }
        let byte = *self.reader.fill_buf()?.first().ok_or(RecordError::Truncated)?;
        self.reader.consume(1);
        self.left -= 1;
        Ok(byte)
    }

    fn uvarlong(&mut self, bits: u32) -> Result<u64, RecordError> {
        let mut value = 0;
        for shift in (0..bits).step_by(7) {
            let byte = self.byte()?;
            // In the last byte only what fits into the type.
            if shift + 7 > bits && byte >> (bits - shift) != 0 {
                return Err(RecordError::Varint);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Varint)
    }

    fn varint(&mut self) -> Result<i32, RecordError> {
        let value = self.uvarlong(32)? as u32;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn varlong(&mut self) -> Result<i64, RecordError> {
        let value = self.uvarlong(64)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A length that what is left can hold; `None` is null.
    fn length(&mut self) -> Result<Option<u32>, RecordError> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = u32::try_from(length).map_err(|_| RecordError::Length(length.into()))?;
        if u64::from(length) > self.left {
            return Err(RecordError::TooLarge {
                needed: length.into(),
                left: self.left,
            });
        }
        Ok(Some(length))
    }

    /// A header has at least two bytes.
    fn header_count(&mut self) -> Result<u32, RecordError> {
        let count = self.length()?.ok_or(RecordError::Length(-1))?;
        match 2 * u64::from(count) <= self.left {
            true => Ok(count),
            false => Err(RecordError::TooLarge {
                needed: 2 * u64::from(count),
                left: self.left,
            }),
        }
    }

    fn skip_nullable(&mut self) -> Result<Option<u32>, RecordError> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let mut skip = length as usize;
        while skip > 0 {
            let available = self.reader.fill_buf()?.len();
            if available == 0 {
                return Err(RecordError::Truncated);
            }
            let step = available.min(skip);
            self.reader.consume(step);
            skip -= step;
        }
        self.left -= u64::from(length);
        Ok(Some(length))
    }
}

impl<'a> Input<&'a [u8]> {
    fn take_nullable(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let (piece, rest) = self
            .reader
            .split_at_checked(length as usize)
            .ok_or(RecordError::Truncated)?;
        self.reader = rest;
        self.left -= u64::from(length);
        Ok(Some(piece))
    }
}

/// Appends one record to a batch's body.
pub(crate) fn put_record(
    body: &mut BytesMut,
    offset_delta: i32,
    timestamp_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) {
    let start = body.len();
    body.put_u8(0);
    put_varlong(body, timestamp_delta);
    put_varlong(body, offset_delta.into());
    put_nullable(body, key);
    put_nullable(body, value);
    put_varlong(body, length_of(headers.len()));
    for header in headers {
        put_nullable(body, Some(header.key));
        put_nullable(body, header.value);
    }
    let length = body.len() - start;
    put_varlong(body, length_of(length));
    let length_bytes = body.len() - start - length;
    body[start..].rotate_right(length_bytes);
}

fn put_nullable(body: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varlong(body, bytes.map_or(-1, |bytes| length_of(bytes.len())));
    body.put_slice(bytes.unwrap_or_default());
}

/// A `varint` and a `varlong` of the same value have the same bytes.
fn put_varlong(body: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        body.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    body.put_u8(rest as u8);
}

fn length_of(length: usize) -> i64 {
    i32::try_from(length).expect("a record is smaller than 2 GiB").into()
}

#[cfg(test)]
mod tests;
