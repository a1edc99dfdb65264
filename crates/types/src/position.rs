//! Positions in logs. Ranges are half-open everywhere: `[start, end)`.

use std::fmt;

/// A record's position in its stream; Kafka's offset, so never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    pub const ZERO: Self = Self(0);

    /// The offset `count` records further on.
    #[must_use]
    pub fn advance(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An entry's number in its journal: dense, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of the cluster's metadata: one more with each atomic change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataVersion(pub u64);

impl fmt::Display for MetadataVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! range {
    ($(#[$doc:meta])* $name:ident of $item:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name {
            pub start: $item,
            pub end: $item,
        }

        impl $name {
            /// # Panics
            /// If `start` lies behind `end`.
            pub fn new(start: $item, end: $item) -> Self {
                assert!(start <= end, "{start} lies behind {end}");
                Self { start, end }
            }

            pub fn is_empty(self) -> bool {
                self.start == self.end
            }

            pub fn contains(self, item: $item) -> bool {
                self.start <= item && item < self.end
            }

            /// What both ranges have; `None` where that is empty.
            pub fn clip(self, other: Self) -> Option<Self> {
                let (start, end) = (self.start.max(other.start), self.end.min(other.end));
                (start < end).then_some(Self { start, end })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "[{}, {})", self.start, self.end)
            }
        }
    };
}

range!(
    /// Offsets `[start, end)` of one stream.
    OffsetRange of Offset
);
range!(
    /// Entries `[start, end)` of one journal.
    LsnRange of Lsn
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_half_open() {
        let range = OffsetRange::new(Offset(2), Offset(5));
        assert!(range.contains(Offset(2)) && !range.contains(Offset(5)));
        assert_eq!(range.clip(OffsetRange::new(Offset(5), Offset(9))), None);
        assert_eq!(
            range.clip(OffsetRange::new(Offset(4), Offset(9))),
            Some(OffsetRange::new(Offset(4), Offset(5)))
        );
    }
}
