//! Reading what one object has of one stream: its index, then runs of blocks, each with one GET.
//!
//! Nothing is cached: a pass reads everything a few times at most, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_format::FormatError;
use tailwater_format::object::{self, DataBlock, Index, IndexRow};
use tailwater_rpc::controller::ObjectSlice;
use tailwater_store::{ObjectStorage, StoreError};
use tailwater_types::{OffsetRange, StreamId};

/// Read at once; a larger block comes alone.
const READ_BYTES: u64 = 4 << 20;

pub(super) struct SliceReader {
    storage: Arc<dyn ObjectStorage>,
    slice: ObjectSlice,
    rows: VecDeque<IndexRow>,
    read: VecDeque<DataBlock>,
}

impl SliceReader {
    /// Reads the object's index. Blocks outside of the slice are left out.
    ///
    /// # Errors
    /// What the store says; [`StoreError::Corrupt`].
    pub async fn open(
        storage: &Arc<dyn ObjectStorage>,
        stream: StreamId,
        slice: ObjectSlice,
    ) -> Result<Self, StoreError> {
        let index = index(storage.as_ref(), &slice).await?;
        let rows = index.stream(stream).iter();
        let rows = rows
            .filter(|row| row.range.clip(slice.range).is_some())
            .copied()
            .collect();
        Ok(Self {
            storage: storage.clone(),
            slice,
            rows,
            read: VecDeque::new(),
        })
    }

    /// The same, read from its beginning; nothing of it was read yet.
    pub fn again(&self) -> Self {
        Self {
            storage: self.storage.clone(),
            slice: self.slice.clone(),
            rows: self.rows.clone(),
            read: VecDeque::new(),
        }
    }

    /// The part of the stream that is to be read here.
    pub fn slice(&self) -> &ObjectSlice {
        &self.slice
    }

    /// Bytes that are still to be read.
    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.size_bytes)).sum()
    }

    /// Leaves out what ends at or below `offset`.
    pub fn skip_to(&mut self, offset: tailwater_types::Offset) {
        self.rows.retain(|row| row.range.end > offset);
    }

    /// The batches of the next block; it may have some outside of the slice.
    ///
    /// # Errors
    /// What the store says; [`StoreError::Corrupt`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.read.is_empty() {
            self.fetch().await?;
        }
        Ok(self.read.pop_front().map(|block| block.body))
    }

    /// Reads the next blocks that lie behind one another.
    async fn fetch(&mut self) -> Result<(), StoreError> {
        let Some(first) = self.rows.front() else { return Ok(()) };
        let start = first.position;
        let mut end = start;
        let joins = |row: &IndexRow, end: u64| {
            let behind = row.position + u64::from(row.size_bytes);
            row.position == end && (end == start || behind - start <= READ_BYTES)
        };
        let mut rows = Vec::new();
        while let Some(row) = self.rows.front().filter(|row| joins(row, end)).copied() {
            end = row.position + u64::from(row.size_bytes);
            rows.push(row);
            self.rows.pop_front();
        }
        let bytes = self.storage.get_range(&self.slice.key, start..end).await?;
        for row in rows {
            let at = (row.position - start) as usize;
            let block = DataBlock::decode(&bytes.slice(at..at + row.size_bytes as usize), &row);
            self.read.push_back(block.map_err(|source| StoreError::Corrupt {
                key: self.slice.key.clone(),
                position: row.position,
                source,
            })?);
        }
        Ok(())
    }
}

/// The object's end, read once more where it was longer than expected.
async fn index(storage: &dyn ObjectStorage, slice: &ObjectSlice) -> Result<Index, StoreError> {
    let corrupt = |source| StoreError::Corrupt {
        key: slice.key.clone(),
        position: 0,
        source,
    };
    let mut wanted = object::tail_bytes(slice.size_bytes);
    for _ in 0..2 {
        let tail = storage.get_tail(&slice.key, wanted).await?;
        if tail.object_bytes != slice.size_bytes {
            let detail = format!("{} bytes where metadata has {}", tail.object_bytes, slice.size_bytes);
            return Err(corrupt(FormatError::Invalid { what: "object", detail }));
        }
        match object::decode_tail(&tail.bytes, slice.size_bytes).map_err(corrupt)? {
            object::Tail::Index(index) => return Ok(index),
            object::Tail::NeedsBytes(needed) => wanted = needed,
        }
    }
    let detail = format!("still incomplete in {wanted} bytes, which were to be enough");
    Err(corrupt(FormatError::Invalid {
        what: "object index",
        detail,
    }))
}

/// What of a slice lies below `end`.
pub(super) fn below(slice: &ObjectSlice, end: tailwater_types::Offset) -> OffsetRange {
    OffsetRange::new(slice.range.start, slice.range.end.min(end).max(slice.range.start))
}
