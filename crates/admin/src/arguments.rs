//! What the commands' arguments have in common: where to ask, how to print, and the forms of settings, partitions and times.
//!
//! Owns: reading them. Does not own: what a command does with them.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat};
use clap::{Args, ValueEnum};
use tailwater_runtime::config::Millis;

/// 10^11: in 1973.
const EARLIEST_MS: i64 = 100_000_000_000;

/// May stand anywhere behind `tailwater topics`, `groups` or `cluster`.
#[derive(Debug, Args)]
pub struct Options {
    /// The brokers to ask first, several with commas between [default: $TAILWATER_BOOTSTRAP, or 127.0.0.1:9092]
    #[arg(long, short, value_name = "HOST:PORT", global = true)]
    pub bootstrap: Option<String>,
    /// A table for people, or JSON for programs (docs/admin.md has its fields).
    #[arg(long, short, value_enum, default_value = "table", global = true)]
    pub output: Format,
    /// How long the command may take in all.
    #[arg(long, value_name = "DURATION", default_value = "30s", global = true)]
    pub timeout: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// What is to be set, and what is to be as if nobody had set it.
#[derive(Clone, Debug, Default, Args)]
pub struct Changes {
    /// A setting and its value. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<KeyValue>,
    /// A setting that goes back to its default. May be repeated.
    #[arg(long, value_name = "KEY")]
    pub unset: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: String,
}

impl FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok(Self {
                key: key.trim().to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("KEY=VALUE is expected, as in retention.ms=86400000".to_owned()),
        }
    }
}

/// `TOPIC`, or `TOPIC:0,1,2`. A topic's name has no colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartitions {
    pub topic: String,
    /// Empty: all of them.
    pub partitions: Vec<i32>,
}

impl FromStr for TopicPartitions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, partitions) = text
            .split_once(':')
            .map_or((text, None), |(topic, list)| (topic, Some(list)));
        let wrong = || "TOPIC or TOPIC:PARTITION,… is expected, as in orders:0,1".to_owned();
        let number = |text: &str| {
            text.trim()
                .parse::<i32>()
                .ok()
                .filter(|number| *number >= 0)
                .ok_or_else(wrong)
        };
        if topic.is_empty() {
            return Err(wrong());
        }
        let partitions = partitions.map_or(Ok(Vec::new()), |list| list.split(',').map(number).collect());
        Ok(Self {
            topic: topic.to_owned(),
            partitions: partitions?,
        })
    }
}

/// A point in time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub i64);

impl FromStr for Time {
    type Err = String;

    /// UTC unless the text says otherwise.
    fn from_str(text: &str) -> Result<Self, String> {
        let zoned = DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.timestamp_millis());
        let local = || {
            let forms = [
                "%Y-%m-%dT%H:%M:%S%.f",
                "%Y-%m-%d %H:%M:%S%.f",
                "%Y-%m-%dT%H:%M",
                "%Y-%m-%d %H:%M",
            ];
            let time = forms
                .iter()
                .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
            let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
            time.or_else(day).map(|time| time.and_utc().timestamp_millis())
        };
        // A smaller one is a year, or a date without its hyphens.
        let number = || text.parse::<i64>().ok().filter(|number| *number >= EARLIEST_MS);
        let found = zoned.or_else(local).or_else(number).map(Self);
        found.ok_or_else(|| {
            "a time is expected, as in 2026-01-31T08:00:00Z, 2026-01-31 (UTC), or milliseconds since 1970".to_owned()
        })
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_millis(self.0) {
            Some(time) => f.pad(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times are UTC unless they say otherwise; whole days begin at midnight; numbers are milliseconds.
    #[test]
    fn times_are_read_in_every_usual_form() {
        for (text, ms) in [
            ("1970-01-02", 86_400_000),
            ("1970-01-01T00:01", 60_000),
            ("1970-01-01 00:00:01.5", 1_500),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01T00:00:00.001Z", 1),
            ("1700000000000", 1_700_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Time(ms)), "{text}");
        }
        for text in ["", "yesterday", "-1", "2026-13-01", "10:00", "2026", "20260131"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
        assert_eq!(Time(1_500).to_string(), "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn partitions_and_settings_are_read() {
        let parsed = |text: &str| text.parse::<TopicPartitions>().map(|it| (it.topic, it.partitions));
        assert_eq!(parsed("a"), Ok(("a".to_owned(), vec![])));
        assert_eq!(parsed("a.b:0,12"), Ok(("a.b".to_owned(), vec![0, 12])));
        for text in ["", ":1", "a:", "a:x", "a:-1", "a:1,"] {
            assert!(parsed(text).is_err(), "{text}");
        }
        let parsed = |text: &str| text.parse::<KeyValue>().map(|it| (it.key, it.value));
        assert_eq!(parsed("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parsed("a="), Ok(("a".to_owned(), String::new())));
        assert!(parsed("a").is_err() && parsed("=b").is_err());
    }
}
