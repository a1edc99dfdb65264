//! Sizes and durations as settings have them: texts with a unit, which print as they are read.
//!
//! Owns: the two newtypes and their text forms. Does not own: any setting, any bound on one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SIZE_UNITS: Units = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
const TIME_UNITS: Units = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units with what they are worth, the largest first; the last is worth 1.
type Units = &'static [(&'static str, u64)];

/// A text that is no number with a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: expected a whole number with a unit, as in {example}")]
pub struct ParseError {
    text: String,
    what: &'static str,
    example: &'static str,
}

macro_rules! setting {
    ($(#[$doc:meta])* $name:ident, $units:ident, $what:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let error = || ParseError { text: text.to_owned(), what: $what, example: $example };
                parse(text, $units).map(Self).ok_or_else(error)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(self.0, $units, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", $what, " as in ", $example))
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    };
}

setting!(
    /// A number of bytes: "64MiB", "4096B". Units are powers of 1024.
    ByteSize, SIZE_UNITS, "size", "64MiB"
);
setting!(
    /// A time span in milliseconds: "30s", "250ms".
    Millis, TIME_UNITS, "duration", "30s"
);

impl ByteSize {
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// As a length in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Millis {
    pub const fn seconds(count: u64) -> Self {
        Self(count * 1_000)
    }

    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

fn parse(text: &str, units: Units) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, worth) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*worth)
}

/// In the largest unit that says it exactly.
fn print(value: u64, units: Units, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits = |(_, worth): &&(&str, u64)| value != 0 && value.is_multiple_of(*worth);
    let (name, worth) = units.iter().find(fits).or(units.last()).expect("there are units");
    f.pad(&format!("{}{name}", value / worth))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed is what was meant, in its largest exact unit, and reads back.
    #[test]
    fn sizes_and_durations_print_as_they_are_read() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("2GiB", 2 << 30),
            ("1536KiB", 1536 << 10),
            ("4097B", 4097),
            ("0B", 0),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        for (text, ms) in [
            ("30s", 30_000),
            ("250ms", 250),
            ("90s", 90_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(text.parse(), Ok(Millis(ms)));
            assert_eq!(Millis(ms).to_string(), text);
        }
        assert_eq!("1 GiB".parse(), Ok(ByteSize::gib(1)));
        assert_eq!(
            "1024MiB".parse::<ByteSize>().map(|size| size.to_string()),
            Ok("1GiB".to_owned())
        );
    }

    /// No unit, another unit, a sign, a fraction or too much of it: each is refused with the text in the sentence.
    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "64",
            "MiB",
            "64 bananas",
            "-1MiB",
            "1.5GiB",
            "64mib",
            "99999999999TiB",
        ] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?} is no size")), "{error}");
            assert!(text.parse::<Millis>().is_err());
        }
    }
}
