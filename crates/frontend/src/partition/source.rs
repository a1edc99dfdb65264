//! Where a partition's bytes lie behind its tail cache: journals' segments and known objects.
//!
//! Pure. Owns: which source is asked for an offset. Does not own: asking it (`read`).

use tailwater_rpc::controller::{ObjectSlice, StreamObjects};
use tailwater_types::{DeviceId, JournalId, Offset};

/// The part of a stream that one journal has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub journal: JournalId,
    pub ensemble: Vec<DeviceId>,
    pub start: Offset,
    /// `i64::MAX` for the open journal.
    pub end: Offset,
}

impl Segment {
    /// The open journal's, from `start` on.
    pub fn open(journal: JournalId, device: DeviceId, start: Offset) -> Self {
        Self {
            journal,
            ensemble: vec![device],
            start,
            end: Offset(i64::MAX),
        }
    }
}

/// The segment that has `offset`.
pub(super) fn segment_at(segments: &[Segment], offset: Offset) -> Option<&Segment> {
    let behind = segments.partition_point(|segment| segment.start <= offset);
    let segment = &segments[behind.checked_sub(1)?];
    (offset < segment.end).then_some(segment)
}

/// Forgets the segments that lie in objects.
pub(super) fn forget_uploaded(segments: &mut Vec<Segment>, uploaded: Offset) {
    segments.retain(|segment| segment.end > uploaded);
}

/// Objects that the controller has named, in offset order and contiguous; where something new is needed, it is asked again.
#[derive(Debug, Default)]
pub(super) struct KnownObjects {
    objects: Vec<ObjectSlice>,
}

impl KnownObjects {
    pub fn set(&mut self, found: StreamObjects) {
        self.objects = found.objects;
    }

    pub fn clear(&mut self) {
        self.objects = Vec::new();
    }

    /// The object that has `offset`.
    pub fn at(&self, offset: Offset) -> Option<&ObjectSlice> {
        let at = self.objects.partition_point(|object| object.range.end <= offset);
        self.objects.get(at).filter(|object| object.range.start <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(journal: u64, start: i64, end: i64) -> Segment {
        Segment {
            journal: JournalId(journal),
            ensemble: Vec::new(),
            start: Offset(start),
            end: Offset(end),
        }
    }

    /// Every offset has the one journal whose range holds it; what lies in objects is forgotten whole segments at a time.
    #[test]
    fn segments_are_found_by_offset() {
        let mut segments = vec![segment(1, 5, 10), segment(2, 10, 20), segment(3, 20, i64::MAX)];
        let journal = |segments: &[Segment], offset| segment_at(segments, Offset(offset)).map(|found| found.journal.0);
        let found: Vec<_> = [4, 5, 9, 10, 19, 20, 1000]
            .iter()
            .map(|offset| journal(&segments, *offset))
            .collect();
        assert_eq!(found, [None, Some(1), Some(1), Some(2), Some(2), Some(3), Some(3)]);
        forget_uploaded(&mut segments, Offset(15));
        assert_eq!(journal(&segments, 9), None);
        assert_eq!(journal(&segments, 12), Some(2));
    }
}
