//! Where a partition's bytes lie behind its tail cache: journals' segments and known objects.
//!
//! Pure. Owns: which source is asked for an offset. Does not own: asking it (`read`).

use std::time::Duration;

use tailwater_rpc::controller::{ObjectSlice, StreamObjects};
use tailwater_runtime::clock::Instant;
use tailwater_types::{DeviceId, JournalId, MetadataVersion, Offset};

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

/// How long what the controller has named is read without asking again, while it is there. Compaction puts others in the
/// place of objects, which stay a while for whoever is reading them; whoever begins reads what is now.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// Objects that the controller has named, in offset order and contiguous; where something new is needed, it is asked again.
#[derive(Debug, Default)]
pub(super) struct KnownObjects {
    objects: Vec<ObjectSlice>,
    /// When they were named.
    since: Option<Instant>,
    /// What an older version of the metadata named isn't read any more.
    oldest: MetadataVersion,
}

impl KnownObjects {
    pub fn set(&mut self, found: StreamObjects, now: Instant) {
        if found.version < self.oldest {
            return self.clear();
        }
        self.objects = found.objects;
        self.since = Some(now);
    }

    pub fn clear(&mut self) {
        *self = Self {
            oldest: self.oldest,
            ..Self::default()
        };
    }

    /// From now on nothing is taken for known that was named before `version`.
    pub fn forget_before(&mut self, version: MetadataVersion) {
        self.oldest = self.oldest.max(version);
        self.clear();
    }

    /// The object that has `offset`, if that is known well enough.
    pub fn at(&self, offset: Offset, now: Instant) -> Option<&ObjectSlice> {
        self.since
            .filter(|since| now.saturating_duration_since(*since) < KNOWN_FOR)?;
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

    /// What the controller named is asked for again after a while: compaction may have put something else there.
    #[test]
    fn known_objects_are_asked_for_again() {
        let slice = ObjectSlice {
            object: tailwater_types::ObjectId(1),
            key: String::new(),
            size_bytes: 1,
            range: tailwater_types::OffsetRange::new(Offset(5), Offset(10)),
            max_timestamp_ms: -1,
        };
        let found = StreamObjects {
            version: tailwater_types::MetadataVersion(1),
            start: Offset(0),
            uploaded: Offset(10),
            objects: vec![slice],
        };
        let now = tailwater_runtime::Clock::system().now();
        let mut known = KnownObjects::default();
        assert!(known.at(Offset(5), now).is_none());
        known.set(found.clone(), now);
        let is_known = |offset, after| known.at(Offset(offset), now + after).is_some();
        assert!(is_known(5, Duration::ZERO) && is_known(9, KNOWN_FOR / 2));
        assert!(!is_known(4, Duration::ZERO) && !is_known(10, Duration::ZERO) && !is_known(5, KNOWN_FOR));
        known.forget_before(MetadataVersion(2));
        assert!(known.at(Offset(5), now).is_none());
        known.set(found.clone(), now);
        assert!(known.at(Offset(5), now).is_none(), "an answer that was on its way");
        let newer = StreamObjects {
            version: MetadataVersion(2),
            ..found
        };
        known.set(newer, now);
        assert!(known.at(Offset(5), now).is_some());
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
